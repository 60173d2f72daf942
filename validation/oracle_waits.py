"""The replica as a discrete-event simulation that knows what each upload waits for.

Like `validation.oracle` it is written from how the parts are documented to work, and uses
nothing of the lab. That one gives capacities; this one takes every life of an upload apart.

What it models beside the users, proxy, accept queue and turn-by-turn event loop of `oracle`
    answers   go out at once: a transport writes to its socket when it is told to, not at the
              end of the loop's turn
    pool      QueuePool of each worker: a checkout blocks its *thread*, which is the event loop's
              own under ``database: blocking``; it gives up after ``pool_timeout``. Connections
              beyond ``pool_size`` are opened when needed and closed when nobody waits for them.
              The database refuses one beyond ``db_cap`` at once
    session   ``hold`` keeps the connection across the storage call, to the end of the write
    anyio     under ``database: threadpool`` each database step takes one of anyio's threads, a
              blocked checkout as well; its token is back when the coroutine runs again
    storage   in the loop, or in so many threads a worker, first come, first served
    ends      the client's time-out and the proxy's; the worker goes on with the upload
    refusal   ``max_inflight``, before the body is read

For what a wait counts at each moment, `validation.wait_meter` says.

All times are real-world seconds, CPU as well: at ``--speed S`` give S times what it takes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import simpy

from validation.oracle import AcceptQueue
from validation.wait_meter import (
    ACCEPT,
    ANYIO,
    CPU,
    DATABASE,
    EVENT_LOOP,
    POOL,
    STORAGE,
    THREADS,
    Meter,
    Upload,
)

Step = Generator[simpy.Event, Any, Any]

NETWORK_S = 0.005
"""A request is sent, buffered by the proxy and passed on within this long, evenly spread."""
CONNECT_TRIPS, FIRST_TRIPS, REFUSED_TRIPS = 4, 13, 2
"""Round trips of opening a connection with SCRAM; of a worker's first, whose dialect asks the
server for its version and settings; and until one is refused."""


@dataclass(frozen=True)
class System:
    """A configuration of the replica; the defaults are the incident report's figures.

    Args:
        call: where the storage call runs: in the event loop, or in threads.
        threads: for storage calls, of each worker.
        database: where database steps run: in the event loop, or in anyio's threads.
        session: whether the connection is kept across the storage call.
        trips: round trips of ``auth``, ``release`` and ``write``; a step that is not there
            is not made.
        trip: the shortest and the longest round trip, uniform.
        trip_cpu: what the client and the database add to a round trip.
        cpu: of an upload in the worker, before its first query.
        storage: the shortest and the longest answer of storage, uniform.
        proxy_cpu: what users and proxy need to pass an upload on, one after the other; of a
            burst of 45 the last was handed over after 28 ms, of one of 56 after 105 ms.
        proxy_timeout: how long the proxy waits for an answer.
        lead: as in `validation.oracle.System`; 0.72 was measured with two workers.
    """

    call: Literal["blocking", "threads"] = "blocking"
    threads: int = 20
    workers: int = 1
    database: Literal["blocking", "threadpool"] = "blocking"
    anyio_threads: int = 40
    session: Literal["hold", "release"] = "release"
    pool_size: int = 10
    max_overflow: int = 10
    pool_timeout: float = 10.0
    db_cap: int = 25
    trips: Mapping[str, int] = field(default_factory=lambda: {"auth": 2, "release": 1, "write": 4})
    trip: tuple[float, float] = (0.025, 0.025)
    trip_cpu: float = 0.0004
    cpu: float = 0.007
    storage: tuple[float, float] = (2.0, 5.0)
    max_inflight: int | None = None
    proxy_cpu: float = 0.001
    proxy_timeout: float = 60.0
    lead: float = 0.72


@dataclass(frozen=True)
class Offered:
    """A load: for each user the half-open spans of time in which it begins uploads.

    A user sends again ``think`` after a success and ``backoff`` after a failure, each the shortest
    and the longest, uniform, and leaves an upload that takes ``timeout``. What is sent in
    ``window`` is in the result.
    """

    users: Sequence[Sequence[tuple[float, float]]]
    window: tuple[float, float]
    think: tuple[float, float] = (0.0, 0.0)
    backoff: tuple[float, float] = (1.0, 1.0)
    timeout: float = 120.0


class Failed(Exception):
    """An upload that the worker answers with a cause."""


class Slots:
    """The database's: how many connections it has granted, of how many."""

    def __init__(self, cap: int) -> None:
        self.cap, self.used = cap, 0


