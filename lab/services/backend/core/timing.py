"""The stages of a request, and the standard header that carries them.

``Server-Timing`` (W3C) holds milliseconds; a stage that failed is in it too, so that an
error tells where the time went.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Timing:
    """Seconds by stage of one request."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    def add(self, stage: str, seconds: float) -> None:
        """Count ``seconds`` towards a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, also when it fails."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def header(self) -> str:
        """The value of ``Server-Timing``: ``auth;dur=50.1, gcs;dur=3500.2``."""
        return ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in self.stages.items())


class ServerTimingMiddleware:
    """Gives every request a `Timing` (``request.state.timing``) and sends it with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        timing = scope.setdefault("state", {})["timing"] = Timing()

        async def send_with_timing(message: Message) -> None:
            if message["type"] == "http.response.start" and timing.stages:
                MutableHeaders(scope=message)["Server-Timing"] = timing.header()
            await send(message)

        await self.app(scope, receive, send_with_timing)
