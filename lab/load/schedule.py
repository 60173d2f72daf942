"""When users upload: pure functions of time, in real-world seconds after the load starts.

closed    user i is active from ramp · i / users to the end
stages    user i is active while the number of users is above i
burst     every user uploads once, at 0
open      arrivals are planned from the seed; the next free user takes the next arrival

Pauses that are a range are drawn uniformly, from the seed and the user's number. So is what an
attempt is, of a load with a mix; in an open load from the moment of its arrival, whoever takes it,
so that cells that differ in their answers are offered the same.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Generator, Iterator

from lab.model.journeys import Journey
from lab.model.load import (
    AnyLoad,
    BurstLoad,
    ClosedLoad,
    OpenLoad,
    StagesLoad,
    Window,
    end_of,
)


def active_spans(load: ClosedLoad | StagesLoad, user: int) -> tuple[Window, ...]:
    """When a user (numbered from 0) is active: half-open spans ``[start, stop)`` in order."""
    if isinstance(load, ClosedLoad):
        return ((load.ramp * user / load.users, end_of(load)),)
    return tuple(load.spans_above(user))


def stage_at(load: AnyLoad, t: float) -> int:
    """Index of the stage at ``t``; of the last stage after the end, 0 without stages."""
    if not isinstance(load, StagesLoad):
        return 0
    ends = [end for _, end in load.spans]
    return min(bisect_right(ends, t), len(ends) - 1)


def arrivals(load: OpenLoad, seed: int) -> list[float]:
    """When uploads arrive: a Poisson process of the load's rate up to its end."""
    rng = random.Random(f"{seed}/arrivals")  # noqa: S311 - a workload, not a secret
    end = end_of(load)
    times: list[float] = []
    at = rng.expovariate(load.rate)
    while at < end:
        times.append(at)
        at += rng.expovariate(load.rate)
    return times


def journey_of(load: AnyLoad, seed: int, user: int, number: int, planned: float) -> Journey:
    """What an attempt is: drawn with the shares of the load's mix, always alike for one attempt.

    Args:
        load: the load that it is part of.
        seed: of the load.
        user: who makes it, from 0.
        number: of the user's attempts, from 1.
        planned: when it is due, in real-world seconds after the load started.
    """
    shares = load.shares
    if len(shares) == 1:
        return load.main
    which = repr(planned) if isinstance(load, OpenLoad) else f"{user}/{number}"
    rng = random.Random(f"{seed}/journeys/{which}")  # noqa: S311 - a workload, not a secret
    [drawn] = rng.choices(list(shares), list(shares.values()))
    return drawn


def probes(load: AnyLoad) -> Iterator[float]:
    """When health is asked for, every so often from the load's start on, for as long as one asks.

    A load without health probes has none.
    """
    number = 0
    while load.health_every is not None:
        yield number * load.health_every
        number += 1


Attempts = Generator[float, tuple[float, bool], None]


def attempts(load: AnyLoad, user: int, planned: Iterator[float], seed: int) -> Attempts:
    """The times at which a user is to upload.

    A coroutine: it yields the planned time of the next upload, and is sent the time at which
    that upload ended and whether it succeeded.

    Args:
        load: the load that the user is part of.
        user: the user's number, from 0.
        planned: the remaining arrivals of an open load, shared by all users.
        seed: of the pauses, where they are a range.
    """
    if isinstance(load, BurstLoad):
        yield 0.0
    elif isinstance(load, OpenLoad):
        for at in planned:
            yield at
    else:
        at = 0.0
        rng = random.Random(f"{seed}/pauses/{user}")  # noqa: S311 - a workload, not a secret
        for start, stop in active_spans(load, user):
            at = max(at, start)
            while at < stop:
                ended, succeeded = yield at
                pause = load.think if succeeded else load.backoff
                at = ended + rng.uniform(pause.low, pause.high)
