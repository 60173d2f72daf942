"""What is believed of one criterion before a trial is looked at: where it breaks, and how steeply.

    t0, sigma   the users at whom the allowed share is beyond the bound, and how far that may be off
    shape       the log-odds of a share against the users: logit s = logit(allowed) + kappa g(u),
                u = log(users / t)
    kappas      how many times as steep it may be
    worth       how many independent uploads a minute, or an upload, counts for

Three kinds, from much to nothing. By a *model* all of it is simulated (`lab.capacity.expected`).
By the *bound*, the rate X that the slots carry at most: uploads of N users take N / X seconds in
the mean (Little's law), so they are late from about N = X times the bound on, and earlier by what
latencies vary (`EARLIER`). By *counts* nothing is known but that more users are not better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, inf, log, sqrt
from typing import TYPE_CHECKING

from lab.capacity.shown import Shown
from lab.model.capacity import Basis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Weighted = tuple[tuple[float, float], ...]
"""Values with their probabilities."""

MODEL_KAPPAS: Weighted = ((0.7, 0.25), (1.0, 0.5), (1.4, 0.25))
BOUND_KAPPAS: Weighted = ((0.5, 0.25), (1.0, 0.5), (2.0, 0.25))
NO_CURVE: Weighted = ((1.0, 1.0),)

EARLIER = {1: 0.85, 2: 0.65, 3: 0.6}
EARLIER_OF_MORE = 0.55
"""At what part of rate times bound 5 % are late, by number of workers: the unevener the split, the
earlier. From simulations of the replica."""

BOUND_SIGMA = {1: 0.25, 2: 0.35}
BOUND_SIGMA_OF_MORE = 0.40
"""How far that is off, as a standard deviation of the logarithm."""

STEEP, STEEP_SPLIT = 18.0, 14.0
"""Log-odds by which the share grows for each unit of log users, about 5 %: one worker, several."""

TAIL = 0.05
"""The share at which `EARLIER` and the slopes hold."""

ALIKE, ALIKE_SPLIT = 0.01, 0.03
"""The intraclass correlation between uploads of one minute where nothing is simulated: for one
worker, and for several. It is what is typical, for it is corrected by what is seen
(`lab.capacity.posterior`); `lab.model.evalues` assumes the most that there was, and twice this."""

BELOW_ONE = log(0.25)
"""How much less likely a place below one user is than one above: it is where what no user causes,
such as a file that is too large, has a flat curve."""

NEVER = 0.4
"""The probability that a criterion of which nothing is known holds with any number of users."""


@dataclass(frozen=True)
class Shape:
    """Log-odds of a share against log users: a quadratic about 0, and straight beyond its ends.

    Args:
        slope: at 0.
        bend: half of the second derivative.
        low: where it becomes straight, 0 or less.
        high: the same above.
    """

    slope: float
    bend: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __call__(self, u: float) -> float:
        inner = min(self.high, max(self.low, u))
        return inner * (self.slope + self.bend * inner) + self.steepness(inner) * (u - inner)

    def at(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same of an array of any shape."""
        inner = u.clip(self.low, self.high)
        steep = self.slope + 2 * self.bend * inner
        odds: NDArray[np.float64] = inner * (self.slope + self.bend * inner) + steep * (u - inner)
        return odds

    def steepness(self, u: float) -> float:
        """Its derivative."""
        return self.slope + 2 * self.bend * min(self.high, max(self.low, u))


LEAST_WORTH = 0.2
"""Independent uploads that any trial counts for."""


@dataclass(frozen=True)
class UploadWorth:
    """How many independent uploads a trial is worth, before its own scatter is looked at.

    Args:
        by_minute: independent uploads a minute of the window, for shares that are counted and for
            smooth ones (`lab.capacity.shown`); None where that was not simulated.
        by_batch: the same of so short a time as a batch, of which links between uploads show less.
        alike: the intraclass correlation between uploads of a minute, where it was not.
        drift: the variance of log t between minutes: what stage times move from one trial to the
            next moves the threshold with them, and no number of uploads of one minute tells of it.
        steep: Fisher's information of an independent upload on log t.
        longest: minutes after which a trial tells nothing more: users who once share a worker, as
            with blocking calls they do for hours, show the same again; only another trial does not.
    """

    by_minute: tuple[float, float] | None = None
    by_batch: tuple[float, float] | None = None
    alike: float = ALIKE
    drift: float = 0.0
    steep: float = 0.0
    longest: float = inf

    def of(self, shown: Shown) -> float:
        """Independent uploads that a trial's share counts for.

        A smooth share is a mean of chances whose own variance is simulated; what it varies by
        because answers of storage are known from its uploads alone is added. With a variance v of
        log t between trials their information I on it is I / (1 + I v).
        """
        if self.by_minute:
            minutes = min(self.longest, shown.minutes)
            uploads = max(LEAST_WORTH, self.by_minute[shown.smooth] * minutes)
            uploads = 1 / (1 / uploads + shown.by_storage / max(1, shown.samples))
        else:
            a_minute = shown.samples / max(1.0, shown.minutes)
            uploads = shown.samples / (1 + max(0.0, a_minute - 1) * self.alike)
        between = self.drift * min(1.0, 1 / shown.minutes)
        return uploads / (1 + uploads * self.steep * between)

    def of_batch(self, shown: Shown) -> float:
        """The same of one of its batches."""
        if self.by_batch:
            return max(0.1, self.by_batch[shown.smooth] * shown.minutes / shown.batches)
        return shown.batch / (1 + max(0.0, shown.batch - 1) * self.alike)


