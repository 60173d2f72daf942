"""The search for a capacity: its trials, and the interval that comes out of them.

The answer is an interval, never a lone number: the users at whom a cell certainly holds and
those at whom it certainly breaks. An end that nobody reached is None.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Count, Number, Stored
from lab.model.run import DamagedCell, RunHeader
from lab.model.verdict import CriterionText, Outcome


class CriterionCount(Stored):
    """One criterion in one trial, with the evidence of that trial alone.

    Args:
        criterion: as a spec writes it.
        outcome: what the trial's verdict says of it.
        samples: uploads that it was held against; None where the metric is counted outright.
        violations: how many of them were on the wrong side of its bound; ``beyond`` on disk.
        allowed: the share of them that may be: 0.05 for a p95 or an error rate below 5 %.
        confidence: with which this trial alone shows the side that it is on, from 0 to 1.
    """

    criterion: CriterionText
    outcome: Outcome
    samples: Count | None = None
    violations: Annotated[Count | None, Field(alias="beyond")] = None
    allowed: Number | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.0


class CapacityTrial(Stored):
    """A fresh measurement at one number of users.

    ``window`` and ``spent`` are real-world seconds: of what counted, and of the whole load
    with its ramp, warm-up and drain. ``sent`` counts the uploads sent in the window.
    """

    id: str
    users: Annotated[int, Field(ge=1, le=10**6)]
    window: Annotated[float, Field(gt=0, le=1e12)]
    spent: Annotated[float, Field(gt=0, le=1e12)]
    sent: Count
    outcome: Outcome
    criteria: tuple[CriterionCount, ...]


class TrialRequest(Stored):
    """The trial that a search wants next: so many users, for at least so many seconds."""

    users: Annotated[int, Field(ge=1, le=10**6)]
    window: Annotated[float, Field(gt=0, le=1e12)]
    why: str


class Threshold(Stored):
    """What a search says of one cell.

    Args:
        id: of the cell.
        holds_at: the most users at whom it certainly holds; None: at none that was tried.
        breaks_at: the fewest at whom it certainly breaks; None: at none that was tried.
        crossed_first: the criterion that is crossed at ``breaks_at``.
        confidence: that the truth lies between the two ends, from 0 to 1.
        outcome: ``found``; or ``undecided``, where the interval is true but wider than asked;
            or ``invalid``, where the lab itself was the limit.
        reason: a sentence for people.
        more: real-world seconds of load that it would take to decide it, as far as can be
            foreseen; None where it is decided, or where no further time would.
        trials: all of them, by users.
    """

    id: str
    holds_at: Count | None
    breaks_at: Count | None
    crossed_first: str | None
    confidence: Annotated[float, Field(ge=0, le=1)]
    outcome: Literal["found", "undecided", "invalid"]
    reason: str
    more: Number | None = None
    trials: tuple[CapacityTrial, ...]


class Thresholds(RunHeader):
    """``threshold.json``: the answer for every cell; ``missing`` names those without one yet.

    An answer rests on no trial of which something stored is ``damaged``.
    """

    cells: tuple[Threshold, ...]
    missing: tuple[str, ...]
    damaged: tuple[DamagedCell, ...] = ()
