"""What a simulation of a cell's network expects of a latency's criterion: a belief with a curve.

    simulated loads about the threshold ─┬─> t0, where the allowed share is late
                                         ├─> the share's log-odds against users
                                         ├─> how many independent uploads a minute is worth
                                         └─> how long to warm up

The simulation comes from outside (`LoadModel`). So many uploads are simulated that a minute's worth
is known to about a quarter of itself, and t0 far better than it can be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil, exp, fsum, hypot, inf, log, sqrt
from typing import Protocol

from lab.capacity.belief import (
    ALIKE,
    ALIKE_SPLIT,
    BOUND_KAPPAS,
    MODEL_KAPPAS,
    STEEP,
    STEEP_SPLIT,
    Belief,
    Shape,
    UploadWorth,
    logit,
)
from lab.capacity.shown import (
    BATCH_S,
    MIN_STORAGE,
    MINUTE_S,
    UNRELATED,
    chances,
    correlation,
    scatter_of,
)

OFFSETS = (-0.12, -0.05, 0.05, 0.12)
"""Where the curve is simulated, in parts of t0."""

UPLOADS, UPLOADS_SPLIT = 6000, 8000
"""Simulated at each of these, by one worker and by several: 25,000 to 30,000 in all."""

LOOK, MAX_LOOKS, CLOSE = 2500, 12, 0.03
"""Uploads of a short look for where t0 is about, how many looks, and how near they are to come."""

MIN_WINDOW_S = 300.0
"""Simulated at the least: five minutes, to tell what one is worth."""

SIGMA, SIGMA_SPLIT = 0.10, 0.08
"""How far a simulated t0 is off, as the scale of log t: one worker, several."""

SIGMA_FULL = 0.12
"""The same where a loop limits uploads that wait for a thread as well. Which of them it serves
together then decides who is late: simulations that differ in the order of a turn alone put the
share at a number of users at 2, 7 and 10 %, and in one of them fewer were late with 59 users than
with 57. So of such a cell t0 alone is taken from the simulation, and what the capacity bound goes
by otherwise: a curve of usual steepness, half to twice, and uploads alike as usual."""

BY_LEAD = 0.6
"""By how much log t moves with the leading share, in simulations about its usual values."""

MIN_SLOPE, MAX_SLOPE = 4.0, 60.0
"""Of log-odds against log users: a flatter curve breaks nowhere in particular, and a steeper one
between two numbers of users."""

KNOWN = (0.002, 0.97)
"""Shares by which the curve is fitted: beyond are too few late, or too few timely, uploads."""

TELLING = (0.005, 0.8)
"""Shares whose scatter tells what a minute is worth."""

WARMUP_S, WARMUP_SPLIT_S = 40.0, 150.0
"""Seconds for which simulated loads are warmed up."""

STICKY_S, MIN_LOADS, MAX_LOADS = 120.0, 6, 40
"""The window of each of many loads where a split lasts longer than any, and how many there are."""

WARMUPS_S = (20.0, 40.0, 150.0)
"""For which measured ones are: with one worker; with several, at the least and at the most."""

WARMUP_LOOP_S, LOOP_FULL = 120.0, 0.85
"""The same where a loop limits uploads that wait for a thread as well: those that it hands on
together stay together, and a queue takes two minutes to be as long as it will be. From so much
of what the threads carry on."""


class Uploads(Protocol):
    """The successes of a simulated window, in the order of their ends; times in seconds."""

    @property
    def ended(self) -> Sequence[float]:
        """When each did, after the window's begin."""
        ...

    @property
    def latency(self) -> Sequence[float]:
        """From sending to the answer."""
        ...

    @property
    def storage(self) -> Sequence[float]:
        """Of which its call to storage took so long."""
        ...

    @property
    def worker(self) -> Sequence[int]:
        """Which worker had it."""
        ...


class LoadModel(Protocol):
    """The network of a cell: it simulates loads of any number of users."""

    @property
    def workers(self) -> int:
        """Processes among which users are split."""
        ...

    @property
    def rate(self) -> float:
        """Uploads a second that it carries at most, about."""
        ...

    @property
    def loop_share(self) -> float:
        """The part of its time that an event loop works at that rate; 0 where calls block it."""
        ...

    @property
    def is_sticky(self) -> bool:
        """Whether users stay at their worker for hours: every load has a split of its own."""
        ...

    def simulate(self, users: int, seed: int, warmup: float, window: float) -> Uploads:
        """One load; the same arguments give the same uploads."""
        ...


