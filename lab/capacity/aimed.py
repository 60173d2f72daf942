"""The search that aims: a trial where a model expects the threshold, and then what is wanting.

    expect    the users at whom the model, or the capacity bound, expects the cell to break
    aim       the number next to where the threshold seems to be that has had fewer minutes, for as
              long as an interval of the wanted width takes; two trials at least
    answer    the interval in which the threshold lies by all trials, whatever is left of the load

Its answer is a credible interval with equal tails of a posterior (`lab.capacity.posterior`), and
claims 95 % where the curve is 0.7 to 1.4 times as steep as the model's and a minute is worth what
model and batches say. That it then contains the truth in 95 % of searches is checked by
simulation (`python -m validation.searches`) and not proven; `lab.capacity.search` has the method
that rests on no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor, fsum, inf, isinf
from statistics import fmean
from typing import Literal

from lab.capacity.answer import CONFIDENCE, Interval, estimate_of, interval_of, prediction_of
from lab.capacity.inference import Inference
from lab.capacity.shown import MINUTE_S, Shown
from lab.capacity.state import USUAL_WIDTH, allowed_width
from lab.model.capacity import CapacityTrial, Estimate, ExpectedThreshold, Threshold, TrialRequest
from lab.model.experiment import Cell
from lab.model.physics import max_processes
from lab.model.verdict import Outcome

FIRST_WINDOW_S, FIRST_SPLIT_WINDOW_S = 60.0, 120.0
"""The first trial's window, and the shortest: with one worker, and with several."""

MAX_WINDOW_S = 600.0
MIN_PART, FEW_TRIALS = 0.3, 3
"""With several workers, and after so many trials, the least window, as a part of all so far: many
short ones would spend most of their load on ramps and warm-ups."""

STEP_S = 5.0
"""Windows are multiples of this."""

NORMAL = 2.1
"""Standard deviations from the middle of an interval to its ends."""

MIN_TRIALS, MAX_TRIALS = 2, 24
"""What disturbs a whole trial, a single one does not show; and a search ends."""

MAX_INVALID = 3
"""Invalid trials at one number of users before it is given up, where more than the valid ones."""

MAX_INVALID_IN_ALL = 8
"""The same at all of them together."""

WIDE = 0.12
"""The standard deviation of log users above which a trial is to steer by: a short one does."""


@dataclass(frozen=True)
class AimedSearch:
    """The method; all times are real-world seconds.

    Args:
        cell: whose threshold it is.
        max_users: the search goes no higher.
        max_load: of all trials, after which no more are made.
        within: how wide an answer may be, as a share of the users; None: as usual.
        min_window: of a trial.
        max_window: the same.
        correction: what the threshold at speed 1 is, as a multiple of that at the trials' speed;
            None: as the model has it.
        by_model: whether the cell's network is simulated; else the capacity bound aims.
        beside: trials of other cells whose stages take as long: by these the first is aimed.
    """

    cell: Cell
    max_users: int = 200
    max_load: float = inf
    within: float | None = None
    min_window: float = FIRST_WINDOW_S
    max_window: float = MAX_WINDOW_S
    correction: float | None = None
    by_model: bool = True
    beside: tuple[CapacityTrial, ...] = ()

    def informed_by(self, beside: Sequence[CapacityTrial], /) -> AimedSearch:
        """The same search, whose first trial is aimed by the stage times of these."""
        return replace(self, beside=tuple(beside))

    @property
    def max_trials_in_all(self) -> int:
        """How many trials a search may take, the invalid ones too."""
        return MAX_TRIALS + MAX_INVALID_IN_ALL

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        return self._state(trials).next(cell)

    def estimate(self, trials: Sequence[CapacityTrial]) -> Estimate | None:
        """What the trials so far say; None before any."""
        state = self._state(trials)
        return state.estimate() if state.inference.used else None

    def prediction(self) -> ExpectedThreshold:
        """What is expected before any trial."""
        return prediction_of(self.cell, self.max_users)

    def allowed_width(self, holds_at: int) -> int:
        """How wide an answer may be, in users."""
        return allowed_width(holds_at, USUAL_WIDTH if self.within is None else self.within)

    def width_at(self, users: float) -> float:
        """The same of an interval whose ends are no whole numbers: rounded outwards, they are a
        user more apart at the most."""
        return max(2.0, users * (USUAL_WIDTH if self.within is None else self.within))

    @property
    def first_window(self) -> float:
        """The first trial's window, and the shortest."""
        split = max_processes(self.cell) > 1
        return max(self.min_window, FIRST_SPLIT_WINDOW_S if split else FIRST_WINDOW_S)

    def _state(self, trials: Sequence[CapacityTrial]) -> AimedState:
        made = tuple(sorted(trials, key=lambda trial: (trial.users, trial.id)))
        valid = tuple(trial for trial in made if trial.outcome != Outcome.INVALID and trial.sent)
        inference = Inference(self.cell, valid, self.max_users, self.by_model, self.beside)
        return AimedState(self, made, inference)


