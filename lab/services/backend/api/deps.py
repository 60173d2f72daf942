"""What the endpoints of students share: the file and the token of a request, and their queries.

read_audio      the file, in memory              400 or 415, ``bad_upload``
bearer_token    of the Authorization header      401, ``unauthorized``
queries         where SQLAlchemy's synchronous calls run (db_call)
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, UploadFile
from fastapi.concurrency import run_in_threadpool

from lab.model.knobs import Knobs
from lab.services.backend.core.problems import Problem
from lab.services.backend.core.uploads import Timing

LONGEST_TYPE = 255
"""Characters of a media type and its parameters; its two names have 127 at most (RFC 6838, 4.2)."""

SHOWN = 80
"""Characters of a wrong media type that its answer repeats."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_PARAMETER = rf"{_NAME}=(?:{_NAME}|{_QUOTED})[ \t]*"
MEDIA_TYPE = re.compile(rf"audio/{_NAME}[ \t]*(?:;[ \t]*(?:{_PARAMETER})?)*", re.IGNORECASE)
"""``audio/subtype`` with parameters, as RFC 9110, 5.6.6 and 8.3.1, write it; ASCII alone.

Nothing is tried twice: blanks belong to what stands before them, so there is one way to split them.
"""

Query = Callable[..., Awaitable[Any]]


def queries(knobs: Knobs, timing: Timing) -> Query:
    """What makes a request's synchronous calls of the database, where ``db_call`` says."""
    return in_anyio_thread(timing) if knobs.db_call == "threadpool" else in_event_loop


async def in_event_loop(call: Callable[..., Any], *args: Any) -> Any:
    """``db_call: blocking``: a synchronous call directly from the coroutine, as found."""
    return call(*args)


def in_anyio_thread(timing: Timing) -> Query:
    """``db_call: threadpool``: a call in one of anyio's threads; the wait for one is a stage."""

    async def query(call: Callable[..., Any], *args: Any) -> Any:
        def in_thread() -> Any:
            timing.end()
            return call(*args)

        timing.begin("anyio_queue")
        return await run_in_threadpool(in_thread)

    return query


async def read_audio(file: UploadFile) -> bytes:
    """The whole file, in memory, as the report's code reads it.

    Raises:
        Problem: ``bad_upload``: no content type or not audio (415), or empty (400).
    """
    if not file.content_type:
        raise Problem("bad_upload", "the file has no content type; send it as audio/wav", 415)
    if not is_audio(file.content_type):
        shown = file.content_type[:SHOWN]
        raise Problem("bad_upload", f"{shown!r} is not audio/*; send a WAV file", 415)
    content = await file.read()
    if not content:
        raise Problem("bad_upload", "the file is empty; send a WAV file")
    return content


def is_audio(content_type: str) -> bool:
    """Whether a media type is well-formed, and audio, in any case (RFC 9110, 8.3.1).

    Storage gets it as it is, in a header of its own: what is not well-formed, it would fail of.
    """
    return len(content_type) <= LONGEST_TYPE and MEDIA_TYPE.fullmatch(content_type) is not None


def bearer_token(request: Request) -> str:
    """The token of the Authorization header.

    Raises:
        Problem: ``unauthorized``, without a query being made.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem("unauthorized", "send a header 'Authorization: Bearer <token>'")
    return token