@dataclass(frozen=True)
class Scatter:
    """The variance of a share among parts of a window: how many, for how many minutes each."""

    parts: int
    variance: float
    minutes: float


@dataclass(frozen=True)
class Point:
    """What was simulated at a number of users.

    Args:
        users: so many.
        samples: uploads.
        share: of them beyond the bound.
        minutes: the scatter among minutes, of counted and of smooth shares.
        batches: the same among batches.
    """

    users: int
    samples: int
    share: float
    minutes: tuple[Scatter, Scatter] | None = None
    batches: tuple[Scatter, Scatter] | None = None

    @property
    def sure(self) -> float:
        """The variance of a single upload."""
        return self.share * (1 - self.share)


@dataclass(frozen=True)
class Expectation:
    """What a model expects of one criterion on a latency.

    Args:
        model: of the cell.
        bound: seconds from which on an upload is late.
        allowed: the share that may be.
        start: users about whom to look first.
        max_users: what is beyond twice as many is of no account.
    """

    model: LoadModel
    bound: float
    allowed: float
    start: float
    max_users: int

    def belief(self, lead_error: float = 0.0) -> Belief:
        """What is believed; ``lead_error`` is the standard error of the model's leading share."""
        split, (t0, shape) = self.model.workers > 1, self.curve
        alike = ALIKE_SPLIT if split else ALIKE
        belief = Belief(
            basis="model",
            allowed=self.allowed,
            users=t0,
            sigma=hypot(SIGMA_SPLIT if split else SIGMA, BY_LEAD * lead_error),
            shape=shape,
            kappas=MODEL_KAPPAS,
            worth=UploadWorth(
                self._worth([(p, p.minutes) for p in self.points]),
                self._worth([(p, p.batches) for p in self.points]),
                alike,
                longest=STICKY_S / MINUTE_S if self.model.is_sticky else inf,
            ),
            min_scatter=1.0 if split else 0.8,
            warmup=self.warmup,
        )
        if self.model.loop_share < LOOP_FULL:
            return belief
        return replace(
            belief,
            sigma=hypot(SIGMA_FULL, BY_LEAD * lead_error),
            shape=Shape(STEEP_SPLIT if split else STEEP),
            kappas=BOUND_KAPPAS,
            worth=UploadWorth(alike=alike),
            min_scatter=1.0,
        )

    @cached_property
    def middle(self) -> float:
        """About where the allowed share is late, by short looks; of what lies below one user, or
        above twice the most, as far as the last look says."""
        users, seen = max(1.0, self.start), dict[int, float]()
        for _ in range(MAX_LOOKS):
            number = min(max(1, round(users)), 2 * self.max_users)
            if number in seen:
                break
            share = seen[number] = self._look(number, LOOK).share
            users = number * exp(_step(share, self.allowed))
            if abs(log(users / number)) < CLOSE:
                break
        low = max((n for n, share in seen.items() if share < self.allowed), default=None)
        high = min((n for n, share in seen.items() if share >= self.allowed), default=None)
        if low is not None and high is not None and low < high:
            users = min(max(users, low), high)
        return min(users, 2.0 * self.max_users)

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """The curve's points, by users: four at least, where there are numbers for them."""
        base = max(1, int(self.middle))
        wanted = {max(1, round(self.middle * (1 + off))) for off in OFFSETS}
        for near in (base, base + 1, base - 1, base + 2):
            if len(wanted) < len(OFFSETS) and near >= 1:
                wanted.add(near)
        size = UPLOADS_SPLIT if self.model.workers > 1 else UPLOADS
        return tuple(self._look(users, size) for users in sorted(wanted))

    @cached_property
    def curve(self) -> tuple[float, Shape]:
        """t0, and the log-odds about it."""
        known = [p for p in self.points if KNOWN[0] < p.share < KNOWN[1]]
        if len(known) < 2:
            return self._jump()
        xs, ys = [log(p.users) for p in known], [logit(p.share) for p in known]
        weights = [p.samples * p.sure for p in known]
        low, high = xs[0], xs[-1]
        bend, slope, level = fitted(xs, ys, weights, 2 if len(known) > 2 else 1)
        steep = slope + 2 * bend * low, slope + 2 * bend * high
        if min(steep) < MIN_SLOPE or max(steep) > MAX_SLOPE:
            bend, slope, level = fitted(xs, ys, weights, 1)
        if slope + 2 * bend * low < MIN_SLOPE:
            bend, slope, level = 0.0, MIN_SLOPE, _level(xs, ys, weights, MIN_SLOPE)
        return crossing(bend, slope, level, (low, high), logit(self.allowed))

    @cached_property
    def warmup(self) -> float:
        """Seconds until a split among workers has forgotten how the load began."""
        alone, least, most = WARMUPS_S
        if self.model.loop_share >= LOOP_FULL:
            alone, least = WARMUP_LOOP_S, max(least, WARMUP_LOOP_S)
        if self.model.workers == 1:
            return alone
        if self.model.is_sticky:
            return least
        users = max(1, round(self.middle))
        window = max(MIN_WINDOW_S, UPLOADS_SPLIT / self.model.rate)
        uploads = self.model.simulate(users, users, WARMUP_SPLIT_S, window)
        return min(most, max(least, 5.0 * round(2 * memory_s(uploads, window) / 5)))

    def _look(self, users: int, uploads: int) -> Point:
        if self.model.is_sticky:
            return self._look_anew(users, uploads)
        window = max(MIN_WINDOW_S, uploads / self.model.rate)
        brief = self.model.workers == 1 and self.model.loop_share < LOOP_FULL
        warmup = WARMUP_S if brief else WARMUP_SPLIT_S
        seen = self.model.simulate(users, users, warmup, window)
        return point_of(seen, users, self.bound, window)

    def _look_anew(self, users: int, uploads: int) -> Point:
        """What many short loads show, each with a split of its own, one after the other."""
        loads = max(MIN_LOADS, ceil(uploads / self.model.rate / STICKY_S))
        seen = [
            self.model.simulate(users, 1000 * users + number, WARMUP_S, STICKY_S)
            for number in range(min(loads, MAX_LOADS))
        ]
        joined = Joined(tuple(seen), STICKY_S)
        return point_of(joined, users, self.bound, STICKY_S * len(seen), STICKY_S)

    def _jump(self) -> tuple[float, Shape]:
        """A curve whose share goes from next to nothing to nearly all between two points."""
        for one, other in pairwise(self.points):
            if one.share < self.allowed <= other.share:
                ends = [_bounded(p.share, p.samples) for p in (one, other)]
                gap = log(other.users / one.users)
                slope = (ends[1] - ends[0]) / gap
                return one.users * exp((logit(self.allowed) - ends[0]) / slope), Shape(slope)
        first, last = self.points[0], self.points[-1]
        near = first if first.share >= self.allowed else last
        steep = sqrt(MIN_SLOPE * MAX_SLOPE)
        off = logit(self.allowed) - _bounded(near.share, near.samples)
        return near.users * exp(off / steep), Shape(steep)

    def _worth(
        self, scatters: Sequence[tuple[Point, tuple[Scatter, Scatter] | None]]
    ) -> tuple[float, float] | None:
        """Independent uploads a minute, counted and smooth: s (1 - s) over the variance of a
        minute's share; None where no point tells."""
        found = []
        for kind in (0, 1):
            sure = varied = 0.0
            for point, pair in scatters:
                if pair is None or not TELLING[0] < point.share < TELLING[1]:
                    continue
                freedom = pair[kind].parts - 1
                sure += freedom * point.sure
                varied += freedom * pair[kind].variance * pair[kind].minutes
            if varied <= 0:
                return None
            found.append(sure / varied)
        return found[0], found[1]


