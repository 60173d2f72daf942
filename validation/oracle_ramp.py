"""The oracle under a load whose users grow: at how many of them p95 passes its bound.

The closed network is that of `validation.oracle`; here users come one after the other, as the
stages of a load say, and one that the proxy gives up on (its read time-out) fails, waits and
tries again, while the worker still does what was asked of it.

Where the bound is crossed is read off by the lab's documented rule, written anew: a window
slides over the successes in the order in which they were sent. It holds 20 of them, or all
of a thirtieth of the trial where those are more. The first window crosses in which the share
of uploads at or above the bound is above 5 % for certain: an exact binomial test at 5 %,
divided by the number of windows that do not overlap, 30 at most. It uses nothing of the lab.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, inf
from statistics import median

import simpy

from validation.oracle import NETWORK_S, AcceptQueue, Step, System, Upload, Worker

MIN_SAMPLES, PARTS, TAIL, ALPHA = 20, 30, 0.05, 0.05


@dataclass(frozen=True)
class Stage:
    """Users go linearly to ``users`` in ``over`` seconds and stay for ``hold``; never fewer."""

    users: int
    over: float = 0.0
    hold: float = 0.0


@dataclass(frozen=True)
class Ramp:
    """A load: its stages, the proxy's patience, and a user's pause after a failure."""

    stages: tuple[Stage, ...]
    read_timeout: float = 60.0
    backoff: float = 5.0

    def __post_init__(self) -> None:
        users = [stage.users for stage in self.stages]
        if users != sorted(users):
            raise ValueError("users may only grow from stage to stage")

    @property
    def end(self) -> float:
        return sum(stage.over + stage.hold for stage in self.stages)

    def arrivals(self) -> list[float]:
        """When each user comes: number i (from 0) once there are more than i."""
        times: list[float] = []
        begin = 0.0
        for stage in self.stages:
            before = len(times)
            rise = stage.users - before
            times += [begin + stage.over * number / rise for number in range(rise)]
            begin += stage.over + stage.hold
        return times

    def users_at(self, t: float) -> int:
        """How many users the load asks for at ``t``."""
        begin, before = 0.0, 0
        for stage in self.stages:
            if t < begin + stage.over:
                return round(before + (stage.users - before) * (t - begin) / stage.over)
            begin, before = begin + stage.over + stage.hold, stage.users
            if t < begin:
                break
        return before


PHASE_2 = Ramp((Stage(10, hold=60), Stage(50, over=120), Stage(100, over=120)))
"""The incident report's second phase."""


@dataclass(frozen=True)
class Sample:
    """An upload: when it was sent, how long it took, whether it was answered in time."""

    sent: float
    latency: float
    succeeded: bool


@dataclass(frozen=True)
class Crossing:
    """``t`` when the evidence sufficed; ``users`` when the last upload of it was sent, and
    ``since_users`` when its first slow one was."""

    users: int
    t: float
    since_users: int


def simulate(system: System, ramp: Ramp, seed: int = 1) -> list[Sample]:
    """All uploads of one trial in the order of sending; the same seed gives the same trial."""
    env, rng = simpy.Environment(), random.Random(f"{seed}/ramp")
    queue: AcceptQueue[Upload] = AcceptQueue(rng, system.lead)
    for number in range(system.workers):
        Worker(env, system, queue, rng, number)
    samples: list[Sample] = []

    def user(start: float) -> Step:
        yield env.timeout(start)
        while env.now < ramp.end:
            sent = env.now
            yield env.timeout(rng.uniform(0, NETWORK_S))
            upload = Upload(env)
            queue.arrive(upload)
            yield upload.answer | env.timeout(ramp.read_timeout)
            succeeded = upload.answer.processed
            samples.append(Sample(sent, env.now - sent, succeeded))
            if not succeeded:
                yield env.timeout(ramp.backoff)

    env.run(env.all_of([env.process(user(start)) for start in ramp.arrivals()]))
    return sorted(samples, key=lambda sample: sample.sent)


def crossing(samples: Sequence[Sample], ramp: Ramp, bound: float = 10.0) -> Crossing | None:
    """Where p95 of the successes passes ``bound`` for certain; None where it never does."""
    good = sorted((s for s in samples if s.succeeded), key=lambda s: s.sent)
    if len(good) < MIN_SAMPLES:
        return None
    sent = [sample.sent for sample in good]
    stretch = (sent[-1] - sent[0]) / PARTS
    alpha = ALPHA / min(PARTS, ceil(len(good) / MIN_SAMPLES))
    for last in range(MIN_SAMPLES - 1, len(good)):
        first = min(last - MIN_SAMPLES + 1, bisect_left(sent, sent[last] - stretch))
        slow = [sample.sent for sample in good[first : last + 1] if sample.latency >= bound]
        if slow and _chance(len(slow), last - first + 1) <= alpha:
            seen = max(sent[last], slow[-1] + bound)  # who waits that long is slow, answered or not
            return Crossing(ramp.users_at(sent[last]), seen, ramp.users_at(slow[0]))
    return None


def _chance(count: int, of: int) -> float:
    """Of so many or more slow ones, were each slow with the chance that p95 allows."""
    return sum(comb(of, k) * TAIL**k * (1 - TAIL) ** (of - k) for k in range(count, of + 1))


@dataclass(frozen=True)
class Expected:
    """Users at the crossing, over seeds; infinite for those where there is none."""

    median: float
    lowest: float
    highest: float
    since: float


def expected(system: System, ramp: Ramp, bound: float = 10.0, seeds: int = 9) -> Expected:
    """What the oracle gives for a configuration; an odd number of seeds has one in the middle."""
    crossings = [
        crossing(simulate(system, ramp, seed), ramp, bound) for seed in range(1, seeds + 1)
    ]
    users = [at.users if at else inf for at in crossings]
    since = [at.since_users if at else inf for at in crossings]
    return Expected(median(users), min(users), max(users), median(since))
