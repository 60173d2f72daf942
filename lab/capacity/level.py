"""What the trials at one number of users show together: does it hold there, or break?

A criterion like ``p95 < 10 s`` says that fewer than a share of 5 % of uploads may violate its
bound. Against "it is not so", and against "it is so", the trials' counts are turned into an
*e-value* each: how many times a stake would have grown that was bet, at fair odds, on the
contrary. Were the claim true, it would ever grow to 1/a with a probability of at most a,
however often one looks and whatever makes one stop (Ville, 1939; Wald's sequential test is
of this kind). So a search may look after every trial, and go on for as long as it is undecided.

The uploads of one trial are correlated: they meet the same queue, and the same split of users
among workers. A count is therefore beta-binomial (Skellam, 1948) with an intraclass
correlation, that within a trial. What uploads share lasts for about a minute, so a trial is a
row of batches of a minute that are nearly independent: a longer trial shows more in proportion
to its length, and its correlation is that of a minute, divided by its minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import exp, inf, lgamma, log, sqrt
from typing import Literal

from lab.model.capacity import CapacityTrial, CriterionCount
from lab.model.verdict import Outcome

Side = Literal["held", "broke"]
Counts = Sequence[tuple[int, int, float]]
"""Of each trial: violations of the bound, among how many uploads, and their correlation."""

BATCH_S = 60.0
"""Real-world seconds after which uploads have hardly anything in common.

In simulations of the replica at its thresholds the variance of a share falls in proportion
to the window from 60 s on: beside that of independent uploads it is 9, 9, 10 and 10 times as
much in windows of 60, 180, 600 and 1,800 s (two workers of ``to_thread``), and 22, 29, 21 and
20 times (of an executor of 11 threads).
"""

CORRELATION, SPLIT_CORRELATION = 0.01, 0.06
"""The intraclass correlation that is assumed between uploads of one minute, of violating the
bound: for one worker, and for several, among whom users are split by chance.

From the same simulations. One worker: 0.007 at the threshold of ``to_thread``, 0.013 one user
beyond it. Two: 0.04 (``to_thread``) and 0.06 (executor of 11 threads); four: 0.04. Where it is
more than is assumed, evidence is overstated.

Two workers with blocking calls are another matter: 4 users stay split as 2 and 2, or as 3 and
1, for hours, so their windows vary as much however long they are (a share of 0.1 or of 0.3 is
late). Both are beyond 5 %, so the answer is the same.
"""

ODDS: dict[Side, tuple[float, ...]] = {"held": (2 / 3, 1 / 3, 1 / 12), "broke": (3 / 2, 3, 12)}
"""The shares that are bet on, in equal parts: those of so many times the allowed odds."""


def correlation_within(window: float, correlation: float) -> float:
    """The correlation between uploads of one trial.

    Args:
        window: of the trial, in real-world seconds.
        correlation: that within `BATCH_S`.
    """
    return correlation * min(1.0, BATCH_S / window)


def log_e(counts: Counts, allowed: float, side: Side) -> float:
    """The logarithm of the e-value for a side: above log(1/a) it is wrong with chance a at most.

    Args:
        counts: of every trial at a number of users.
        allowed: the share that may violate the bound, strictly between 0 and 1.
        side: what is to be shown.
    """
    return _mean(_bets(counts, allowed, side))


def confidence(count: CriterionCount, correlation: float = CORRELATION) -> float:
    """How sure one trial alone is of its side: 1 - 1/e of the larger e-value, from 0 to 1.

    Args:
        count: a criterion in that trial.
        correlation: between its uploads.
    """
    alone = CriterionEvidence((count,), (correlation,))
    e = max(alone.log_e("held"), alone.log_e("broke"))
    return round(max(0.0, 1 - exp(-e)), 6)


def _bets(counts: Counts, allowed: float, side: Side) -> list[float]:
    """What each of the bets has grown to, a logarithm."""
    return [
        sum(_ratio(violations, of, allowed, odds, within) for violations, of, within in counts)
        for odds in ODDS[side]
    ]


def _mean(bets: Sequence[float]) -> float:
    """The logarithm of the mean of stakes, whose logarithms are given."""
    largest = max(bets)
    return largest + log(sum(exp(bet - largest) for bet in bets) / len(bets))


@lru_cache(maxsize=65536)
def _ratio(violations: int, of: int, allowed: float, odds: float, correlation: float) -> float:
    """The log-likelihood ratio of a count: a share of other odds, against the allowed one."""
    other = allowed * odds / (1 - allowed + allowed * odds)
    size = 1 / correlation - 1
    return _likelihood(violations, of, other, size) - _likelihood(violations, of, allowed, size)


def _likelihood(violations: int, of: int, share: float, size: float) -> float:
    """Of a beta-binomial count, up to what does not depend on the share; a logarithm."""
    a, b = share * size, (1 - share) * size
    return lgamma(violations + a) - lgamma(a) + lgamma(of - violations + b) - lgamma(b)


@dataclass(frozen=True)
class LoadLevel:
    """All valid trials at one number of users; ``correlation`` is that within `BATCH_S`."""

    users: int
    trials: tuple[CapacityTrial, ...]
    correlation: float = CORRELATION

    @property
    def sent(self) -> int:
        """Uploads sent in the windows of all trials."""
        return sum(trial.sent for trial in self.trials)

    @property
    def rate(self) -> float:
        """Uploads a second."""
        return self.sent / sum(trial.window for trial in self.trials)

    @property
    def overhead(self) -> float:
        """What a trial takes beside its window, in real-world seconds: the mean."""
        return sum(trial.spent - trial.window for trial in self.trials) / len(self.trials)

    @property
    def side(self) -> Side | None:
        """Where it seems to be; None while a criterion that is not seen missed has no evidence.

        At least one criterion that seems missed makes it broke.
        """
        sides = [criterion.side for criterion in self._criteria]
        if "broke" in sides:
            return "broke"
        return "held" if sides and None not in sides else None

    def log_e(self, side: Side) -> float:
        """Of the cell: all criteria must hold, or any must break.

        To show that all hold takes the least of their evidence. That some one breaks is
        bet on each in equal parts.
        """
        return self._of_all([criterion.log_e(side) for criterion in self._criteria], side)

    def crossed(self) -> str | None:
        """The criterion that most surely breaks."""
        worst = max(self._criteria, key=lambda criterion: criterion.log_e("broke"), default=None)
        return worst.name if worst else None

    def gain(self, side: Side, window: float, hope: float = 0.0) -> float:
        """What one more trial of such a window, that goes as those before, would add to `log_e`.

        Args:
            side: what is to be shown.
            window: of that trial, in real-world seconds.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        more = round(self.rate * window) / self.sent if self.sent else 0.0
        within = correlation_within(window, self.correlation)
        foreseen = [criterion.foreseen(side, more, within, hope) for criterion in self._criteria]
        return self._of_all(foreseen, side) - self.log_e(side)

    def _of_all(self, evidence: Sequence[float], side: Side) -> float:
        if not evidence:
            return 0.0
        return min(evidence) if side == "held" else max(evidence) - log(len(evidence))

    @cached_property
    def _criteria(self) -> list[CriterionEvidence]:
        by_criterion = zip(*(trial.criteria for trial in self.trials), strict=True)
        within = tuple(correlation_within(trial.window, self.correlation) for trial in self.trials)
        return [CriterionEvidence(counts, within) for counts in by_criterion]