class Pool:
    """SQLAlchemy's QueuePool, as ``_do_get`` and ``_do_return_conn`` have it."""

    def __init__(
        self, env: simpy.Environment, system: System, slots: Slots, trips: Callable[[int], float]
    ) -> None:
        self._env, self._system, self._slots, self._trips = env, system, slots, trips
        self._limit = system.pool_size + system.max_overflow
        self._idle = self._opened = 0
        self._waiting: deque[simpy.Event] = deque()
        self._first = True
        self.holders: set[Upload] = set()

    def checkout(self, upload: Upload, meter: Meter) -> Step:
        """Block until the upload has a connection.

        Raises:
            Failed: none within ``pool_timeout``, or the database refused a new one.
        """
        if self._idle:
            self._idle -= 1
        elif self._opened < self._limit or not (yield from self._wait(upload, meter)):
            yield from self._open(upload, meter)
        meter.advance()
        self.holders.add(upload)

    def _wait(self, upload: Upload, meter: Meter) -> Step:
        """Whether a connection was handed over; not where one may be opened after all."""
        handed = self._env.event()
        self._waiting.append(handed)
        meter.move(upload, POOL)
        yield handed | self._env.timeout(self._system.pool_timeout)
        if handed.triggered:
            return True
        self._waiting.remove(handed)
        if self._opened >= self._limit:
            raise Failed("pool_timeout")
        return False

    def _open(self, upload: Upload, meter: Meter) -> Step:
        self._opened += 1
        meter.move(upload, DATABASE)
        if self._slots.used >= self._slots.cap:
            yield self._env.timeout(self._trips(REFUSED_TRIPS))
            self._opened -= 1
            raise Failed("db_refused")
        self._slots.used += 1
        trips, self._first = FIRST_TRIPS if self._first else CONNECT_TRIPS, False
        yield self._env.timeout(self._trips(trips))

    def give_back(self, upload: Upload) -> None:
        """To who waits longest; else it is kept, or closed where as many are kept already."""
        self.holders.remove(upload)
        if self._waiting:
            self._waiting.popleft().succeed()
        elif self._idle < self._system.pool_size:
            self._idle += 1
        else:
            self._opened -= 1
            self._slots.used -= 1


@dataclass
class Call:
    """What a coroutine does next: in the loop, which it holds, or awaited elsewhere.

    ``token`` is anyio's, taken before and given back when the coroutine runs again.
    """

    work: Step
    holds_loop: bool
    needs_token: bool = False


Coroutine = Generator[Call, None, None]


