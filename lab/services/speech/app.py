"""The speech service as an ASGI application: it takes a body as it comes, and keeps none of it.

So a hundred recordings at once take no more memory than one. The score is of the bytes: the same
recording has the same score, whichever process is asked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import blake2b
from typing import Any

from lab.model.speech import SPEECH_HEALTH_PATH, SPEECH_PATH

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = tuple[int, dict[str, Any]]

HEAD = 12
"""Bytes of a WAV file by which it is known: ``RIFF``, a length, ``WAVE``."""


async def application(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """The ASGI entry point."""
    status, body = await answer(scope["method"], scope["path"], receive)
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def answer(method: str, path: str, receive: Receive) -> Answer:
    """Status and body of the answer to a request."""
    known = {SPEECH_PATH: "POST", SPEECH_HEALTH_PATH: "GET"}
    if path not in known:
        return 404, {"error": f"there is no {path}"}
    if method != known[path]:
        return 405, {"error": f"{path} takes {known[path]}"}
    return await assess(receive) if path == SPEECH_PATH else (200, {"status": "ok"})


async def assess(receive: Receive) -> Answer:
    """The score of a WAV file, from 0 to 100 with one decimal."""
    head, digest = b"", blake2b(digest_size=2)
    more = True
    while more:
        message = await receive()
        block: bytes = message.get("body", b"")
        head += block[: HEAD - len(head)]
        digest.update(block)
        more = message.get("more_body", False)  # nor does more come of who has left
    if not head:
        return 400, {"error": "the body is empty"}
    if (head[:4], head[8:]) != (b"RIFF", b"WAVE"):
        return 415, {"error": "the body is no WAV file"}
    return 200, {"score": int.from_bytes(digest.digest(), "big") % 1001 / 10}
