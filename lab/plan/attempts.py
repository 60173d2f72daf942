"""Which invalid cell is measured again, and how: a pure function from its attempts' verdicts.

Only what disturbed a measurement decides that, never what was measured: the first valid attempt
is the cell's, whatever it says. What may be the replica's own doing is not repeated until it goes
well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import floor, inf

from lab.model.experiment import Cell
from lab.model.speed import STEP
from lab.model.verdict import InvalidityKind, Verdict

MAX_RETRIES = 10
RETRIES = 2
"""How often a cell is measured again at most, and by default."""


class Repeat(StrEnum):
    """What to do about a cell that is invalid for a reason of some kind."""

    SLOWER = "again, at the speed that fits"
    QUIET = "again, when this machine is quiet"
    AGAIN = "again"
    NEVER = "not again"


REPEATS: Mapping[InvalidityKind, Repeat] = {
    "speed": Repeat.SLOWER,
    "machine": Repeat.QUIET,
    "generator": Repeat.QUIET,
    "part": Repeat.QUIET,
    "standstill": Repeat.QUIET,
    "clock": Repeat.AGAIN,
    "injection": Repeat.NEVER,
    "evidence": Repeat.NEVER,
    "descriptors": Repeat.NEVER,
    "space": Repeat.NEVER,
    "defect": Repeat.NEVER,
}
"""What may come out otherwise when it is done again, and what that takes."""

SPARE = 0.9
"""Part of a speed that would have fitted at which the next attempt is made, once for each that was
too fast: what a speed does is measured anew in each, and varies, so that one at the bound itself is
as often beyond it; and where the machine became slower meanwhile, more has to be spared."""

DISTURBED = {Repeat.QUIET, Repeat.AGAIN}


@dataclass(frozen=True)
class NextAttempt:
    """How a cell is measured again.

    Args:
        quiet: whether this machine is to be quiet first.
        limit: the highest speed, where the lab chooses it.
        busy_limit: the same where the machine did not become quiet.
    """

    quiet: bool = False
    limit: float = inf
    busy_limit: float = inf


def next_attempt(cell: Cell, verdicts: Sequence[Verdict]) -> NextAttempt | None:
    """The attempt after those that were invalid; None where another would show no more.

    A speed that was given by hand stays, so that what it makes invalid is not repeated, unless
    something disturbed the cell, too. One that the lab chose is lowered to a little less than what
    fitted each attempt that was too fast; and where twice in a row others seemed to keep the
    machine busy, or the generator late, to what would have fitted beside them.

    Args:
        cell: as it was measured the last time.
        verdicts: of all attempts, in order.
    """
    reasons = verdicts[-1].invalid
    kinds = {REPEATS[reason.kind] for reason in reasons}
    if not kinds or Repeat.NEVER in kinds:
        return None
    step = again(verdicts)
    if kinds & DISTURBED or (cell.auto_speed and step.limit < cell.knobs.speed):
        return step
    return None


def again(verdicts: Sequence[Verdict]) -> NextAttempt:
    """The attempt after these, whether or not it is likely to be valid."""
    fitted = [_fitting(verdict, Repeat.SLOWER) for verdict in verdicts]
    too_fast = [speed for speed in fitted if speed < inf]
    slower = [_spared(min(too_fast), len(too_fast))] if too_fast else []
    beside = (
        max(_fitting(before, Repeat.QUIET), _fitting(after, Repeat.QUIET))
        for before, after in pairwise(verdicts)
    )
    limit = min([*slower, *beside], default=inf)
    last = verdicts[-1:]
    return NextAttempt(
        quiet=any(REPEATS[r.kind] is Repeat.QUIET for v in last for r in v.invalid),
        limit=limit,
        busy_limit=min([limit, *(_fitting(verdict, Repeat.QUIET) for verdict in last)]),
    )


def _spared(speed: float, times: int) -> float:
    """A little less, so many times, in the steps of chosen speeds."""
    return max(1.0, floor(SPARE**times * speed / STEP) * STEP)


def _fitting(verdict: Verdict, repeat: Repeat) -> float:
    """The highest speed at which none of these reasons would have been one."""
    reasons = (reason for reason in verdict.invalid if REPEATS[reason.kind] is repeat)
    return min((reason.fitting for reason in reasons if reason.fitting), default=inf)