@dataclass(frozen=True)
class Belief:
    """What is believed of a criterion before its trials.

    Args:
        basis: what it rests on.
        allowed: the share that may be beyond the bound.
        users: t0, where that share is expected; with no basis but counts it says nothing.
        sigma: the scale of log t about log t0, of a Student's t of 4 degrees of freedom; infinite
            where any number of users is as likely as any other, by its logarithm.
        shape: of the share's log-odds.
        kappas: what it may be multiplied by.
        worth: what trials count for.
        min_scatter: the least that a trial's own scatter may make of it: see `UploadWorth`.
        never: the probability that it holds with any number of users.
        warmup: seconds until a trial has forgotten how it began.
        smooth: whether a trial's share may be a mean of chances.
    """

    basis: Basis
    allowed: float
    users: float
    sigma: float
    shape: Shape
    kappas: Weighted
    worth: UploadWorth
    min_scatter: float = 1.0
    never: float = 0.0
    warmup: float = 20.0

    def log_prior(self, log_users: float) -> float:
        """The logarithm of the density of log t, up to a constant."""
        if self.sigma == inf:
            return 0.0 if log_users >= 0 else BELOW_ONE
        off = (log_users - log(self.users)) / self.sigma
        return -2.5 * log(1 + off * off / 4)

    def drifting(self, drift: float, minutes: float, storage: float) -> Belief:
        """The same of a cell whose times are not known better.

        Args:
            drift: the variance of log t between minutes.
            minutes: for which times were measured in all.
            storage: the relative standard error of storage's mean answer.
        """
        steep = self.allowed * (1 - self.allowed) * self.shape.slope**2
        return replace(
            self,
            sigma=sqrt(self.sigma**2 + drift / max(1.0, minutes) + storage**2),
            worth=replace(self.worth, drift=drift, steep=steep),
        )

    @property
    def span(self) -> tuple[float, float]:
        """Log users between which t is looked for; of counts see `lab.capacity.posterior`."""
        width = max(1.2, 8 * self.sigma)
        return log(self.users) - width, log(self.users) + width


def logit(share: float) -> float:
    """Log-odds of a share strictly between 0 and 1."""
    return log(share / (1 - share))


def share_at(log_odds: float) -> float:
    """The share that has these log-odds, kept off 0 and 1."""
    if log_odds < 0:
        odds = exp(max(-30.0, log_odds))
        return odds / (1 + odds)
    return 1 / (1 + exp(-min(30.0, log_odds)))


def by_bound(rate: float, bound: float, allowed: float, workers: int) -> Belief:
    """What the capacity bound says of a latency's criterion.

    Args:
        rate: uploads a second that the slots carry at most.
        bound: of the latency, in seconds.
        allowed: the share that may be above it.
        workers: processes among which users are split.
    """
    slope = STEEP if workers == 1 else STEEP_SPLIT
    earlier = EARLIER.get(workers, EARLIER_OF_MORE)
    return Belief(
        basis="bound",
        allowed=allowed,
        users=earlier * rate * bound * exp((logit(allowed) - logit(TAIL)) / slope),
        sigma=BOUND_SIGMA.get(workers, BOUND_SIGMA_OF_MORE),
        shape=Shape(slope),
        kappas=BOUND_KAPPAS,
        worth=UploadWorth(alike=ALIKE if workers == 1 else ALIKE_SPLIT),
        min_scatter=0.8 if workers == 1 else 1.0,
        warmup=20.0 if workers == 1 else 60.0,
    )


def by_counts(allowed: float, workers: int, max_users: int, never: float = NEVER) -> Belief:
    """What is known of a criterion of which nothing is: any t is as likely as any other."""
    return Belief(
        basis="counts",
        allowed=allowed,
        users=float(max_users) ** 0.5,
        sigma=inf,
        shape=Shape(STEEP if workers == 1 else STEEP_SPLIT),
        kappas=NO_CURVE,
        worth=UploadWorth(alike=ALIKE if workers == 1 else ALIKE_SPLIT),
        never=never,
        warmup=20.0 if workers == 1 else 60.0,
    )


def scatter_factor(worth: UploadWorth, shares: Sequence[Shown], weights: Sequence[float]) -> float:
    """F: how many times as much the shares of batches vary as was believed.

    (10 + sum d r) / (10 + sum d), where r is a trial's variance over the believed one and d its
    degrees of freedom, by its weight: ten degrees of freedom stand for the belief.
    """
    above, below = PRIOR_FREEDOM, PRIOR_FREEDOM
    for shown, weight in zip(shares, weights, strict=True):
        sure = shown.share * (1 - shown.share)
        if shown.batches < 2 or sure <= 0:
            continue
        freedom = (shown.batches - 1) * weight
        ratio = shown.scatter * worth.of_batch(shown) / sure
        above += freedom * min(ratio, MAX_RATIO)
        below += freedom
    return above / below


PRIOR_FREEDOM = 10.0
MAX_RATIO = 30.0
"""A share that is next to 0 or 1 in all batches but one has a ratio beyond any bound."""
