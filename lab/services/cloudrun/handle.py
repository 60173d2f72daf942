"""The life of an instance, as the service sees it.

    starting ──listens──> ready ──idle, or asked──> stopping ──> ended
        │                      └──probes fail───────> killed ────┤
        └────dies, or never listens────┴──dies───────────────────┘

It has CPU only while it starts, serves, is probed or stops: request-based billing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any, Protocol

from lab.model.knobs import Knobs
from lab.services.cloudrun.instance import Address, Driver, DriverError, Ended, EventLog, Instance
from lab.services.cloudrun.rules import (
    BOOST_AFTER_S,
    KILL_WITHIN_S,
    PROBE_EVERY_S,
    STARTUP_PROBE_S,
    TERM_GRACE_S,
    boosted,
)


class InstanceState(StrEnum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    ENDED = "ended"


class InstanceOwner(Protocol):
    """What is notified of the events in an instance's life."""

    def started(self, handle: InstanceHandle) -> None:
        """It listens now."""

    def failed(self) -> None:
        """It will never listen."""

    def changed(self) -> None:
        """It has become able, or unable, to take a request."""

    def idle(self, handle: InstanceHandle) -> None:
        """It has been without requests for ``cloudrun_idle``."""


class InstanceHandle:
    """An instance, and what is known of it; its owner runs `live` in a task of its own.

    ``busy`` is how many requests are inside it; ``begun`` when its start began, in seconds of
    the loop's clock; ``start_s`` how many seconds it took to listen, None before it does.
    ``stuck`` is whether it could not be ended or removed.
    """

    def __init__(
        self, name: str, knobs: Knobs, driver: Driver, log: EventLog, owner: InstanceOwner
    ) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.state = InstanceState.STARTING
        self.busy = 0
        self.begun = loop.time()
        self.start_s: float | None = None
        self.stuck = False
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self._loop, self._knobs, self._driver, self._log = loop, knobs, driver, log
        self._owner = owner
        self._instance: Instance | None = None
        self._made_s = 0.0
        self._stop_asked = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._withheld = False
        self._probing, self._silent = False, False
        self._switches = 0
        self._frozen, self._suspected = False, ""
        self._switching: asyncio.Task[None] | None = None

    @property
    def free(self) -> bool:
        """Whether it can take another request now."""
        ready = self.state is InstanceState.READY
        return ready and self.busy < self._knobs.cloudrun_concurrency

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
        """What it has used so far; empty before it is made."""
        return self._instance.usage() if self._instance else {}

    async def look_whether_frozen(self) -> None:
        """Note, once, that others withhold its CPU: what two looks in a row have found.

        The service itself must not withhold it then, nor be about to, nor have just done so.
        """
        suspected, switches = self._suspected, self._switches
        self._suspected = ""
        if self._instance is None or self._withheld or self._is_switching or self._frozen:
            return
        with suppress(DriverError):
            self._suspected = await self._instance.withheld()
        if self._is_switching or switches != self._switches:
            self._suspected = ""
        if suspected and self._suspected:
            self._frozen = True
            self._note("frozen", why=self._suspected, during=str(self.state))

    @property
    def _is_switching(self) -> bool:
        return self._switching is not None and not self._switching.done()

    def starting_after(self, moment: float) -> float:
        """How many seconds after ``moment`` it was still starting; 0 if it listened by then."""
        ready = self.begun + (self.start_s or 0.0)
        return max(0.0, ready - max(moment, self.begun))

    def take(self) -> None:
        """Count a request more."""
        self.busy += 1
        self._stop_idle_timer()
        self._switch()

    def give_back(self) -> None:
        """Count a request less."""
        self.busy -= 1
        self._owner.changed()  # may fill the place at once, so that CPU is not withheld
        self._rest()

    def ask_to_stop(self) -> None:
        """End it in an orderly way, without further requests; `live` returns after that."""
        self._stop_asked.set()
        if self.state is InstanceState.READY:
            self.state = InstanceState.STOPPING

    async def live(self) -> None:
        """Its whole life, until all that it used is removed."""
        self._note("starting")
        cpus = self._knobs.cloudrun_cpus
        dying: asyncio.Task[Ended] | None = None
        try:
            self._instance = await self._driver.start(
                self.name, boosted(cpus) if self._knobs.cloudrun_boost == "on" else cpus
            )
            self._made_s = self._loop.time() - self.begun
            dying = asyncio.create_task(self._instance.ended())
            dying.add_done_callback(self._note_end)
            if await self._became_ready(dying):
                await self._serve(dying)
            if not dying.done():
                await self._stop(dying)
        except DriverError as error:
            if self.state is InstanceState.STARTING:
                self._fail(str(error))
            else:
                self._note("stuck", why=str(error))
        finally:
            if dying:
                dying.cancel()
            self._end(Ended(None))
            await self._remove()

    async def _became_ready(self, dying: asyncio.Task[Ended]) -> bool:
        """Whether it listened in time, before it died or was asked to stop."""
        deadline = self.begun + STARTUP_PROBE_S
        while not dying.done() and not self._stop_asked.is_set():
            if await self._running.listening():
                return True
            if self._loop.time() >= deadline:
                self._fail(f"it did not listen within {STARTUP_PROBE_S:.0f} s")
                return False
            await asyncio.wait({dying}, timeout=PROBE_EVERY_S)
        return False

    def _fail(self, why: str) -> None:
        """It will never serve; its owner is notified before another is started."""
        self._note("start_failed", why=why)
        self._owner.failed()

    async def _serve(self, dying: asyncio.Task[Ended]) -> None:
        """Be ready until it dies, is asked to stop, or does not answer its probes."""
        self.start_s = self._loop.time() - self.begun
        self.state = InstanceState.READY
        self._note("ready", start_s=round(self.start_s, 6), made_s=round(self._made_s, 6))
        self._owner.started(self)
        self._rest()
        boost = asyncio.create_task(self._end_boost())
        ends: list[asyncio.Task[Any]] = [asyncio.create_task(self._stop_asked.wait())]
        if self._knobs.health_probe is not None:
            ends.append(asyncio.create_task(self._probe(self._knobs.health_probe)))
        try:
            await asyncio.wait({dying, *ends}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (*ends, boost):
                end.cancel()

    async def _probe(self, period: float) -> None:
        """Ask for its health every ``period`` seconds until too many probes in a row have failed.

        It has CPU while it is asked ("CPU is allocated for every probe"), and is not kept from
        becoming idle.
        """
        failures, why, knobs, due = 0, "", self._knobs, self._loop.time() + period
        while failures < knobs.health_failures:
            await asyncio.sleep(due - self._loop.time())
            due += period
            why = await self._asked_for_health(knobs.health_timeout)
            failures = failures + 1 if why else 0
            if why:
                self._note("probe_failed", why=why, in_row=failures)
        self._silent = True
        self._note("probe_ended", why=why, in_row=failures)

    async def _asked_for_health(self, within: float) -> str:
        self._probing = True
        self._switch()
        try:
            if self._switching:
                await asyncio.shield(self._switching)
            return await self._running.health(within)
        finally:
            self._probing = False
            self._switch()

    async def _end_boost(self) -> None:
        if self._knobs.cloudrun_boost == "on":
            await asyncio.sleep(BOOST_AFTER_S)
            await self._running.set_cpus(self._knobs.cloudrun_cpus)

    async def _stop(self, dying: asyncio.Task[Ended]) -> None:
        """Send SIGTERM, with CPU to act on it, and SIGKILL if it still runs 10 s later.

        One that does not answer its probes gets SIGKILL at once ("Configure container health
        checks for services").
        """
        instance = self._running
        self.state = InstanceState.STOPPING
        self._stop_idle_timer()
        self._owner.changed()
        self._switch()
        if self._switching:
            await self._switching
        ways = (
            ("sigterm", instance.terminate, TERM_GRACE_S),
            ("sigkill", instance.kill, KILL_WITHIN_S),
        )
        for event, send, grace in ways[self._silent :]:
            self._note(event)
            await send()
            await asyncio.wait({dying}, timeout=grace)
            if dying.done():
                return
        self._note("stuck", why="SIGKILL did not end it")
        self.stuck = True

    def _note_end(self, dying: asyncio.Task[Ended]) -> None:
        """At the moment of its end, wake the requests that wait for its answer."""
        if dying.cancelled():
            return
        ended, state = dying.result(), self.state
        event = "oom" if ended.oom else "stopped" if state is InstanceState.STOPPING else "died"
        self._note(event, why=str(ended), during=str(state), **self._running.usage())
        if state is InstanceState.STARTING and not self._stop_asked.is_set():
            self._fail(f"it ended before it listened: {ended}")
        self._end(ended)

    def _end(self, ended: Ended) -> None:
        if not self.ended.done():
            self.state = InstanceState.ENDED
            self._stop_idle_timer()
            self.ended.set_result(ended)
            self._owner.changed()

    async def _remove(self) -> None:
        if self._instance is None:
            return
        try:
            await self._instance.remove()
            self._note("removed")
        except DriverError as error:
            self.stuck = True
            self._note("stuck", why=str(error))

    def _rest(self) -> None:
        """If it has no request, withhold its CPU and start the time until it is idle."""
        if self.state is InstanceState.READY and not self.busy:
            self._stop_idle_timer()
            idle = self._knobs.cloudrun_idle
            self._idle_timer = self._loop.call_later(idle, self._owner.idle, self)
            self._switch()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _switch(self) -> None:
        """Give or withhold CPU as it should be; changes follow each other and never overlap."""
        if not self._is_switching:
            self._switching = asyncio.create_task(self._switch_cpu())

    async def _switch_cpu(self) -> None:
        instance = self._running
        while self.state is not InstanceState.ENDED:
            rests = self.state is InstanceState.READY and not self.busy
            withhold = rests and not self._probing
            if withhold == self._withheld:
                return
            try:
                await (instance.pause() if withhold else instance.resume())
            except DriverError as error:
                self._note("stuck", why=str(error))
                await instance.kill()
                return
            self._withheld = withhold
            self._switches += 1
            self._note("paused" if withhold else "resumed")

    def _note(self, event: str, **fields: object) -> None:
        self._log.write(event, instance=self.name, **fields)