@dataclass(frozen=True)
class CriterionEvidence:
    """One criterion in all trials at one number of users, with the correlation in each."""

    trials: tuple[CriterionCount, ...]
    correlations: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.trials[0].criterion

    @cached_property
    def counts(self) -> list[tuple[int, int, float]]:
        """Of the trials that counted uploads; empty for what is counted outright."""
        return [
            (count.violations, count.samples, within)
            for count, within in zip(self.trials, self.correlations, strict=True)
            if count.violations is not None and count.samples
        ]

    @cached_property
    def side(self) -> Side | None:
        """Where the share of violations lies, or what was counted outright."""
        if self.counts:
            return "broke" if self._violations / self._samples >= self._allowed else "held"
        outcomes = [count.outcome for count in self.trials]
        if Outcome.BROKE in outcomes:
            return "broke"
        return "held" if Outcome.HELD in outcomes else None

    def log_e(self, side: Side) -> float:
        """Evidence for a side. What is counted outright is certain: once missed is missed."""
        if self._is_share:
            return _mean(self._bets[side])
        unshown = self.counts and not self._violations
        if unshown or self.side is None:  # that nothing ever fails, no number of uploads shows
            return 0.0
        return inf if self.side == side else -inf

    def foreseen(self, side: Side, more: float, within: float, hope: float) -> float:
        """`log_e` with one more trial that goes as all before it went.

        Args:
            side: what is to be shown.
            more: how long the trial is, in parts of all trials so far.
            within: the correlation between its uploads.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        if not self._is_share:
            return self.log_e(side)
        share = (self._violations + 0.5) / (self._samples + 1)
        better = hope * self._standard_error(share) * (-1 if side == "held" else 1)
        samples = round(self._samples * more)
        violations = round(min(1.0, max(0.0, share + better)) * samples)
        added = _bets([(violations, samples, within)], self._allowed, side)
        return _mean([sum(pair) for pair in zip(self._bets[side], added, strict=True)])

    def _standard_error(self, share: float) -> float:
        """Of the share in all trials: they vary more than independent uploads would."""
        spread = sum(n * (1 + (n - 1) * within) for _, n, within in self.counts) / self._samples
        return sqrt(share * (1 - share) * spread / self._samples)

    @cached_property
    def _violations(self) -> int:
        return sum(violations for violations, _, _ in self.counts)

    @cached_property
    def _samples(self) -> int:
        return sum(samples for _, samples, _ in self.counts)

    @cached_property
    def _bets(self) -> dict[Side, list[float]]:
        return {side: _bets(self.counts, self._allowed, side) for side in ODDS}

    @property
    def _is_share(self) -> bool:
        return bool(self.counts) and 0 < self._allowed < 1

    @cached_property
    def _allowed(self) -> float:
        return next(count.allowed for count in self.trials if count.allowed is not None)
