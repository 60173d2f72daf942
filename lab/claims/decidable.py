"""Whether a condition of a claim can be decided at all: known before anything is measured."""

from __future__ import annotations

from lab.errors import SpecError
from lab.judge.leaks import MIN_WINDOW_S, QUANTITIES
from lab.model.claims import Condition
from lab.model.criterion import Criterion
from lab.model.experiment import Cell, unasked
from lab.model.journeys import REQUESTS
from lab.model.load import OneWindow
from lab.model.physics import STATISTICAL
from lab.model.units import format_duration
from lab.model.verdict import Resource
from lab.plan.estimate import max_requests, min_uploads
from lab.plan.expand import check_measurable

Problem = tuple[str, str]
"""What is wrong, and the remedy."""


def undecidable(condition: Condition, cell: Cell, beside: Cell | None) -> Problem | None:
    """Why no trial of these cells could decide a condition, and the remedy; None: one can.

    Args:
        condition: of a claim.
        cell: that it is about.
        beside: the one that a relative criterion is held against.
    """
    criterion = condition.criterion
    if criterion is None:
        return _no_limit(condition.limit)
    for one in (cell, *([beside] if beside else [])):
        if problem := _unmeasured(criterion, one):
            return problem
    return _incomparable(criterion, cell, beside) if beside else _too_few(criterion, cell)


def _no_limit(limit: Resource | None) -> Problem | None:
    """Why a verdict never names this as a limit."""
    if limit is Resource.UNCLEAR:
        return "a limit that is unclear decides nothing", "write the resource that it is"
    return None


def _unmeasured(criterion: Criterion, cell: Cell) -> Problem | None:
    """Why a cell has no such figure."""
    if problem := unasked(criterion, cell.load):
        return problem
    start, end = cell.load.measured
    if criterion.metric in QUANTITIES and end - start < MIN_WINDOW_S:
        what = f"criterion '{criterion}': the window is {format_duration(end - start)} long"
        return what, f"a slope takes {format_duration(MIN_WINDOW_S)}; take a longer one"
    try:
        check_measurable([cell], [criterion])
    except SpecError as error:
        return error.what, error.remedy or "leave it out"
    return None


def _too_few(criterion: Criterion, cell: Cell) -> Problem | None:
    enough, there_are = min_uploads(criterion), max_requests(cell, criterion.journey)
    if enough is None or there_are >= enough:
        return None
    noun = REQUESTS[criterion.journey].noun
    what = f"criterion '{criterion}': about {there_are} {noun}s count at most"
    return what, f"it takes {enough} with none beyond the bound; take a longer window"


def _incomparable(criterion: Criterion, cell: Cell, beside: Cell) -> Problem | None:
    """Why the figures of two cells could never be compared."""
    kinds = [one.load.kind for one in (cell, beside)]
    if kinds[0] != kinds[1]:
        what = f"criterion '{criterion}' compares loads of kind {kinds[0]} and {kinds[1]}"
        return what, "take cells with loads of one kind"
    if criterion.metric in STATISTICAL and not isinstance(cell.load, OneWindow):
        what = f"criterion '{criterion}': of a load of kind {kinds[0]} nobody knows how well its"
        return f"{what} figures are known", "write bounds of their own, or take another load"
    return None