class Worker:
    """A process: an event loop, a pool, anyio's threads and, unless ``blocking``, threads."""

    def __init__(
        self,
        env: simpy.Environment,
        system: System,
        queue: AcceptQueue[Upload],
        slots: Slots,
        meter: Meter,
        rng: random.Random,
    ) -> None:
        self._env, self._system, self._queue, self._rng = env, system, queue, rng
        self._meter, self._number = meter, len(meter.workers)
        meter.workers.append(self)
        self._pool = Pool(env, system, slots, self._trips)
        self._threads = simpy.Resource(env, system.threads)
        self._anyio = simpy.Resource(env, system.anyio_threads)
        self._in_anyio: dict[Upload, simpy.resources.resource.Request] = {}
        self._running: Upload | None = None
        self._inflight = 0
        self._ready: list[tuple[Upload, Coroutine, Failed | None]] = []
        self._wake: simpy.Event | None = None
        env.process(self._loop())

    def holders(self, queue: str) -> Iterable[Upload]:
        """The uploads that have what those in a queue wait for; storage's threads only work."""
        return {
            EVENT_LOOP: [self._running] if self._running else [],
            POOL: self._pool.holders,
            ANYIO: self._in_anyio,
            THREADS: [],
        }[queue]

    @property
    def queues_for_threads(self) -> bool:
        """Whether uploads wait for a thread for their storage call."""
        return bool(self._threads.queue)

    def _loop(self) -> Step:
        """Turn after turn; it sleeps while nothing is ready and nobody waits to be accepted."""
        while True:
            if not self._ready and not self._queue.pending:
                self._wake = self._env.event()
                self._queue.idle[self._number] = self._wake
                yield self._wake
                self._queue.idle.pop(self._number, None)
                self._wake = None
            turn, self._ready = self._ready, []
            turn += [(upload, self._accepted(upload), None) for upload in self._queue.take_all()]
            for upload, coroutine, failure in turn:
                yield from self._run(upload, coroutine, failure)

    def _accepted(self, upload: Upload) -> Coroutine:
        upload.worker = self
        self._meter.move(upload, EVENT_LOOP)
        return self._upload(upload)

    def _run(self, upload: Upload, coroutine: Coroutine, failure: Failed | None) -> Step:
        """Run a coroutine until it awaits something, or ends; the loop is held meanwhile."""
        self._meter.advance()
        self._running = upload
        token = self._in_anyio.pop(upload, None)
        if token is not None:
            self._anyio.release(token)
        try:
            while True:
                call = coroutine.throw(failure) if failure else next(coroutine)
                failure = None
                if not call.holds_loop:
                    self._env.process(self._await(upload, coroutine, call))
                    break
                try:
                    yield from call.work
                except Failed as error:
                    failure = error
        except StopIteration:
            self._end(upload, None)
        except Failed as error:
            self._end(upload, str(error))
        self._meter.advance()
        self._running = None

    def _await(self, upload: Upload, coroutine: Coroutine, call: Call) -> Step:
        """Work elsewhere; at its end the coroutine is ready for the loop's next turn."""
        failure = None
        if call.needs_token:
            self._meter.move(upload, ANYIO)
            token = self._anyio.request()
            yield token
            self._meter.advance()
            self._in_anyio[upload] = token
        try:
            yield from call.work
        except Failed as error:
            failure = error
        self._meter.move(upload, EVENT_LOOP)
        self._ready.append((upload, coroutine, failure))
        if self._wake is not None and not self._wake.triggered:
            self._wake.succeed()

    def _end(self, upload: Upload, cause: str | None) -> None:
        self._meter.move(upload, "")
        if upload in self._pool.holders:
            self._pool.give_back(upload)
        if not upload.cut_off:
            upload.cause = cause
        upload.life = self._env.now - upload.sent
        upload.answer.succeed()

    def _upload(self, upload: Upload) -> Coroutine:
        """The coroutine of an upload, as the service's code has it."""
        limit = self._system.max_inflight
        if limit is not None and self._inflight >= limit:
            raise Failed("overloaded")
        self._inflight += 1
        try:
            yield Call(self._spend(upload, CPU, self._system.cpu), holds_loop=True)
            yield Call(self._spend(upload, EVENT_LOOP, 0.0), holds_loop=False)  # awaits its body
            yield self._query(upload)
            if self._system.session == "hold":
                yield self._query(upload, checkout=True)
                yield self._query(upload, "auth")
                yield self._storage_call(upload)
                yield self._query(upload, "write", give_back=True)
            else:
                yield self._query(upload, "auth", "release", checkout=True, give_back=True)
                yield self._storage_call(upload)
                yield self._query(upload, "write", checkout=True, give_back=True)
        finally:
            self._inflight -= 1

    def _query(
        self, upload: Upload, *stages: str, checkout: bool = False, give_back: bool = False
    ) -> Call:
        """A database step: in the loop, or in one of anyio's threads; the first has no query."""

        def work() -> Step:
            if checkout:
                yield from self._pool.checkout(upload, self._meter)
            trips = sum(self._system.trips.get(stage, 0) for stage in stages)
            yield from self._spend(upload, DATABASE, self._trips(trips))
            if give_back:
                self._meter.move(upload, DATABASE)
                self._pool.give_back(upload)

        elsewhere = self._system.database == "threadpool"
        return Call(work(), holds_loop=not elsewhere, needs_token=elsewhere)

    def _storage_call(self, upload: Upload) -> Call:
        seconds = self._rng.uniform(*self._system.storage)
        if self._system.call == "blocking":
            return Call(self._spend(upload, STORAGE, seconds), holds_loop=True)
        return Call(self._in_thread(upload, seconds), holds_loop=False)

    def _in_thread(self, upload: Upload, seconds: float) -> Step:
        self._meter.move(upload, THREADS)
        with self._threads.request() as thread:
            yield thread
            yield from self._spend(upload, STORAGE, seconds)
            self._meter.advance()

    def _spend(self, upload: Upload, state: str, seconds: float) -> Step:
        self._meter.move(upload, state)
        yield self._env.timeout(seconds)

    def _trips(self, count: int) -> float:
        """Seconds of so many round trips."""
        delays = (self._rng.uniform(*self._system.trip) for _ in range(count))
        return sum(delays) + count * self._system.trip_cpu


def simulate(
    system: System, offered: Offered, seed: int = 1, further_down: bool = True
) -> list[Upload]:
    """The uploads sent in the window, each followed to its end; the same seed gives the same.

    ``further_down`` is whether a wait counts for the threads while others queue for those.
    """
    env, rng = simpy.Environment(), random.Random(f"{seed}/waits")
    meter = Meter(env, further_down)
    queue: AcceptQueue[Upload] = AcceptQueue(rng, system.lead)
    slots, proxy_core = Slots(system.db_cap), simpy.Resource(env)
    for _ in range(system.workers):
        Worker(env, system, queue, slots, meter, rng)
    uploads: list[Upload] = []

    def send() -> Step:
        upload = Upload(env.now, env.event())
        uploads.append(upload)
        with proxy_core.request() as core:
            yield core
            yield env.timeout(system.proxy_cpu)
        yield env.timeout(rng.uniform(0, NETWORK_S))
        meter.move(upload, ACCEPT)
        queue.arrive(upload)
        proxy, client = system.proxy_timeout, offered.timeout - (env.now - upload.sent)
        yield upload.answer | env.timeout(min(proxy, client))
        if not upload.answer.triggered:
            upload.cut_off = True
            upload.cause = "gateway_timeout" if proxy < client else "client_timeout"
        upload.latency = env.now - upload.sent
        return upload

    def user(spans: Sequence[tuple[float, float]]) -> Step:
        for start, stop in spans:
            yield env.timeout(max(0.0, start - env.now))
            while env.now < stop:
                upload = yield from send()
                pause = offered.backoff if upload.cause else offered.think
                yield env.timeout(rng.uniform(*pause))

    for spans in offered.users:
        env.process(user(spans))
    env.run()
    start, end = offered.window
    return [upload for upload in uploads if start <= upload.sent < end]
