"""A simulated uvicorn worker: one event loop, threads, and a connection pool of its own.

    loop      one turn at a time, first come, first served; a blocking call is a turn of its length
    pool      a checkout that has to wait blocks its thread, which is the loop's own under
              ``db_call: blocking``: no connection comes back meanwhile
    storage   in the loop, or in so many threads

All times are real-world seconds. See `validation.simulated_replica`.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import simpy

from lab.model.evidence import Cause, StageSpan, WorkerReading
from lab.model.journeys import Journey
from lab.model.knobs import Knobs, default_executor_threads
from lab.model.units import RateLimit

Step = Generator[simpy.Event, Any, Any]

TURN_S = 0.004
"""CPU of a worker for a request, beside what it calls."""
AUTH: Mapping[str, int] = {"auth": 2}
FREED: Mapping[str, int] = {**AUTH, "release": 1}
WRITE: Mapping[str, int] = {"write": 4}
READ: Mapping[str, int] = {**AUTH, "read": 3}
"""Round trips of each stage."""
CONNECT_TRIPS, REFUSED_TRIPS = 4, 2
EVERY_S = 0.25
"""How often everything is read."""
BASE_BYTES = 86_000_000
"""Memory of a worker at rest."""


class Refused(Exception):
    """The service answered with an error."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(eq=False)
class Request:
    """A request: what is asked for, and what came of it."""

    name: str
    user: int
    journey: Journey
    size: int
    spans: list[StageSpan] = field(default_factory=list)
    worker: int | None = None
    handed: float = 0.0
    arrived: float | None = None
    queued: float = 0.0
    cause: Cause | None = None
    answered: float | None = None
    left: bool = False

    def stage(self, name: str, begun: float, now: float) -> None:
        """Note a stage that has ended."""
        self.spans.append(StageSpan(name, begun, now - begun))


