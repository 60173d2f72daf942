"""What a trial is too short to show: a time-out that takes most of its window."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from lab.model.load import window_of_spec
from lab.model.replica import NGINX
from lab.model.run import CellResult, Claim
from lab.report.answers.say import knob, measured, name, say

ENOUGH = 3
"""A window of so many time-outs shows how failures go on after the first."""


def too_short(cells: Sequence[CellResult]) -> list[Claim]:
    """Where users who met nginx's time-out could send hardly more than once in the window."""
    said = []
    for cell in cells:
        limit = NGINX[cell.knobs["nginx"]].read_s
        start, end = window_of_spec(cell.load)
        if cell.target != "vm" or not cell.metrics.get("errors.gateway_timeout"):
            continue
        if (end - start) < ENOUGH * limit:
            said.append(_said(cell, end - start, limit))
    return said[:1]


def _said(cell: CellResult, window: float, limit: float) -> Claim:
    most = ceil(window / limit)
    return say(
        f"{{}} uploads of {{}} met nginx's time-out of {limit:g} s (nginx {{}}); in a window of "
        f"{window:.0f} s such a user sends {most} at most, so that it fails is shown, "
        "and how it goes on is not.",
        measured(cell, "errors.gateway_timeout"),
        name(cell),
        knob(cell, "nginx"),
    )
