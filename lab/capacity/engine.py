"""The discrete events of a closed network: who does what next, and when.

One heap of events, each a moment, a method and what it is about. A worker's event loop is
simulated turn by turn, as asyncio has it: what is ready when a turn begins is run one after the
other, and whatever is accepted meanwhile waits for the next turn; a worker that polls takes all
that wait in its queue. Storage's threads are first come, first served with known times, so when
one is free for an upload is known as it asks (Kiefer and Wolfowitz, 1955), and needs no event.

    arrive ─> [accept queue] ─turn─> parse ─turn─> query ─> storage ─turn─> write ─> answered

Where a session is held, or queries run in anyio's threads, `lab.capacity.jobs` has the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Any

import numpy as np

from lab.capacity.network import REFUSAL, Floats, Network
from lab.capacity.parts import (
    CUT_PROXY,
    CUT_USER,
    LIMITED,
    NO_PLACE,
    OK,
    OVERLOADED,
    OVERSIZE,
    PROXY_FULL,
    SLOTS,
    Action,
    Instance,
    Item,
    Step,
    Upload,
    Worker,
)

DRAWN = 4096
"""So many random numbers are drawn at once."""

REFUSED = 0.5
"""Of the time that a connection takes to open, the part after which the database refuses it."""


class Engine:
    """One replication of a network with so many users."""

    def __init__(self, network: Network, users: int, seed: int, start: float, stop: float) -> None:
        self.network, self.start, self.stop = network, start, stop
        numbers = np.random.default_rng((seed, users))
        self._random = _endless(lambda: numbers.random(DRAWN))
        self._storage = _endless(_drawing(network, numbers))
        self._chance = self._random.__next__
        self._number = count()
        self._heap: list[tuple[float, int, Action, Any]] = []
        shared: list[Upload] = []
        own = network.balance != "shared_socket"
        self.workers = [
            Worker(number, network, [] if own else shared) for number in range(network.workers)
        ]
        self._arrive: Action = {
            "shared_socket": self._arrive_shared if network.workers > 1 else self._arrive_alone,
            "round_robin": self._arrive_in_turn,
            "least_conn": self._arrive_at_fewest,
            "gateway": self._arrive_at_gateway,
        }[network.balance]
        self.slots = 0
        self._next_worker = 0
        self._at_proxy = 0
        self._patience: deque[Upload] = deque()
        self._of_users: deque[Upload] = deque()
        self._gateway_queue: deque[Upload] = deque()
        self._instances: list[Instance] = []
        self._first = self._parse
        limits = network.max_inflight, network.global_limit, network.upload_limit
        if any(limit is not None for limit in limits):
            self._first = self._let_in
        self._begun: Step = self._query
        self._written: Step = self._write
        database = network.database
        self._asking = database.checkout + database.auth + database.release
        self._writing = database.checkout + database.write
        self.rows: list[float] = []
        self.inside = [0.0] * network.workers
        if network.gateway:
            self._begin_gateway()

    def run(self, users: int) -> None:
        """Simulate until ``stop``."""
        for user in range(users):
            self._send(self.network.ramp * user / users, user)
        if self.network.proxy_timeout < inf:
            self._at(self.network.proxy_timeout, self._sweep_proxy, None)
        if self.network.user_timeout < inf:
            self._at(self.network.user_timeout, self._sweep_users, None)
        heap, stop = self._heap, self.stop
        while heap and heap[0][0] < stop:
            t, _, action, about = heappop(heap)
            action(t, about)
        for worker in self.workers:
            self.inside[worker.number] += worker.inflight * stop

    def _at(self, t: float, action: Action, about: Any) -> None:
        heappush(self._heap, (t, next(self._number), action, about))

    # Users and proxy.

    def _send(self, t: float, user: int) -> None:
        """A user sends at ``t``, or as soon after as a file of it is not too large."""
        network = self.network
        while network.oversize and self._chance() < network.oversize:
            t += network.uplink
            self._record(t, Upload(user, t - network.uplink), OVERSIZE)
            t += self._pause(network.backoff)
            if t >= self.stop:
                return
        upload = Upload(user, t)
        upload.handed = handed = t + network.uplink + network.network * next(self._random)
        heappush(self._heap, (handed, next(self._number), self._arrive_at_proxy, upload))

    def _pause(self, span: tuple[float, float]) -> float:
        low, high = span
        return low if low == high else low + (high - low) * next(self._random)

    def _arrive_at_proxy(self, t: float, upload: Upload) -> None:
        if self._at_proxy >= self.network.at_once:
            self._fail(t, upload, PROXY_FULL)
            return
        self._at_proxy += 1
        self._patience.append(upload)
        self._of_users.append(upload)
        self._arrive(t, upload)

    def _sweep_proxy(self, t: float, _about: None) -> None:
        """Whoever waits for the proxy's time-out is answered 504; look again when the next may."""
        self._sweep(t, self._patience, self.network.proxy_timeout, CUT_PROXY, self._sweep_proxy)

    def _sweep_users(self, t: float, _about: None) -> None:
        self._sweep(t, self._of_users, self.network.user_timeout, CUT_USER, self._sweep_users)

    def _sweep(
        self, t: float, line: deque[Upload], patience: float, code: int, again: Action
    ) -> None:
        while line:
            upload = line[0]
            begun = upload.handed if code == CUT_PROXY else upload.sent
            if not upload.over and begun + patience > t:
                self._at(begun + patience, again, None)
                return
            line.popleft()
            if not upload.over:
                self._fail(t, upload, code)
        self._at(t + patience, again, None)

    def _fail(self, t: float, upload: Upload, code: int) -> None:
        """A user is told that it failed; its worker, if it has one, may go on with it."""
        if upload.over:
            return
        if code != PROXY_FULL:
            self._left_proxy(upload)
        upload.over = True
        self._record(t, upload, code)
        self._send(t + self._pause(self.network.backoff), upload.user)

    def _left_proxy(self, upload: Upload) -> None:
        self._at_proxy -= 1
        if upload.worker is not None:
            upload.worker.proxied -= 1

    def _record(self, t: float, upload: Upload, code: int) -> None:
        if self.start <= t < self.stop:
            number = -1 if upload.worker is None else upload.worker.number
            self.rows += (
                *(t, t - upload.sent, upload.storage, number, code, upload.accept),
                *(upload.threads, upload.pool, upload.anyio, upload.gateway),
            )

    # Who takes an upload.

    def _arrive_alone(self, t: float, upload: Upload) -> None:
        worker = self.workers[0]
        worker.queue.append(upload)
        if worker.idle:
            self._wake(t, worker)

    def _arrive_shared(self, t: float, upload: Upload) -> None:
        """Of several that are idle one is first; who is busy takes all when it polls."""
        workers, lead = self.workers, self.network.lead
        workers[0].queue.append(upload)
        idle = [worker for worker in workers if worker.idle]
        if not idle:
            return
        chosen = idle[-1]
        if len(idle) > 1:
            if lead:
                for worker in idle[:-1]:
                    if self._chance() < lead:
                        chosen = worker
                        break
            else:
                chosen = idle[int(self._chance() * len(idle))]
        self._wake(t, chosen)

    def _arrive_in_turn(self, t: float, upload: Upload) -> None:
        self._hand(t, upload, self.workers[self._next_worker])
        self._next_worker = (self._next_worker + 1) % len(self.workers)

    def _arrive_at_fewest(self, t: float, upload: Upload) -> None:
        """The worker with the fewest under way; of several the next in turn (nginx, least_conn)."""
        workers, first = self.workers, self._next_worker
        order = workers[first:] + workers[:first]
        chosen = min(order, key=lambda worker: worker.proxied)
        self._next_worker = (chosen.number + 1) % len(workers)
        self._hand(t, upload, chosen)

    def _hand(self, t: float, upload: Upload, worker: Worker) -> None:
        """Pass an upload on to a worker that has a queue of its own."""
        upload.worker = worker
        worker.proxied += 1
        worker.queue.append(upload)
        if worker.idle:
            self._wake(t, worker)

    # Cloud Run: places at instances, and who waits for one.

    def _begin_gateway(self) -> None:
        gateway = self.network.gateway
        assert gateway is not None  # noqa: S101 - the caller has looked
        each = gateway.workers
        for number in range(gateway.instances):
            workers = self.workers[number * each : (number + 1) * each]
            instance = Instance(workers, 0.0 if number < gateway.warm else inf)
            self._instances.append(instance)
            for worker in workers:
                worker.instance = instance

    def _arrive_at_gateway(self, t: float, upload: Upload) -> None:
        gateway = self.network.gateway
        assert gateway is not None  # noqa: S101 - only a network with one comes here
        self._gateway_queue.append(upload)
        self._assign(t, None)
        if upload.worker is not None:
            return
        self._at(t + gateway.pending, self._give_up, upload)
        starting = sum(t < one.ready_at < inf for one in self._instances)
        cold = next((one for one in self._instances if one.ready_at == inf), None)
        waiting = len(self._gateway_queue)
        if cold is not None and starting * gateway.concurrency < waiting:
            cold.ready_at = t + gateway.start
            self._at(cold.ready_at, self._assign, None)

    def _assign(self, t: float, _about: None) -> None:
        """Places that are free to those who wait, the first first."""
        gateway, queue = self.network.gateway, self._gateway_queue
        assert gateway is not None  # noqa: S101 - only a network with one comes here
        for instance in self._instances:
            if instance.ready_at > t:
                continue
            while instance.used < gateway.concurrency and queue:
                upload = queue.popleft()
                if upload.over:
                    continue
                instance.used += 1
                upload.gateway = t - upload.handed
                self._hand(t, upload, min(instance.workers, key=lambda one: one.inflight))

    def _give_up(self, t: float, upload: Upload) -> None:
        if upload.worker is None and not upload.over:
            self._fail(t, upload, NO_PLACE)

    # An event loop.

    def _wake(self, t: float, worker: Worker) -> None:
        worker.idle = False
        self._loop(t, worker)

    def _loop(self, t: float, worker: Worker) -> None:
        """Go on with a turn, and with further ones, until something else happens first."""
        heap = self._heap
        while True:
            for step, upload in worker.turn:
                t = step(t, worker, upload)
                if heap and heap[0][0] < t:
                    heappush(heap, (t, next(self._number), self._loop, worker))
                    return
            items, queue = worker.ready, worker.queue
            if queue:
                first = self._first
                for upload in queue:
                    self._accept(t, worker, upload)
                    items.append((first, upload))
                queue.clear()
            elif not items:
                worker.idle = True
                return
            worker.ready = []
            worker.turn = iter(items)

    def _accept(self, t: float, worker: Worker, upload: Upload) -> None:
        if upload.worker is None:
            upload.worker = worker
            if not upload.over:
                worker.proxied += 1
        worker.inflight += 1
        self.inside[worker.number] -= max(t, self.start)
        upload.accept = t - upload.handed - upload.gateway

    def _soon(self, t: float, worker: Worker, item: Item) -> None:
        """Ready for the worker's next turn."""
        worker.ready.append(item)
        if worker.idle:
            worker.idle = False
            self._loop(t, worker)

    # The steps of an upload in its loop. Each returns when it has ended.

    def _let_in(self, t: float, worker: Worker, upload: Upload) -> float:
        """Backpressure and limits of rate, before anything of the body is read."""
        network = self.network
        limit = network.max_inflight
        code = OK
        if limit is not None and worker.inflight > limit:
            code = OVERLOADED
        elif not self._within(t, worker, upload):
            code = LIMITED
        if code == OK:
            return self._parse(t, worker, upload)
        t += REFUSAL * network.cpu_before
        upload.code = code
        return self._end(t, worker, upload)

    def _within(self, t: float, worker: Worker, upload: Upload) -> bool:
        network = self.network
        address = 0 if network.one_address else upload.user
        for limit, hits, key in (
            (network.global_limit, worker.hits, address),
            (network.upload_limit, worker.user_hits, upload.user),
        ):
            if limit is None:
                continue
            log = hits.setdefault(key, deque())
            while log and log[0] <= t - limit.per:
                log.popleft()
            if len(log) >= limit.count:
                return False
            log.append(t)
        return True

    def _parse(self, t: float, worker: Worker, upload: Upload) -> float:
        worker.ready.append((self._begun, upload))
        return t + self.network.cpu_before

    def _query(self, t: float, worker: Worker, upload: Upload) -> float:
        """In the loop, the session released: no other upload has a connection meanwhile."""
        if not worker.pool.idle:
            t = self._connect(t, worker, upload)
            if upload.code != OK:
                return self._end(t, worker, upload)
        return self._store(t + self._asking, worker, upload)

    def _write(self, t: float, worker: Worker, upload: Upload) -> float:
        if not worker.pool.idle:
            t = self._connect(t, worker, upload)
            if upload.code != OK:
                return self._end(t, worker, upload)
        return self._end(t + self._writing, worker, upload)

    def _connect(self, t: float, worker: Worker, upload: Upload) -> float:
        """The connection that a worker uses from then on, or one for this query."""
        database = self.network.database
        if self.slots >= database.slots:
            upload.code = SLOTS
            return t + REFUSED * database.connect
        if database.pool_size:
            self.slots += 1
            worker.pool.idle = worker.pool.opened = 1
        return t + database.connect

    def _store(self, t: float, worker: Worker, upload: Upload) -> float:
        """The storage call: in the loop, or in a thread as soon as one is free."""
        upload.storage = took = next(self._storage)
        if self.network.blocks_loop:
            return self._written(t + took, worker, upload)
        free = worker.free
        begun = free[0]
        if begun < t:
            begun = t
        else:
            upload.threads = begun - t
        ended = begun + took
        heapreplace(free, ended)
        heappush(self._heap, (ended, next(self._number), self._stored, upload))
        return t

    def _stored(self, t: float, upload: Upload) -> None:
        worker = upload.worker
        assert worker is not None  # noqa: S101 - it was inside one
        worker.ready.append((self._written, upload))
        if worker.idle:
            worker.idle = False
            self._loop(t, worker)

    def _end(self, t: float, worker: Worker, upload: Upload) -> float:
        """Answer: at once, for a transport writes to its socket when it is told to."""
        code = upload.code
        t += self.network.cpu_after if code == OK else 0.0
        worker.inflight -= 1
        self.inside[worker.number] += min(max(t, self.start), self.stop)
        if worker.instance is not None:
            self._at(t, self._leave, worker.instance)
        if upload.over:
            return t
        upload.over = True
        self._at_proxy -= 1
        worker.proxied -= 1
        self._record(t, upload, code)
        network = self.network
        self._send(t + self._pause(network.think if code == OK else network.backoff), upload.user)
        return t

    def _leave(self, t: float, instance: Instance) -> None:
        instance.used -= 1
        self._assign(t, None)


def _endless(draw: Callable[[], Floats]) -> Iterator[float]:
    while True:
        yield from draw().tolist()


def _drawing(network: Network, numbers: np.random.Generator) -> Callable[[], Floats]:
    """How storage's times are drawn: of measured ones, or uniformly."""
    storage = network.storage
    if isinstance(storage, tuple):
        low, high = storage
        return lambda: numbers.uniform(low, high, DRAWN)
    return lambda: numbers.choice(storage, DRAWN)
