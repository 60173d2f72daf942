"""Rate limits: at most so many requests in any window, counted in this process alone.

Nothing is shared between workers, so N workers allow N times as much.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from starlette.requests import Request

from lab.model.knobs import Knobs


class RateLimiter:
    """A sliding log of request times by key.

    Args:
        key: what is counted together: an address, a user.
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
        """Count this request, unless it is one too many.

        Returns:
            Whether it is allowed, and ``limit``, ``remaining`` and ``retry_after`` (whole
            seconds until one more is allowed).
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
