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
    UploadRecord,
)
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.load import BurstLoad, ClosedLoad
from lab.model.readings import DatabaseReading
from lab.model.replica import nginx_limits
from validation.simulated_worker import BASE_BYTES, EVERY_S, Refused, Request, Step, Worker

LEAD = 0.72
START_S = (1.2, 1.6)
"""How long an instance takes to start."""
HELD = 4
"""How often an instance holds an upload's bytes in its memory."""
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
