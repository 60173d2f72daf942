"""The replica's closed network once more, several times as fast as `validation.oracle`.

It goes by the oracle's rules and uses nothing of the lab's own code, nor of the lab's model: one
heap of events in the place of a simulation library, for a bench of many searches. And it has what
no model of the lab's has in it, so that a search by a model meets systems that it is wrong about:

    heavy     answers of storage are lognormal: a few take several times as long as most
    slow      one worker's loop takes longer for everything
    wander    the database is quicker and slower by turns, for tens of seconds

and `System.lead`, the leading share, may be beyond what a model thinks possible. All times are
real-world seconds. `tests.statistics.test_closed_loop` holds it against the oracle.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import exp, log, sqrt
from operator import itemgetter

from validation.oracle import NETWORK_S, System

WANDER_EVERY_S, WANDER_KEPT = 10.0, 0.8
"""How often the database's pace changes, and what is left of it then: it fades to 1/e in 45 s."""


@dataclass(frozen=True)
class Oddities:
    """What the lab's model does not know.

    Args:
        heavy: standard deviation of the logarithm of storage's answers; 0: they are uniform.
        slow: how many times as long one worker's loop takes; 1: as long as the others'.
        wander: standard deviation of the logarithm of the database's times, over time.
    """

    heavy: float = 0.0
    slow: float = 1.0
    wander: float = 0.0


USUAL = Oddities()


@dataclass
class Load:
    """The uploads that were sent in a window, in the order of their ends, and how the split was.

    Args:
        window: its length.
        sent: when each was, after the window's begin.
        latency: of each.
        storage: its own answer of storage.
        pace: what its times in the loop were multiplied by when it was written.
        inside: mean uploads inside each worker.
        busy: the share of the time in which each event loop worked.
        drain: from the window's end to the last answer.
    """

    window: float
    sent: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    storage: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    inside: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    drain: float = 0.0


class _Upload:
    __slots__ = ("sent", "stage", "storage", "taken")

    def __init__(self, sent: float) -> None:
        self.sent, self.taken, self.storage, self.stage = sent, 0.0, 0.0, 0


PARSE, AUTHENTICATE, WRITE = range(3)


class _Worker:
    __slots__ = ("busy", "free", "inside", "queue", "ready", "slow")

    def __init__(self, threads: int, slow: float) -> None:
        self.free, self.slow = threads, slow
        self.ready: list[tuple[float, _Upload]] = []
        self.queue: list[_Upload] = []
        self.inside = self.busy = 0.0


SEND, ARRIVE, TURNED, ASK, DONE, PACE = range(6)


