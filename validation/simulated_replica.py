"""The whole replica as a discrete-event simulation, which gives the evidence that a run stores.

It is written from how the parts are documented to work, and uses the lab's words alone
(`lab.model`): nothing that drives, observes or judges. It answers what a lesson's run would look
like, in a moment and the same each time, so that a check can be tried without a replica. What it
leaves out (CPU beyond a turn's, the network, retries of storage) is none of a lesson's questions.

    users ─> nginx or gateway ─> a worker's event loop ─> pool ─> database, threads ─> storage

    loop      one turn at a time, first come, first served; a blocking call is a turn of its length
    pool      QueuePool of each worker: a checkout that has to wait blocks its thread, which is the
              loop's own under ``db_call: blocking``: no connection comes back meanwhile
    accept    of workers that listen on one socket, those that are idle alike are woken in one
              order: `LEAD` of what finds them so goes to the first

All times are real-world seconds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, cast

import simpy

from lab.model.evidence import (
    Audit,
    Cause,
    Evidence,
    GatewayReading,
    InstanceEvent,
    LoadDone,
    Observation,
    Sample,
    StageSpan,
    UploadRecord,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.knobs import default_executor_threads
from lab.model.load import BurstLoad, ClosedLoad
from lab.model.readings import DatabaseReading
from lab.model.replica import nginx_limits
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
LEAD = 0.72
EVERY_S = 0.25
"""How often everything is read."""
START_S = (1.2, 1.6)
"""How long an instance takes to start."""
BASE_BYTES, HELD = 86_000_000, 4
"""Memory of an instance at rest, and how often it holds an upload's bytes."""
AROUND = 400
"""Bytes of a request beside its file."""
STATUS = {
    Cause.POOL_TIMEOUT: 503,
    Cause.DB_REFUSED: 503,
    Cause.RATE_LIMITED: 429,
    Cause.OVERLOADED: 503,
    Cause.BODY_TOO_LARGE: 413,
    Cause.UPLOAD_TOO_LARGE: 413,
    Cause.GATEWAY_TIMEOUT: 504,
    Cause.CLIENT_TIMEOUT: 0,
    Cause.PROXY_ERROR: 500,
    Cause.NO_INSTANCE: 429,
    Cause.REQUEST_TIMEOUT: 504,
    Cause.INSTANCE_DIED: 503,
}


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


class Worker:
    """A uvicorn process: its loop, its threads, its pool."""

    def __init__(self, replica: SimulatedReplica, number: int, pool: int, kept: int) -> None:
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


