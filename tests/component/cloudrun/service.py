"""A service of doubles, and requests to it, on virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lab.model.knobs import Knobs
from lab.services.cloudrun.instance import Address
from lab.services.cloudrun.request import BrokenError, ClientLeftError, Requests, TooLargeError
from lab.services.cloudrun.rules import Refusal
from lab.services.cloudrun.scheduler import Scheduler
from tests.component.cloudrun.double import Doubles, Plan
from tests.component.cloudrun.virtual import now


class ListLog:
    """Events in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, event: str, **fields: object) -> None:
        self.lines.append({"at": now(), "event": event, **fields})

    def of(self, *events: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] in events]

    def times(self, *events: str) -> list[tuple[float, str]]:
        return [(line["at"], line["event"]) for line in self.of(*events)]


class FakeCall:
    """A request that takes an instance ``takes`` seconds; ``answers`` are all that it was given.

    ``streams`` is when, after it was forwarded, the answer's first byte comes.
    """

    def __init__(self, driver: Doubles, takes: float, streams: float | None = None) -> None:
        self._driver, self._takes, self._streams = driver, takes, streams
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = self._deaf = False
        self.answers: list[tuple[float, str]] = []
        self.waits: list[tuple[float, float]] = []
        self.instance: str | None = None
        self.done_at: float | None = None

    def leave(self) -> None:
        """The client goes away."""
        self._over.set_exception(ClientLeftError())

    def grow(self) -> None:
        """The body passes the platform's limit."""
        self._over.set_exception(TooLargeError())

    def note_wait(self, queue: float, cold: float) -> None:
        self.waits.append((round(queue, 6), round(cold, 6)))

    async def interrupted(self) -> None:
        await asyncio.shield(self._over)

    async def forward(self, address: Address) -> None:
        instance = self._driver.at(address)
        self.instance = instance.name
        if self._streams is not None:
            await asyncio.sleep(self._streams)
            self._begun = not self._deaf
        work = asyncio.create_task(asyncio.sleep(self._takes - (self._streams or 0)))
        waited: set[asyncio.Future[Any]] = {work, instance.gone, self._over}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
        if self._over.done():
            self._over.result()
        if instance.gone.done():
            raise BrokenError
        assert not instance.paused, "an instance without CPU cannot answer"
        self.done_at = now()
        if not self._deaf:
            self.answers.append((now(), "200"))
            self._deaf = True

    async def refuse(self, refusal: Refusal) -> bool:
        if self._deaf:
            return False
        self._deaf = True
        how = "cut" if self._begun else f"{refusal.status} {refusal.cause}"
        self.answers.append((now(), how))
        return True


class Service:
    """A scheduler over doubles, and what came of the requests sent to it."""

    def __init__(self, settings: dict[str, Any], plans: Sequence[Plan] = (Plan(),)) -> None:
        self.knobs = Knobs().with_settings(settings)
        self.driver = Doubles(plans)
        self.log = ListLog()
        self.scheduler = Scheduler(self.knobs, self.driver, self.log)
        self.requests = Requests(self.knobs, self.scheduler, self.log)
        self.calls: list[FakeCall] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.scheduler.open()

    def send(self, takes: float = 1.0, streams: float | None = None) -> FakeCall:
        call = FakeCall(self.driver, takes, streams)
        self.calls.append(call)
        self._tasks.append(asyncio.create_task(self.requests.serve(call)))
        return call

    async def answered(self) -> None:
        """Wait until every request has been seen through."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        await self.scheduler.close()
        await self.requests.close()
        await self.answered()

    def outcomes(self) -> Counter[str]:
        return Counter(how for call in self.calls for _, how in call.answers)

    @property
    def first(self) -> list[tuple[float, str]]:
        """What the first instance was told."""
        return self.driver.made[0].told
