"""Where a criterion breaks, by what was believed and what trials show: a posterior on a grid.

    log p(t, kappa) = log prior(t) + log w(kappa) + sum n [z log s + (1 - z) log(1 - s)]
    logit s         = logit(allowed) + kappa g(log N - log t)

z is a trial's share, N its users, and n how many independent uploads it counts for: what its time
is worth (`UploadWorth`), less where its batches scatter more than that says (F), and less the
farther its users are from where the threshold seems to be, for there a share tells of the curve's
far ends:

    n = worth / F  *  max(0.05, exp(-(ln(N / t^) / max(0.15, 1.2 / t^))^2))

With n in the place of a number of uploads this is a quasi-likelihood (Wedderburn, Biometrika 61,
1974). As t^ is the posterior's own median, both are found by turns.

Of counts no curve is assumed (`lab.capacity.counts`), and no trial is too far away.

The cell breaks where its first criterion does: P(T > x) is the product of those of all criteria.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import exp, fsum, inf, log, sqrt

from lab.capacity.belief import Belief, logit, scatter_factor, share_at
from lab.capacity.counts import rising, sides
from lab.capacity.shown import Shown

STEP = 0.004
"""Of the grid, in log users: a thirtieth of an interval as wide as is asked for."""

ROUNDS, SETTLED = 8, 0.002
"""So often weights and median are worked out by turns, or until the median moves no more."""

NEAR, NEAR_USERS, FAR_WEIGHT = 0.15, 1.2, 0.05
"""How far from the threshold a trial counts in full, as log users or as users; and at the least."""

LEAST = 0.02
"""The fewest users that are looked at: below one, the cell breaks with a single user."""


@dataclass(frozen=True)
class Posterior:
    """What is left open of one criterion.

    Args:
        belief: what was believed before.
        shares: of the trials, by users.
        weights: by how much each counts, for its distance from the threshold, from 0 to 1.
        factor: F, which the worth of each is divided by.
        grid: log users.
        mass: probabilities on the grid; they add up to 1 with ``never``.
        never: the probability that no number of users breaks it.
        kappa: the mean steepness, as a multiple of the believed one.
        rising: where there is no curve, the shares by users that fit best and never fall.
    """

    belief: Belief
    shares: tuple[Shown, ...]
    weights: tuple[float, ...]
    factor: float
    grid: tuple[float, ...]
    mass: tuple[float, ...]
    never: float
    kappa: float
    rising: tuple[tuple[float, float], ...] = ()

    def above(self, users: float) -> float:
        """The probability that it breaks with more users than these, and not with as many."""
        if users <= 0:
            return 1.0
        x, grid = log(users), self.grid
        place = (x - grid[0]) / STEP + 0.5
        if place <= 0:
            return 1.0
        index = int(place)
        if index >= len(grid):
            return self.never
        below = (self._below[index - 1] if index else 0.0) + (place - index) * self.mass[index]
        return max(0.0, 1.0 - below)

    @cached_property
    def _below(self) -> list[float]:
        return list(accumulate(self.mass))

    @cached_property
    def median(self) -> float:
        """Users, as likely too few as too many; infinite where none breaks it, more likely."""
        return quantile([self], 0.5)

    @cached_property
    def deviation(self) -> float:
        """The standard deviation of log t, where it breaks at all."""
        total = fsum(self.mass)
        mean = fsum(x * p for x, p in zip(self.grid, self.mass, strict=True)) / total
        squares = fsum((x - mean) ** 2 * p for x, p in zip(self.grid, self.mass, strict=True))
        return sqrt(squares / total)

    def share(self, users: float, threshold: float | None = None) -> float:
        """The share beyond the bound with so many users, where it breaks at a threshold."""
        t = self.median if threshold is None else threshold
        if self.belief.basis == "counts":
            return self._counted(users, t)
        if t == inf:
            return 0.0
        g = self.belief.shape(log(users) - log(max(LEAST, t)))
        return share_at(logit(self.belief.allowed) + self.kappa * g)

    def _counted(self, users: float, threshold: float) -> float:
        """The same without a curve: by what trials show, moved to where the threshold is."""
        import numpy as np  # slow to import; most commands infer nothing

        if not self.rising:
            return self.belief.allowed
        moved = 1.0 if inf in (threshold, self.median) else self.median / max(LEAST, threshold)
        tried, shares = zip(*self.rising, strict=True)
        return float(np.interp(log(users * moved), np.log(tried), shares))

    def effective(self) -> Iterator[tuple[Shown, float]]:
        """Each trial's share with how many independent uploads it counts for."""
        for shown, weight in zip(self.shares, self.weights, strict=True):
            yield shown, weight * self.belief.worth.of(shown) / self.factor

    def information(self, users: int, shown_like: Shown) -> float:
        """What a trial of a minute is expected to add to 1 / variance of log t.

        Fisher's information of a logistic share: n g'^2 s (1 - s).
        """
        t = self.median
        if t == inf or t <= 0:
            return 0.0
        u = log(users / t)
        s = self.share(users)
        steep = self.kappa * self.belief.shape.steepness(u)
        return self.belief.worth.of(shown_like) / self.factor * steep * steep * s * (1 - s)

    @property
    def strain(self) -> float:
        """How badly trials near the threshold fit: standard errors beyond what chance leaves.

        The sum of squared residuals, made a normal variable (Wilson and Hilferty, 1931).
        """
        squares, count = 0.0, 0
        for (shown, n), weight in zip(self.effective(), self.weights, strict=True):
            if weight < MIN_FIT:
                continue
            s = self.share(shown.users)
            variance = max(s * (1 - s) / n, (0.5 / max(n, 1.0)) ** 2)
            squares += (shown.share - s) ** 2 / variance
            count += 1
        if not count:
            return 0.0
        cube = float((squares / count) ** (1 / 3))
        return (cube - (1 - 2 / (9 * count))) / sqrt(2 / (9 * count))