class SimulatedReplica:
    """A cell's replica, its load, and what is seen of both.

    Args:
        cell: a closed load, or a burst.
        seed: of the latencies, files, journeys and of who accepts.
    """

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell, self.knobs = cell, cell.knobs
        self.env, self.rng = simpy.Environment(), random.Random(seed)
        self.on_vm = cell.target == "vm"
        self.samples: list[Sample] = []
        self.evidence: list[Evidence] = []
        self.requests: list[Request] = []
        self.stored: set[str] = set()
        self.written: set[str] = set()
        self.connections = self.refused = self.turns = self.passed_on = 0
        count = self.knobs.workers if self.on_vm else 0
        self.workers = [self.worker(number + 1) for number in range(count)]
        self.front = Gateway(self) if not self.on_vm else None

    def worker(self, number: int) -> Worker:
        """Another worker."""
        knobs = self.knobs
        most = inf if knobs.max_overflow is None else knobs.pool_size + knobs.max_overflow
        return Worker(self, number, int(min(most, 10**6)), knobs.pool_size)

    def run(self) -> Observation:
        """The whole trial."""
        load, env = self.cell.load, self.env
        start, end = load.measured
        env.process(self._read())
        if isinstance(load, BurstLoad):
            users, users_end = load.burst, 0.0
        elif isinstance(load, ClosedLoad):
            users, users_end = load.users, end
        else:
            raise TypeError(f"a load of kind {load.kind} is not simulated")
        ramp = load.ramp if isinstance(load, ClosedLoad) else 0.0
        for user in range(users):
            env.process(self._user(user, ramp * user / users, users_end))
        env.run(until=end + load.timeout + self.knobs.gcs_latency.high * 3)
        self.evidence += self._records()
        self.evidence += [
            LoadDone(t=end, window=(start, end), generator_exit=0),
            self._audit(),
        ]
        samples = sorted(self.samples, key=lambda sample: sample.sent_at)
        return Observation(samples=tuple(samples), evidence=tuple(self.evidence))

    def _user(self, user: int, begins: float, until: float) -> Step:
        load, env, rng, number = self.cell.load, self.env, self.rng, 0
        yield env.timeout(begins)
        journeys, shares = zip(*load.shares.items(), strict=True)
        while env.now <= until:
            number += 1
            [journey] = rng.choices(journeys, shares)
            size = round(load.audio.low * (load.audio.high / load.audio.low) ** rng.random())
            request = Request(f"{user}-{number}", user, journey, size)
            sent = env.now
            yield from self._ask(request)
            self._sample(request, sent)
            if isinstance(load, BurstLoad):
                return
            pause = load.backoff if request.cause else load.think
            yield env.timeout(max(rng.uniform(pause.low, pause.high), 1e-3))

    def _ask(self, request: Request) -> Step:
        """Send a request and wait for its answer, for as long as client and proxy do."""
        self.requests.append(request)
        env, patience = self.env, self.cell.load.timeout
        yield env.timeout(0.002)
        body = nginx_limits(self.knobs).body
        if self.on_vm and body is not None and request.size + AROUND > body:
            request.cause, request.answered = Cause.BODY_TOO_LARGE, env.now
            return
        if self.on_vm and self.passed_on >= nginx_limits(self.knobs).uploads:
            request.cause, request.answered = Cause.PROXY_ERROR, env.now
            return
        request.handed = env.now
        serving = env.process(self._serve(request))
        cause, limit = Cause.CLIENT_TIMEOUT, patience
        if (proxy := self._proxy_timeout()) < patience:
            cause, limit = Cause.GATEWAY_TIMEOUT, proxy
        yield serving | env.timeout(limit)
        if not serving.triggered:
            request.cause, request.left = cause, True

    def _proxy_timeout(self) -> float:
        return nginx_limits(self.knobs).read_s if self.on_vm else inf

    def _serve(self, request: Request) -> Step:
        self.passed_on += 1
        try:
            if self.front:
                yield from self.front.serve(request)
            else:
                worker = self._accepting()
                self.turns += 1
                yield from worker.serve(request)
        except Refused as refused:
            if not request.left:
                request.cause = refused.cause
        finally:
            self.passed_on -= 1
        if not request.left:
            request.answered = self.env.now

    def _accepting(self) -> Worker:
        """The worker that takes the next request."""
        if self.knobs.balance == "round_robin":
            return self.workers[self.turns % len(self.workers)]
        if self.knobs.balance == "least_conn":
            return min(
                self.workers, key=lambda one: (one.inflight + len(one.loop.queue), one.number)
            )
        waiting = {one: one.loop.count + len(one.loop.queue) for one in self.workers}
        fewest = [one for one in self.workers if waiting[one] == min(waiting.values())]
        for worker in fewest[:-1]:
            if self.rng.random() < LEAD:
                return worker
        return fewest[-1]

    def _sample(self, request: Request, sent: float) -> None:
        took = self.env.now - sent
        status = STATUS[request.cause] if request.cause else 200
        stages: dict[str, float] = {}
        if not request.left:
            for span in request.spans:
                stages[span.stage] = stages.get(span.stage, 0.0) + span.took
            if not self.on_vm:
                stages["queue"] = request.queued
        done = request.cause is None and request.journey is Journey.UPLOAD
        self.samples.append(
            Sample(
                planned_at=sent,
                sent_at=sent,
                latency_s=took,
                status=status,
                error=request.cause,
                bytes=request.size,
                user=request.user,
                stages=stages,
                recording=request.name if done else None,
                request=request.name,
                journey=request.journey,
                worker=request.worker if not request.left else None,
            )
        )

    def check_memory(self, worker: Worker) -> None:
        """An instance that passes its memory is gone, with all that it had in hand."""
        if self.front:
            self.front.check_memory(worker)

    def _read(self) -> Step:
        while True:
            now, names = self.env.now, self.front.names if self.front else {}
            for worker in self.workers:
                if worker.alive:
                    self.evidence.append(worker.reading(now, names.get(worker.number, "")))
            self.evidence.append(DatabaseReading(t=now, connections=self.connections))
            if self.front:
                self.evidence.append(self.front.reading(now))
            yield self.env.timeout(EVERY_S)

    def _records(self) -> list[Evidence]:
        return [
            UploadRecord(
                t=self.env.now if one.answered is None else one.answered,
                request=one.name,
                worker=one.worker or 0,
                handed=one.handed,
                arrived=one.arrived,
                status=STATUS[one.cause] if one.cause else 200,
                cause=one.cause if one.cause and not one.left else None,
                spans=one.spans,
                journey=one.journey,
            )
            for one in self.requests
            if one.arrived is not None
        ]

    def _audit(self) -> Audit:
        heard = {sample.recording for sample in self.samples if sample.recording}
        return Audit(
            t=self.env.now,
            rows=len(self.written),
            objects=len(self.stored),
            lost=[],
            orphans=sorted(self.stored - self.written),
            unheard=sorted(self.written - heard),
            refused=self.refused,
        )


