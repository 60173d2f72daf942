"""The replica's closed network as a discrete-event simulation: what a capacity should come out as.

An oracle for measured capacities. It is written from how the parts are documented to work,
and uses nothing of the lab's own code, so that agreement between the two means something.

What it models
    users     a closed loop without a pause: each sends again as soon as it is answered; they
              begin one after the other over the ramp
    proxy     a connection of its own for every request, all in one accept queue, as nginx
              makes them with HTTP/1.0 upstream
    workers   processes that share the accept queue. One that polls takes *all* that wait in
              it, as asyncio does. Of several that are idle all are woken, in the kernel's
              order, and ``lead`` says how often the first of them is the first to accept
    loop      asyncio's event loop, turn by turn: what is ready when a turn begins is run one
              after the other, and nothing is answered, accepted or handed on before its end.
              Synchronous database calls, CPU and, for ``blocking``, the storage call hold it
    threads   ``to_thread``: min(32, CPUs + 4) a worker; ``executor``: as many as are given;
              first come, first served. ``blocking`` has none
    storage   a uniform delay; as many at once as ask for it
    pool      a worker's connections, each held for a database stage

What it does not: failures, time-outs, rate limits, sessions held across the upload, the
cores' own contention, and the database's (a round trip takes what it takes).

All times are real-world seconds. At ``--speed S`` the service's CPU, and what Postgres adds
to a round trip, are S times as long in real-world terms; give the stage times as measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Any, Generic, Literal, TypeVar

import simpy

Step = Generator[simpy.Event, Any, None]
Request = TypeVar("Request")
"""A simulation's own kind of upload."""
NETWORK_S = 0.005
"""A request is sent, buffered by the proxy and passed on within this long, evenly spread."""
SURE, MAX_TIMES = 3.0, 12
"""So many standard errors from the bound a share is certain; else so many times the trials."""


@dataclass(frozen=True)
class System:
    """A configuration of the replica; the defaults are the incident report's figures.

    Args:
        call: where the storage call runs.
        workers: processes.
        threads: of each worker's own pool, for ``executor``.
        cpus: of the machine, which size the default executor of ``to_thread``.
        pool: connections of each worker.
        auth: the query, two round trips of 25 ms; release: one; write: four.
        cpu: of an upload in the worker, before its query.
        storage: the shortest and the longest answer of storage, uniform.
        lead: how often the idle worker that is woken first takes an upload, one that finds
            all of them idle; else the next does, as often, and so on. Linux wakes those that
            poll one socket with epoll in a fixed order, the last to register first; the others
            run on other cores, so that they sometimes win. To be measured with one user.
    """

    call: Literal["blocking", "to_thread", "executor"]
    workers: int = 1
    threads: int = 20
    cpus: int = 2
    pool: int = 20
    auth: float = 0.050
    release: float = 0.025
    write: float = 0.100
    cpu: float = 0.007
    storage: tuple[float, float] = (2.0, 5.0)
    lead: float = 0.5

    @property
    def slots(self) -> int:
        """Threads for storage calls in each worker; none for ``blocking``."""
        return {"blocking": 0, "to_thread": min(32, self.cpus + 4), "executor": self.threads}[
            self.call
        ]


@dataclass
class Result:
    """What came of a simulated trial: uploads *sent* in the window, each followed to its end.

    ``in_flight`` is the mean number of uploads under way in the window, from their lives;
    ``throughput`` counts answers in the window, a second; ``busiest`` are the most storage
    calls in threads at once, by worker.
    """

    window: float
    latencies: list[float] = field(default_factory=list)
    answered: int = 0
    in_flight: float = 0.0
    connections: int = 0
    busiest: tuple[int, ...] = ()

    @property
    def throughput(self) -> float:
        return self.answered / self.window

    @property
    def mean(self) -> float:
        return sum(self.latencies) / len(self.latencies)

    def quantile(self, p: float) -> float:
        """The smallest latency that a share p of the uploads does not exceed."""
        ordered = sorted(self.latencies)
        return ordered[max(1, ceil(round(p * len(ordered), 9))) - 1]


class Upload:
    """One request: the event of its answer."""

    def __init__(self, env: simpy.Environment) -> None:
        self.answer = env.event()


class AcceptQueue(Generic[Request]):
    """Connections that no worker has taken yet, and the workers that wait for one."""

    def __init__(self, rng: random.Random, lead: float) -> None:
        self.pending: list[Request] = []
        self.idle: dict[int, simpy.Event] = {}
        self._rng, self._lead = rng, lead

    def arrive(self, upload: Request) -> None:
        """A connection is made; one of the idle workers, by their numbers, is first."""
        self.pending.append(upload)
        if self.idle:
            *others, last = sorted(self.idle)
            first = next((worker for worker in others if self._rng.random() < self._lead), last)
            self.idle.pop(first).succeed()

    def take_all(self) -> list[Request]:
        """What a worker gets that polls now."""
        taken, self.pending = self.pending, []
        return taken


