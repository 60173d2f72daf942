"""Systems drawn by chance whose threshold is known, and the trials that a search makes of them.

    seed ─> Drawn ─┬─ cell: what a spec would say, by which a search aims
                   ├─ truth: the most users with whom under 5 % are late, by long simulations
                   └─ trial: one load, as the lab would give it

Systems are those of `validation.closed_loop`: 1, 2 or 4 workers; blocking calls, the default
executor, or threads of their own. Four families have something that the lab's model has not, and in
one the loop has no room for what the threads would carry, so that a turn's order decides who waits.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import exp, fsum, log, sqrt
from statistics import fmean, variance
from typing import Literal

from lab.config.fault import read_faults
from lab.model.capacity import CapacityTrial, CriterionCount, TrialRequest
from lab.model.experiment import Cell
from lab.model.times import TrialTimes
from lab.model.verdict import Outcome
from lab.paths import data
from validation.closed_loop import USUAL, Load, Oddities, simulate
from validation.oracle import System

LATE_S, ALLOWED = 10.0, 0.05
LOAD = {"users": 10, "ramp": "5 s", "warmup": "60 s", "window": "60 s", "audio": "50 KB"}
RAMP_S = 5.0
WORKERS = (1, 2, 4)
CALLS: tuple[Literal["blocking", "to_thread", "executor"], ...] = (
    "blocking",
    "to_thread",
    "executor",
)
LEADS = {1: 0.72, 2: 0.72, 4: 0.55}
"""The usual leading share by workers, about which one is drawn."""

LEAD_SIGMA = 0.08
Family = Literal["usual", "heavy", "slow", "uneven", "wander", "full"]
FAMILIES: tuple[Family, ...] = ("usual", "heavy", "slow", "uneven", "wander", "full")

FULL = 0.8
"""The part of its time from which on a loop has no room: as in the shipped specs, it has in all
families but ``full``."""

RUN_S, WARM_S = 900.0, 150.0
"""A simulated load of the truth: its window, and its warm-up. Each begins anew, so that a split
which lasts for hours, as of blocking workers, is met as often as it comes."""

SURE, MIN_RUNS, MAX_UPLOADS = 3.0, 4, 150_000
"""Standard errors from the allowed share at which a number of users is decided; the fewest runs for
one, and uploads after which it is taken as it seems."""

STEEP = 16.0
"""Log-odds of the late share for each unit of log users, to look for the threshold by."""


@dataclass(frozen=True)
class Drawn:
    """A system, and what a spec says of it; the same seed gives the same."""

    seed: str
    family: Family
    system: System
    odd: Oddities
    cell: Cell

    @classmethod
    def of(cls, seed: str, workers: int, family: Family = "usual") -> Drawn:
        """A system of a family, with so many workers."""
        rng = random.Random(seed)
        rtt, system = _system(rng, workers, family)
        while (loop_share(system) > FULL) != (family == "full"):
            rtt, system = _system(rng, workers, family)
        odd = {
            "heavy": Oddities(heavy=rng.uniform(0.35, 0.55)),
            "slow": Oddities(slow=rng.uniform(1.3, 2.0)),
            "wander": Oddities(wander=rng.uniform(0.1, 0.3)),
        }.get(family, USUAL)
        return cls(seed, family, system, odd, _cell(system, rtt))

    @cached_property
    def truth(self) -> int:
        """The most users with whom fewer than the allowed share are late; 0: with none."""
        users = self._about()
        while users > 0 and self._breaks(users):
            users -= 1
        while not self._breaks(users + 1):
            users += 1
        return users

    def _about(self) -> int:
        """Near the truth, by short loads."""
        users, seen = max(1, round(0.7 * rate_of(self.system) * LATE_S)), set[int]()
        while users not in seen:
            seen.add(users)
            load = self._load(users, f"about/{users}", WARM_S, RUN_S)
            late, of = _late(load)
            share = (late + 0.25) / (of + 0.5)
            off = (_logit(ALLOWED) - _logit(share)) / STEEP
            users = max(1, round(users * exp(min(0.5, max(-0.5, off)))))
        return users

    def _breaks(self, users: int) -> bool:
        """Whether the allowed share or more are late with so many users, in the long run."""
        if users in self._known:
            return self._known[users]
        counts: list[tuple[int, int]] = []
        for number in count():
            counts.append(_late(self._load(users, f"truth/{users}/{number}", WARM_S, RUN_S)))
            of = sum(n for _, n in counts)
            share = sum(late for late, _ in counts) / of
            error = sqrt(fsum((late - share * n) ** 2 for late, n in counts)) / of
            sure = len(counts) >= MIN_RUNS and abs(share - ALLOWED) > SURE * max(error, 1e-4)
            if sure or of >= MAX_UPLOADS:
                break
        self._known[users] = share >= ALLOWED
        return self._known[users]

    @cached_property
    def _known(self) -> dict[int, bool]:
        return {}

    def _load(self, users: int, seed: str, warmup: float, window: float) -> Load:
        return simulate(
            self.system,
            users,
            f"{self.seed}/{seed}",
            ramp=RAMP_S,
            warmup=warmup,
            window=window,
            odd=self.odd,
        )

    def trial(self, request: TrialRequest, number: int, seed: str = "") -> CapacityTrial:
        """A measurement, as the lab would give it: its load's ramp, warm-up and drain are spent."""
        warmup = WARMUP_S if request.warmup is None else request.warmup
        load = self._load(request.users, f"trial/{seed}/{number}", warmup, request.window)
        late, of = _late(load)
        return CapacityTrial(
            id=f"a-u{request.users}-{number}",
            users=request.users,
            window=request.window,
            spent=RAMP_S + warmup + request.window + load.drain,
            sent=of,
            outcome=Outcome.BROKE if late >= ALLOWED * of else Outcome.HELD,
            criteria=(_count("p95 < 10 s", late, of), _count("error_rate < 5 %", 0, of)),
            times=times_of(self.system, load),
        )