@dataclass(frozen=True)
class Joined:
    """The uploads of several loads with a window of one length, one after the other."""

    loads: tuple[Uploads, ...]
    window: float

    @property
    def ended(self) -> Sequence[float]:
        """After the first window's begin, in seconds."""
        return [t + n * self.window for n, one in enumerate(self.loads) for t in one.ended]

    @property
    def latency(self) -> Sequence[float]:
        """From sending to the answer, in seconds."""
        return [took for one in self.loads for took in one.latency]

    @property
    def storage(self) -> Sequence[float]:
        """What the call to storage took, in seconds."""
        return [took for one in self.loads for took in one.storage]

    @property
    def worker(self) -> Sequence[int]:
        """Which worker had each."""
        return [worker for one in self.loads for worker in one.worker]


def point_of(
    uploads: Uploads, users: int, bound: float, window: float, part: float = MINUTE_S
) -> Point:
    """What a simulated load shows of a bound; ``part`` is what its scatter among minutes is of."""
    latency, own = list(uploads.latency), list(uploads.storage)
    if not latency:
        return Point(users, 0, 1.0)
    late = [float(took >= bound) for took in latency]
    smooth = late
    if len(own) >= MIN_STORAGE and _unrelated(latency, own):
        smooth = chances(latency, own, bound, sorted(own))
    ended = list(uploads.ended)

    def scatters(length: float) -> tuple[Scatter, Scatter] | None:
        pair = []
        for values in (late, smooth):
            parts, variance, _ = scatter_of(ended, values, window, length)
            if parts < 2:
                return None
            pair.append(Scatter(parts, variance, window / round(window / length) / MINUTE_S))
        return pair[0], pair[1]

    return Point(users, len(late), fsum(smooth) / len(smooth), scatters(part), scatters(BATCH_S))