class _Simulation:
    """One load; see `simulate`."""

    def __init__(self, system: System, odd: Oddities, rng: random.Random, window: _Window) -> None:
        self.system, self.odd, self.rng = system, odd, rng
        self.start, self.end = window
        slowed = [odd.slow, *([1.0] * (system.workers - 1))]
        self.workers = [_Worker(system.slots, slow) for slow in slowed]
        self.idle = list(range(system.workers))
        self.pending: list[_Upload] = []
        self.events: list[tuple[float, int, int, int, _Upload | None, list[_Upload]]] = []
        self.number = 0
        self.log_pace = rng.gauss(0, odd.wander) if odd.wander else 0.0
        self.pace = exp(self.log_pace)
        self.load = Load(self.end - self.start)
        self.last = self.end
        mean = log(sum(system.storage) / 2) - odd.heavy**2 / 2
        self.storage_law = (mean, odd.heavy) if odd.heavy else system.storage
        self.draw = rng.lognormvariate if odd.heavy else rng.uniform

    def push(
        self,
        at: float,
        kind: int,
        worker: int = 0,
        upload: _Upload | None = None,
        answers: list[_Upload] | None = None,
    ) -> None:
        """An event; of two at one moment the one that was made first comes first."""
        self.number += 1
        heappush(self.events, (at, self.number, kind, worker, upload, answers or []))

    def run(self, users: int, ramp: float) -> Load:
        """Until the last upload is answered."""
        for user in range(users):
            self.push(ramp * user / users, SEND)
        if self.odd.wander:
            self.push(WANDER_EVERY_S, PACE)
        events = self.events
        while events:
            at, _, kind, worker, upload, answers = heappop(events)
            if kind == SEND:
                self.send(at)
            elif kind == TURNED:
                self.turned(at, worker, answers)
            elif kind == PACE:
                self.change_pace(at)
            elif upload is None:
                raise AssertionError(f"an event of kind {kind} is of no upload")
            elif kind == ARRIVE:
                self.arrive(at, upload)
            elif kind == ASK:
                self.ask(at, worker, upload)
            else:
                self.done(at, worker, upload)
        load = self.load
        load.inside = [worker.inside / load.window for worker in self.workers]
        load.busy = [worker.busy / load.window for worker in self.workers]
        load.drain = self.last - self.end
        return load

    def send(self, at: float) -> None:
        if at < self.end:
            upload = _Upload(at)
            self.push(at + self.rng.random() * NETWORK_S, ARRIVE, 0, upload)

    def arrive(self, at: float, upload: _Upload) -> None:
        """One of the idle workers, by their numbers, is the first to accept."""
        self.pending.append(upload)
        if self.idle:
            chosen = self.idle[-1]
            for worker in self.idle[:-1]:
                if self.rng.random() < self.system.lead:
                    chosen = worker
                    break
            self.idle.remove(chosen)
            self.turn(at, chosen)

    def turn(self, at: float, number: int) -> None:
        """What is ready, and all that is to be accepted, one after the other."""
        worker, system = self.workers[number], self.system
        tasks = [upload for _, upload in sorted(worker.ready, key=itemgetter(0))]
        worker.ready = []
        if self.pending:
            for upload in self.pending:
                upload.taken = at
            tasks += self.pending
            self.pending = []
        now, slow, answers = at, worker.slow, []
        for upload in tasks:
            if upload.stage == PARSE:
                now += system.cpu * slow
                upload.stage = AUTHENTICATE
                worker.ready.append((now, upload))
                continue
            if upload.stage == AUTHENTICATE:
                now += (system.auth + system.release) * self.pace * slow
                upload.stage = WRITE
                if system.slots:
                    self.push(now, ASK, number, upload)
                    continue
                upload.storage = self.draw(*self.storage_law)
                now += upload.storage
            now += system.write * self.pace * slow
            answers.append(upload)
        worker.busy += max(0.0, min(now, self.end) - max(at, self.start))
        self.push(now, TURNED, number, None, answers)

    def turned(self, at: float, number: int, answers: list[_Upload]) -> None:
        """At a turn's end what was done in it is answered, and each user sends again."""
        worker, load = self.workers[number], self.load
        for upload in answers:
            worker.inside += max(0.0, min(at, self.end) - max(upload.taken, self.start))
            if self.start <= upload.sent < self.end:
                load.sent.append(upload.sent - self.start)
                load.latency.append(at - upload.sent)
                load.storage.append(upload.storage)
                load.pace.append(self.pace * worker.slow)
                self.last = max(self.last, at)
            self.send(at)
        if worker.ready or self.pending:
            self.turn(at, number)
        else:
            self.idle.append(number)
            self.idle.sort()

    def ask(self, at: float, number: int, upload: _Upload) -> None:
        """For a thread: first come, first served."""
        worker = self.workers[number]
        if worker.free:
            worker.free -= 1
            self.call(at, number, upload)
        else:
            worker.queue.append(upload)

    def call(self, at: float, number: int, upload: _Upload) -> None:
        upload.storage = self.draw(*self.storage_law)
        self.push(at + upload.storage, DONE, number, upload)

    def done(self, at: float, number: int, upload: _Upload) -> None:
        worker = self.workers[number]
        if worker.queue:
            self.call(at, number, worker.queue.pop(0))
        else:
            worker.free += 1
        worker.ready.append((at, upload))
        if number in self.idle:
            self.idle.remove(number)
            self.turn(at, number)

    def change_pace(self, at: float) -> None:
        """The database's pace goes on as an autoregressive process of the first order."""
        if at < self.last:
            new = sqrt(1 - WANDER_KEPT**2) * self.rng.gauss(0, self.odd.wander)
            self.log_pace = WANDER_KEPT * self.log_pace + new
            self.pace = exp(self.log_pace)
            self.push(at + WANDER_EVERY_S, PACE)


_Window = tuple[float, float]


def simulate(
    system: System,
    users: int,
    seed: str,
    *,
    ramp: float = 5.0,
    warmup: float = 60.0,
    window: float = 600.0,
    odd: Oddities = USUAL,
) -> Load:
    """One load of so many users; the same seed gives the same.

    Args:
        system: as the oracle has it; its pool of connections limits nothing here, for every query
            holds the loop.
        users: that send again as soon as they are answered.
        seed: of its chance.
        ramp: over which users begin, one after the other.
        warmup: after that, until the window.
        window: whose uploads count, each followed to its end.
        odd: what there is beside.
    """
    start = ramp + warmup
    simulation = _Simulation(system, odd, random.Random(seed), (start, start + window))
    return simulation.run(users, ramp)
