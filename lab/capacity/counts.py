"""Where a criterion breaks by counts alone: more users are not better, and nothing else is assumed.

    p(t | trials)  ~  p(t)  *  product of p(trial | its share is allowed)      N <  t
                            *  product of p(trial | its share is not)          N >= t

On either side a share may be anything: its log-odds are as far from the allowed ones as a half
Cauchy variable is, so a share that grows slowly, one that leaps from nothing to a half, and one
that then stays there are all possible, and none of them is where a curve would have it. A trial far
from the threshold tells on which side of it that is, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from lab.capacity.belief import logit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WIDE = 1.5
"""The median distance of a share's log-odds from the allowed ones: 5 % to 19 %, or to 1.2 %."""

POINTS, FARTHEST = 400, 30.0


@cache
def _distances() -> NDArray[np.float64]:
    """Distances in log-odds, all as likely: the quantiles of a half Cauchy."""
    import numpy as np  # slow to import; most commands infer nothing

    quantiles = (np.arange(POINTS) + 0.5) / POINTS
    distances: NDArray[np.float64] = np.minimum(WIDE * np.tan(np.pi / 2 * quantiles), FARTHEST)
    return distances


def sides(share: float, count: float, allowed: float) -> tuple[float, float]:
    """How likely a trial is, as a logarithm, where its true share is allowed, and where it is not.

    Args:
        share: what was seen, from 0 to 1.
        count: how many independent uploads it is of, which need not be whole.
        allowed: the share that may be beyond the bound, strictly between 0 and 1.
    """
    import numpy as np

    def mean(odds: NDArray[np.float64]) -> float:
        logs = count * (share * odds - np.logaddexp(0.0, odds))
        top = float(logs.max())
        return top + float(np.log(np.mean(np.exp(logs - top))))

    origin = logit(allowed)
    return mean(origin - _distances()), mean(origin + _distances())


def rising(shown: Sequence[tuple[float, float, float]]) -> tuple[tuple[float, float], ...]:
    """The shares by users that fit trials best and never fall (isotonic regression).

    Args:
        shown: users, share and independent uploads of each trial.

    Returns:
        users and share, by users.
    """
    from scipy.optimize import isotonic_regression  # slow to import, as above

    ordered = sorted(shown)
    if not ordered:
        return ()
    fitted = isotonic_regression(
        [share for _, share, _ in ordered], weights=[count for _, _, count in ordered]
    )
    by_users = {users: float(share) for (users, _, _), share in zip(ordered, fitted.x, strict=True)}
    return tuple(by_users.items())
