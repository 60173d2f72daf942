"""One instance through its life, as the service sees it.

    starting ──listens──> ready ──idle, or asked──> stopping ──> ended
        └────dies, or never listens────┴──dies──────────────────────┘

It has CPU while it starts, serves or stops, and at no other time: request-based billing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from lab.model.knobs import Knobs
from lab.services.cloudrun.events import Log
from lab.services.cloudrun.instance import Address, Driver, DriverError, Ended, Instance
from lab.services.cloudrun.rules import (
    BOOST_AFTER_S,
    KILL_WITHIN_S,
    PROBE_EVERY_S,
    STARTUP_PROBE_S,
    TERM_GRACE_S,
    boosted,
)


class State(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ENDED = "ended"


class InstanceOwner(Protocol):
    """Who is told of an instance's life."""

    def started(self, unit: InstanceHandle) -> None:
        """It listens."""

    def failed(self, unit: InstanceHandle) -> None:
        """It will never have listened."""

    def changed(self) -> None:
        """It has a place free, or has none any more."""

    def idle(self, unit: InstanceHandle) -> None:
        """It has been without requests for ``cloudrun_idle``."""


class InstanceHandle:
    """One instance, and what is known of it; its owner lets it `live` in a task of its own."""

    def __init__(
        self, name: str, knobs: Knobs, driver: Driver, log: Log, owner: InstanceOwner
    ) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.state = State.STARTING
        self.busy = 0
        self.begun = loop.time()
        self.start_s: float | None = None
        self._made_s = 0.0
        self.stuck = False
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self._loop, self._knobs, self._driver, self._log = loop, knobs, driver, log
        self._owner = owner
        self._instance: Instance | None = None
        self._asked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._withheld = False
        self._switching: asyncio.Task[None] | None = None

    @property
    def free(self) -> bool:
        """Whether it can take one more request now."""
        return self.state is State.READY and self.busy < self._knobs.cloudrun_concurrency

    @property
    def address(self) -> Address:
        """Where it serves."""
        return self._running.address

    @property
    def _running(self) -> Instance:
        if self._instance is None:
            raise DriverError(f"{self.name} has not been made yet")
        return self._instance

    def usage(self) -> Mapping[str, float]:
        """What it has used so far; nothing before it is made."""
        return self._instance.usage() if self._instance else {}

    def started_after(self, moment: float) -> float:
        """Seconds after ``moment`` for which it was starting; 0 where it listened by then."""
        ready = self.begun + (self.start_s or 0.0)
        return max(0.0, ready - max(moment, self.begun))

    def take(self) -> None:
        """One more request."""
        self.busy += 1
        self._stop_timer()
        self._switch()

    def give_back(self) -> None:
        """One request less."""
        self.busy -= 1
        self._owner.changed()  # may fill the place at once, and CPU goes on
        self._rest()

    def ask_to_stop(self) -> None:
        """End it in an orderly way and give it no more requests; `live` returns after that."""
        self._asked.set()
        if self.state is State.READY:
            self.state = State.STOPPING

    async def live(self) -> None:
        """The whole life, to the last thing it held."""
        self._log.write("starting", instance=self.name)
        dying: asyncio.Task[Ended] | None = None
        try:
            self._instance = await self._driver.start(self.name, self._cpus_at_start())
            self._made_s = self._loop.time() - self.begun
            dying = asyncio.create_task(self._instance.ended())
            dying.add_done_callback(self._note_end)
            if await self._became_ready(dying):
                await self._serve(dying)
            if not dying.done():
                await self._stop(dying)
        except DriverError as error:
            self._fail_or_stick(str(error))
        finally:
            if dying:
                dying.cancel()
            self._end(Ended(None))
            await self._remove()

    def _cpus_at_start(self) -> float:
        cpus = self._knobs.cloudrun_cpus
        return boosted(cpus) if self._knobs.cloudrun_boost == "on" else cpus

    async def _became_ready(self, dying: asyncio.Task[Ended]) -> bool:
        """Whether it listens in time, before it dies and before it is asked to stop."""
        deadline = self.begun + STARTUP_PROBE_S
        while not dying.done() and not self._asked.is_set():
            if await self._running.listening():
                return True
            if self._loop.time() >= deadline:
                self._fail(f"it did not listen within {STARTUP_PROBE_S:.0f} s")
                return False
            await asyncio.wait({dying}, timeout=PROBE_EVERY_S)
        return False

    def _fail(self, why: str) -> None:
        """It will never serve: say so before anybody starts another."""
        self._log.write("start_failed", instance=self.name, why=why)
        self._owner.failed(self)

    def _fail_or_stick(self, why: str) -> None:
        """The driver cannot do what it is asked."""
        if self.state is State.STARTING:
            self._fail(why)
        else:
            self._log.write("stuck", instance=self.name, why=why)

    async def _serve(self, dying: asyncio.Task[Ended]) -> None:
        """Be ready until it dies, or until it is asked to stop."""
        self.start_s = self._loop.time() - self.begun
        self.state = State.READY
        took = {"start_s": round(self.start_s, 6), "made_s": round(self._made_s, 6)}
        self._log.write("ready", instance=self.name, **took)
        self._owner.started(self)
        self._rest()
        boost = asyncio.create_task(self._end_boost())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({dying, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            boost.cancel()

    async def _end_boost(self) -> None:
        if self._knobs.cloudrun_boost == "on":
            await asyncio.sleep(BOOST_AFTER_S)
            await self._running.set_cpus(self._knobs.cloudrun_cpus)

    async def _stop(self, dying: asyncio.Task[Ended]) -> None:
        """SIGTERM with CPU to act on it; SIGKILL to what is still there 10 s later."""
        instance = self._running
        self.state = State.STOPPING
        self._stop_timer()
        self._owner.changed()
        self._switch()
        if self._switching:
            await self._switching
        for event, send, grace in (
            ("sigterm", instance.terminate, TERM_GRACE_S),
            ("sigkill", instance.kill, KILL_WITHIN_S),
        ):
            self._log.write(event, instance=self.name)
            await send()
            await asyncio.wait({dying}, timeout=grace)
            if dying.done():
                return
        self._log.write("stuck", instance=self.name, why="SIGKILL did not end it")
        self.stuck = True

    def _note_end(self, dying: asyncio.Task[Ended]) -> None:
        """At the moment of the end: tell those who wait for an answer from it."""
        if dying.cancelled():
            return
        ended = dying.result()
        event = "oom" if ended.oom else "stopped" if self.state is State.STOPPING else "died"
        was, usage = str(self.state), self._running.usage()
        self._log.write(event, instance=self.name, why=str(ended), during=was, **usage)
        if self.state is State.STARTING and not self._asked.is_set():
            self._fail(f"it ended before it listened: {ended}")
        self._end(ended)

    def _end(self, ended: Ended) -> None:
        if not self.ended.done():
            self.state = State.ENDED
            self._stop_timer()
            self.ended.set_result(ended)
            self._owner.changed()

    async def _remove(self) -> None:
        if self._instance is None:
            return
        try:
            await self._instance.remove()
            self._log.write("removed", instance=self.name)
        except DriverError as error:
            self.stuck = True
            self._log.write("stuck", instance=self.name, why=str(error))

    def _rest(self) -> None:
        """Without a request: CPU withheld, and the time until it is idle runs."""
        if self.state is State.READY and not self.busy:
            self._stop_timer()
            idle = self._knobs.cloudrun_idle
            self._timer = self._loop.call_later(idle, self._owner.idle, self)
            self._switch()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _switch(self) -> None:
        """See that CPU is given or withheld as it should be, one change after the other."""
        if self._switching is None or self._switching.done():
            self._switching = asyncio.create_task(self._switch_cpu())

    async def _switch_cpu(self) -> None:
        instance = self._running
        while self.state is not State.ENDED:
            withhold = self.state is State.READY and not self.busy
            if withhold == self._withheld:
                return
            try:
                await (instance.pause() if withhold else instance.resume())
            except DriverError as error:
                self._log.write("stuck", instance=self.name, why=str(error))
                await instance.kill()
                return
            self._withheld = withhold
            self._log.write("paused" if withhold else "resumed", instance=self.name)
