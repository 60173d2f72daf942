"""What browsers are told of a page's changes: a stream of server-sent events for each of them.

    look, once a second at most ─> regions ─> those that have changed ─> every browser that listens

    event: regions   data: {"cells": "<h2>…", …}   id: <server>-<number of the last change>
    event: end       data: why nothing more comes
    : ping           by FastAPI, where nothing has changed for 15 s

A browser that comes back says which change it saw last (``Last-Event-ID``), and is told what has
changed since. While nobody listens, nothing is looked at.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from fastapi.sse import ServerSentEvent

from lab.web.render import regions
from lab.web.view import View

EVERY_S = 1.0
"""Seconds between two looks at a run's folder."""


class Live:
    """A page that changes.

    Args:
        look: how it stands now; called in a thread, by one at a time.
        every: seconds between two calls at least.
    """

    def __init__(self, look: Callable[[], View], every: float = EVERY_S) -> None:
        self._look, self._every = look, every
        self._server = secrets.token_hex(4)
        self._changes = asyncio.Condition()
        self._looking = asyncio.Lock()
        self._looked_at = -every
        self._regions: dict[str, tuple[int, str]] = {}
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self._over = ""
        self.listeners = 0
        self.view: View | None = None

    async def now(self) -> dict[str, str]:
        """All regions as they stand, looked at no more often than allowed."""
        await self._refresh()
        return {name: html for name, (_, html) in self._regions.items()}

    async def events(self, last_id: str | None = None) -> AsyncIterator[ServerSentEvent]:
        """What changes from now on, as long as somebody listens.

        Args:
            last_id: of the last event that the browser has seen; None of one that is new.
        """
        seen = self._seen(last_id)
        self.listeners += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep_looking())
        try:
            while True:
                await self._wait(seen)
                if changed := self._since(seen):
                    seen = self._number
                    number = f"{self._server}-{seen}"
                    yield ServerSentEvent(event="regions", data=changed, id=number)
                if self._over:
                    yield ServerSentEvent(event="end", data=self._over)
                    return
        finally:
            self.listeners -= 1

    async def _wait(self, seen: int) -> None:
        async with self._changes:
            await self._changes.wait_for(lambda: self._number > seen or self._over)

    async def end(self, why: str) -> None:
        """Look once more, tell everybody, and end their streams."""
        if self.listeners:
            self._looked_at = -self._every
            with suppress(Exception):
                await self._refresh()
        self._over = why
        async with self._changes:
            self._changes.notify_all()

    def _seen(self, last_id: str | None) -> int:
        server, _, number = (last_id or "").partition("-")
        known = server == self._server and number.isascii() and number.isdigit()
        return int(number) if known and int(number[:18]) <= self._number else 0

    def _since(self, seen: int) -> dict[str, str]:
        return {name: html for name, (number, html) in self._regions.items() if number > seen}

    async def _keep_looking(self) -> None:
        while self.listeners and not self._over:
            await self._refresh()
            await asyncio.sleep(self._every)

    async def _refresh(self) -> None:
        async with self._looking:
            if time.monotonic() - self._looked_at < self._every * 0.9:
                return
            self.view, html = await asyncio.to_thread(self._rendered)
            self._looked_at = time.monotonic()
            before = {name: text for name, (_, text) in self._regions.items()}
            if changed := {name for name in html if html[name] != before.get(name)}:
                self._number += 1
                self._regions |= {name: (self._number, html[name]) for name in changed}
                async with self._changes:
                    self._changes.notify_all()

    def _rendered(self) -> tuple[View, dict[str, str]]:
        try:
            view = self._look()
            return view, regions(view)
        except Exception as error:  # who looks on is told, and the next look may go well
            view = View("", problem=f"unexpected {type(error).__name__}: {error}")
            return view, regions(view)