@dataclass(frozen=True)
class AimedState:
    """Where a search stands by its trials."""

    search: AimedSearch
    trials: tuple[CapacityTrial, ...]
    inference: Inference

    def next(self, cell: str) -> TrialRequest | Threshold:
        """The trial to make next, or the answer."""
        used = self.inference.used
        if len(used) >= MIN_TRIALS and self.is_narrow:
            return self._answer(cell, "found", self.interval.text(self.search.max_users))
        if self.spent >= self.search.max_load:
            return self._wide(cell, f"the {self.search.max_load:.0f} s of load are spent")
        if len(self.inference.trials) >= MAX_TRIALS:
            return self._wide(cell, f"it has had {MAX_TRIALS} trials")
        users = self._aim()
        if users is None or self._invalid >= MAX_INVALID_IN_ALL:
            users = users or round(self._middle)
            why = f"trials with about {users} users tell nothing: see their verdicts"
            return self._answer(cell, "invalid", why)
        return TrialRequest(
            users=users,
            window=self._window(users),
            why="narrowing the interval" if used else "where it is expected to break",
            warmup=self.inference.warmup,
        )

    def estimate(self) -> Estimate:
        """What is known by now, with its curves."""
        return estimate_of(self.inference, self.interval, self.correction, self.is_narrow)

    @cached_property
    def correction(self) -> float:
        """What the threshold at speed 1 is, as a multiple of that at the trials' speed."""
        given = self.search.correction
        return self.inference.correction if given is None else given

    @cached_property
    def interval(self) -> Interval:
        """Where the threshold lies, at speed 1."""
        return interval_of(self.inference, self.correction)

    @property
    def is_narrow(self) -> bool:
        """Whether the interval is as narrow as is wanted, beside what a correction adds."""
        interval, top = interval_of(self.inference, 1.0), self.search.max_users
        holds, breaks = interval.holds(top), interval.breaks(top)
        if holds == top or (breaks or top + 1) - holds <= self.search.allowed_width(holds):
            return True
        between = holds > 0 and breaks is not None
        return between and interval.high - interval.low <= self.search.width_at(interval.low)

    @cached_property
    def spent(self) -> float:
        """Real-world seconds of load of all trials."""
        return fsum(trial.spent for trial in self.trials)

    @cached_property
    def _middle(self) -> float:
        """Where the threshold seems to be; twice the most tried where there may be none."""
        inference, top = self.inference, float(self.search.max_users)
        if not inference.used:
            return min(top, max(1.0, inference.start))
        middle = inference.quantile(0.5)
        if isinf(middle):
            middle = 2.0 * max(trial.users for trial in inference.used)
        return min(top, max(1.0, middle))

    def _aim(self) -> int | None:
        """The number of users to try next; None where none near the threshold may be."""
        middle, used = self._middle, self.inference.used
        near = [floor(middle), floor(middle) + 1] if used and middle > 1 else [round(middle)]
        spare = [near[0] + off * side for off in range(1, NEARBY + 1) for side in (-1, 1)]
        near.sort(key=lambda n: fsum(trial.window for trial in used if trial.users == n))
        for users in (*near, *spare):
            if 1 <= users <= self.search.max_users and not self._is_blocked(users):
                return users
        return None

    def _is_blocked(self, users: int) -> bool:
        """Whether trials with so many users show nothing."""
        made = [trial.outcome for trial in self.trials if trial.users == users]
        invalid = sum(outcome == Outcome.INVALID for outcome in made)
        return invalid >= MAX_INVALID and invalid > len(made) - invalid

    @property
    def _invalid(self) -> int:
        counts = Counter(trial.outcome for trial in self.trials)
        invalid = counts[Outcome.INVALID]
        return invalid if invalid > counts.total() - invalid else 0

    def _window(self, users: int) -> float:
        """Long enough for an interval of the wanted width, by Fisher's information."""
        search, used = self.search, self.inference.used
        least, most = search.first_window, max(search.max_window, search.first_window)
        window = least
        if self.inference.first.posterior.deviation < WIDE:
            window = MINUTE_S * self._minutes(users)
        if self.inference.workers > 1 or len(used) > FEW_TRIALS:
            window = max(window, MIN_PART * fsum(trial.window for trial in used))
        if not isinf(search.max_load) and self.trials:
            around = fmean(trial.spent - trial.window for trial in self.trials)
            most = min(most, max(least, search.max_load - self.spent - around))
        window = min(most, max(least, window))
        return STEP_S * ceil(window / STEP_S - 1e-9)

    def _minutes(self, users: int) -> float:
        """Minutes with so many users that the interval still wants, as far as can be foreseen."""
        found = self.inference.first.posterior
        deviation = self.search.width_at(self._middle) / self._middle / (2 * NORMAL)
        told = [shown for shown in found.shares if shown.users == users] or list(found.shares)
        if not told:
            return self.search.first_window / MINUTE_S
        if found.belief.basis == "counts":  # no curve says what more minutes are worth
            return fsum(shown.minutes for shown in told if shown.users == users)
        minutes = fsum(shown.minutes for shown in told)
        samples = round(sum(shown.samples for shown in told) / minutes)
        minute = Shown("", users, 1.0, max(1, samples), 0.0, all(s.smooth for s in told))
        gain = found.information(users, minute)
        lacking = deviation**-2 - found.deviation**-2
        return max(0.0, lacking) / gain if gain > 0 else MAX_WINDOW_S / MINUTE_S

    def _wide(self, cell: str, why: str) -> Threshold:
        """The answer of a search that is at an end before its interval is narrow."""
        interval, top = self.interval, self.search.max_users
        open_ends = not interval.holds(top) and interval.breaks(top) is None
        if open_ends or not self.inference.used:
            return self._answer(cell, "undecided", f"{why}, and no trial tells anything")
        reason = f"wider than asked for: {why}"
        users = self._aim()
        around = fmean(trial.spent - trial.window for trial in self.trials)
        more = None if users is None else MINUTE_S * self._minutes(users) + around
        return self._answer(cell, "found", reason, more)

    def _answer(
        self,
        cell: str,
        outcome: Literal["found", "undecided", "invalid"],
        reason: str,
        more: float | None = None,
    ) -> Threshold:
        estimate = self.estimate() if self.inference.used else None
        breaks = estimate.breaks_at if estimate else None
        first = str(self.inference.first.criterion) if breaks is not None else None
        return Threshold(
            id=cell,
            holds_at=(estimate.holds_at or None) if estimate else None,
            breaks_at=breaks,
            crossed_first=first,
            confidence=estimate.confidence if estimate else CONFIDENCE,
            outcome=outcome,
            reason=reason,
            more=more,
            trials=tuple(trial.without_times() for trial in self.trials),
            estimate=estimate,
        )


NEARBY = 4
"""Users beside the threshold that are tried where trials at it show nothing."""
