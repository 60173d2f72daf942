"""E-values of a claim about a share of uploads: evidence that may be looked at repeatedly.

A criterion like ``p95 < 10 s`` says that fewer than a share of 5 % of uploads may violate its
bound. Against "it is not so", and against "it is so", counts are turned into an *e-value* each:
how many times a stake would have grown that was bet, at fair odds, on the contrary. Were the claim
true, it would ever grow to 1/a with a probability of at most a, however often one looks and
whatever makes one stop (Ville, 1939; Wald's sequential test is of this kind). So the search for a
capacity looks after every trial, and a load's window may end as soon as it is decided.

Uploads of one minute are correlated: they meet the same queue, and the same split of users among
workers. A count is therefore beta-binomial (Skellam, 1948) with an intraclass correlation. What
uploads share lasts for about a minute, so minutes are nearly independent batches. Of one batch the
ratio of two beta-binomial likelihoods is a fair bet after each upload too (the uploads of a batch
come as draws from Polya's urn), so one may look in the midst of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, lgamma, log
from typing import Literal

from lab.model.experiment import Cell

Side = Literal["held", "broke"]
Counts = Sequence[tuple[int, int, float]]
"""Of each trial, or batch: violations of the bound, among how many uploads, their correlation."""

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


def correlation_of(cell: Cell) -> float:
    """The intraclass correlation between uploads of one minute that is assumed for a cell."""
    split = cell.knobs.workers > 1 or cell.target == "cloudrun"
    return SPLIT_CORRELATION if split else CORRELATION


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
        counts: of every trial at a number of users, or of every minute of one.
        allowed: the share that may violate the bound, strictly between 0 and 1.
        side: what is to be shown.
    """
    return mean_bet(bets(counts, allowed, side))


def bets(counts: Counts, allowed: float, side: Side) -> list[float]:
    """What each of the bets has grown to, a logarithm."""
    return [
        sum(_ratio(violations, of, allowed, odds, within) for violations, of, within in counts)
        for odds in ODDS[side]
    ]


def mean_bet(bets: Sequence[float]) -> float:
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
