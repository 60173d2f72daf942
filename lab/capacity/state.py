"""Where a threshold lies, as far as the trials so far say: for certain, and as it seems.

    0 ──── holds ──── low ─── threshold ─── high ──── breaks ──── top
           certain    seems                 seems     certain

These are numbers of users; a number with a trial is a level.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import floor, inf, log

from lab.capacity.level import LoadLevel
from lab.model.capacity import CapacityTrial
from lab.model.evalues import CORRELATION, Side
from lab.model.verdict import Outcome

LADDER = (10, 20, 40, 60, 80, 100)
"""The report's method: start at 10 users, steps of 10 to 20, up to its largest load. Beyond
that steps grow by half: halving takes a single trial more for a step of twice the size."""

GROWTH = 1.5
USUAL_WIDTH = 0.1
"""How wide an answer may be, as a share of the users, where no other width is asked for."""

ROUNDING = 1e-9
"""A share of users that is a whole number but for the last digits of a float is one."""

SPARE = 12
"""Numbers of users that may be tried beside the ladder: halving takes 3 to 6 of them, the
rest is for moving the interval."""


@dataclass(frozen=True)
class SearchSettings:
    """How a threshold is searched.

    Args:
        rate: uploads a second of one user alone, for the length of the first trial.
        slots: how many users are served at once at most, for the same.
        max_users: the search goes no higher.
        min_window: of a trial, in real-world seconds.
        max_window: the same, at most.
        samples: uploads that a trial to steer by should have.
        alpha: the chance that a stated interval is wrong.
        correlation: the intraclass correlation between uploads of one minute; see
            `lab.capacity.level`.
        min_trials: that an end rests on. What disturbs a whole trial, as the load of another
            program does, the evidence of that trial alone does not show.
        max_trials: at one number of users, invalid ones not counted.
        max_invalid: invalid ones at one number of users before it is given up, where they are
            more than the valid ones: one bad trial among many says little of the machine.
        max_load: real-world seconds of load, of all trials, after which no more are made.
        within: how wide an answer may be, as a share of the users at whom it holds.
    """

    rate: float = 1 / 3.7
    slots: int = 1
    max_users: int = 200
    min_window: float = 60.0
    max_window: float = 600.0
    samples: int = 40
    alpha: float = 0.05
    correlation: float = CORRELATION
    min_trials: int = 2
    max_trials: int = 16
    max_invalid: int = 3
    max_load: float = inf
    within: float = USUAL_WIDTH

    @cached_property
    def ladder(self) -> tuple[int, ...]:
        """The numbers of users that are climbed, the last of them the highest there is."""
        rungs = list(LADDER)
        while rungs[-1] < self.max_users:
            rungs.append(int(rungs[-1] * GROWTH))
        return (*(users for users in rungs if users < self.max_users), self.max_users)

    @property
    def max_levels(self) -> int:
        """How many numbers of users may be tried."""
        return len(self.ladder) + SPARE

    @property
    def max_trials_at_one(self) -> int:
        """How many trials one number of users may take, the invalid ones too."""
        return self.max_trials + max(self.max_trials, self.max_invalid)

    @property
    def max_trials_in_all(self) -> int:
        """How many trials a search may take: what makes sure that every search ends."""
        return self.max_levels * self.max_trials_at_one

    @property
    def certain(self) -> float:
        """The logarithm of the e-value that makes an end certain."""
        return log(2 / self.alpha)


def allowed_width(holds_at: int, within: float = USUAL_WIDTH) -> int:
    """How wide an answer may be, in users: 2, or a share of those at whom it holds.

    Of the first user nothing is left open.
    """
    return max(2, floor(holds_at * within + ROUNDING)) if holds_at else 1


@dataclass(frozen=True)
class SearchState:
    """What the trials so far say; their order is of no account."""

    settings: SearchSettings
    trials: tuple[CapacityTrial, ...]

    @cached_property
    def levels(self) -> dict[int, LoadLevel]:
        """The numbers of users with a valid trial."""
        valid: dict[int, list[CapacityTrial]] = {}
        for trial in self.trials:
            if trial.outcome != Outcome.INVALID:
                valid.setdefault(trial.users, []).append(trial)
        correlation = self.settings.correlation
        return {n: LoadLevel(n, tuple(trials), correlation) for n, trials in valid.items()}

    @cached_property
    def blocked(self) -> frozenset[int]:
        """The numbers of users at which trials show nothing: invalid, or without an upload."""
        counts = Counter(t.users for t in self.trials if t.outcome == Outcome.INVALID)
        mute = {n for n, level in self.levels.items() if not level.side and self.left(n) <= 0}
        invalid = {
            n
            for n, count in counts.items()
            if count >= self.settings.max_invalid and count > self._valid(n)
        }
        return frozenset(mute | invalid)

    @cached_property
    def holds(self) -> int:
        """The most users at whom it certainly holds; 0 where there are none."""
        return max((n for n in self.levels if self._is_certain(n, "held")), default=0)

    @cached_property
    def breaks(self) -> int:
        """The fewest users at whom it certainly breaks; one more than the most if none do."""
        return min((n for n in self.levels if self._is_certain(n, "broke")), default=self.top)

    @cached_property
    def high(self) -> int:
        """The fewest users at whom it seems to break."""
        breaking = [n for n in self.open() if self.levels[n].side == "broke"]
        return min(breaking, default=self.breaks)

    @cached_property
    def low(self) -> int:
        """The most users, below those, at whom it seems to hold."""
        holding = [n for n in self.open() if self.levels[n].side == "held" and n < self.high]
        return max(holding, default=self.holds)

    @property
    def is_spent(self) -> bool:
        """Whether the trials so far have taken all the time there is for the search."""
        return sum(trial.spent for trial in self.trials) >= self.settings.max_load

    @property
    def top(self) -> int:
        """One user more than the search may ask for: there every cell is taken to break."""
        return self.settings.max_users + 1

    def open(self) -> Iterator[int]:
        """The numbers of users with a trial, between the certain ends."""
        return (n for n in self.levels if self.holds < n < self.breaks)

    def is_fresh(self, users: int) -> bool:
        """Whether a number of users lies between the certain ends, and has no trial yet."""
        return self.holds < users < self.breaks and users not in self.levels

    def left(self, users: int) -> int:
        """How many more trials there may be at a number of users."""
        return self.settings.max_trials - self._valid(users)

    def lacking(self, users: int) -> int:
        """How many trials a number of users that was tried needs still, whatever they show."""
        return max(0, self.settings.min_trials - self._valid(users))

    def is_narrow(self, low: int, high: int) -> bool:
        """Whether two ends are near enough to one another for an answer.

        Where nothing was seen to break, only the most users of all are: fewer leave open what
        the rest would do.
        """
        return low + 1 == high if high == self.top else high - low <= self.allowed_width(low)

    def allowed_width(self, holds_at: int) -> int:
        """How wide an answer of this search may be, in users."""
        return allowed_width(holds_at, self.settings.within)

    def _valid(self, users: int) -> int:
        return len(self.levels[users].trials) if users in self.levels else 0

    def _is_certain(self, users: int, side: Side) -> bool:
        evidence = self.levels[users].log_e(side)
        return evidence >= self.settings.certain and self.lacking(users) == 0
