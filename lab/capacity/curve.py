"""How late uploads are against users, by the model: thresholds, what a minute is worth; pure.

share(users) ─ bracket, halve ─> the most users at whom a criterion is met
a long window at the threshold ─> independent uploads a minute, and how long a split lasts
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from lab.capacity import operational
from lab.capacity.model import Simulated, simulate
from lab.capacity.network import Floats, Network
from lab.model.criterion import Criterion
from lab.model.physics import PERCENTILES, allowed_share

Bools = NDArray[np.bool_]

SETTLES_S, SPLIT_SETTLES_S = 20.0, 120.0
"""Real-world seconds after the ramp that do not count: with one worker, or an even split; and with
several that share a socket, whose split is remembered for longer."""

FEW, MANY = 3_000, 24_000
"""Uploads of a first look at a number of users, and of the last where that leaves it open."""

CLEAR = 2.5
"""Standard errors from what is allowed at which a share is clearly above, or below."""

BATCHES = 10
"""Parts of a window whose shares say how sure the share of all is."""

LONGEST_S = 40_000.0
"""Real-world seconds of a window at most, where uploads are rare."""

MINUTES = 240
"""Minutes of a window that says what one is worth."""

STEP_S, LONGEST_MEMORY_S, RAMPS = 10.0, 200.0, 60
"""How often, for how long, and in how many replications uploads are looked at after a ramp."""


@dataclass(frozen=True)
class Share:
    """A share of the uploads, and its standard error."""

    share: float
    error: float


def violates(criterion: Criterion) -> Callable[[Simulated], tuple[Bools, Bools]] | None:
    """Which uploads a criterion is held against, and which of them are beyond its bound.

    None of a criterion that more users could not cross: that is no share, or bounded from below.
    """
    if allowed_share(criterion) is None or criterion.op not in ("<", "<="):
        return None
    if criterion.metric == "error_rate":
        return lambda seen: (np.ones_like(seen.ok), ~seen.ok)
    beyond = np.greater_equal if criterion.op == "<" else np.greater
    every = criterion.metric == "p95_all"
    return lambda seen: (
        np.ones_like(seen.ok) if every else seen.ok,
        beyond(seen.latency, criterion.bound) | (~seen.ok if every else False),
    )


def settles(network: Network) -> float:
    """Seconds after the ramp that do not count where nothing else is known."""
    shared = network.workers > 1 and network.balance == "shared_socket"
    return SPLIT_SETTLES_S if shared else SETTLES_S


def window_for(network: Network, users: int, uploads: int) -> float:
    """Seconds in which about so many uploads end."""
    rate = operational.throughput(network, users)
    return min(LONGEST_S, max(60.0, uploads / rate)) if rate else LONGEST_S


def share_beyond(
    network: Network, users: int, criterion: Criterion, uploads: int, seed: int
) -> Share:
    """The share that a criterion counts, in a steady window of about so many uploads."""
    which = violates(criterion)
    if which is None:
        raise ValueError(f"{criterion} is no share that more users raise")
    window = window_for(network, users, uploads)
    seen = simulate(network, users, seed=seed, warmup=settles(network), window=window)
    counted, beyond = which(seen)
    if not counted.any():
        return Share(1.0, 0.0)  # nothing succeeds any more
    parts = np.minimum((seen.ended / window * BATCHES).astype(int), BATCHES - 1)
    of = np.bincount(parts[counted], minlength=BATCHES)
    bad = np.bincount(parts[counted & beyond], minlength=BATCHES)
    share = float(bad.sum() / of.sum())
    spread = float(((bad - share * of) ** 2).sum())
    return Share(share, max(sqrt(spread) / float(of.sum()), 1 / float(of.sum())))


def threshold(network: Network, criterion: Criterion, max_users: int, seed: int = 1) -> int:
    """The most users, up to ``max_users``, at whom a criterion is met; 0: at none.

    By halving on the number of users, which takes the share for rising with them. A number that is
    near is looked at for longer; where two are as near as a hundredth, the rest is left open.
    """
    allowed = allowed_share(criterion) or 0.0

    def breaks(users: int) -> bool:
        uploads = FEW
        while True:
            seen = share_beyond(network, users, criterion, uploads, seed)
            if uploads >= MANY or abs(seen.share - allowed) > CLEAR * seen.error:
                return seen.share >= allowed
            uploads *= 3

    guess = operational.users_at(network, operational.OF_BOUND * _bound(criterion, network))
    holds, fails = _bracket(breaks, int(min(max(guess, 1.0), max_users)), max_users)
    while fails - holds > max(1, holds // 100):
        users = (holds + fails) // 2
        if breaks(users):
            fails = users
        else:
            holds = users
    return holds


def _bracket(breaks: Callable[[int], bool], start: int, max_users: int) -> tuple[int, int]:
    """A number of users that holds, or 0, and one that breaks, or one more than there may be."""
    holds, fails, users, step = 0, max_users + 1, start, 1.15
    while fails - holds > 1 and not (holds and fails <= max_users):
        if breaks(users):
            fails = users
            users = max(holds + 1, min(fails - 1, int(users / step)))
        else:
            holds = users
            users = min(fails - 1, max(holds + 1, ceil(users * step)))
        step *= 1.2
    return holds, fails


def _bound(criterion: Criterion, network: Network) -> float:
    """Seconds of latency at which a criterion is likely to be crossed."""
    if criterion.metric in PERCENTILES:
        return criterion.bound
    return min(network.proxy_timeout, network.user_timeout)


@dataclass(frozen=True)
class Worth:
    """What a minute shows, at a number of users.

    Args:
        users: at whom.
        share: of the uploads that take as long as the bound, or longer.
        late: independent uploads that a minute is worth where late ones are counted.
        z: the same, where the chance is counted that another storage time had made it late.
        forgets: seconds after the ramp until it is forgotten, by queues and the split.
    """

    users: int
    share: float
    late: float
    z: float
    forgets: float


def worth(network: Network, users: int, bound: float, seed: int = 1) -> Worth | None:
    """What a minute is worth: s (1 - s) over the variance of a minute's share; None: nothing late.

    A minute of n independent uploads would have the variance s (1 - s) / n. For z, the mean chance
    that a storage time drawn anew lies above the bound less the rest of an upload's time, the
    same s (1 - s) is taken, so that both are in the same unit.

    Args:
        network: what users upload to.
        users: how many; near the threshold.
        bound: seconds.
        seed: the same gives the same.
    """
    window = 60.0 * MINUTES
    seen = simulate(network, users, seed=seed, warmup=settles(network), window=window)
    good = seen.ok
    if good.sum() < MINUTES:
        return None
    minute = np.minimum((seen.ended[good] / 60).astype(int), MINUTES - 1)
    latency, storage = seen.latency[good], seen.storage[good]
    late = latency >= bound
    share = float(late.mean())
    if not 0 < share < 1:
        return None
    chance = above(network, bound - (latency - storage))
    own = share * (1 - share)
    return Worth(
        users=users,
        share=share,
        late=own / _variance(late, minute),
        z=own / _variance(chance, minute),
        forgets=forgets(network, users, bound, seed),
    )


def above(network: Network, seconds: Floats) -> Floats:
    """The chance that storage takes longer than so many seconds, of each; 1-D."""
    storage = network.storage
    if isinstance(storage, tuple):
        low, high = storage
        if high <= low:
            return (seconds < low).astype(np.float64)
        return np.clip((high - seconds) / (high - low), 0.0, 1.0)
    ordered = np.sort(storage)
    return 1.0 - np.searchsorted(ordered, seconds, side="right") / ordered.size


def _variance(values: Floats | Bools, minute: NDArray[np.int64]) -> float:
    """Of the means of minutes, each weighed by its uploads."""
    of = np.bincount(minute, minlength=MINUTES)
    total = np.bincount(minute, weights=values, minlength=MINUTES)
    mean = total.sum() / of.sum()
    found = float(((total - mean * of) ** 2).sum() / of.sum() * MINUTES / of.sum())
    return max(found, 1e-12)


def forgets(network: Network, users: int, bound: float, seed: int = 1) -> float:
    """Seconds after the ramp until as many uploads are late as later on, over many replications.

    That is the first of two spans of `STEP_S` in which the share is within a tenth of the later
    one, or within two standard errors of it.

    Args:
        network: what users upload to.
        users: how many; near the threshold.
        bound: seconds from which on an upload is late.
        seed: of the first replication.
    """
    steps = round(LONGEST_MEMORY_S / STEP_S)
    late, ended = np.zeros(steps), np.zeros(steps)
    for number in range(RAMPS):
        seen = simulate(network, users, seed=seed + number, warmup=0.0, window=LONGEST_MEMORY_S)
        step = np.minimum((seen.ended / STEP_S).astype(int), steps - 1)
        late += np.bincount(step, weights=seen.ok & (seen.latency >= bound), minlength=steps)
        ended += np.bincount(step, weights=seen.ok, minlength=steps)
    half = steps // 2
    later = late[half:].sum() / max(1.0, ended[half:].sum())
    error = np.sqrt(later * (1 - later) / np.maximum(ended, 1))
    off = np.abs(late / np.maximum(ended, 1) - later)
    alike = off <= np.maximum(later / 10, 2 * error)
    both = np.flatnonzero(alike[:-1] & alike[1:])
    return STEP_S * float(both[0] if both.size else steps)
