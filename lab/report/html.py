"""Blocks as one HTML page that needs no network: styles, drawings and scripts are inside it.

Every picture is a drawing that stands without a script, and its figures as a table. Where there is
one, the script puts charts with a common cursor and zoom in the place of what is drawn over time,
from the figures that the page carries with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lab.model.text import clean, clean_line
from lab.report.blocks import Block, Chart, Page, Picture
from lab.report.curves import curve_drawing
from lab.report.pictures import over_time
from lab.report.vendor import UPLOT, text_of

MAX_VALUES, MORE_VALUES = 17_500, 425
"""The most values of series that a page has, and how many more for each cell; of more it has one
for several: 12 cells come to 600 KB and 100 to 4 MB at most."""


def page_html(page: Page) -> str:
    """A run as one HTML document."""
    step = _step([block for section in page.sections for block in section.blocks])
    sections = [[_drawable(block, step) for block in section.blocks] for section in page.sections]
    shown = [*page.pictures, *(one for part in sections for one in part)]
    pictures = [block for block in shown if isinstance(block, Picture)]
    scripts = _scripts() if any(picture.over_time for picture in pictures) else ()
    text = _template("page.html.j2").render(
        page=page,
        sections=list(zip(page.sections, sections, strict=True)),
        figures=PageFigures(),
        drawn=bool(pictures),
        scripts=scripts,
        styles=_styles() if scripts else "",
        policy=_policy(scripts),
    )
    return clean(text)


def blocks_html(title: str, parts: Iterable[Block]) -> str:
    """Blocks under a title as one HTML document."""
    return clean(_template("blocks_page.html.j2").render(title=clean_line(title), parts=parts))


def _drawable(block: Block, step: int) -> Block:
    return over_time.picture(block, step) if isinstance(block, Chart) else block


def _step(blocks: Sequence[Block]) -> int:
    """How many values of a series are told as one."""
    charts = [block for block in blocks if isinstance(block, Chart)]
    values = sum(over_time.values_in(chart) for chart in charts)
    return max(1, ceil(values / (MAX_VALUES + MORE_VALUES * len(charts))))


class PageFigures:
    """The figures of one page: an id for each, what they are drawn from (``data``), and what the
    names of its tables mean (``glossary``)."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.data: dict[str, Any] = {}
        self.glossary: dict[str, str] = {}

    def tell(self, name: str, meaning: str) -> str:
        """Keep what a name means for the page's end, and put nothing in its place."""
        self.glossary[name] = meaning
        return ""

    def place(self, picture: Picture, of: str = "") -> str:
        """The id of a picture that is put onto the page now; ``of`` is the cell's."""
        name = f"{picture.name}-{next(self._numbers)}"
        self.data[name] = {"picture": picture.name, "cell": of, "data": picture.data}
        return name

    def json(self) -> Markup:
        """What the page's pictures are drawn from; nothing in it ends the script that it is in."""
        text = json.dumps(self.data, separators=(",", ":"), allow_nan=False)
        for character in "<>&":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return Markup(text)  # noqa: S704 - nothing is left in it that HTML reads


@cache
def _scripts() -> tuple[Markup, ...]:
    own = (Path(__file__).parent / "pictures" / "page.js").read_text(encoding="utf-8")
    return tuple(Markup(text) for text in (text_of(UPLOT, "uPlot.iife.min.js"), own))  # noqa: S704


@cache
def _styles() -> Markup:
    return Markup(text_of(UPLOT, "uPlot.min.css"))  # noqa: S704 - of a file of the lab's


def _policy(scripts: Sequence[str]) -> str:
    """What a browser may do with the page: run these scripts, load nothing, send nothing."""
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts) or "'none'"
    told = {
        "default-src": "'none'",
        "script-src": hashes,
        "style-src": "'unsafe-inline'",
        "form-action": "'none'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in told.items())


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(clean(script).encode()).digest()).decode()


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("lab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        macro=lambda block: type(block).__name__.lower(),
        curve_drawing=curve_drawing,
    )
    return environment.get_template(name)
