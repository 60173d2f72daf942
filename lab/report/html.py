"""Blocks as one HTML page that needs no network: styles and drawings are inside it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lab.model.text import clean, clean_line
from lab.report.blocks import Block, Page
from lab.report.charts import drawing


def page_html(page: Page) -> str:
    """A run as one HTML document."""
    return clean(_template("page.html.j2").render(page=page))


def blocks_html(title: str, parts: Iterable[Block]) -> str:
    """Blocks under a title as one HTML document."""
    return clean(_template("blocks_page.html.j2").render(title=clean_line(title), parts=parts))


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(macro=lambda block: type(block).__name__.lower(), drawing=drawing)
    return environment.get_template(name)