def _unrelated(latency: Sequence[float], own: Sequence[float]) -> bool:
    rests = [took - answer for took, answer in zip(latency, own, strict=True)]
    return abs(correlation(rests, own)) * sqrt(len(rests)) <= max(UNRELATED, 0.1 * sqrt(len(own)))


def memory_s(uploads: Uploads, window: float, length: float = 20.0) -> float:
    """Seconds in which what a split among workers has in common fades to 1/e.

    From the correlation between the busiest worker's shares of one stretch and of the next.
    """
    workers = sorted(set(uploads.worker))
    parts = int(window / length)
    if len(workers) < 2 or parts < 3:
        return 0.0
    found = []
    for worker in workers:
        _, shares = _shares(uploads, worker, parts, window)
        found.append(correlation(shares[:-1], shares[1:]))
    mean = fsum(found) / len(found)
    return length / -log(min(0.95, mean)) if mean > 0 else 0.0


def _shares(
    uploads: Uploads, worker: int, parts: int, window: float
) -> tuple[list[int], list[float]]:
    """Uploads in each part of a window, and a worker's share of them."""
    counts, own = [0] * parts, [0] * parts
    for ended, by in zip(uploads.ended, uploads.worker, strict=True):
        part = min(parts - 1, max(0, int(ended / window * parts)))
        counts[part] += 1
        own[part] += by == worker
    return counts, [mine / n if n else 0.0 for mine, n in zip(own, counts, strict=True)]


def _bounded(share: float, samples: int) -> float:
    """The log-odds of a share that may be 0 or 1: a quarter of an upload is added to each side."""
    return logit((share * samples + 0.25) / (samples + 0.5))


def _step(share: float, allowed: float) -> float:
    """How far from here in log users a share says that the threshold is."""
    steep = sqrt(MIN_SLOPE * MAX_SLOPE)
    odds = logit(min(0.999, max(0.0005, share)))
    return min(0.7, max(-0.7, (logit(allowed) - odds) / steep))


def fitted(
    xs: Sequence[float], ys: Sequence[float], weights: Sequence[float], degree: int
) -> tuple[float, float, float]:
    """A weighted least-squares parabola, or line: coefficients of x squared, of x, and of 1."""
    import numpy as np  # slow to import; most commands fit nothing

    roots = np.sqrt(np.asarray(weights))
    found = np.polyfit(np.asarray(xs), np.asarray(ys), degree, w=roots)
    bend = float(found[0]) if degree > 1 else 0.0
    return bend, float(found[-2]), float(found[-1])


def _level(
    xs: Sequence[float], ys: Sequence[float], weights: Sequence[float], slope: float
) -> float:
    rests = (w * (y - slope * x) for x, y, w in zip(xs, ys, weights, strict=True))
    return fsum(rests) / fsum(weights)


def crossing(
    bend: float, slope: float, level: float, ends: tuple[float, float], odds: float
) -> tuple[float, Shape]:
    """Where a curve crosses, in users, and the curve about there; straight beyond its ends."""
    low, high = ends

    def at(x: float) -> float:
        return level + x * (slope + bend * x)

    def steep(x: float) -> float:
        return slope + 2 * bend * x

    if odds <= at(low):
        return exp(low + (odds - at(low)) / steep(low)), Shape(steep(low))
    if odds >= at(high):
        return exp(high + (odds - at(high)) / steep(high)), Shape(steep(high))
    left, right = low, high
    while right - left > 1e-6:
        middle = (left + right) / 2
        left, right = (middle, right) if at(middle) < odds else (left, middle)
    return exp(left), Shape(steep(left), bend, low - left, high - left)
