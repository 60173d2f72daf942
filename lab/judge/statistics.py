"""What is made of many values, and exact bounds: what samples can show, and what they cannot.

All bounds are one-sided at 95 %. They take the samples for independent; those of a closed
load are not quite (a slow moment slows many uploads), so the truth is a little less certain
than a bound says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, fsum, sqrt
from statistics import fmean

from lab.model.physics import ALPHA, PERCENTILES, complement, quantile, straight_successes

TIE = 1e-12
"""Two probabilities nearer than this are equal."""

MAX_NEEDED = 1_000_000


def mean(values: Iterable[float]) -> float | None:
    """The arithmetic mean; None of none."""
    measured = list(values)
    return fmean(measured) if measured else None


def total(values: Iterable[float]) -> float | None:
    """The sum; None of none."""
    measured = list(values)
    return fsum(measured) if measured else None


def peak(values: Iterable[float]) -> float | None:
    """The largest; None of none."""
    return max(values, default=None)


def percentile(p: float, values: Iterable[float]) -> float | None:
    """The p-quantile; None of none."""
    ordered = sorted(values)
    return quantile(ordered, p) if ordered else None


def p95(values: Iterable[float]) -> float | None:
    """The 95th percentile; None of none."""
    return percentile(PERCENTILES["p95"], values)


def growth(totals: Iterable[float]) -> float:
    """Growth of a running total; it begins at 0 again where a part was started anew.

    In a container a worker has the same pid as the one before it.
    """
    return fsum(now - before if now >= before else now for before, now in pairwise(totals))


def share_bounds(count: int, of: int) -> tuple[float, float]:
    """Lower and upper bound of a share of which ``count`` of ``of`` were seen.

    Clopper and Pearson (1934), from quantiles of the beta distribution: exact, so never
    wrong more often than it says.
    """
    from scipy.special import betaincinv  # slow to import; many commands never judge

    low = float(betaincinv(count, of - count + 1, ALPHA)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - ALPHA)) if count < of else 1.0
    return low, high


def quantile_bounds(ordered: Sequence[float], p: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of the p-quantile, each an order statistic or None.

    The dual of `share_bounds`: the quantile is below x exactly when the share of values at
    or above x is below 1 - p. The upper bound is the smallest sample x for which the share
    of samples above it has an upper bound below 1 - p; 58 samples have none for p95.
    """
    from scipy.special import bdtr, bdtrc

    n, tail = len(ordered), complement(p)
    # A count that the tail passes hardly ever: its mean and five deviations more.
    around = ceil(n * tail + 5 * sqrt(n * tail)) + 5
    # The largest k of which P(Binomial(n, tail) <= k) < 5 %: so few above show that it is less.
    few = max((k for k in range(around) if bdtr(k, n, tail) < ALPHA), default=None)
    # The smallest k of which P(Binomial(n, tail) >= k) <= 5 %: so many show that it is not less.
    ks = range(1, min(n, 2 * around) + 1)
    many = next((k for k in ks if bdtrc(k - 1, n, tail) <= ALPHA + TIE), None)
    high = ordered[n - 1 - few] if few is not None else None
    low = ordered[n - many] if many is not None else None
    return low, high


def needed(share: float, bound: float) -> int | None:
    """How many samples would decide whether a share is below ``bound``, were it as now.

    Args:
        share: what was seen; 0 asks for straight successes: 59 for a bound of 5 %.
        bound: what it is held against, strictly between 0 and 1.

    Returns:
        The number, or None where it is above a million: too near the bound to tell.
    """
    if share == 0:
        enough = straight_successes(bound)
        return enough if enough <= MAX_NEEDED else None
    low, high = 1, MAX_NEEDED
    if not _decided(share, bound, high):
        return None
    while low < high:
        middle = (low + high) // 2
        if _decided(share, bound, middle):
            high = middle
        else:
            low = middle + 1
    return low


def _decided(share: float, bound: float, n: int) -> bool:
    low, high = share_bounds(min(n, round(share * n)), n)
    return high < bound or low >= bound - TIE
