"""What the trials at one number of users show together: does it hold there, or break?

A criterion like ``p95 < 10 s`` says that fewer than a share of 5 % of uploads may be beyond
its bound. Against "it is not so", and against "it is so", the trials' counts are turned into
an *e-value* each: how many times a stake would have grown that was bet, at fair odds, on the
contrary. Were the claim true, it would ever grow to 1/a with a probability of at most a,
however often one looks and whatever makes one stop (Ville, 1939; Wald's sequential test is
of this kind). So a search may look after every trial, and go on for as long as it is in doubt.

The uploads of one trial are alike: they meet the same queue, and the same split of users
among workers. A count is therefore beta-binomial (Skellam, 1948) with a correlation within
a trial. What uploads share lasts for about a minute, so a trial is a row of batches of a
minute that are nearly independent: a longer trial shows more in proportion to its length,
and its correlation is that of a minute, divided by its minutes.
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
"""Of each trial: how many uploads were beyond the bound, of how many, and how alike they are."""

BATCH_S = 60.0
"""Real-world seconds after which uploads have hardly anything in common.

In simulations of the replica at its thresholds the variance of a share falls in proportion
to the window from 60 s on: beside that of independent uploads it is 9, 9, 10 and 10 times as
much in windows of 60, 180, 600 and 1,800 s (two workers of ``to_thread``), and 22, 29, 21 and
20 times (of an executor of 11 threads).
"""

ALIKE, ALIKE_SPLIT = 0.01, 0.06
"""The correlation between uploads of one minute, of being beyond the bound, that is reckoned
with: for one worker, and for several, among whom users are split by chance.

From the same simulations. One worker: 0.007 at the threshold of ``to_thread``, 0.013 one user
beyond it. Two: 0.04 (``to_thread``) and 0.06 (executor of 11 threads); four: 0.04. Where it is
more than is reckoned with, evidence is overstated.

Two workers with blocking calls are another matter: 4 users stay split as 2 and 2, or as 3 and
1, for hours, so their windows vary as much however long they are (a share of 0.1 or of 0.3 is
late). Both are beyond 5 %, so the answer is the same.
"""


def alike_within(window: float, alike: float) -> float:
    """The correlation between uploads of one trial.

    Args:
        window: of the trial, in real-world seconds.
        alike: the correlation within `BATCH_S`.
    """
    return alike * min(1.0, BATCH_S / window)


ODDS: dict[Side, tuple[float, ...]] = {"held": (2 / 3, 1 / 3, 1 / 12), "broke": (3 / 2, 3, 12)}
"""The shares that are bet on, in equal parts: those of so many times the allowed odds."""


def log_e(counts: Counts, allowed: float, side: Side) -> float:
    """The logarithm of the e-value for a side: above log(1/a), it is wrong at most a of times.

    Args:
        counts: of every trial at a number of users.
        allowed: the share that may be beyond the bound, strictly between 0 and 1.
        side: what is to be shown.
    """
    return _even(_bets(counts, allowed, side))


def _bets(counts: Counts, allowed: float, side: Side) -> list[float]:
    """What each of the bets has grown to, a logarithm."""
    return [
        sum(_ratio(beyond, of, allowed, odds, alike) for beyond, of, alike in counts)
        for odds in ODDS[side]
    ]


def _even(bets: Sequence[float]) -> float:
    """The logarithm of their mean."""
    most = max(bets)
    return most + log(sum(exp(bet - most) for bet in bets) / len(bets))


@lru_cache(maxsize=65536)
def _ratio(beyond: int, of: int, allowed: float, odds: float, alike: float) -> float:
    """The log-likelihood ratio of a count: a share of other odds, against the allowed one."""
    other = allowed * odds / (1 - allowed + allowed * odds)
    size = 1 / alike - 1
    return _likelihood(beyond, of, other, size) - _likelihood(beyond, of, allowed, size)


def _likelihood(beyond: int, of: int, share: float, size: float) -> float:
    """Of a beta-binomial count, up to what does not depend on the share; a logarithm."""
    a, b = share * size, (1 - share) * size
    return lgamma(beyond + a) - lgamma(a) + lgamma(of - beyond + b) - lgamma(b)


def confidence(tried: CriterionCount, alike: float = ALIKE) -> float:
    """With which one trial alone tells its side: 1 - 1/e of the larger e-value, from 0 to 1.

    Args:
        tried: a criterion in that trial.
        alike: the correlation between its uploads.
    """
    alone = CriterionEvidence((tried,), (alike,))
    e = max(alone.log_e("held"), alone.log_e("broke"))
    return round(max(0.0, 1 - exp(-e)), 6)


@dataclass(frozen=True)
class LoadLevel:
    """All valid trials at one number of users; ``alike`` is the correlation within `BATCH_S`."""

    users: int
    trials: tuple[CapacityTrial, ...]
    alike: float = ALIKE

    @property
    def sent(self) -> int:
        """Uploads sent in the windows of all trials."""
        return sum(trial.sent for trial in self.trials)

    @property
    def rate(self) -> float:
        """Uploads a second."""
        return self.sent / sum(trial.window for trial in self.trials)

    @property
    def cost(self) -> float:
        """What a trial takes beside its window, in real-world seconds: the mean."""
        return sum(trial.spent - trial.window for trial in self.trials) / len(self.trials)

    @property
    def side(self) -> Side | None:
        """Where it seems to be; None while a criterion that is not seen missed has no evidence.

        At least one criterion that seems missed makes it broke.
        """
        seem = [criterion.side for criterion in self._criteria]
        if "broke" in seem:
            return "broke"
        return "held" if seem and None not in seem else None

    def log_e(self, side: Side) -> float:
        """Of the cell: all criteria must hold, or any must break.

        To show that all hold takes the least of their evidence. That some one breaks is
        bet on each in equal parts.
        """
        return self._of_all([criterion.log_e(side) for criterion in self._criteria], side)

    def crossed(self) -> str | None:
        """The criterion that most surely breaks."""
        worst = max(self._criteria, key=lambda each: each.log_e("broke"), default=None)
        return worst.name if worst else None

    def gain(self, side: Side, window: float, hope: float = 0.0) -> float:
        """What one more trial of such a window, that goes as those before, would add to `log_e`.

        Args:
            side: what is to be shown.
            window: of that trial, in real-world seconds.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        more = round(self.rate * window) / self.sent if self.sent else 0.0
        alike = alike_within(window, self.alike)
        foreseen = [each.foreseen(side, more, alike, hope) for each in self._criteria]
        return self._of_all(foreseen, side) - self.log_e(side)

    def _of_all(self, found: Sequence[float], side: Side) -> float:
        if not found:
            return 0.0
        return min(found) if side == "held" else max(found) - log(len(found))

    @cached_property
    def _criteria(self) -> list[CriterionEvidence]:
        named = zip(*(trial.criteria for trial in self.trials), strict=True)
        alike = tuple(alike_within(trial.window, self.alike) for trial in self.trials)
        return [CriterionEvidence(tried, alike) for tried in named]


