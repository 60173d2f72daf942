"""Server-Timing: the standard header, written in milliseconds, also of what failed."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from lab.load.upload import stages
from lab.services.backend.core.middleware import ServerTimingMiddleware, Timing


def test_a_stage_that_fails_is_timed_too_and_the_same_stage_adds_up() -> None:
    timing = Timing()
    with pytest.raises(ValueError, match="gave up"), timing.stage("auth"):
        raise ValueError("gave up")
    assert timing.stages["auth"] > 0
    timing.add("gcs", 1.25)
    timing.add("gcs", 0.5)
    assert timing.stages["gcs"] == 1.75


def test_the_header_is_read_back_as_it_was_measured() -> None:
    timing = Timing()
    timing.add("auth", 0.0501)
    timing.add("gcs", 3.5)
    assert timing.header() == "auth;dur=50.100, gcs;dur=3500.000"
    assert stages(timing.header(), speed=1) == {"auth": 0.0501, "gcs": 3.5}
    assert stages(timing.header(), speed=10) == {"auth": 0.501, "gcs": 35.0}


@pytest.mark.parametrize("timed", [True, False])
def test_each_request_has_a_timing_that_is_sent_where_it_holds_anything(timed: bool) -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if timed:
            scope["state"]["timing"].add("auth", 0.05)
        await send({"type": "http.response.start", "status": 503, "headers": []})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(ServerTimingMiddleware(app)({"type": "http"}, receive, send))
    expected = [(b"server-timing", b"auth;dur=50.000")] if timed else []
    assert list(sent[0]["headers"]) == expected
