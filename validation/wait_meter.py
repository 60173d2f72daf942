"""What an upload waits for, at each moment of its life in a simulation that knows everything.

Of a life
    event_loop, threads, pool, anyio_threads    is waiting: another upload has what it needs
    storage, database, cpu                      is service: what it takes when it is alone

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
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import simpy

Shares = Mapping[str, float]

EVENT_LOOP, POOL, THREADS, ANYIO = "event_loop", "pool", "threads", "anyio_threads"
STORAGE, DATABASE, CPU = "storage", "database", "cpu"
ACCEPT = "accept"
"""Waiting for whichever worker's event loop is first; no answer itself."""
WAITING = frozenset({EVENT_LOOP, POOL, THREADS, ANYIO, ACCEPT})


class Place(Protocol):
    """A worker, where uploads wait."""

    def holders(self, queue: str) -> Iterable[Upload]:
        """The uploads that have what those in a queue wait for."""

    @property
    def queues_for_threads(self) -> bool:
        """Whether uploads wait for a thread for their storage call."""


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
    worker: Place | None = None
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
    worker: Place | None
    stored: bool


class Meter:
    """Counts seconds of lives: for each queue, for what an upload in it waits at each moment."""

    def __init__(self, env: simpy.Environment, further_down: bool) -> None:
        self._env, self._further_down, self._last = env, further_down, 0.0
        self._sizes: dict[Queue, int] = defaultdict(int)
        self._totals: dict[Queue, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.workers: list[Place] = []

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

    def _at_worker(self, state: str, worker: Place, stored: bool) -> Shares:
        if self._further_down and not stored and worker.queues_for_threads:
            return {THREADS: 1.0}
        return counts_for(state, worker)


def counts_for(queue: str, worker: Place, path: frozenset[str] = frozenset()) -> Shares:
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
