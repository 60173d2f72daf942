"""Pairs of cells whose true ratio is known: does the interval of a comparison cover it?

    python -m validation.pairs --pairs 1000 --seed 1

A closed network is simulated: users wait for one of so many slots, each for a storage time from 2
to 5 s, in the order in which they came, and send again at once; some uploads are refused. The truth
of a system is a window of 20,000 s; a trial of it is what a cell has: ramp, warm-up, a minute.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lab.judge.comparison import change
from lab.judge.spread import spreads
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Observation, Sample
from lab.model.experiment import Cell
from lab.model.verdict import Spread
from validation.command import positive

STORAGE_S = (2.0, 5.0)
TRUE_WINDOW_S = 20_000.0
METRICS = ("throughput", "p50", "p95", "error_rate")


@dataclass(frozen=True)
class System:
    """A closed network.

    Args:
        users: who upload.
        slots: uploads that are served at once; the others wait in one queue.
        refused: the share that is refused after a second, by chance.
        own_s: seconds of an upload beside storage's.
        groups: workers, each with as many slots, to which users belong for good.
    """

    users: int
    slots: int
    refused: float = 0.0
    own_s: float = 0.2
    groups: int = 1

    def cell(self, window: float) -> Cell:
        """As the lab has it."""
        load = {"users": self.users, "ramp": "5 s", "warmup": "10 s", "window": f"{window:g} s"}
        return Cell.model_validate(
            {
                "id": f"{self}",
                "axes": {},
                "knobs": {"gcs_call": "executor"},
                "load": load,
                "faults": [],
                "criteria": ["p95 < 10 s", "error_rate < 5 %"],
                "seed": 1,
            }
        )

    def samples(self, until: float, rng: random.Random) -> Iterator[Sample]:
        """All uploads that are sent before a moment, in seconds."""
        each = max(1, self.users // self.groups)
        for group in range(self.groups):
            yield from self._group(each, until, rng, group)

    def _group(self, users: int, until: float, rng: random.Random, group: int) -> Iterator[Sample]:
        arrivals = [(5.0 * user / users, user) for user in range(users)]
        heapq.heapify(arrivals)
        free = [0.0] * self.slots
        heapq.heapify(free)
        while arrivals:
            sent, user = heapq.heappop(arrivals)
            if sent >= until:
                continue
            storage = 0.0
            if rng.random() < self.refused:
                latency, error = 1.0, Cause.RATE_LIMITED
            else:
                begun = max(sent, heapq.heappop(free))
                storage, error = rng.uniform(*STORAGE_S), None
                heapq.heappush(free, begun + storage)
                latency = begun + storage + self.own_s - sent
            heapq.heappush(arrivals, (sent + latency, user))
            yield _sample(sent, latency, error, storage, group * users + user)


def _sample(sent: float, latency: float, error: Cause | None, storage: float, user: int) -> Sample:
    return Sample.model_construct(
        planned_at=sent,
        sent_at=sent,
        latency_s=latency,
        status=429 if error else 200,
        error=error,
        stages={} if error else {"gcs": storage},
        user=user,
        bytes=200_000,
        journey=Sample.model_fields["journey"].default,
        request=None,
        worker=None,
    )


def trial_of(system: System, window: float, rng: random.Random) -> Trial:
    """A trial of a system, with a window of so many seconds."""
    cell = system.cell(window)
    end = cell.load.measured[1]
    samples = sorted(system.samples(end, rng), key=lambda sample: sample.sent_at)
    return Trial(cell, Observation.model_construct(samples=tuple(samples), evidence=(), beats=()))


@dataclass(frozen=True)
class Known:
    """What a comparison reads of a cell."""

    metrics: dict[str, float]
    spreads: dict[str, Spread]

    @classmethod
    def of(cls, trial: Trial) -> Known:
        """As the judge would have it."""
        figures = {name: trial.metrics[name] for name in METRICS if name in trial.metrics}
        return cls(figures, spreads(trial))


@cache
def truth(system: System) -> dict[str, float]:
    """The figures of a system, from a window so long that their error does not matter."""
    metrics = trial_of(system, TRUE_WINDOW_S, random.Random(1)).metrics
    return {name: metrics[name] for name in METRICS}


SYSTEMS = (
    System(users=10, slots=40),
    System(users=20, slots=11),
    System(users=50, slots=11),
    System(users=50, slots=22),
    System(users=50, slots=44),
    System(users=50, slots=6, groups=2),
    System(users=50, slots=11, refused=0.1),
    System(users=50, slots=22, refused=0.02),
    System(users=24, slots=6),
    System(users=4, slots=1),
)


@dataclass
class Tally:
    """How many intervals there were of a metric, and how many covered the truth."""

    told: int = 0
    covered: int = 0
    untold: int = 0


def tally(pairs: int, seed: int, systems: Sequence[System] = SYSTEMS) -> dict[str, Tally]:
    """By metric, over so many pairs of systems drawn by a seed."""
    rng, found = random.Random(seed), {name: Tally() for name in METRICS}
    for _ in range(pairs):
        first, second = rng.choice(systems), rng.choice(systems)
        here, there = (Known.of(trial_of(system, 60.0, rng)) for system in (first, second))
        for name in METRICS:
            if name not in here.metrics or name not in there.metrics:
                continue
            seen = change(name, here, there)
            one, other = truth(first)[name], truth(second)[name]
            real = one - other if seen.kind == "difference" else one / other
            if seen.low is None or seen.high is None:
                found[name].untold += 1
            else:
                found[name].told += 1
                found[name].covered += seen.low <= real <= seen.high
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """The table; 1 where an interval covers the truth in less than 95 %."""
    parser = argparse.ArgumentParser(
        "python -m validation.pairs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pairs", type=positive, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked: Any = parser.parse_args(argv)
    poor = 0
    for name, seen in tally(asked.pairs, asked.seed).items():
        share = seen.covered / seen.told if seen.told else 0.0
        poor += share < 0.95
        sys.stdout.write(
            f"{name:12} {seen.covered} of {seen.told} intervals cover the truth ({100 * share:.1f} %),"
            f" {seen.untold} pairs without one\n"
        )
    return int(poor > 0)


if __name__ == "__main__":
    sys.exit(main())
