"""Order statistics and exact bounds: what a number of samples can show, and what it cannot.

All bounds are one-sided at 95 %. They take the samples for independent; those of a closed
load are not quite (a slow moment slows many uploads), so a bound is the least doubt there
is, not all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DOUBT = 0.05
"""The chance that a one-sided bound is on the wrong side of the truth."""

TIE = 1e-12
"""Two probabilities nearer than this are equal."""

MOST_NEEDED = 1_000_000


def quantile(ordered: Sequence[float], p: float) -> float:
    """The p-quantile: the smallest value that a share p of the samples does not exceed.

    This is the order statistic of rank ceil(p n), the inverse of the empirical
    distribution (type 1 of Hyndman and Fan, 1996): always a value that was measured.
    """
    return ordered[_rank(len(ordered), p) - 1]


def complement(p: float) -> float:
    """1 - p as it is written: 0.05 for 0.95, where binary floats leave 0.050000000000000044."""
    return round(1 - p, 9)


def share_bounds(count: int, of: int) -> tuple[float, float]:
    """Lower and upper bound of a share of which ``count`` of ``of`` were seen.

    Clopper and Pearson (1934), from quantiles of the beta distribution: exact, so never
    wrong more often than it says.
    """
    from scipy.special import betaincinv  # slow to import; many commands never judge

    low = float(betaincinv(count, of - count + 1, DOUBT)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - DOUBT)) if count < of else 1.0
    return low, high


def quantile_bounds(ordered: Sequence[float], p: float) -> tuple[float | None, float | None]:
    """Lower and upper bound of the p-quantile, each an order statistic or None.

    The dual of `share_bounds`: the quantile is below x exactly when the share of values at
    or above x is below 1 - p. The upper bound is the smallest sample x for which the share
    of samples above it has an upper bound below 1 - p; 58 samples have none for p95.
    """
    n, tail = len(ordered), complement(p)
    most = _most_above(n, tail)
    least = _fewest_above(n, tail)
    high = ordered[n - 1 - most] if most is not None else None
    low = ordered[n - least] if least is not None else None
    return low, high


def needed(share: float, bound: float) -> int | None:
    """How many samples would decide whether a share is below ``bound``, were it as now.

    Args:
        share: what was seen; 0 asks for straight successes: 59 for a bound of 5 %.
        bound: what it is held against, strictly between 0 and 1.

    Returns:
        The number, or None where it is above a million: too near the bound to tell.
    """
    low, high = 1, MOST_NEEDED
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


def _rank(n: int, p: float) -> int:
    # 0.95 * 20 is 19.000000000000004 in binary: a share is written with few decimals.
    return max(1, math.ceil(round(p * n, 9)))


def _most_above(n: int, tail: float) -> int | None:
    """The largest k of which P(Binomial(n, tail) <= k) < 5 %: so few above show it is less."""
    from scipy.special import bdtr

    below = [k for k in range(_around(n, tail)) if bdtr(k, n, tail) < DOUBT]
    return below[-1] if below else None


def _fewest_above(n: int, tail: float) -> int | None:
    """The smallest k of which P(Binomial(n, tail) >= k) <= 5 %: so many show it is not less."""
    from scipy.special import bdtrc

    ks = range(1, min(n, 2 * _around(n, tail)) + 1)
    return next((k for k in ks if bdtrc(k - 1, n, tail) <= DOUBT + TIE), None)


def _around(n: int, tail: float) -> int:
    """A count that the tail passes hardly ever: its mean and five deviations more."""
    return math.ceil(n * tail + 5 * math.sqrt(n * tail)) + 5
