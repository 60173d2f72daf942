"""Combinations of knobs drawn by a seed, and what limits each in a simulated closed network.

The simulation (`validation.oracle_waits`) knows nothing of the lab. A combination is simulated as
it is and once for each resource with more of it; what limits it is the resource of which more moves
the p95 or the rate most. It is kept where that is clear: more of the others moves nothing.

    event_loop      the storage call in threads, one a user; where none blocks, twice the loops
                    with half of what each had
    own_threads     twice the storage threads of each worker
    pool            twice the connections of each worker
    anyio_threads   twice those that queries run in
    database_slots  twice the connections that the database grants

With several workers nginx gives each as many uploads (``balance: least_conn``), so that what is
simulated is one of them, with its part of the users.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil, sqrt
from typing import Any, Literal

from validation.oracle_waits import Offered, System, simulate

ANYIO_THREADS, DB_CAP, POOL_TIMEOUT_S = 40, 100, 120.0
"""Enough that none of them is the limit unless it is drawn to be."""

RAMP_S, WARMUP_S, WINDOW_S = 2.0, 20.0, 120.0
CLEARLY, HARDLY = 1.5, 1.08
"""More of the limit makes a figure better by so much at least, more of another by no more."""

SHORTEST_S, LONGEST_S = 6.0, 45.0
"""Between these the p95 of a combination lies: above, windows would have to be long."""

MAX_OF_ONE = 2
"""So many combinations may have the same limit, so that several limits are looked at."""

MAX_DRAWS = 2000


@dataclass(frozen=True)
class Combination:
    """A configuration of the replica, and the users that it has.

    Args:
        workers: processes.
        threads: for storage calls, of each worker; 0: the call blocks the event loop.
        pool: connections of each worker.
        session: whether the connection is kept across the storage call.
        users: who upload, in a closed loop; a multiple of the workers.
    """

    workers: int
    threads: int
    pool: int
    session: Literal["hold", "release"]
    users: int

    @property
    def system(self) -> System:
        """One worker, for the simulation."""
        return System(
            call="threads" if self.threads else "blocking",
            threads=max(1, self.threads),
            database="threadpool",
            anyio_threads=ANYIO_THREADS,
            session=self.session,
            pool_size=self.pool,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            db_cap=DB_CAP // self.workers,
            lead=0.5,
        )

    @property
    def users_each(self) -> int:
        """Those of one worker."""
        return self.users // self.workers

    @property
    def knobs(self) -> dict[str, Any]:
        """As a spec writes them."""
        call = {"gcs_call": "executor", "gcs_threads": self.threads}
        return {
            "workers": self.workers,
            "balance": "least_conn" if self.workers > 1 else "shared_socket",
            **(call if self.threads else {"gcs_call": "blocking"}),
            "pool_size": self.pool,
            "max_overflow": 0,
            "pool_timeout": f"{POOL_TIMEOUT_S:g} s",
            "db_session": self.session,
            "db_call": "threadpool",
            "anyio_threads": ANYIO_THREADS,
            "db_cap": DB_CAP,
            "global_rate_limit": "off",
        }

    def __str__(self) -> str:
        call = f"{self.threads}-threads" if self.threads else "blocking"
        return f"{self.workers}w-{call}-pool-{self.pool}-{self.session}-{self.users}u"


@dataclass(frozen=True)
class Figures:
    """Of a simulated worker: the p95 of successes in seconds, successes a second, and failures."""

    p95: float
    rate: float
    failed: int

    def gain(self, before: Figures) -> float:
        """By how much the better of both figures is better than before."""
        return max(before.p95 / self.p95, self.rate / before.rate)


@dataclass(frozen=True)
class Drawn:
    """A combination, what limits it, and by which criterion it is looked at.

    Args:
        combination: which.
        limit: the resource of which more moves a figure most.
        gains: by how much more of each makes the better of both figures better.
        bound: of the p95 in seconds: missed as it is, and met with more of the limit.
    """

    combination: Combination
    limit: str
    gains: Mapping[str, float]
    bound: float


def relaxed(combination: Combination) -> dict[str, System]:
    """The system with more of each resource that it has, and of nothing else."""
    now = combination.system
    more = {
        "event_loop": _freed(combination),
        "pool": replace(now, pool_size=2 * now.pool_size),
        "anyio_threads": replace(now, anyio_threads=2 * now.anyio_threads),
        "database_slots": replace(now, db_cap=2 * now.db_cap),
    }
    if combination.threads:
        more["own_threads"] = replace(now, threads=2 * now.threads)
    return more


def _freed(combination: Combination) -> System:
    now = combination.system
    if not combination.threads:
        return replace(now, call="threads", threads=combination.users_each)
    return replace(
        now,
        workers=2,
        threads=ceil(now.threads / 2),
        pool_size=ceil(now.pool_size / 2),
    )


def figures(system: System, users: int, seed: int, window: float = WINDOW_S) -> Figures:
    """What users of a closed loop meet in a window of so many seconds."""
    start = RAMP_S + WARMUP_S
    spans = [[(RAMP_S * user / users, start + window)] for user in range(users)]
    uploads = simulate(system, Offered(spans, (start, start + window)), seed)
    latencies = sorted(upload.latency for upload in uploads if upload.cause is None)
    if not latencies:
        return Figures(float("inf"), 0.0, len(uploads))
    p95 = latencies[max(1, ceil(0.95 * len(latencies))) - 1]
    return Figures(p95, len(latencies) / window, len(uploads) - len(latencies))


def limit_of(combination: Combination, seed: int, window: float = WINDOW_S) -> Drawn | None:
    """What limits a combination; None where that is not clear, or nothing is late."""
    users = combination.users_each
    before = figures(combination.system, users, seed, window)
    if before.failed or not SHORTEST_S <= before.p95 <= LONGEST_S:
        return None
    after = {
        name: figures(system, users, seed, window) for name, system in relaxed(combination).items()
    }
    gains = {name: one.gain(before) for name, one in after.items()}
    first, second, *_ = sorted(gains, key=lambda name: -gains[name])
    if gains[first] < CLEARLY or gains[second] > HARDLY or after[first].failed:
        return None
    bound = round(2 * sqrt(before.p95 * after[first].p95)) / 2
    return Drawn(combination, first, gains, bound)


def draw(count: int, seed: int) -> list[Drawn]:
    """So many combinations whose limit is clear; the same seed draws the same."""
    return list(islice(_kept(seed), count))


def _kept(seed: int) -> Iterator[Drawn]:
    rng, limits, seen = random.Random(f"{seed}/limits"), Counter[str](), set[Combination]()
    for _ in range(MAX_DRAWS):
        combination = at_random(rng)
        if combination in seen or max(_likely(combination, limits), default=0) >= MAX_OF_ONE:
            continue
        seen.add(combination)
        drawn = limit_of(combination, seed)
        if drawn and limits[drawn.limit] < MAX_OF_ONE:
            limits[drawn.limit] += 1
            yield drawn


def _likely(combination: Combination, limits: Mapping[str, int]) -> list[int]:
    """How often what may limit a combination was drawn; it is not simulated where that is enough.

    A call that blocks is limited by the loop, whatever else it has.
    """
    return [] if combination.threads else [limits.get("event_loop", 0)]


def at_random(rng: random.Random) -> Combination:
    """Any combination, whatever limits it."""
    workers = rng.choice((1, 2))
    return Combination(
        workers=workers,
        threads=rng.choice((0, 2, 4, 6, 12, 40)),
        pool=rng.choice((2, 4, 6, 20)),
        session=rng.choice(("hold", "release")),
        users=rng.randint(8, 20) // workers * workers,
    )