class Gateway:
    """Cloud Run before its instances: a queue, and as many instances as there may be."""

    def __init__(self, replica: SimulatedReplica) -> None:
        self.replica = replica
        self.names: dict[int, str] = {}
        self.inside: dict[int, int] = {}
        self.starting = 0
        self.waiting: deque[tuple[Request, simpy.Event]] = deque()
        for _ in range(replica.knobs.cloudrun_min_instances):
            self._ready()

    def _ready(self) -> None:
        number = len(self.names) + 1
        self.names[number] = f"instance-{number}"
        self.inside[number] = 0
        self.replica.workers.append(self.replica.worker(number))

    @property
    def _alive(self) -> list[Worker]:
        return [worker for worker in self.replica.workers if worker.alive]

    def _start(self) -> Step:
        env, took = self.replica.env, self.replica.rng.uniform(*START_S)
        self.starting += 1
        name = f"instance-{len(self.names) + self.starting}"
        self._event("starting", name)
        yield env.timeout(took)
        self.starting -= 1
        self._ready()
        self._event("ready", name, start_s=took)
        self._hand_out()

    def _event(self, event: Any, name: str, **more: Any) -> None:
        made = InstanceEvent(t=self.replica.env.now, event=event, instance=name, **more)
        self.replica.evidence.append(made)

    def _hand_out(self) -> None:
        """Give the queue's first to who has a place; start another instance where there may be."""
        knobs = self.replica.knobs
        for worker in self._alive:
            while self.waiting and self.inside[worker.number] < knobs.cloudrun_concurrency:
                request, place = self.waiting.popleft()
                self.inside[worker.number] += 1
                request.worker = worker.number
                place.succeed(worker)
        there = len(self._alive) + self.starting
        wanted = -(-len(self.waiting) // knobs.cloudrun_concurrency)
        for _ in range(min(wanted - self.starting, knobs.cloudrun_max_instances - there)):
            self.replica.env.process(self._start())

    def serve(self, request: Request) -> Step:
        """A request: its wait for an instance, and what that makes of it."""
        env, knobs = self.replica.env, self.replica.knobs
        place, begun = env.event(), env.now
        entry = (request, place)
        self.waiting.append(entry)
        self._hand_out()
        yield place | env.timeout(max(knobs.cloudrun_pending, 3.5 * START_S[1]))
        request.queued = env.now - begun
        if not place.triggered:
            self.waiting.remove(entry)
            raise Refused(Cause.NO_INSTANCE)
        worker = cast("Worker", place.value)
        try:
            yield from worker.serve(request)
            if not worker.alive:
                raise Refused(Cause.INSTANCE_DIED)
        finally:
            self.inside[worker.number] -= 1
            self._hand_out()

    def check_memory(self, worker: Worker) -> None:
        """Kill an instance that has passed its memory."""
        used = BASE_BYTES + HELD * worker.bytes
        if worker.alive and used > self.replica.knobs.cloudrun_memory:
            worker.alive = False
            self._event("oom", self.names[worker.number], why="memory")
        if not worker.alive:
            raise Refused(Cause.INSTANCE_DIED)

    def reading(self, t: float) -> GatewayReading:
        """How things stand at the gateway."""
        return GatewayReading(
            t=t,
            queue=len(self.waiting),
            in_flight=sum(self.inside.values()),
            starting=self.starting,
            ready=len(self._alive),
            stopping=0,
        )