def _system(rng: random.Random, workers: int, family: Family) -> tuple[float, System]:
    """A round trip to the database, as a spec says it, and a system with it."""
    low = rng.uniform(1.0, 3.0)
    rtt = rng.uniform(0.010, 0.030)
    trip = rtt + rng.uniform(0.0, 0.002)
    lead = min(0.95, max(0.42, rng.gauss(LEADS[workers], LEAD_SIGMA)))
    if family == "uneven":
        lead = rng.uniform(0.94, 0.99) if rng.random() < 0.5 else rng.uniform(0.25, 0.40)
    return rtt, System(
        rng.choice(CALLS) if family != "full" else "executor",
        workers=workers,
        threads=rng.randint(6, 20) if family != "full" else rng.randint(10, 30),
        cpus=rng.choice((2, 4)),
        auth=2 * trip,
        release=trip,
        write=4 * trip,
        cpu=exp(rng.uniform(log(0.003), log(0.015))),
        storage=(low, low + rng.uniform(1.0, 4.0)),
        lead=lead,
    )


def loop_share(system: System) -> float:
    """The part of its time that an event loop would work if its threads were all busy; of blocking
    calls, which work in it by themselves, 0."""
    loop = system.cpu + system.auth + system.release + system.write
    return system.slots / fmean(system.storage) * loop


WARMUP_S = 60.0
"""Of a trial whose search asks for none: as the specs for thresholds have it."""


def rate_of(system: System) -> float:
    """Uploads a second that a system carries at most, evenly split."""
    loop = system.cpu + system.auth + system.release + system.write
    storage = fmean(system.storage)
    if not system.slots:
        return system.workers / (loop + storage)
    return system.workers * min(1 / loop, system.slots / storage)


def times_of(system: System, load: Load) -> TrialTimes:
    """What the lab's judge would store of a load."""
    order = sorted(range(len(load.sent)), key=load.sent.__getitem__)
    if not order:
        return TrialTimes(drain=load.drain)
    stages = {"auth": system.auth, "release": system.release, "write": system.write}
    pace = fmean(load.pace)
    rate = len(order) / load.window
    in_loop = fsum(stages.values()) * pace + (0.0 if system.slots else fmean(load.storage))
    halves = _halves(load)
    means = tuple(map(fmean, halves)) if halves else None
    errors = (variance(half) / len(half) for half in halves or ())
    return TrialTimes(
        sent=tuple(round(load.sent[i], 2) for i in order),
        latency=tuple(round(load.latency[i], 3) for i in order),
        storage=tuple(round(load.storage[i], 3) for i in order),
        stages={name: seconds * pace for name, seconds in stages.items()},
        halves={name: (s * means[0], s * means[1]) for name, s in stages.items()} if means else {},
        halves_error=fsum(stages.values()) * sqrt(fsum(errors)),
        cpu=max(0.0, fsum(load.busy) / rate - in_loop),
        loop=min(1.0, max(load.busy)),
        inside=tuple(sorted((round(inside, 3) for inside in load.inside), reverse=True)),
        drain=load.drain,
    )


def _halves(load: Load) -> tuple[list[float], list[float]] | None:
    """The paces of the uploads that were sent in each half; None where one has hardly any."""
    pairs = list(zip(load.sent, load.pace, strict=True))
    first = [pace for sent, pace in pairs if sent < load.window / 2]
    second = [pace for sent, pace in pairs if sent >= load.window / 2]
    return (first, second) if min(len(first), len(second)) > 1 else None


def _late(load: Load) -> tuple[int, int]:
    return sum(took >= LATE_S for took in load.latency), len(load.latency)


def _logit(share: float) -> float:
    share = min(0.9999, max(1e-4, share))
    return log(share / (1 - share))


def _count(criterion: str, violations: int, samples: int) -> CriterionCount:
    broke = samples > 0 and violations / samples >= ALLOWED
    return CriterionCount(
        criterion=criterion,
        outcome=Outcome.BROKE if broke else Outcome.HELD,
        samples=samples,
        violations=violations,
        allowed=ALLOWED,
    )


def _cell(system: System, rtt: float) -> Cell:
    """What a spec says of a system."""
    low, high = system.storage
    knobs: Mapping[str, object] = {
        "gcs_call": system.call,
        "gcs_threads": system.threads,
        "workers": system.workers,
        "vm_cpus": system.cpus,
        "gcs_latency": f"{low:.6f} s - {high:.6f} s",
        "db_rtt": f"{rtt * 1e3:.6f} ms",
        "speed": 1,
    }
    faults = read_faults(data("faults"))
    return Cell.model_validate(
        {
            "id": "a",
            "axes": {},
            "target": "vm",
            "knobs": knobs,
            "load": LOAD,
            "faults": [faults["gcs-latency"], faults["db-distance"]],
            "criteria": ["p95 < 10 s", "error_rate < 5 %"],
            "seed": 1,
        }
    )
