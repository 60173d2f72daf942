"""Phase 4: what grows for as long as users upload; no leak is a statement with its bound."""

from __future__ import annotations

from collections.abc import Sequence

from lab.judge.leaks import MIN_WINDOW_S, QUANTITIES
from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Leak
from lab.report.answers.say import failed, limits, listed, name, say


def endurance(cells: Sequence[CellResult]) -> list[Claim]:
    """The slopes of each cell by what they show, and its failures."""
    said: list[Claim] = []
    for cell in cells:
        said += _leaks(cell)
        said.append(say("Of the uploads of {}, {}.", name(cell), failed(cell)))
    return said + limits(cells)


def _leaks(cell: CellResult) -> list[Claim]:
    if not cell.leaks:
        least = f"it takes a steady window of {MIN_WINDOW_S / 60:.0f} min, and one without kills"
        return [Claim(text=f"{name(cell)} says nothing of leaks: {least}.")]
    said = []
    for outcome, form in (
        ("leak", "{} leaks: {}."),
        ("none", "{} leaks none of these: {}."),
        ("undecided", "{} leaves open: {}."),
    ):
        of = [_slope(cell, leak) for leak in cell.leaks if leak.outcome == outcome]
        if of:
            said.append(say(form, name(cell), listed(of, "; ")))
    return said


def _slope(cell: CellResult, leak: Leak) -> Claim:
    row = QUANTITIES[leak.metric]
    low, value, high, bound = (
        f"{number * row.per_second:.2f}" for number in (leak.low, leak.slope, leak.high, leak.bound)
    )
    figure = Figure(cell=cell.id, name=f"leak {leak.metric}", value=leak.slope)
    text = f"{row.name} {value} {row.unit} ({low} .. {high} at 95 %, {bound} matters)"
    return Claim(text=text, figures=(figure,))
