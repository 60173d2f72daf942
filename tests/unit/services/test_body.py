"""The middleware of bodies: how much is taken, and when who is refused unread is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from lab.services.backend.core.middleware import BodyMiddleware
from lab.services.backend.core.problems import Problem, problem

LIMIT = 10_000
NOTHING: Mapping[str, str] = MappingProxyType({})


class Exchange:
    """A client that sends these parts of a body, and the application that answers it.

    Args:
        parts: sizes in bytes; the client goes on for ever after the last, if it is ``endless``.
        reads: whether the application reads the body before it answers.
    """

    def __init__(
        self, *parts: int, reads: bool, endless: bool = False, leaves: bool = False
    ) -> None:
        self.parts, self.endless, self.leaves = list(parts), endless, leaves
        self.reads = reads
        self.taken = 0
        self.taken_before_answer: int | None = None
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.sleep(0)
        if not self.parts:
            if self.endless:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        size = self.parts.pop(0)
        self.taken += size
        more = bool(self.parts) or self.endless or self.leaves
        return {"type": "http.request", "body": b"x" * size, "more_body": more}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.taken_before_answer = self.taken
        self.sent.append(message)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = problem("overloaded", "a test")
        try:
            while self.reads and (await receive()).get("more_body"):
                pass
        except Problem as error:
            answer = error.response
        await answer(scope, receive, send)

    def run(
        self,
        *,
        drain_s: float = 0.0,
        limit: int | None = None,
        headers: Mapping[str, str] = NOTHING,
    ) -> Any:
        """The status of the answer."""
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        middleware = BodyMiddleware(self.app, limit, drain_s)
        asyncio.run(middleware({"type": "http", "headers": sent}, self.receive, self.send))
        return self.sent[0]["status"]


def test_before_the_body_a_refusal_reads_nothing() -> None:
    client = Exchange(100, 100, reads=False)
    assert client.run() == 503
    assert client.taken == 0


@pytest.mark.parametrize("leaves", [False, True])
def test_after_the_body_a_refusal_comes_once_all_is_read_or_the_client_has_left(
    leaves: bool,
) -> None:
    client = Exchange(100, 100, 50, reads=False, leaves=leaves)
    assert client.run(drain_s=5.0) == 503
    assert client.taken_before_answer == 250


def test_a_client_that_never_ends_is_answered_all_the_same() -> None:
    client = Exchange(100, reads=False, endless=True)
    assert client.run(drain_s=0.05) == 503
    assert client.taken_before_answer == 100


def test_what_was_read_is_answered_at_once() -> None:
    client = Exchange(100, 100, reads=True)
    assert client.run(drain_s=60.0) == 503


@pytest.mark.parametrize(
    ("parts", "said", "status", "taken"),
    [
        ((LIMIT,), {"content-length": str(LIMIT)}, 503, LIMIT),
        ((LIMIT + 1,), {"content-length": str(LIMIT + 1)}, 413, 0),  # by what it says
        ((4000, 4000, 4000, 4000), {}, 413, 12_000),  # by what came: nothing said
        ((4000, 4000, 4000, 4000), {"content-length": "5"}, 413, 12_000),  # said wrongly
        ((4000,), {}, 503, 4000),
    ],
)
def test_a_body_past_the_limit_is_refused_as_soon_as_that_is_known(
    parts: tuple[int, ...], said: dict[str, str], status: int, taken: int
) -> None:
    client = Exchange(*parts, reads=True)
    assert client.run(limit=LIMIT, headers=said) == status
    assert client.taken == taken
    closes = (b"connection", b"close") in client.sent[0]["headers"]
    assert closes == (status == 413)


def test_a_body_past_the_limit_is_drained_too_where_that_is_asked_for() -> None:
    client = Exchange(4000, 4000, 4000, 4000, reads=True)
    assert client.run(limit=LIMIT, drain_s=5.0) == 413
    assert client.taken_before_answer == 16_000


def test_without_a_limit_every_size_is_taken() -> None:
    client = Exchange(*[4000] * 1000, reads=True)
    assert client.run() == 503
    assert client.taken == 4_000_000
