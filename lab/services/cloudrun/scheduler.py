"""Which request gets which instance, which must wait, and how many instances there are.

A request gets the oldest instance with a free place, so that the others may become idle. If
there is none it waits, first come first served, and is answered 429 when it has waited too
long. An instance is started when those that are starting cannot take all waiting requests;
the maximum limits the instances that start or serve.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from lab.model.knobs import Knobs
from lab.services.cloudrun.handle import InstanceHandle, InstanceState
from lab.services.cloudrun.instance import Address, Driver, Ended, EventLog
from lab.services.cloudrun.rules import (
    CLOSING,
    NO_INSTANCE,
    WILL_NOT_START,
    Refusal,
    backoff,
    longest_wait,
)

LIVING = InstanceState.STARTING, InstanceState.READY, InstanceState.STOPPING


class Refused(Exception):
    """There is no instance for this request; holds the answer that it gets."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class Lease:
    """A place at an instance, for one request.

    ``waited`` is how many seconds the request waited for it; ``cold`` is for how many of these
    the instance was starting.
    """

    def __init__(self, handle: InstanceHandle, waited: float, cold: float) -> None:
        self.instance = handle.name
        self.waited, self.cold = waited, cold
        self._handle: InstanceHandle | None = handle
        self.address: Address = handle.address
        self.ended: asyncio.Future[Ended] = handle.ended
        handle.take()

    def release(self) -> None:
        """Give the place back; safe to call twice."""
        handle, self._handle = self._handle, None
        if handle:
            handle.give_back()


@dataclass(eq=False)
class _Waiter:
    since: float
    lease: asyncio.Future[Lease]


class Scheduler:
    """The instances of a service and the requests that wait for one."""

    def __init__(self, knobs: Knobs, driver: Driver, log: EventLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._knobs, self._driver, self._log = knobs, driver, log
        self._queue: deque[_Waiter] = deque()
        self._instances: dict[InstanceHandle, asyncio.Task[None]] = {}
        self._starts: list[float] = []
        self._failures = 0
        self._made = 0
        self._retry: asyncio.TimerHandle | None = None
        self._closing = False
        self.stuck: list[str] = []

    def open(self) -> None:
        """Start the instances that are kept warm."""
        self.changed()

    async def close(self) -> None:
        """Refuse waiting and new requests, and end every instance in an orderly way."""
        self._closing = True
        self._forget_retry()
        for waiter in self._queue:
            waiter.lease.cancel()
        for handle in self._instances:
            handle.ask_to_stop()
        for result in await asyncio.gather(*self._instances.values(), return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def abort(self) -> None:
        """End every instance at once; `close` returns when that is done."""
        for life in self._instances.values():
            life.cancel()

    def reading(self) -> dict[str, object]:
        """Length of the queue, instances by state, and requests inside them."""
        in_flight = sum(handle.busy for handle in self._instances)
        states = {str(state): len(self._in(state)) for state in LIVING}
        return {"queue": len(self._queue), "in_flight": in_flight, **states}

    def usages(self) -> dict[str, Mapping[str, float]]:
        """By name, what the instances that are alive have used so far."""
        return {handle.name: used for handle in self._in(*LIVING) if (used := handle.usage())}

    async def look_whether_frozen(self) -> None:
        """Have each instance that is alive note whether others withhold its CPU."""
        looks = [handle.look_whether_frozen() for handle in self._in(*LIVING)]
        await asyncio.gather(*looks)

    async def acquire(self) -> Lease:
        """A place at an instance, as soon as there is one.

        A caller that is cancelled while it waits leaves nothing behind.

        Raises:
            Refused: there was none in time, or there will be none.
        """
        if self._closing:
            raise Refused(CLOSING)
        waiter = _Waiter(self._loop.time(), self._loop.create_future())
        self._queue.append(waiter)
        self.changed()
        try:
            await self._wait(waiter)
        except BaseException:
            self._give_up(waiter)
            raise
        return waiter.lease.result()

    async def _wait(self, waiter: _Waiter) -> None:
        while not waiter.lease.done():
            now = self._loop.time()
            ongoing = [now - handle.begun for handle in self._in(InstanceState.STARTING)]
            longest = longest_wait(self._knobs.cloudrun_pending, self._starts, ongoing)
            left = waiter.since + longest - now
            if left <= 0:
                raise Refused(WILL_NOT_START if self._failures else NO_INSTANCE)
            await asyncio.wait({waiter.lease}, timeout=left)
        if waiter.lease.cancelled():
            raise Refused(CLOSING)

    def _give_up(self, waiter: _Waiter) -> None:
        """Leave the queue, or give back what has just been granted."""
        if waiter in self._queue:
            self._queue.remove(waiter)
        if waiter.lease.done() and not waiter.lease.cancelled():
            waiter.lease.result().release()

    def _in(self, *states: InstanceState) -> list[InstanceHandle]:
        return [handle for handle in self._instances if handle.state in states]

    def changed(self) -> None:
        """Give free places to waiting requests, then start instances that are needed."""
        if self._closing:
            return
        for handle in self._in(InstanceState.READY):
            while handle.free and self._queue:
                waiter = self._queue.popleft()
                waited = self._loop.time() - waiter.since
                waiter.lease.set_result(Lease(handle, waited, handle.starting_after(waiter.since)))
        while self._needs_another():
            self._made += 1
            name = f"instance-{self._made}"
            handle = InstanceHandle(name, self._knobs, self._driver, self._log, self)
            self._instances[handle] = asyncio.create_task(self._live(handle))

    def _needs_another(self) -> bool:
        """Whether another instance should be started, and may be."""
        to_come = len(self._in(InstanceState.STARTING)) * self._knobs.cloudrun_concurrency
        too_few = self._serving() < self._knobs.cloudrun_min_instances
        may = self._serving() < self._knobs.cloudrun_max_instances and self._retry is None
        return may and (too_few or len(self._queue) > to_come)

    def _serving(self) -> int:
        """How many instances start or serve."""
        return len(self._in(InstanceState.STARTING, InstanceState.READY))

    async def _live(self, handle: InstanceHandle) -> None:
        try:
            await handle.live()
        finally:
            del self._instances[handle]
            if handle.stuck:
                self.stuck.append(handle.name)

    def started(self, handle: InstanceHandle) -> None:
        """A start-up has succeeded: it counts in the mean."""
        if handle.start_s is not None:
            self._starts.append(handle.start_s)
        self._failures = 0
        self._forget_retry()
        self.changed()

    def failed(self) -> None:
        """A start-up has failed: the next waits a while."""
        self._failures += 1
        self._forget_retry()
        if not self._closing:
            self._retry = self._loop.call_later(backoff(self._failures), self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.changed()

    def _forget_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
            self._retry = None

    def idle(self, handle: InstanceHandle) -> None:
        """End an instance that is not needed; those that are kept warm stay."""
        if self._serving() > self._knobs.cloudrun_min_instances:
            self._log.write("idle", instance=handle.name)
            handle.ask_to_stop()
