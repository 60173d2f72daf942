"""What is said of a threshold by a posterior: the interval, what it rests on, and its curves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, exp, isinf, log

from lab.capacity.inference import CriterionPosterior, Inference
from lab.capacity.posterior import quantile
from lab.model.capacity import (
    Basis,
    Curve,
    CurvePoint,
    Estimate,
    ExpectedThreshold,
    TrialWeight,
)
from lab.model.experiment import Cell

CONFIDENCE = 0.95
"""What an interval claims."""

MASS, MASS_SPLIT = 0.96, 0.97
"""What of its posterior it holds, with one worker and with several: a little more than it claims,
for how much uploads are correlated is known from few minutes, and that is not in the posterior."""

POINTS, AROUND = 25, 1.35
"""Of a curve that is shown: how many, and how far beyond the interval they go."""

SURE = "95 % if {}: checked by simulation, not proven"
RESTS_ON: dict[Basis, str] = {
    "model": "a simulation of the cell's network with its measured stage times; "
    + SURE.format(
        "the share grows 0.7 to 1.4 times as steeply as simulated, and a minute is worth what"
        " simulation and trials say"
    ),
    "bound": "the capacity bound of the measured stage times; "
    + SURE.format("the share grows half to twice as steeply as usual"),
    "counts": "counts alone, whatever the number of users was expected to be; "
    + SURE.format("more users are not better"),
}


STICKY = (
    "; users stay at their worker for as long as a trial lasts, so the threshold depends on how"
    " long one looks"
)


@dataclass(frozen=True)
class Interval:
    """Users between whom the threshold lies; infinite ends are those that nothing shows."""

    low: float
    middle: float
    high: float

    def holds(self, max_users: int) -> int:
        """The most users at whom the cell holds by the lower end; 0 where there are none."""
        return max_users if self.low > max_users else max(0, ceil(self.low) - 1)

    def breaks(self, max_users: int) -> int | None:
        """The fewest at whom it breaks by the upper end; None: not up to the most there may be."""
        return None if self.high > max_users else max(1, ceil(self.high))

    def text(self, max_users: int) -> str:
        """The interval as a sentence."""
        holds, breaks = self.holds(max_users), self.breaks(max_users)
        if breaks is None:
            beyond = f", and up to {max_users} it is not seen to break"
            top = ", the most that were to be tried"
            return f"it holds at {holds} users{top if holds == max_users else beyond}"
        if not holds:
            return f"it breaks at {breaks} user{'' if breaks == 1 else 's'}"
        return f"it holds at {holds} users and breaks at {breaks}"


def mass_of(workers: int) -> float:
    """The part of the posterior that an interval holds."""
    return MASS if workers == 1 else MASS_SPLIT


def interval_of(inference: Inference, correction: float = 1.0) -> Interval:
    """The interval with equal tails, at speed 1.

    Args:
        inference: of the trials.
        correction: what the threshold at speed 1 is, as a multiple of that at the trials' speed.
            Each end is moved by half of what it is away from 1 as well, for it is simulated.
    """
    tail = (1 - mass_of(inference.workers)) / 2
    doubt = 1 + abs(correction - 1) / 2
    return Interval(
        inference.quantile(tail) * correction / doubt,
        inference.quantile(0.5) * correction,
        inference.quantile(1 - tail) * correction * doubt,
    )


def prediction_of(cell: Cell, max_users: int) -> ExpectedThreshold:
    """What is expected of a cell before any trial.

    Raises:
        UsageError: nothing is known of how it is measured.
    """
    return _predicted(Inference(cell, (), max_users))


def _predicted(nothing: Inference) -> ExpectedThreshold:
    told = nothing.basis.posterior
    tail = (1 - CONFIDENCE) / 2
    cap = 2.0 * nothing.max_users
    low, middle, high = (min(cap, quantile([told], p)) for p in (tail, 0.5, 1 - tail))
    return ExpectedThreshold(basis=told.belief.basis, users=middle, low=low, high=high)


def estimate_of(
    inference: Inference, interval: Interval, correction: float, is_narrow: bool
) -> Estimate:
    """Everything that is said of a threshold by now."""
    top, basis = inference.max_users, inference.basis
    cap = 2.0 * top
    because = f" ({basis.why})" if basis.why else ""
    because += STICKY if not isinf(basis.posterior.belief.worth.longest) else ""
    return Estimate(
        holds_at=interval.holds(top),
        breaks_at=interval.breaks(top),
        low=min(cap, interval.low),
        middle=min(cap, interval.middle),
        high=min(cap, interval.high),
        confidence=CONFIDENCE,
        method="aimed",
        basis=basis.posterior.belief.basis,
        rests_on=RESTS_ON[basis.posterior.belief.basis] + because,
        prediction=_predicted(replace(inference, trials=())),
        correction=correction,
        is_narrow=is_narrow,
        curves=tuple(curve_of(one, inference) for one in inference.criteria),
    )


def curve_of(one: CriterionPosterior, inference: Inference) -> Curve:
    """One criterion's share against users, with the trials that it rests on."""
    found, cap = one.posterior, 2.0 * inference.max_users
    tail = (1 - mass_of(inference.workers)) / 2
    low, middle, high = (min(cap, quantile([found], p)) for p in (tail, 0.5, 1 - tail))
    tried = [shown.users for shown in found.shares] or [round(middle) or 1]
    first = max(0.5, min(low / AROUND, *tried, middle))
    last = max(min(high * AROUND, cap), *tried, first * AROUND)
    users = [exp(log(first) + (log(last / first)) * i / (POINTS - 1)) for i in range(POINTS)]
    return Curve(
        criterion=str(one.criterion),
        allowed=found.belief.allowed,
        low=low,
        middle=middle,
        high=high,
        points=tuple(
            CurvePoint(
                users=round(n, 3),
                share=round(found.share(n), 6),
                low=round(found.share(n, high), 6),
                high=round(found.share(n, low), 6),
            )
            for n in users
        ),
        trials=tuple(
            TrialWeight(
                id=shown.trial,
                users=shown.users,
                share=round(shown.share, 6),
                minutes=round(shown.minutes, 3),
                weight=round(n, 3),
            )
            for shown, n in found.effective()
        ),
    )