MIN_FIT = 0.3
"""The weight from which on a trial has to fit."""


def posterior(belief: Belief, shares: Sequence[Shown], max_users: int) -> Posterior:
    """What is left open of a criterion after its trials, whose order is of no account."""
    shares = tuple(sorted(shares, key=lambda one: (one.users, one.trial)))
    grid = _grid(belief, max_users)
    prior = [belief.log_prior(x) for x in grid]
    if belief.basis == "counts":
        return _by_counts(belief, shares, (grid, prior))
    middle = belief.users
    found = _at(belief, shares, (grid, prior), middle)
    for _ in range(ROUNDS):
        median = min(2.0 * max_users, found.median)
        if abs(log(median / middle)) < SETTLED:
            break
        middle = median
        found = _at(belief, shares, (grid, prior), middle)
    return found


def _grid(belief: Belief, max_users: int) -> tuple[float, ...]:
    low, high = belief.span if belief.sigma < inf else (log(LEAST), log(2.0 * max_users))
    count = int((high - low) / STEP) + 1
    return tuple(low + STEP * i for i in range(count))


def _at(
    belief: Belief,
    shares: tuple[Shown, ...],
    prior: tuple[tuple[float, ...], Sequence[float]],
    middle: float,
) -> Posterior:
    """The posterior with weights as they are where the threshold seems to be ``middle``.

    Args:
        belief: before the trials.
        shares: of these.
        prior: the grid, and the logarithm of the prior on it.
        middle: users.
    """
    import numpy as np  # slow to import; most commands infer nothing

    weights = tuple(nearness(shown.users, middle) for shown in shares)
    factor = max(belief.min_scatter, scatter_factor(belief.worth, shares, weights))
    counted = [
        (log(shown.users), shown.share, weight * belief.worth.of(shown) / factor)
        for shown, weight in zip(shares, weights, strict=True)
    ]
    grid, origin = np.asarray(prior[0]), logit(belief.allowed)
    kappas = np.array([kappa for kappa, _ in belief.kappas])
    logs = np.log([[weight] for _, weight in belief.kappas]) + np.asarray(prior[1])
    for log_users, share, n in counted:
        odds = origin + np.outer(kappas, belief.shape.at(log_users - grid))
        odds = np.clip(odds, -30, 30)
        logs += n * (share * odds - np.log1p(np.exp(odds)))
    top = float(logs.max())
    rows = np.exp(logs - top)
    total = float(rows.sum())
    return Posterior(
        belief=belief,
        shares=shares,
        weights=weights,
        factor=factor,
        grid=prior[0],
        mass=tuple((rows.sum(axis=0) / total).tolist()),
        never=0.0,
        kappa=float(kappas @ rows.sum(axis=1) / total),
    )


CRISP = 1 / 3
"""Up to how much of a user a step of the grid is as nothing: then no step has both of a number that
was tried and less, so that an interval ends at that number and not a little below it."""


def _by_counts(
    belief: Belief, shares: tuple[Shown, ...], prior: tuple[tuple[float, ...], Sequence[float]]
) -> Posterior:
    """The posterior where no curve is assumed, of a criterion that may never break, too."""
    import numpy as np

    weights = (1.0,) * len(shares)
    factor = max(belief.min_scatter, scatter_factor(belief.worth, shares, weights))
    counted = [(shown.users, shown.share, belief.worth.of(shown) / factor) for shown in shares]
    grid, logs = np.asarray(prior[0]), np.asarray(prior[1])
    never = log(belief.never / (1 - belief.never) * len(grid)) if belief.never > 0 else -inf
    for users, share, n in counted:
        allowed, beyond = sides(share, n, belief.allowed)
        off, edge = grid - log(users), STEP / 2 if STEP * users < CRISP else 0.0
        logs = logs + np.where(
            off > edge, allowed, np.where(off <= -edge, beyond, min(allowed, beyond))
        )
        never += allowed
    top = max(never, float(logs.max()))
    row, alone = np.exp(logs - top), exp(never - top)
    total = float(row.sum()) + alone
    return Posterior(
        belief=belief,
        shares=shares,
        weights=weights,
        factor=factor,
        grid=prior[0],
        mass=tuple((row / total).tolist()),
        never=alone / total,
        kappa=1.0,
        rising=rising(counted),
    )


def nearness(users: float, middle: float) -> float:
    """By how much a trial counts for its distance from where the threshold seems to be."""
    off = log(users / middle) / max(NEAR, NEAR_USERS / middle)
    return max(FAR_WEIGHT, exp(-off * off))


def quantile(criteria: Sequence[Posterior], p: float) -> float:
    """Users below whom the first criterion breaks with probability p; infinite where it may never.

    By halving, to a thousandth.
    """

    def below(users: float) -> float:
        left = 1.0
        for criterion in criteria:
            left *= criterion.above(users)
        return 1.0 - left

    low = min(c.grid[0] for c in criteria) - STEP
    high = max(c.grid[-1] for c in criteria) + STEP
    if below(exp(high)) < p:
        return inf
    while high - low > STEP / 8:
        middle = (low + high) / 2
        if below(exp(middle)) < p:
            low = middle
        else:
            high = middle
    return exp((low + high) / 2)