class Limiter:
    """A limit of so many in a sliding window, by key."""

    def __init__(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._seen: dict[int, deque[float]] = {}

    def allows(self, key: int, now: float) -> bool:
        """Whether one more may pass now, which is counted then."""
        if self._limit is None:
            return True
        seen = self._seen.setdefault(key, deque())
        while seen and seen[0] <= now - self._limit.per:
            seen.popleft()
        if len(seen) >= self._limit.count:
            return False
        seen.append(now)
        return True


class Around(Protocol):
    """What a worker finds around it: the cell's settings, the database, storage."""

    env: simpy.Environment
    rng: random.Random
    knobs: Knobs
    on_vm: bool
    connections: int
    refused: int
    stored: set[str]
    written: set[str]

    def check_memory(self, worker: Worker) -> None:
        """End an instance that has passed its memory."""


class Worker:
    """A uvicorn process: its loop, its threads, its pool."""

    def __init__(self, replica: Around, number: int, pool: int, kept: int) -> None:
        env, knobs = replica.env, replica.knobs
        self.replica, self.number, self.size, self.kept = replica, number, pool, kept
        self.loop = simpy.Resource(env, 1)
        cores = knobs.vm_cpus if replica.on_vm else knobs.cloudrun_cpus
        slots = {
            "to_thread": default_executor_threads(cores),
            "executor": knobs.gcs_threads,
            "audio_pool": knobs.audio_threads,
        }
        self.threads = simpy.Resource(env, slots.get(knobs.gcs_call, 1))
        self.anyio = simpy.Resource(env, knobs.anyio_threads)
        self.speech = simpy.Resource(env, knobs.speech_threads)
        self.places: deque[simpy.Event] = deque()
        self.out = self.idle = self.inflight = self.busy = self.attempts = 0
        self.bytes = 0
        self.stood = {"storage": 0.0, "database": 0.0}
        self.turned = 0.0
        self.by_user, self.by_address = (
            Limiter(knobs.upload_rate_limit),
            Limiter(knobs.global_rate_limit),
        )
        self.alive = True

    def turn(self, seconds: float, where: str = "") -> Step:
        """The loop for so long."""
        with self.loop.request() as mine:
            yield mine
            yield from self.standing(seconds, where)

    def standing(self, seconds: float, where: str = "") -> Step:
        """Stay in the turn that is taken."""
        env, left = self.replica.env, seconds
        while left > 1e-9:  # noted as it goes on, as a worker's readings do
            step = min(left, EVERY_S)
            yield env.timeout(step)
            left -= step
            self.turned += step
            if where:
                self.stood[where] += step

    def database(
        self, request: Request, trips: Mapping[str, int], hold: bool, fresh: bool = True
    ) -> Step:
        """Stages of so many round trips each; with ``fresh`` a connection is checked out for them,
        and without ``hold`` it is given back."""
        blocking = self.replica.knobs.db_call == "blocking"
        resource = self.loop if blocking else self.anyio
        with resource.request() as mine:
            yield mine
            begun = self.replica.env.now
            if fresh:
                yield from self.checkout(blocking)
                request.stage("pool_wait", begun, self.replica.env.now)
            for name, count in trips.items():
                begun = self.replica.env.now
                yield from self._trips(count, blocking)
                request.stage(name, begun, self.replica.env.now)
        if not hold:
            self.give_back()

    def _trips(self, trips: int, blocking: bool) -> Step:
        seconds = trips * self.replica.knobs.db_rtt.mean
        if blocking:
            yield from self.standing(seconds, "database")
        else:
            yield self.replica.env.timeout(seconds)

    def checkout(self, blocking: bool) -> Step:
        """A connection of the pool; Refused where it gives up, or the database refuses."""
        env, knobs = self.replica.env, self.replica.knobs
        if self.out >= self.size:
            if blocking:  # nobody can give one back while the loop waits for it
                yield from self.standing(knobs.pool_timeout, "database")
                raise Refused(Cause.POOL_TIMEOUT)
            place = env.event()
            self.places.append(place)
            yield place | env.timeout(knobs.pool_timeout)
            if not place.triggered:
                self.places.remove(place)
                raise Refused(Cause.POOL_TIMEOUT)
            return
        self.out += 1
        if self.idle:
            self.idle -= 1
            return
        if self.replica.connections >= knobs.db_cap:
            self.out -= 1
            self.replica.refused += 1
            yield from self._trips(REFUSED_TRIPS, blocking)
            raise Refused(Cause.DB_REFUSED)
        self.replica.connections += 1
        yield from self._trips(CONNECT_TRIPS, blocking)

    def give_back(self) -> None:
        """A connection comes back to the pool, or to who waits for it."""
        if self.places:
            self.places.popleft().succeed()
            return
        self.out -= 1
        if self.out + self.idle >= self.kept:
            self.replica.connections -= 1
        else:
            self.idle += 1

    def serve(self, request: Request) -> Step:
        """A request, from the loop's turn in which it arrives to its answer."""
        yield from self.turn(TURN_S)
        env = self.replica.env
        request.arrived, request.worker = env.now, self.number
        if request.journey is Journey.HEALTH:
            return
        if not self.by_address.allows(0, env.now):
            raise Refused(Cause.RATE_LIMITED)
        if request.journey is Journey.ASSESS:
            yield from self._assess(request)
            return
        if request.journey is not Journey.UPLOAD:
            yield from self.database(request, READ, hold=False)
            return
        self._admit(request)
        self.inflight += 1
        self.bytes += request.size
        try:
            self.replica.check_memory(self)
            yield from self._upload(request)
        finally:
            self.inflight -= 1
            self.bytes -= request.size

    def _assess(self, request: Request) -> Step:
        """Ask the speech service, in a thread; nothing is held meanwhile."""
        env, takes = self.replica.env, self.replica.knobs.speech_latency
        yield from self.database(request, FREED, hold=False)
        begun = env.now
        with self.speech.request() as mine:
            yield mine
            request.stage("speech_queue", begun, env.now)
            begun = env.now
            yield env.timeout(self.replica.rng.uniform(takes.low, takes.high))
            request.stage("speech", begun, env.now)
        yield from self.database(request, WRITE, hold=False)

    def _admit(self, request: Request) -> None:
        knobs, now = self.replica.knobs, self.replica.env.now
        limit = knobs.max_inflight_uploads
        if limit is not None and self.inflight >= limit:
            raise Refused(Cause.OVERLOADED)
        if knobs.backend_body is not None and request.size > knobs.backend_body:
            raise Refused(Cause.UPLOAD_TOO_LARGE)
        if not self.by_user.allows(request.user, now):
            raise Refused(Cause.RATE_LIMITED)

    def _upload(self, request: Request) -> Step:
        held = self.replica.knobs.db_session == "hold"
        yield from self.database(request, AUTH if held else FREED, hold=held)
        yield from self._store(request)
        self.replica.stored.add(request.name)
        yield from self.database(request, WRITE, hold=False, fresh=not held)
        self.replica.written.add(request.name)

    def _store(self, request: Request) -> Step:
        env, knobs = self.replica.env, self.replica.knobs
        seconds = self.replica.rng.uniform(knobs.gcs_latency.low, knobs.gcs_latency.high)
        if knobs.gcs_call == "blocking":
            with self.loop.request() as mine:
                yield mine
                yield from self._call(request, self.standing(seconds, "storage"))
            return
        begun = env.now
        with self.threads.request() as mine:
            yield mine
            request.stage("gcs_queue", begun, env.now)
            yield from self._call(request, self._wait(seconds))
        yield from self.turn(TURN_S / 4)

    def _wait(self, seconds: float) -> Step:
        yield self.replica.env.timeout(seconds)

    def _call(self, request: Request, step: Step) -> Step:
        begun = self.replica.env.now
        self.busy += 1
        self.attempts += 1
        try:
            yield from step
        finally:
            self.busy -= 1
        request.stage("gcs", begun, self.replica.env.now)

    def reading(self, t: float, instance: str = "") -> WorkerReading:
        """How it stands."""
        return WorkerReading(
            t=t,
            pid=self.number,
            pool_size=self.kept,
            checked_out=self.out,
            overflow=max(0, self.out - self.kept),
            waiting=len(self.places),
            threads_busy=self.busy,
            threads_queued=len(self.threads.queue),
            inflight=self.inflight,
            loop_lag=0.0,
            rss=BASE_BYTES,
            cpu_s=self.attempts * TURN_S,
            gcs_attempts=self.attempts,
            gcs_bytes=0,
            loop_busy_s=self.turned,
            inside=self.inflight,
            instance=instance,
            stood=dict(self.stood),
            abandoned=0,
        )