@dataclass(frozen=True)
class CriterionEvidence:
    """One criterion in all trials at one number of users, with the correlation in each."""

    tried: tuple[CriterionCount, ...]
    alike: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.tried[0].criterion

    @cached_property
    def counts(self) -> list[tuple[int, int, float]]:
        """Of the trials that counted uploads; empty for what is counted outright."""
        return [
            (each.beyond, each.samples, alike)
            for each, alike in zip(self.tried, self.alike, strict=True)
            if each.beyond is not None and each.samples
        ]

    @cached_property
    def side(self) -> Side | None:
        """Where the share beyond the bound lies, or what was counted outright."""
        if self.counts:
            share = sum(k for k, _, _ in self.counts) / sum(n for _, n, _ in self.counts)
            return "broke" if share >= self._allowed else "held"
        outcomes = [each.outcome for each in self.tried]
        if Outcome.BROKE in outcomes:
            return "broke"
        return "held" if Outcome.HELD in outcomes else None

    def log_e(self, side: Side) -> float:
        """Evidence for a side. What is counted outright is certain: once missed is missed."""
        if self._is_share:
            return _even(self._bets[side])
        unshown = self.counts and not any(beyond for beyond, _, _ in self.counts)
        if unshown or self.side is None:  # that nothing ever fails, no number of uploads shows
            return 0.0
        return inf if self.side == side else -inf

    def foreseen(self, side: Side, more: float, alike: float, hope: float) -> float:
        """`log_e` with one more trial that goes as all before it went.

        Args:
            side: what is to be shown.
            more: how long the trial is, in parts of all trials so far.
            alike: the correlation between its uploads.
            hope: by how many standard errors the share is better for that side than it seems.
        """
        if not self._is_share:
            return self.log_e(side)
        beyond = sum(count for count, _, _ in self.counts)
        of = sum(count for _, count, _ in self.counts)
        samples = round(of * more)
        share = (beyond + 0.5) / (of + 1)
        better = hope * self._error(share, of) * (-1 if side == "held" else 1)
        count = (round(min(1.0, max(0.0, share + better)) * samples), samples, alike)
        added = _bets([count], self._allowed, side)
        return _even([sum(pair) for pair in zip(self._bets[side], added, strict=True)])

    def _error(self, share: float, of: int) -> float:
        """The standard error of the share in all trials: they vary more than independent ones."""
        spread = sum(n * (1 + (n - 1) * alike) for _, n, alike in self.counts) / of
        return sqrt(share * (1 - share) * spread / of)

    @cached_property
    def _bets(self) -> dict[Side, list[float]]:
        return {side: _bets(self.counts, self._allowed, side) for side in ODDS}

    @property
    def _is_share(self) -> bool:
        return bool(self.counts) and 0 < self._allowed < 1

    @cached_property
    def _allowed(self) -> float:
        return next(each.allowed for each in self.tried if each.allowed is not None)
