"""Where a threshold lies, as far as the trials so far say: for certain, and as it seems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf, log

from lab.capacity.level import ALIKE, LoadLevel, Side
from lab.model.capacity import CapacityTrial
from lab.model.verdict import Outcome

LADDER = (10, 20, 40, 60, 80, 100)
"""The report's method: start at 10 users, steps of 10 to 20, up to its largest load. Beyond
that steps grow by half: halving takes a single trial more for a step of twice the size."""

GROWTH = 1.5
SPARE = 12
"""Numbers of users that may be tried beside the ladder: halving takes 3 to 6 of them, the
rest is for moving the interval."""


@dataclass(frozen=True)
class SearchSettings:
    """How a threshold is searched.

    Args:
        rate: uploads a second of one user alone, for the length of the first trial.
        slots: how many users are served at once at most, for the same.
        most_users: the search goes no higher.
        shortest: a trial's window in real-world seconds, at least.
        longest: the same, at most.
        samples: uploads that a trial to steer by should have.
        doubt: the chance that a stated interval is wrong.
        alike: the correlation between uploads of one minute; see `lab.capacity.level`.
        least_trials: that an end rests on. What disturbs a whole trial, as the load of another
            program does, the evidence of that trial alone does not tell.
        most_trials: at one number of users, invalid ones not counted.
        most_invalid: invalid ones at one number of users before it is given up, where they are
            more than the valid ones: one bad trial among many says little of the machine.
        most_load: real-world seconds of load, of all trials, after which no more are made.
    """

    rate: float = 1 / 3.7
    slots: int = 1
    most_users: int = 200
    shortest: float = 60.0
    longest: float = 600.0
    samples: int = 40
    doubt: float = 0.05
    alike: float = ALIKE
    least_trials: int = 2
    most_trials: int = 16
    most_invalid: int = 3
    most_load: float = inf

    @cached_property
    def ladder(self) -> tuple[int, ...]:
        """The numbers of users that are climbed, the last of them the highest there is."""
        rungs = list(LADDER)
        while rungs[-1] < self.most_users:
            rungs.append(int(rungs[-1] * GROWTH))
        return (*(users for users in rungs if users < self.most_users), self.most_users)

    @property
    def most_levels(self) -> int:
        """How many numbers of users may be tried."""
        return len(self.ladder) + SPARE

    @property
    def most_at_one(self) -> int:
        """How many trials one number of users may take, the invalid ones too."""
        return self.most_trials + max(self.most_trials, self.most_invalid)

    @property
    def most_trials_in_all(self) -> int:
        """How many trials a search may take: what makes sure that every search ends."""
        return self.most_levels * self.most_at_one

    @property
    def certain(self) -> float:
        """The logarithm of the e-value that makes an end certain."""
        return log(2 / self.doubt)


def allowed_width(holds_at: int) -> int:
    """How wide an answer may be: 2 users or a tenth; of the first user nothing is left open."""
    return max(2, holds_at // 10) if holds_at else 1


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
        return {n: LoadLevel(n, tuple(of), self.settings.alike) for n, of in valid.items()}

    @cached_property
    def blocked(self) -> frozenset[int]:
        """The numbers of users at which trials tell nothing: invalid, or without an upload."""
        invalid = Counter(t.users for t in self.trials if t.outcome == Outcome.INVALID)
        mute = {n for n, each in self.levels.items() if not each.side and self.left(n) <= 0}
        return frozenset(mute | {n for n, count in invalid.items() if self._is_invalid(n, count)})

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
        seem = [n for n in self.open() if self.levels[n].side == "broke"]
        return min(seem, default=self.breaks)

    @cached_property
    def low(self) -> int:
        """The most users, below those, at whom it seems to hold."""
        seem = [n for n in self.open() if self.levels[n].side == "held" and n < self.high]
        return max(seem, default=self.holds)

    @property
    def is_spent(self) -> bool:
        """Whether the trials so far have taken all the time there is for the search."""
        return sum(trial.spent for trial in self.trials) >= self.settings.most_load

    @property
    def top(self) -> int:
        """One user more than the search may ask for: there every cell is taken to break."""
        return self.settings.most_users + 1

    def open(self) -> Iterator[int]:
        """The numbers of users with a trial, between the certain ends."""
        return (n for n in self.levels if self.holds < n < self.breaks)

    def left(self, users: int) -> int:
        """How many more trials there may be at a number of users."""
        return self.settings.most_trials - self._valid(users)

    def lacking(self, users: int) -> int:
        """How many trials a number of users that was tried needs still, whatever they show."""
        return max(0, self.settings.least_trials - self._valid(users))

    def is_narrow(self, low: int, high: int) -> bool:
        """Whether two ends are near enough to one another for an answer.

        Where nothing was seen to break, only the most users of all are: fewer leave open what
        the rest would do.
        """
        return low + 1 == high if high == self.top else high - low <= allowed_width(low)

    def _valid(self, users: int) -> int:
        return len(self.levels[users].trials) if users in self.levels else 0

    def _is_invalid(self, users: int, count: int) -> bool:
        return count >= self.settings.most_invalid and count > self._valid(users)

    def _is_certain(self, users: int, side: Side) -> bool:
        evidence = self.levels[users].log_e(side)
        return evidence >= self.settings.certain and self.lacking(users) == 0
