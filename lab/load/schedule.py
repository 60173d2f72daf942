"""When users upload: pure functions of time, in real-world seconds after the load starts.

closed    user i is active from ramp · i / users to the end
stages    user i is active while the number of users is above i
burst     every user uploads once, at 0
open      arrivals are planned from the seed; whichever user is free takes the next
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Generator, Iterator
from functools import lru_cache
from itertools import accumulate

from lab.model.load import BurstLoad, ClosedLoad, OpenLoad, StagesLoad, end_of

AnyLoad = ClosedLoad | StagesLoad | BurstLoad | OpenLoad
Span = tuple[float, float]


def _stage_spans(load: StagesLoad, user: int) -> Iterator[Span]:
    """Where the number of users is above ``user``, piece by piece, in order."""
    begin, before = 0.0, 0
    for stage in load.stages:
        middle, end = begin + stage.over, begin + stage.over + stage.hold
        if stage.users > user:
            rise = (user - before) / (stage.users - before) if before <= user else 0.0
            yield begin + stage.over * rise, end
        elif before > user:
            yield begin, middle - stage.over * (user - stage.users) / (before - stage.users)
        begin, before = end, stage.users


def _joined(spans: Iterator[Span]) -> tuple[Span, ...]:
    """The same spans without empty ones, those that touch made one."""
    joined: list[Span] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        elif start < stop:
            joined.append((start, stop))
    return tuple(joined)


def active_spans(load: ClosedLoad | StagesLoad, user: int) -> tuple[Span, ...]:
    """When user ``user`` (from 0) is active, as half-open spans ``[start, stop)`` in order."""
    if isinstance(load, ClosedLoad):
        return ((load.ramp * user / load.users, end_of(load)),)
    return _joined(_stage_spans(load, user))


@lru_cache(maxsize=8)
def _edges(load: ClosedLoad | StagesLoad) -> tuple[list[float], list[float]]:
    spans = [span for user in range(load.peak_users) for span in active_spans(load, user)]
    return sorted(start for start, _ in spans), sorted(stop for _, stop in spans)


def active_users(load: ClosedLoad | StagesLoad, t: float) -> int:
    """How many users are active at ``t``: those who upload, or are about to again.

    The other two kinds have none: how many of their uploads are in flight is the service's
    doing, not the schedule's.
    """
    starts, stops = _edges(load)
    return bisect_right(starts, t) - bisect_right(stops, t)


def stage_at(load: AnyLoad, t: float) -> int:
    """Index of the stage that ``t`` is in; the last one after the end, 0 without stages."""
    if not isinstance(load, StagesLoad):
        return 0
    ends = list(accumulate(stage.over + stage.hold for stage in load.stages))
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


Attempts = Generator[float, tuple[float, bool], None]


def attempts(load: AnyLoad, user: int, planned: Iterator[float]) -> Attempts:
    """The times at which a user is to upload.

    A coroutine: it yields when the next upload is planned, and is sent when that one
    ended and whether it succeeded.

    Args:
        load: the load that the user is part of.
        user: the user's number, from 0.
        planned: what is left of an open load's arrivals, shared by all users.
    """
    if isinstance(load, BurstLoad):
        yield 0.0
    elif isinstance(load, OpenLoad):
        for at in planned:
            yield at
    else:
        at = 0.0
        for start, stop in active_spans(load, user):
            at = max(at, start)
            while at < stop:
                ended, succeeded = yield at
                at = ended + (load.think if succeeded else load.backoff)
