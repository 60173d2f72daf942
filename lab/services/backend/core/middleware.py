"""The middleware around the endpoints: timings outermost, then backpressure, then rate limits.

``Server-Timing`` (W3C) has the milliseconds of each stage of a request, including a stage that
failed, so that an error shows where the time went. The same timings go to the worker's record
of the upload, which is written even if nobody waits for the answer any more.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.model.clock import from_wall
from lab.model.knobs import Knobs
from lab.model.problem import problem_cause
from lab.model.replica import HANDED_HEADER, REQUEST_HEADER
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.problems import problem
from lab.services.backend.core.uploads import Timing, UploadLog

RETRY_AFTER_S = 5
"""Retry-After of an upload that backpressure refuses, in seconds: about one upload."""


class ServerTimingMiddleware:
    """Gives every request a `Timing` (``request.state.timing``) and sends it with the answer.

    An upload's goes to ``uploads`` as well, with its status and the cause of its failure.
    """

    def __init__(self, app: ASGIApp, path: str, uploads: UploadLog) -> None:
        self.app = app
        self._path = path
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        timing = Timing(headers.get(REQUEST_HEADER, ""), handed_at(headers.get(HANDED_HEADER, "")))
        scope.setdefault("state", {})["timing"] = timing

        async def send_with_timing(message: Message) -> None:
            if message["type"] == "http.response.start":
                timing.status = message["status"]
                if timing.stages:
                    MutableHeaders(scope=message)["Server-Timing"] = timing.header()
            elif timing.status != HTTPStatus.OK:
                timing.cause = timing.cause or problem_cause(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._uploads.end(timing)
            await send(message)

        if scope["path"] != self._path:
            await self.app(scope, receive, send_with_timing)
            return
        with self._uploads.upload(timing):
            await self.app(scope, receive, send_with_timing)


def handed_at(header: str) -> float | None:
    """The moment of a proxy's header, on the monotonic clock; None where it said nothing.

    ``m=`` is of that clock; ``t=``, of the wall clock, is converted as of now.
    """
    clock, _, seconds = header.partition("=")
    try:
        at = float(seconds)
    except ValueError:
        return None
    if not math.isfinite(at) or clock not in ("m", "t"):
        return None
    return at if clock == "m" else from_wall(at)


class BackpressureMiddleware:
    """Counts uploads inside this worker and refuses those past the limit at once.

    It acts before the form is parsed, so a refused upload costs neither memory nor a read
    of its body.

    Args:
        limit: ``max_inflight_uploads``; None refuses nothing.
    """

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


class RateLimiter:
    """Limits requests in any window, by a sliding log of request times for each key.

    It counts in this process only: workers share nothing, so N workers allow N times as much.

    Args:
        key: what requests are counted by, such as an address or a user.
        clock: monotonic seconds.
    """

    def __init__(
        self, key: Callable[[Request], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = key
        self._clock = clock
        self._hits: dict[str, deque[float]] = {}

    async def check_rate_limit(
        self, request: Request, max_requests: int, window_seconds: float
    ) -> tuple[bool, dict[str, int]]:
        """Count this request, unless it exceeds the limit.

        Returns:
            Whether it is allowed, and ``limit``, ``remaining`` and ``retry_after`` (whole
            seconds until another is allowed).
        """
        now = self._clock()
        hits = self._hits.setdefault(self._key(request), deque())
        while hits and hits[0] <= now - window_seconds:
            hits.popleft()
        allowed = len(hits) < max_requests
        if allowed:
            hits.append(now)
        retry_after = 0 if allowed else max(1, math.ceil(hits[0] + window_seconds - now))
        return allowed, {
            "limit": max_requests,
            "remaining": max_requests - len(hits),
            "retry_after": retry_after,
        }


def by_address(knobs: Knobs) -> Callable[[Request], str]:
    """The key of the global limit.

    ``peer`` is the TCP peer: behind nginx that is nginx, so all users share one bucket.
    ``forwarded`` is the last entry of X-Forwarded-For, the one that nginx itself added; it
    falls back to the peer where nginx sends none.
    """

    def peer(request: Request) -> str:
        return request.client.host if request.client else ""

    def forwarded(request: Request) -> str:
        entries = request.headers.get("x-forwarded-for", "").split(",")
        return entries[-1].strip() or peer(request)

    return forwarded if knobs.rate_limit_key == "forwarded" else peer


def by_user(request: Request) -> str:
    """The key of the upload limit: the bearer token, known before any query is made."""
    return request.headers.get("authorization", "")
