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

What an upload waits for
    event_loop, threads, pool, anyio_threads    waiting: another upload has what it needs
    storage, database, cpu                      service: what it takes when it is alone

Passing on: whoever waits for something, all of whose holders work, waits for that. Where
holders themselves wait, more of it would only wait with them: the wait counts for what they wait
for, each of them alike. So a loop that a checkout has frozen counts for the pool; a pool whose
connections are held by uploads in the queue for a storage thread, for those threads; anyio's
threads full of checkouts, for the pool. A circle, such as a pool whose connections are held by
uploads that wait for the loop that a checkout has frozen, ends at the pool, for every circle has
one in it.

Further down: while uploads queue for a worker's storage threads, whoever has yet to come there
loses nothing by waiting before, for the threads are as busy as they can be. Such a wait counts
for the threads, unless ``simulate`` is told to count each wait where it is spent.

The state is known at every moment, so all this is integrated over time exactly.

All times are real-world seconds, CPU as well: at ``--speed S`` give S times what it takes.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import simpy

Step = Generator[simpy.Event, Any, Any]
Shares = Mapping[str, float]

EVENT_LOOP, POOL, THREADS, ANYIO = "event_loop", "pool", "threads", "anyio_threads"
STORAGE, DATABASE, CPU = "storage", "database", "cpu"
ACCEPT = "accept"
"""Waiting for whichever worker's event loop is first; no answer itself."""
WAITING = frozenset({EVENT_LOOP, POOL, THREADS, ANYIO, ACCEPT})

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


@dataclass
class Upload:
    """One request: when it was sent, how it ended for its user, and what its life was made of.

    ``cause`` is None for a success; ``latency`` is the user's, ``life`` ends when the worker is
    through with it. ``seconds`` are those of its life, by resource: waits and service.
    """

    sent: float
    answer: simpy.Event
    cause: str | None = None
    latency: float = 0.0
    life: float = 0.0
    cut_off: bool = False
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    state: str = ""
    worker: Worker | None = None
    since: float = 0.0
    stored: bool = False
    queue: Queue | None = None
    before: dict[str, float] = field(default_factory=dict)

    @property
    def waited(self) -> dict[str, float]:
        """Seconds of waiting, by resource."""
        return {name: s for name, s in self.seconds.items() if name in WAITING}

    @property
    def served(self) -> dict[str, float]:
        """Seconds of service, by resource."""
        return {name: s for name, s in self.seconds.items() if name not in WAITING}

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class Queue:
    """What uploads wait for together: in which state, of which worker, and on which way.

    ``worker`` is None for the accept queue; ``stored`` is whether their storage call has begun.
    """

    state: str
    worker: Worker | None
    stored: bool


class Meter:
    """Counts seconds of lives: for each queue, for what an upload in it waits at each moment."""

    def __init__(self, env: simpy.Environment, further_down: bool) -> None:
        self._env, self._further_down, self._last = env, further_down, 0.0
        self._sizes: dict[Queue, int] = defaultdict(int)
        self._totals: dict[Queue, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.workers: list[Worker] = []

    def move(self, upload: Upload, state: str) -> None:
        """The upload is in another state from now on; ``""`` when its life has ended."""
        self.advance()
        self._leave(upload)
        upload.state, upload.since = state, self._env.now
        upload.stored |= state == STORAGE
        upload.queue = Queue(state, upload.worker, upload.stored) if state in WAITING else None
        if upload.queue:
            self._sizes[upload.queue] += 1
            upload.before = dict(self._totals[upload.queue])

    def _leave(self, upload: Upload) -> None:
        if upload.queue:
            self._sizes[upload.queue] -= 1
            for name, total in self._totals[upload.queue].items():
                upload.seconds[name] += total - upload.before.get(name, 0.0)
        elif upload.state:
            upload.seconds[upload.state] += self._env.now - upload.since

    def advance(self) -> None:
        """Count up to now; to be called before anybody takes or gives back what others wait for."""
        seconds, self._last = self._env.now - self._last, self._env.now
        if seconds <= 0:
            return
        for queue, size in self._sizes.items():
            if size:
                totals = self._totals[queue]
                for name, share in self._counts_for(queue).items():
                    totals[name] += seconds * share

    def _counts_for(self, queue: Queue) -> Shares:
        """For what waiting in a queue counts at this moment, in shares of one."""
        if queue.worker is not None:
            return self._at_worker(queue.state, queue.worker, queue.stored)
        return mean(self._at_worker(EVENT_LOOP, worker, False) for worker in self.workers)

    def _at_worker(self, state: str, worker: Worker, stored: bool) -> Shares:
        if self._further_down and not stored and worker.queues_for_threads:
            return {THREADS: 1.0}
        return counts_for(state, worker)


def counts_for(queue: str, worker: Worker, path: frozenset[str] = frozenset()) -> Shares:
    """For what waiting in a worker's queue counts: it, or what its holders wait for."""
    if queue in path:
        return {POOL: 1.0}
    waiting = [upload.state for upload in worker.holders(queue) if upload.state in WAITING]
    if not waiting:
        return {queue: 1.0}
    return mean(counts_for(state, worker, path | {queue}) for state in waiting)


def mean(several: Iterable[Shares]) -> Shares:
    """The mean of shares."""
    total: dict[str, float] = defaultdict(float)
    listed = list(several)
    for shares in listed:
        for name, share in shares.items():
            total[name] += share / len(listed)
    return total


class AcceptQueue:
    """Connections that no worker has taken yet, and the workers that wait for one."""

    def __init__(self, rng: random.Random, lead: float) -> None:
        self.pending: list[Upload] = []
        self.idle: dict[int, simpy.Event] = {}
        self._rng, self._lead = rng, lead

    def arrive(self, upload: Upload) -> None:
        """A connection is made; one of the idle workers, by their numbers, is first."""
        self.pending.append(upload)
        if self.idle:
            *others, last = sorted(self.idle)
            first = next((worker for worker in others if self._rng.random() < self._lead), last)
            self.idle.pop(first).succeed()

    def take_all(self) -> list[Upload]:
        """What a worker gets that polls now."""
        taken, self.pending = self.pending, []
        return taken


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
        queue: AcceptQueue,
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
    meter, queue = Meter(env, further_down), AcceptQueue(rng, system.lead)
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


def blame(uploads: Iterable[Upload], bound: float) -> dict[str, float]:
    """Seconds by resource that made uploads late: ``p95 < bound`` was missed because of them.

    An upload that succeeded is late by what it took beyond the bound, one that was cut off by
    what its life took beyond that moment. What it waited stands for that first, each
    resource in proportion, and what remains is its service's.
    """
    seconds: dict[str, float] = defaultdict(float)
    for upload in uploads:
        late = upload.life - upload.latency if upload.cut_off else upload.latency - bound
        if late > 0 and (upload.cut_off or upload.cause is None):
            waited = min(late, sum(upload.waited.values()))
            _spread(seconds, upload.waited, waited)
            _spread(seconds, upload.served, late - waited)
    return dict(seconds)


def _spread(seconds: dict[str, float], parts: Mapping[str, float], amount: float) -> None:
    total = sum(parts.values())
    for name, part in parts.items():
        if total > 0:
            seconds[name] += amount * part / total
