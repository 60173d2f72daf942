"""Systems whose threshold is known in closed form, and the noisy trials that they give.

A closed network of so many slots. Its uploads take a lognormal time, round a median that
grows with the users beyond the slots, and fail at a rate that grows too. What uploads have in
common (a slow moment, an unlucky split of users among workers) is drawn for each minute of a
trial, and fades from one to the next.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, floor, log, log1p, sqrt

from lab.capacity.search import MAX_SPLIT_WINDOW_S, MIN_SPLIT_WINDOW_S, CapacitySearch
from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, TrialRequest
from lab.model.evalues import BATCH_S, SPLIT_CORRELATION
from lab.model.verdict import Outcome
from validation.peers import Method

LATE_S, ALLOWED = 10.0, 0.05
MAX_TRIALS = 200
OVERHEAD_S = 75.0
"""What a trial takes beside its window: 5 s of ramp, a minute of warm-up, and the drain."""
LASTING = 0.1
"""How much of what a minute had in common is left in the next."""

NORMAL = statistics.NormalDist()


@dataclass(frozen=True)
class SimulatedSystem:
    """A system with a known threshold.

    Args:
        slots: users that are served at once.
        service: median seconds of an upload that does not wait.
        spread: of the logarithm of an upload's time, standard deviation.
        workers: processes among which users are split.
        common: the part of that variance that the uploads of one minute have in common.
        failing_at: users at whom 5 % of uploads fail.
        steepness: how fast the odds of a failure grow: with this power of the users.
    """

    slots: int
    service: float
    spread: float
    workers: int
    common: float
    failing_at: float
    steepness: float

    @classmethod
    def draw(cls, rng: random.Random) -> SimulatedSystem:
        """One of many kinds: thresholds from none at all to beyond 200 users."""
        slots = max(1, round(exp(rng.uniform(0, log(100)))))
        workers = rng.choice((1, 2, 4))
        return cls(
            slots=slots,
            service=rng.uniform(3.0, 4.5) if rng.random() > 0.03 else rng.uniform(9.0, 14.0),
            # The relative spread of a time in a queue of uploads that take 2 to 5 s.
            spread=rng.uniform(0.08, 0.16) + 0.1 / slots,
            workers=workers,
            # At the threshold a correlation, of being late, of up to 0.012 with one worker and
            # of 0.034 to 0.077 with several, as in simulations of the replica.
            common=rng.uniform(0.13, 0.25) if workers > 1 else rng.choice((0.0, 0.02, 0.05)),
            failing_at=slots * exp(rng.uniform(log(1.5), log(15.0))),
            steepness=rng.uniform(2, 12),
        )

    def median(self, users: int) -> float:
        """Median seconds of an upload."""
        return self.service * max(1.0, users / self.slots)

    def late(self, users: int, common: float | None = None) -> float:
        """The share of uploads of 10 s or longer; in a minute with so much in common, if given."""
        far = log(self.median(users) / LATE_S)
        if common is None:
            return NORMAL.cdf(far / self.spread)
        own = self.spread * sqrt(1 - self.common)
        return NORMAL.cdf((far + self.spread * sqrt(self.common) * common) / own)

    def failing(self, users: int) -> float:
        """The share of uploads that fail, independent of one another."""
        odds: float = ALLOWED / (1 - ALLOWED) * (users / self.failing_at) ** self.steepness
        return odds / (1 + odds)

    def threshold(self, max_users: int) -> int:
        """The most users at whom both shares are below 5 %, up to ``max_users``."""
        for users in range(1, max_users + 1):
            if max(self.late(users), self.failing(users)) >= ALLOWED:
                return users - 1
        return max_users

    def trial(self, request: TrialRequest, number: int, rng: random.Random) -> CapacityTrial:
        """A measurement, as the lab would give it."""
        mean = self.service * exp(self.spread**2 / 2)
        sent = ceil(request.window * min(request.users, self.slots) / mean)
        failed = _binomial(rng, sent, self.failing(request.users))
        late = self._late(request, sent - failed, rng)
        criteria = (
            _count("p95 < 10 s", late, sent - failed),
            _count("error_rate < 5 %", failed, sent),
        )
        broke = any(count.outcome == Outcome.BROKE for count in criteria)
        return CapacityTrial(
            id=f"u{request.users}-{number}",
            users=request.users,
            window=request.window,
            spent=request.window + OVERHEAD_S,
            sent=sent,
            outcome=Outcome.BROKE if broke else Outcome.HELD,
            criteria=criteria,
        )

    def _late(self, request: TrialRequest, answered: int, rng: random.Random) -> int:
        """How many of so many uploads are late, minute by minute."""
        late, common, left, time = 0, rng.gauss(0, 1), answered, request.window
        while left:
            part = min(left, ceil(left * BATCH_S / time)) if time > BATCH_S else left
            late += _binomial(rng, part, self.late(request.users, common))
            left, time = left - part, time - BATCH_S
            common = LASTING * common + sqrt(1 - LASTING**2) * rng.gauss(0, 1)
        return late

    def search(self) -> CapacitySearch:
        """The lab's search in such a system."""
        search = CapacitySearch(rate=1 / self.service, slots=self.slots)
        if self.workers == 1:
            return search
        return replace(
            search,
            correlation=SPLIT_CORRELATION,
            min_window=MIN_SPLIT_WINDOW_S,
            max_window=MAX_SPLIT_WINDOW_S,
        )


def search_in(
    system: SimulatedSystem,
    search: Method,
    rng: random.Random,
    trials: Sequence[CapacityTrial] = (),
) -> Threshold:
    """A whole search, or what is left of one."""
    made = list(trials)
    while isinstance(step := search.next("simulated", made), TrialRequest):
        if len(made) >= MAX_TRIALS:
            raise AssertionError(f"{len(made)} trials and no answer: {system}")
        made.append(system.trial(step, len(made), rng))
    return step


def _binomial(rng: random.Random, count: int, share: float) -> int:
    """By the waiting times between successes (Devroye, 1986), of the rarer of both outcomes."""
    if share > 0.5:
        return count - _binomial(rng, count, 1 - share)
    if share <= 0 or (never := log1p(-share)) == 0:
        return 0
    successes, place = 0, 0
    while (place := place + floor(log(1 - rng.random()) / never) + 1) <= count:
        successes += 1
    return successes


def _count(criterion: str, violations: int, samples: int) -> CriterionCount:
    broke = samples > 0 and violations / samples >= ALLOWED
    return CriterionCount(
        criterion=criterion,
        outcome=Outcome.BROKE if broke else Outcome.HELD,
        samples=samples,
        violations=violations,
        allowed=ALLOWED,
    )
