"""The search for a capacity, as the rest of the lab sees it: trials in, a trial or an answer out.

A `Search` is a pure function of the trials so far. What it asks for is made a cell of its own
by `trial_cell`, measured and judged like any other, and read back by `trial_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Protocol

from lab.errors import UsageError
from lab.model.cell import Cell
from lab.model.load import ClosedLoad
from lab.model.threshold import Ask, Threshold, Trial, Tried
from lab.model.verdict import Finding, Outcome, Verdict
from lab.plan.estimate import drain, service_s, slots
from lab.plan.evidence import ALIKE, ALIKE_SPLIT, alike_within, confidence
from lab.plan.expand import seed_of
from lab.plan.halving import FEW_BEYOND, Halving
from lab.plan.preflight import INSTANT_S, is_share, tail_of

OUTCOMES = {
    "met": Outcome.HELD,
    "missed": Outcome.BROKE,
    "undecided": Outcome.UNDECIDED,
}


class Search(Protocol):
    """A method that finds a cell's threshold."""

    def next(self, cell: str, trials: Sequence[Trial]) -> Ask | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        ...


MOST_USERS = 200
"""A search goes no higher unless it is told to: the report's largest load."""


SHORTEST_SPLIT_S, LONGEST_SPLIT_S = 120.0, 1200.0
"""The shortest and the longest window with several workers, real-world seconds. It takes about
ten times as many of their uploads to show as much (see `lab.plan.evidence.ALIKE_SPLIT`), and a
longer trial has its ramp and warm-up only once."""


def alike(cell: Cell) -> float:
    """The correlation between uploads of one minute that is reckoned with for a cell."""
    return ALIKE_SPLIT if cell.knobs.workers > 1 or cell.target == "cloudrun" else ALIKE


def search_for(cell: Cell, most_users: int = MOST_USERS, most_load: float | None = None) -> Halving:
    """The search for a cell: windows no shorter than the load's, the first rate from the knobs.

    Raises:
        UsageError: the cell's load has no users to vary, or nothing says when it breaks, or
            nothing could show it.
    """
    load = _closed(cell)
    if not cell.criteria:
        raise UsageError(
            f"{cell.id}: without criteria there is nothing that more users could break",
            "write them as 'criteria: [p95 < 10 s, error_rate < 5 %]'",
        )
    for each in cell.criteria:
        if is_share(each) and (each.op == "==" or tail_of(each) is None):
            raise UsageError(
                f"{cell.id}: no number of uploads shows on which side of '{each}' it is",
                "give it a bound that can be passed, such as 'error_rate < 1 %'",
            )
    strictest = min(tail_of(each) or 1.0 for each in cell.criteria)
    split = alike(cell) == ALIKE_SPLIT
    longest = LONGEST_SPLIT_S if split else Halving.longest
    return Halving(
        rate=1 / max(service_s(cell) + load.think, INSTANT_S),
        slots=slots(cell),
        most_users=most_users,
        shortest=max(load.window, SHORTEST_SPLIT_S) if split else load.window,
        longest=max(longest, load.window),
        samples=round(FEW_BEYOND / strictest),
        alike=alike(cell),
        most_load=inf if most_load is None else most_load,
    )


def trial_cell(cell: Cell, ask: Ask, number: int) -> Cell:
    """The cell of a trial: this one with the users and the window that are asked for.

    Its id tells it apart: ``workers=1-u34-2`` is the second trial at 34 users. So does its
    seed: a second trial that met the same sizes again would show less.

    Raises:
        UsageError: the cell's load has no users to vary.
    """
    load = _closed(cell).model_copy(update={"users": ask.users, "window": ask.window})
    return cell.model_copy(
        update={
            "id": f"{cell.id}-u{ask.users}-{number}",
            "load": load,
            "seed": seed_of(cell.seed, 1000 * ask.users + number),
        }
    )


def longest(cell: Cell, search: Halving) -> Cell:
    """The longest trial that a search may ask for."""
    ask = Ask(users=search.most_users, window=search.longest, why="the longest there may be")
    return trial_cell(cell, ask, 1)


def trial_of(cell: Cell, verdict: Verdict) -> Trial:
    """What a search needs to know of a cell that was measured and judged.

    Raises:
        UsageError: the cell's load has no users.
    """
    start, end = cell.load.measured
    likeness = alike_within(end - start, alike(cell))
    return Trial(
        id=cell.id,
        users=_closed(cell).users,
        window=end - start,
        spent=end + drain(cell),
        sent=int(verdict.metrics.get("attempts", 0)),
        outcome=verdict.outcome,
        criteria=tuple(_tried(finding, verdict.outcome, likeness) for finding in verdict.findings),
    )


def _tried(finding: Finding, outcome: Outcome, likeness: float) -> Tried:
    invalid = outcome == Outcome.INVALID
    tried = Tried(
        criterion=finding.criterion,
        outcome=outcome if invalid else OUTCOMES[finding.outcome],
        samples=finding.samples,
        beyond=finding.beyond,
        allowed=finding.allowed,
    )
    if invalid:
        return tried
    return tried.model_copy(update={"confidence": confidence(tried, likeness)})


def _closed(cell: Cell) -> ClosedLoad:
    if isinstance(cell.load, ClosedLoad):
        return cell.load
    raise UsageError(
        f"{cell.id}: a threshold is searched by the number of users, and a load of kind"
        f" {cell.load.kind} has none to vary",
        "write the load as 'load: {users: 10, warmup: 30 s, window: 60 s}'",
    )
