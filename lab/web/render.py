"""A view as HTML, region by region: a browser is sent those that have changed.

What is rendered follows from the view alone, so the same view is the same page, by whatever way it
came about. All text is escaped, and freed of what steers a terminal or turns its direction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.model.load import end_of
from lab.model.text import clean
from lab.report import format
from lab.web import words
from lab.web.drawing import CHART_HIGH, CHART_WIDE, HIGH, WIDE, curves, drawn, figure
from lab.web.parts import parts
from lab.web.view import CellView, View

REGIONS = ("head", "status", "replica", "figures", "stages", "workers", "history", "cells")
"""The parts of a live page that change, each the element of this id with a template of its own."""

SIZES = {"WIDE": WIDE, "HIGH": HIGH, "CHART_WIDE": CHART_WIDE, "CHART_HIGH": CHART_HIGH}
"""Of the drawings, in their own units, for the templates."""


def regions(view: View) -> dict[str, str]:
    """The regions' HTML by their ids."""
    told = _told(view)
    return {name: render(f"regions/{name}", **told) for name in REGIONS}


def _told(view: View) -> dict[str, Any]:
    """What the templates are given of a view."""
    shown = view.shown
    return {"view": view, "shown": shown, "frame": shown and shown.frame, **_pictures(shown)}


def _pictures(shown: CellView | None) -> Mapping[str, Any]:
    if shown is None or shown.frame is None:
        return {"parts": (), "drawing": None, "curves": ()}
    made, frame = parts(shown.cell, shown.frame), shown.frame
    until = max(frame.t, end_of(shown.cell.load))
    return {"parts": made, "drawing": drawn(made), "curves": curves(frame.history, until)}


def render(template: str, **told: Any) -> str:
    """A template of this room with what it is given."""
    return clean(_environment().get_template(f"{template}.html.j2").render(**told))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lab.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["segment"] = segment
    environment.globals.update(
        format=format, words=words, figure=figure, regions=REGIONS, outcome=_outcome, **SIZES
    )
    return environment


def segment(name: str) -> str:
    """A name as a segment of a path, whatever is in it."""
    return quote(os.fsencode(name), safe="")


def _outcome(state: str) -> str:
    """The class of a cell's state: what has none of its own looks like what is missing."""
    return state if state in ("held", "broke", "undecided", "invalid", "measuring") else "missing"
