"""The search for a capacity: its trials, and the interval that comes out of them.

    CapacityTrial … ─> Estimate, from the first trial on and after each ─> Threshold, the last

The answer is an interval, never a lone number: the users at whom a cell holds and those at whom
it breaks. An end that nobody reached is None.
"""

from __future__ import annotations

from math import inf
from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Count, Number, Stored
from lab.model.run import DamagedCell, RunHeader, SearchMethod
from lab.model.times import TrialTimes
from lab.model.verdict import CriterionText, Outcome

Basis = Literal["model", "bound", "counts"]
"""What an estimate rests on beside its trials: a simulation of the cell's network with the stage
times that were measured; the capacity bound of these; or nothing, but counts alone."""


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
    with its ramp, warm-up and drain. ``sent`` counts the uploads sent in the window. ``times``
    are what a search by a model reads of it; None in an answer, and where the verdict has none.
    """

    id: str
    users: Annotated[int, Field(ge=1, le=10**6)]
    window: Annotated[float, Field(gt=0, le=1e12)]
    spent: Annotated[float, Field(gt=0, le=1e12)]
    sent: Count
    outcome: Outcome
    criteria: tuple[CriterionCount, ...]
    times: Annotated[TrialTimes | None, Field(exclude_if=lambda times: times is None)] = None

    def without_times(self) -> CapacityTrial:
        """The same, as an answer has it."""
        return self.model_copy(update={"times": None})


class TrialRequest(Stored):
    """The trial that a search wants next: so many users, for at least so many seconds.

    ``warmup`` is how long it takes until a trial counts; None: as the cell's load has it.
    """

    users: Annotated[int, Field(ge=1, le=10**6)]
    window: Annotated[float, Field(gt=0, le=1e12)]
    why: str
    warmup: Annotated[float | None, Field(ge=0, le=1e12)] = None


class ExpectedThreshold(Stored):
    """What was expected of a cell before any trial: users at whom it begins to break.

    Args:
        basis: what said so.
        users: the middle of what was expected.
        low: the same at the lower end, of as much confidence as an answer has.
        high: at the upper end.
    """

    basis: Basis
    users: Number
    low: Number
    high: Number


class CurvePoint(Stored):
    """The share of uploads beyond a criterion's bound at a number of users.

    ``share`` is at the middle of what the trials leave open, ``low`` and ``high`` where the
    threshold lies at the upper and at the lower end of the interval; from 0 to 1.
    """

    users: Number
    share: Number
    low: Number
    high: Number


class TrialWeight(Stored):
    """A trial beside the curve.

    Args:
        id: of the trial.
        users: that it had.
        share: of its uploads beyond the bound, as the search reckons it, from 0 to 1.
        minutes: of its window.
        weight: how many independent uploads it counts for; 0 where it is of no account.
    """

    id: str
    users: Count
    share: Number
    minutes: Number
    weight: Number


class Curve(Stored):
    """One criterion: what its share beyond the bound is against the users.

    Args:
        criterion: as a spec writes it.
        allowed: the share that may be beyond the bound: where the curve crosses it, it breaks.
        low: users, the lower end of the interval of where that is.
        middle: as likely below as above.
        high: the upper end.
        points: the curve, by users.
        trials: that it rests on, by users.
    """

    criterion: CriterionText
    allowed: Number
    low: Number
    middle: Number
    high: Number
    points: tuple[CurvePoint, ...] = ()
    trials: tuple[TrialWeight, ...] = ()


class Estimate(Stored):
    """Where a threshold lies as far as the trials so far say: an interval, from the first on.

    Args:
        holds_at: the most users at whom it holds, by the lower end; 0 where that is none.
        breaks_at: the fewest at whom it breaks, by the upper end; None: at none of those that
            were to be tried.
        middle: users, as likely too few as too many.
        low: users, the lower end of the interval, no whole number.
        high: the upper end.
        confidence: that the threshold lies between the two, from 0 to 1.
        method: by which it was searched.
        basis: what it rests on beside the trials.
        rests_on: the same as a sentence, with what was checked and why a model was given up.
        prediction: what was expected before the first trial; None by the method ``certain``.
        correction: what the ends were multiplied by, because the speed moves the threshold; they
            were widened by half of what it is away from 1.
        is_narrow: whether the interval is as narrow as was asked for.
        curves: one for each criterion; the cell's interval is the least of them.
    """

    holds_at: Count
    breaks_at: Count | None
    middle: Number
    low: Number
    high: Number
    confidence: Annotated[float, Field(ge=0, le=1)]
    method: SearchMethod = "aimed"
    basis: Basis = "model"
    rests_on: str = ""
    prediction: ExpectedThreshold | None = None
    correction: Annotated[float, Field(gt=0, le=1000)] = 1.0
    is_narrow: bool = False
    curves: tuple[Curve, ...] = ()


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
        estimate: what the ends rest on, with its curves; None by the method ``certain``, and in
            answers of an earlier lab.
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
    estimate: Estimate | None = None


class Standing(Stored):
    """How far the search of a cell is that has no answer yet.

    Args:
        id: of the cell.
        estimate: where its threshold lies as far as the trials so far say; None before the first
            that says anything.
        next: the trial that it wants next.
        trials: those so far, by users.
    """

    id: str
    estimate: Estimate | None
    next: TrialRequest
    trials: tuple[CapacityTrial, ...] = ()

    @property
    def spent(self) -> float:
        """Real-world seconds of load, of all trials so far."""
        return sum(trial.spent for trial in self.trials)

    @property
    def width(self) -> float:
        """Of the interval, as a share of its middle; without bound before there is one."""
        if self.estimate is None or not self.estimate.middle:
            return inf
        return (self.estimate.high - self.estimate.low) / self.estimate.middle


class Thresholds(RunHeader):
    """``threshold.json``, written anew after each trial: the answer for every cell.

    ``missing`` names those without one yet, and ``searching`` says how far these are: those with a
    trial, and the next one without. An answer rests on no trial of which something stored is
    ``damaged``.
    """

    cells: tuple[Threshold, ...]
    missing: tuple[str, ...]
    searching: tuple[Standing, ...] = ()
    damaged: tuple[DamagedCell, ...] = ()

    @property
    def begun(self) -> tuple[Standing, ...]:
        """Those without an answer yet that have a trial."""
        return tuple(standing for standing in self.searching if standing.trials)

    @property
    def known(self) -> tuple[Threshold | Standing, ...]:
        """The answers, and then those that are begun."""
        return (*self.cells, *self.begun)
