"""Blocks as one HTML page that needs no network: styles and drawings are inside it."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lab.model.text import clean
from lab.report.blocks import Page
from lab.report.charts import drawing
from lab.report.curves import curve_drawing


def page_html(page: Page) -> str:
    """A run as one HTML document."""
    return clean(_template().render(page=page))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        macro=lambda block: type(block).__name__.lower(),
        drawing=drawing,
        curve_drawing=curve_drawing,
    )
    return environment.get_template("page.html.j2")
