"""Who may ask, and what an answer allows a browser: before any page, and around each.

A request must name this page as its host, come from no other origin, and ask to read; all else is
answered 403. What is answered may load nothing but this page's own files, run no inline script, be
shown in no frame, and be read by no other page.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.model.local_page import OWN_SITE, READS, lowered, stranger

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page of this server may load: its own files, and nothing else."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer, but for those that it has of its own."""


def refusal(method: str, headers: MutableMapping[str, str], port: int) -> str | None:
    """Why a request is refused, in a line; None if it is answered.

    Args:
        method: as GET.
        headers: by name, whatever its case.
        port: where the page is served, on 127.0.0.1.
    """
    given = lowered(headers)
    if reason := stranger(given, port):
        return reason
    if method not in READS:
        return "this page changes nothing: it takes GET and HEAD only"
    if given.get("sec-fetch-site", "none") not in OWN_SITE:
        return "another page led here; type the address, or open it from a terminal"
    return None


class Guard:
    """An application behind its guard.

    Args:
        app: what answers.
        port: where it is served, on 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app, self._port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse; what is neither a request nor a start or an end is not taken."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(raw=list(message.setdefault("headers", [])))
                for name, value in HEADERS.items():
                    answer.setdefault(name, value)
                message["headers"] = answer.raw
            await send(message)

        given: Any = dict(Headers(scope=scope).items())
        app = self._app
        if (reason := refusal(scope["method"], given, self._port)) is not None:
            app = PlainTextResponse(reason, status_code=403)
        await app(scope, receive, guarded)
