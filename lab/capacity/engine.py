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

from array import array
from collections import deque
from heapq import heappop, heappush, heapreplace
from itertools import count
from math import inf
from typing import Any

from lab.capacity.network import REFUSAL, Network
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
    Draws,
    Rows,
    SimulatedInstance,
    SimulatedUpload,
    SimulatedWorker,
    Step,
)


class Engine:
    """One replication of a network with so many users."""

    def __init__(
        self, network: Network, users: int, seed: int, window: tuple[float, float], until: float
    ) -> None:
        self.network, (self.start, self.stop), self.until = network, window, until
        self._sending = users
        draws = Draws(network, users, seed)
        self._random, self._storage, self._turns = draws.uniform, draws.storage, draws.turns
        self._number = count()
        self._heap: list[tuple[float, int, Action, Any]] = []
        shared: list[SimulatedUpload] = []
        own = network.balance != "shared_socket"
        self.workers = [
            SimulatedWorker(number, network, [] if own else shared)
            for number in range(network.workers)
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
        self._patience: deque[SimulatedUpload] = deque()
        self._of_users: deque[SimulatedUpload] = deque()
        slowest = network.uplink + network.network + network.proxy_timeout
        self._users_leave = network.user_timeout < slowest
        self._gateway_queue: deque[SimulatedUpload] = deque()
        self._instances: list[SimulatedInstance] = []
        self._first = self._parse
        limits = network.max_inflight, network.global_limit, network.upload_limit
        if any(limit is not None for limit in limits):
            self._first = self._let_in
        self._begun: Step = self._query
        self._written: Step = self._write
        database = network.database
        self._before, self._after = network.cpu_before, network.cpu_after
        self._asking = database.checkout + database.auth + database.release
        self._writing = database.checkout + database.write
        self.rows: Rows = array("d")
        self.inside = [0.0] * network.workers
        if network.gateway:
            self._begin_gateway()

    def run(self, users: int) -> None:
        """Simulate until the window is over, or until all that was sent in it has ended."""
        for user in range(users):
            self._send(self.network.ramp * user / users, user)
        if self.network.proxy_timeout < inf:
            self._at(self.network.proxy_timeout, self._sweep_proxy, None)
        if self._users_leave:
            self._at(self.network.user_timeout, self._sweep_users, None)
        self._at(inf, self._sweep_users, None)  # so that there is always a next event
        heap, until = self._heap, self.until
        while self._sending and heap[0][0] < until:
            t, _, action, about = heappop(heap)
            action(t, about)
        for worker in self.workers:
            self.inside[worker.number] += worker.inflight * self.stop

    def _at(self, t: float, action: Action, about: Any) -> None:
        heappush(self._heap, (t, next(self._number), action, about))

    # Users and proxy.

    def _send(self, t: float, user: int) -> None:
        """A user sends at ``t``, or as soon after as a file of it is not too large."""
        network = self.network
        if network.oversize:
            t = self._refused_for_size(t, user)
        if t >= self.stop:
            self._sending -= 1
            return
        upload = SimulatedUpload(user, t)
        upload.handed = handed = t + network.uplink + network.network * next(self._random)
        heappush(self._heap, (handed, next(self._number), self._arrive_at_proxy, upload))

    def _refused_for_size(self, t: float, user: int) -> float:
        """When a user sends a file that is not too large, after those that are."""
        network = self.network
        while next(self._random) < network.oversize and t < self.stop:
            upload = SimulatedUpload(user, t)
            self._record(t + network.uplink, upload, OVERSIZE)
            t += network.uplink + self._pause(network.backoff)
        return t

    def _pause(self, span: tuple[float, float]) -> float:
        low, high = span
        return low if low == high else low + (high - low) * next(self._random)

    def _arrive_at_proxy(self, t: float, upload: SimulatedUpload) -> None:
        if self._at_proxy >= self.network.at_once:
            self._fail(t, upload, PROXY_FULL)
            return
        self._at_proxy += 1
        self._patience.append(upload)
        if self._users_leave:
            self._of_users.append(upload)
        self._arrive(t, upload)

    def _sweep_proxy(self, t: float, _about: None) -> None:
        """Whoever waits for the proxy's time-out is answered 504; look again when the next may."""
        self._sweep(t, self._patience, self.network.proxy_timeout, CUT_PROXY, self._sweep_proxy)

    def _sweep_users(self, t: float, _about: None) -> None:
        self._sweep(t, self._of_users, self.network.user_timeout, CUT_USER, self._sweep_users)

    def _sweep(
        self, t: float, line: deque[SimulatedUpload], patience: float, code: int, again: Action
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

    def _fail(self, t: float, upload: SimulatedUpload, code: int) -> None:
        """A user is told that it failed; its worker, if it has one, may go on with it."""
        if upload.over:
            return
        if code != PROXY_FULL:
            self._left_proxy(upload)
        upload.over = True
        self._record(t, upload, code)
        self._send(t + self._pause(self.network.backoff), upload.user)

    def _left_proxy(self, upload: SimulatedUpload) -> None:
        self._at_proxy -= 1
        if upload.worker is not None:
            upload.worker.proxied -= 1

    def _record(self, t: float, upload: SimulatedUpload, code: int) -> None:
        if self.start <= t < self.until:
            number = -1 if upload.worker is None else upload.worker.number
            row = t, t - upload.sent, upload.storage, number, code, upload.accept, upload.threads
            self.rows.extend((*row, upload.pool, upload.anyio, upload.gateway))

    # Who takes an upload.

    def _arrive_alone(self, t: float, upload: SimulatedUpload) -> None:
        worker = self.workers[0]
        worker.queue.append(upload)
        if worker.idle:
            self._wake(t, worker)

    def _arrive_shared(self, t: float, upload: SimulatedUpload) -> None:
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
                    if next(self._random) < lead:
                        chosen = worker
                        break
            else:
                chosen = idle[int(next(self._random) * len(idle))]
        self._wake(t, chosen)

    def _arrive_in_turn(self, t: float, upload: SimulatedUpload) -> None:
        self._hand(t, upload, self.workers[self._next_worker])
        self._next_worker = (self._next_worker + 1) % len(self.workers)

    def _arrive_at_fewest(self, t: float, upload: SimulatedUpload) -> None:
        """The worker with the fewest under way; of several the next in turn (nginx, least_conn)."""
        workers, first = self.workers, self._next_worker
        order = workers[first:] + workers[:first]
        chosen = min(order, key=lambda worker: worker.proxied)
        self._next_worker = (chosen.number + 1) % len(workers)
        self._hand(t, upload, chosen)

    def _hand(self, t: float, upload: SimulatedUpload, worker: SimulatedWorker) -> None:
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
            instance = SimulatedInstance(workers, 0.0 if number < gateway.warm else inf)
            self._instances.append(instance)
            for worker in workers:
                worker.instance = instance

    def _arrive_at_gateway(self, t: float, upload: SimulatedUpload) -> None:
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

    def _give_up(self, t: float, upload: SimulatedUpload) -> None:
        if upload.worker is None and not upload.over:
            self._fail(t, upload, NO_PLACE)

    # An event loop.

    def _wake(self, t: float, worker: SimulatedWorker) -> None:
        worker.idle = False
        self._loop(t, worker)

    def _loop(self, t: float, worker: SimulatedWorker) -> None:
        """Go on with a turn, and with further ones, until something else happens first."""
        heap = self._heap
        while True:
            for step, upload in worker.turn:
                t = step(t, worker, upload)
                if heap[0][0] < t:
                    heappush(heap, (t, next(self._number), self._loop, worker))
                    return
            if not self._next_turn(t, worker):
                worker.idle = True
                return

    def _next_turn(self, t: float, worker: SimulatedWorker) -> bool:
        """Make a turn of what is ready and of all that wait to be accepted; False: of nothing.

        Where nothing else is ready, turns that only read an upload's body follow at once.
        """
        items, queue, later = worker.ready, worker.queue, worker.later
        worker.turns += 1
        if later:
            if not items and not queue:
                worker.turns = min(later)
            items += later.pop(worker.turns, ())
        if queue:
            first = self._first
            number, counted = worker.number, t if t > self.start else self.start
            for upload in queue:
                if upload.worker is None:
                    upload.worker = worker
                    worker.proxied += 1
                upload.accept = t - upload.handed - upload.gateway
                items.append((first, upload))
            worker.inflight += len(queue)
            self.inside[number] -= len(queue) * counted
            queue.clear()
        if not items:
            return False
        worker.ready, worker.turn = [], iter(items)
        return True

    # The steps of an upload in its loop. Each returns when it has ended.

    def _let_in(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
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

    def _within(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> bool:
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

    def _parse(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """What is done for an upload itself; its body takes some more turns to be read."""
        due = worker.turns + next(self._turns)
        later, item = worker.later, (self._begun, upload)
        if due in later:
            later[due].append(item)
        else:
            later[due] = [item]
        return t + self._before

    def _query(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """In the loop, the session released: no other upload has a connection meanwhile."""
        if not worker.pool.idle:
            t = self._connect(t, worker, upload)
            if upload.code != OK:
                return self._end(t, worker, upload)
        return self._store(t + self._asking, worker, upload)

    def _write(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        if not worker.pool.idle:
            t = self._connect(t, worker, upload)
            if upload.code != OK:
                return self._end(t, worker, upload)
        return self._end(t + self._writing, worker, upload)

    def _connect(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """The connection that a worker uses from then on, or one for this query."""
        database = self.network.database
        if self.slots >= database.slots:
            upload.code = SLOTS
            return t + database.connect
        if database.pool_size:
            self.slots += 1
            worker.pool.idle = worker.pool.opened = 1
        return t + database.connect

    def _store(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
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

    def _stored(self, t: float, upload: SimulatedUpload) -> None:
        worker = upload.worker
        assert worker is not None  # noqa: S101 - it was inside one
        worker.ready.append((self._written, upload))
        if worker.idle:
            worker.idle = False
            self._loop(t, worker)

    def _end(self, t: float, worker: SimulatedWorker, upload: SimulatedUpload) -> float:
        """Answer: at once, for a transport writes to its socket when it is told to."""
        code, start, stop = upload.code, self.start, self.stop
        if code == OK:
            t += self._after
        worker.inflight -= 1
        self.inside[worker.number] += start if t < start else t if t < stop else stop
        if worker.instance is not None:
            self._at(t, self._leave, worker.instance)
        if upload.over:
            return t
        upload.over = True
        self._at_proxy -= 1
        worker.proxied -= 1
        if start <= t < self.until:
            self._record(t, upload, code)
        network = self.network
        self._send(t + self._pause(network.think if code == OK else network.backoff), upload.user)
        return t

    def _leave(self, t: float, instance: SimulatedInstance) -> None:
        instance.used -= 1
        self._assign(t, None)