class Worker:
    """A process: an event loop, a pool of connections and, unless ``blocking``, threads."""

    def __init__(
        self,
        env: simpy.Environment,
        system: System,
        queue: AcceptQueue[Upload],
        rng: random.Random,
        number: int,
    ) -> None:
        self._env, self._system, self._queue, self._rng = env, system, queue, rng
        self._number = number
        self._pool = simpy.Resource(env, system.pool)
        self._threads = simpy.Resource(env, system.slots) if system.slots else None
        self._ready: list[Callable[[], Step]] = []
        self._answers: list[Upload] = []
        self._wake: simpy.Event | None = None
        self.max_connections = self.max_threads = 0
        env.process(self._loop())

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
            turn += [self._parsing(upload) for upload in self._queue.take_all()]
            for run in turn:
                yield from run()
            answers, self._answers = self._answers, []
            for upload in answers:
                upload.answer.succeed()

    def _call_soon(self, run: Callable[[], Step]) -> None:
        """Ready for the next turn; a sleeping loop wakes."""
        self._ready.append(run)
        if self._wake is not None and not self._wake.triggered:
            self._wake.succeed()

    def _parsing(self, upload: Upload) -> Callable[[], Step]:
        def run() -> Step:
            yield self._env.timeout(self._system.cpu)
            self._call_soon(lambda: self._authenticating(upload))

        return run

    def _authenticating(self, upload: Upload) -> Step:
        yield from self._database(self._system.auth + self._system.release)
        if self._threads is None:
            yield self._env.timeout(self._rng.uniform(*self._system.storage))
            yield from self._writing(upload)
        else:
            self._env.process(self._thread(self._threads, upload))

    def _thread(self, threads: simpy.Resource, upload: Upload) -> Step:
        """The storage call in a thread; at its end the loop goes on."""
        with threads.request() as slot:
            yield slot
            self.max_threads = max(self.max_threads, threads.count)
            yield self._env.timeout(self._rng.uniform(*self._system.storage))
        self._call_soon(lambda: self._writing(upload))

    def _writing(self, upload: Upload) -> Step:
        yield from self._database(self._system.write)
        self._answers.append(upload)

    def _database(self, seconds: float) -> Step:
        """A synchronous stage: the loop waits with it."""
        with self._pool.request() as connection:
            yield connection
            self.max_connections = max(self.max_connections, self._pool.count)
            yield self._env.timeout(seconds)


def simulate(
    system: System,
    users: int,
    seed: int = 1,
    ramp: float = 5.0,
    warmup: float = 60.0,
    window: float = 600.0,
) -> Result:
    """One trial of so many users; the same seed gives the same trial."""
    env, rng = simpy.Environment(), random.Random(f"{seed}/{users}")
    queue: AcceptQueue[Upload] = AcceptQueue(rng, system.lead)
    workers = [Worker(env, system, queue, rng, number) for number in range(system.workers)]
    start, end = ramp + warmup, ramp + warmup + window
    result = Result(window)

    def user(number: int) -> Step:
        yield env.timeout(ramp * number / users)
        while env.now < end:
            sent = env.now
            yield env.timeout(rng.uniform(0, NETWORK_S))
            upload = Upload(env)
            queue.arrive(upload)
            yield upload.answer
            if start <= sent < end:
                result.latencies.append(env.now - sent)
            result.answered += start <= env.now < end
            result.in_flight += max(0.0, min(env.now, end) - max(sent, start)) / window

    everybody = [env.process(user(number)) for number in range(users)]
    env.run(env.all_of(everybody))
    result.connections = max(worker.max_connections for worker in workers)
    result.busiest = tuple(worker.max_threads for worker in workers)
    return result


def share_slow(system: System, users: int, bound: float = 10.0, trials: int = 20) -> float:
    """The share of uploads that take ``bound`` seconds or longer, over trials of their own seeds.

    The p95 is below the bound exactly when this is below 5 %.
    """
    share, _ = _share([_slow(system, users, seed, bound) for seed in range(1, trials + 1)])
    return share


def is_slow(system: System, users: int, bound: float, tail: float, trials: int) -> bool:
    """Whether a share of ``tail`` or more take ``bound`` seconds or longer.

    It takes ``trials``, and up to `MAX_TIMES` times as many where the share is so near that its
    standard error leaves it open: twenty trials of 38 users of two executors put it at 5 % or
    more, give or take 0.3, three hundred at 4.73 % give or take 0.07.
    """
    counts: list[tuple[int, int]] = []
    while True:
        counts.append(_slow(system, users, len(counts) + 1, bound))
        share, error = _share(counts)
        enough = len(counts) >= trials and abs(share - tail) > SURE * error
        if enough or len(counts) >= MAX_TIMES * trials:
            return share >= tail


def threshold(system: System, bound: float = 10.0, tail: float = 0.05, trials: int = 20) -> int:
    """The most users with whom fewer than ``tail`` of the uploads take ``bound`` or longer.

    By halving, which takes that share for rising with the users; 0 where one already is too many.
    """
    holds, breaks = 0, 1
    while not is_slow(system, breaks, bound, tail, trials):
        holds, breaks = breaks, 2 * breaks
    while breaks - holds > 1:
        middle = (holds + breaks) // 2
        if is_slow(system, middle, bound, tail, trials):
            breaks = middle
        else:
            holds = middle
    return holds


def _slow(system: System, users: int, seed: int, bound: float) -> tuple[int, int]:
    """Of one trial: how many uploads were slow, and how many there were."""
    latencies = simulate(system, users, seed).latencies
    return sum(latency >= bound for latency in latencies), len(latencies)


def _share(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The share over trials, and its standard error from how the trials differ."""
    of = sum(n for _, n in counts)
    share = sum(slow for slow, _ in counts) / of
    return share, sqrt(sum((slow - share * n) ** 2 for slow, n in counts)) / of
