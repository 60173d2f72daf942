"""Backpressure: past ``max_inflight_uploads`` a worker says so at once.

It stands before the form is parsed, so a refused upload costs neither memory nor a read
of its body.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from lab.services.backend.core.gauges import Gauges
from lab.services.backend.core.problems import problem

RETRY_AFTER_S = 5
"""What a refused client is told to wait: about one upload."""


class BackpressureMiddleware:
    """Counts uploads inside this worker and refuses those past the limit (None: no limit)."""

    def __init__(self, app: ASGIApp, path: str, limit: int | None, gauges: Gauges) -> None:
        self.app = app
        self._path = path
        self._limit = limit
        self._gauges = gauges

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self.app(scope, receive, send)
        elif self._limit is not None and self._gauges.inflight >= self._limit:
            refusal = problem(
                "overloaded",
                f"this worker already has {self._limit} uploads in flight",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
            await refusal(scope, receive, send)
        else:
            with self._gauges.upload():
                await self.app(scope, receive, send)
