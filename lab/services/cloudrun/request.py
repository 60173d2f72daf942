"""The way of a request: it waits for a place, is forwarded, and gets exactly one answer.

    arrives ──> queue ──place──> forwarded ──> the instance's answer
                 │ │                │  └──instance dies──> 503, or its connection is cut
                 │ └─too long─> 429 └──timeout──> 504; the instance goes on, its place is taken
                 └──client leaves──> nothing

The clock of ``cloudrun_timeout`` runs from the arrival.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from lab.model.knobs import Knobs
from lab.services.cloudrun.instance import Address, EventLog
from lab.services.cloudrun.rules import (
    INSTANCE_DIED,
    MALFORMED,
    REQUEST_TIMEOUT,
    TOO_LARGE,
    Refusal,
)
from lab.services.cloudrun.scheduler import Lease, Refused, Scheduler

LAST_WORDS_S = 0.5
"""Seconds in which data that a dead instance has sent may still arrive."""
DEATH_SHOWS_S = 1.0
"""Seconds within which the death that broke a connection becomes known."""


class BrokenError(Exception):
    """The instance's connection ended before its answer did."""


class ClientLeftError(Exception):
    """The client has left before its request was complete."""


class TooLargeError(Exception):
    """The request's body is larger than the platform accepts."""


class Call(Protocol):
    """A client's request, and the way to answer it."""

    def note_wait(self, queue: float, cold: float) -> None:
        """Add to its answer how long it waited, and how much of that for a start-up, in seconds."""

    async def interrupted(self) -> None:
        """Wait until the client leaves or its body proves too large, and raise that.

        Raises:
            ClientLeftError, TooLargeError
        """

    async def forward(self, address: Address) -> None:
        """Send it to an instance and its answer back, until the answer ends.

        The answer is read to its end even if the client no longer gets it.

        Raises:
            BrokenError: the instance's connection ended first.
            ClientLeftError, TooLargeError: the request cannot be sent whole.
        """

    async def refuse(self, refusal: Refusal) -> bool:
        """Answer it with this refusal, and drop what the instance sends from now on.

        If the instance's answer is under way, the client's connection is cut instead. If it
        was answered completely, nothing happens. Returns whether anything did.
        """


class Requests:
    """Serves requests from a scheduler's instances."""

    def __init__(self, knobs: Knobs, scheduler: Scheduler, log: EventLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._knobs, self._scheduler, self._log = knobs, scheduler, log
        self._forwarding: set[asyncio.Task[None]] = set()

    async def serve(self, call: Call) -> None:
        """Serve a request; returns once it is answered or its client has left."""
        begun = self._loop.time()
        lease = await self._place(call, begun)
        if lease is None:
            return
        call.note_wait(lease.waited, lease.cold)
        waited, cold = round(lease.waited, 6), round(lease.cold, 6)
        self._log.write("request_start", instance=lease.instance, waited=waited, cold=cold)
        work = asyncio.create_task(self._forward(call, lease))
        self._forwarding.add(work)
        work.add_done_callback(self._forwarding.discard)
        left = begun + self._knobs.cloudrun_timeout - self._loop.time()
        await asyncio.wait({work}, timeout=max(0.0, left))
        if work.done():
            work.result()
        else:
            await self._refuse(call, REQUEST_TIMEOUT, begun, lease.instance)

    async def _place(self, call: Call, begun: float) -> Lease | None:
        """A place at an instance; None if the request was answered or its client has left."""
        try:
            if lease := await self._wait(call):
                return lease
            await self._refuse(call, REQUEST_TIMEOUT, begun)
        except Refused as refused:
            await self._refuse(call, refused.refusal, begun)
        except TooLargeError:
            await self._refuse(call, TOO_LARGE, begun)
        except ClientLeftError:
            self._log.write("left", waited=round(self._loop.time() - begun, 6))
        return None

    async def _wait(self, call: Call) -> Lease | None:
        """Wait for a place, at most until the client leaves (raised) or the timeout (None)."""
        waiting = asyncio.create_task(self._scheduler.acquire())
        watching = asyncio.create_task(call.interrupted())
        try:
            await asyncio.wait(
                {waiting, watching},
                timeout=self._knobs.cloudrun_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            interrupted = watching.exception() if watching.done() else None
            watching.cancel()
            await _cancel(waiting)
        if not waiting.cancelled():
            return waiting.result()
        if interrupted:
            raise interrupted
        return None

    async def _refuse(
        self, call: Call, refusal: Refusal, begun: float, instance: str | None = None
    ) -> None:
        took = round(self._loop.time() - begun, 6)
        if instance is None:
            call.note_wait(took, 0.0)
        if await call.refuse(refusal):
            fields = {"instance": instance} if instance else {}
            self._log.write(
                "refused", cause=refusal.cause, status=refusal.status, took=took, **fields
            )

    async def _forward(self, call: Call, lease: Lease) -> None:
        """Forward it, and keep the place until the instance has finished with it."""
        begun = self._loop.time()
        how = "answered"
        try:
            await self._until_death(call, lease)
        except BrokenError:
            how = "broken"
            await asyncio.wait({lease.ended}, timeout=DEATH_SHOWS_S)
            refusal = INSTANCE_DIED if lease.ended.done() else MALFORMED
            await self._refuse(call, refusal, begun, lease.instance)
        except TooLargeError:
            how = "too_large"
            await self._refuse(call, TOO_LARGE, begun, lease.instance)
        except ClientLeftError:
            how = "left"
        finally:
            lease.release()
            took = round(self._loop.time() - begun, 6)
            self._log.write("request_end", instance=lease.instance, how=how, took=took)

    async def _until_death(self, call: Call, lease: Lease) -> None:
        """Forward it; a request that a dead instance leaves unanswered is broken."""
        work = asyncio.create_task(call.forward(lease.address))
        try:
            either: set[asyncio.Future[Any]] = {work, lease.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=LAST_WORDS_S)
            if not work.done():
                raise BrokenError
            work.result()
        finally:
            await _cancel(work)

    async def close(self) -> None:
        """Wait until nothing is being forwarded."""
        while self._forwarding:
            await asyncio.wait(set(self._forwarding))


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; its result or error is ignored."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
