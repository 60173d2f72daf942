"""The middleware around the endpoints, from the outermost: timings, bodies, backpressure, rates.

``Server-Timing`` (W3C) has the milliseconds of each stage of a request, including a stage that
failed, so that an error shows where the time went. The same timings go to the worker's record
of what students ask for, which is written even if nobody waits for the answer any more.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.model.clock import from_wall
from lab.model.journeys import Journey
from lab.model.knobs import Knobs
from lab.model.problem import problem_cause
from lab.model.replica import HANDED_HEADER, REQUEST_HEADER, WORKER_HEADER
from lab.model.units import format_size
from lab.services.backend.core.evidence import Gauges
from lab.services.backend.core.problems import Problem, problem
from lab.services.backend.core.uploads import Timing, UploadLog
from lab.services.backend.settings import worker_number

LONGEST_ID = 128
"""Characters of a request's id that its record keeps; the generator's have a dozen."""

END_OF_TIME = 1e11
"""Seconds since 1970, in the year 5138, at which no proxy hands anything over any more."""

DRAIN_S = 5.0
"""Seconds that a refused client has to send the rest, under ``refuse: after_body``; the gateway's
figure, and nginx's (``lingering_timeout``). Of the wall clock: no ``speed`` hastens bytes."""

RETRY_AFTER_S = 5
"""Retry-After of an upload that backpressure refuses, in seconds: about one upload."""


class ServerTimingMiddleware:
    """Gives every request a `Timing` (``request.state.timing``) and sends it with the answer.

    So goes the number of the worker. The timings of a journey go to ``uploads`` as well, with its
    status and the cause of its failure.

    Args:
        journeys: by path, those that are recorded.
    """

    def __init__(self, app: ASGIApp, journeys: Mapping[str, Journey], uploads: UploadLog) -> None:
        self.app = app
        self._journeys = journeys
        self._uploads = uploads
        self._worker = str(worker_number())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request = headers.get(REQUEST_HEADER, "")[:LONGEST_ID]
        journey = self._journeys.get(scope["path"])
        handed = handed_at(headers.get(HANDED_HEADER, ""))
        _, peer = scope.get("client") or (None, None)
        timing = Timing(request, handed, journey or Journey.UPLOAD, peer)
        scope.setdefault("state", {})["timing"] = timing

        async def send_with_timing(message: Message) -> None:
            if message["type"] == "http.response.start":
                timing.status = message["status"]
                own = MutableHeaders(scope=message)
                own[WORKER_HEADER] = self._worker
                if timing.stages:
                    own["Server-Timing"] = timing.header()
            elif timing.status != HTTPStatus.OK:
                timing.cause = timing.cause or problem_cause(message.get("body", b""))
            if message["type"] == "http.response.body":
                # Not at its last part, which may be empty: the client has its answer by then.
                self._uploads.end(timing)
            await send(message)

        if journey is None:
            await self.app(scope, receive, send_with_timing)
            return
        with self._uploads.upload(timing):
            await self.app(scope, receive, send_with_timing)


def handed_at(header: str) -> float | None:
    """The moment of a proxy's header, on the monotonic clock; None where it said nothing.

    ``m=`` is of that clock; ``t=``, of the wall clock, is converted as of now. Whoever reaches the
    backend past its proxy may write anything there: what is no time is none.
    """
    clock, _, seconds = header.partition("=")
    try:
        at = float(seconds)
    except ValueError:
        return None
    if clock not in ("m", "t") or not 0 <= at < END_OF_TIME:
        return None
    return at if clock == "m" else from_wall(at)


class BackpressureMiddleware:
    """Counts uploads inside this worker and refuses those past the limit at once.

    It acts before the form is parsed, so a refused upload costs no memory; whether its body is
    read is `BodyMiddleware`'s.

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


class BodyMiddleware:
    """Limits the body of a request, and says when one that nobody read is answered.

    A server that answers before it has read the body, and closes the connection, resets it under
    whoever is still sending (RFC 9112, 9.6): nginx answers 502 then, and the refusal is lost.

    Args:
        limit: ``backend_body``, bytes; past it 413, by what has come and not only by what the
            request says of itself. None takes every size.
        drain_s: wall-clock seconds in which what a refused client still sends is read and thrown
            away before it is answered (``refuse: after_body``); 0 answers at once.
    """

    def __init__(self, app: ASGIApp, limit: int | None, drain_s: float) -> None:
        self.app = app
        self._limit = limit
        self._drain_s = drain_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = Body(receive, self._limit)

        async def send_when_read(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain_s:
                await body.drain(self._drain_s)
            await send(message)

        if body.too_large(declared(scope)):
            await body.refusal.response(scope, receive, send_when_read)
        else:
            await self.app(scope, body.receive, send_when_read)


def declared(scope: Scope) -> int:
    """The size that a request says its body has; 0 where it says none."""
    return int(Headers(scope=scope).get("content-length", 0))


class Body:
    """A request's body as it comes, up to a limit in bytes; None takes every size."""

    def __init__(self, receive: Receive, limit: int | None) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0
        self._whole = False

    def too_large(self, size: int) -> bool:
        """Whether a body of this size is refused."""
        return self._limit is not None and size > self._limit

    @property
    def refusal(self) -> Problem:
        """The answer to a body that is too large."""
        limit = format_size(self._limit or 0)
        what = f"the body is larger than {limit}"
        return Problem("upload_too_large", what, headers={"Connection": "close"})

    async def receive(self) -> Message:
        """The next part.

        Raises:
            Problem: ``upload_too_large``.
        """
        message = await self._next()
        if self.too_large(self._size):
            raise self.refusal
        return message

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)  # nor does more come from who has left
        return message

    async def drain(self, seconds: float) -> None:
        """Read what is left and throw it away, for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._whole:
                    await self._next()


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
