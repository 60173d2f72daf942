"""An event loop that knows how busy it is, and when it serves.

A loop is idle while its selector waits for something to happen, and busy the rest of the
time: running callbacks, and standing still in a call that blocks. That share is the direct
reading of how full the worker's one slot is; how late a beat comes (`Heartbeat`) only
tells that it was.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any

Events = list[tuple[selectors.SelectorKey, int]]


class IdleSelector(selectors.DefaultSelector):
    """The platform's selector, which counts the seconds that it waits.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._began = clock()
        self._waited = 0.0
        self._since: float | None = None

    def select(self, timeout: float | None = None) -> Events:
        """Wait as the platform's does, and count the wait."""
        self._since = since = self._clock()
        try:
            return super().select(timeout)
        finally:
            self._since = None
            self._waited += self._clock() - since

    def busy_s(self) -> float:
        """Seconds since the loop was made in which it did not wait; any thread may ask.

        Read without a lock: the loop's thread is not held up, and what is caught between two
        of its lines is off by the time that those take.
        """
        waited, since, now = self._waited, self._since, self._clock()
        return now - self._began - waited - (now - since if since is not None else 0.0)


class MeteredLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on Unix, with a selector that counts; ``uvicorn --loop`` takes it."""

    def __init__(self) -> None:
        self.meter = IdleSelector()
        self._serving = False
        self._then: list[Callable[[], None]] = []
        super().__init__(self.meter)

    def when_serving(self, call: Callable[[], None]) -> None:
        """Call this once a server listens; uvicorn's does only after the application's start."""
        if self._serving:
            call()
        else:
            self._then.append(call)

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen as asyncio's does, and say so."""
        server = await super().create_server(*args, **options)
        self._serving = True
        while self._then:
            self._then.pop(0)()
        return server
