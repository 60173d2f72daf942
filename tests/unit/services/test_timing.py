"""Server-Timing: the standard header, written in milliseconds, also of what failed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from starlette.types import Message, Receive, Scope, Send

from lab.load.upload import stages
from lab.services.backend.core.middleware import ServerTimingMiddleware
from lab.services.backend.core.problems import Problem, cause_of
from lab.services.backend.core.uploads import Timing
from tests.unit.services.records import Clock, KeptLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_stage_that_fails_is_timed_too_and_the_same_stage_adds_up(clock: Clock) -> None:
    timing = Timing()

    def give_up_after(seconds: float) -> None:
        with timing.stage("auth"):
            clock.now += seconds
            raise ValueError("gave up")

    for seconds in (1.25, 0.5):
        with pytest.raises(ValueError, match="gave up"):
            give_up_after(seconds)
    assert timing.stages == {"auth": 1.75}


def test_a_cause_is_noted_when_the_upload_fails_not_when_it_is_answered() -> None:
    log, timing = KeptLog(), Timing("3-1")
    with log.upload(timing):
        with suppress(Problem), timing.failure(cause_of):
            raise Problem("pool_timeout", "gave up")
        [inside] = log.taken(every=True)
    assert (inside["cause"], inside["status"]) == ("pool_timeout", None)
    [ended] = log.taken()
    assert ended["cause"] == "pool_timeout"


@pytest.mark.parametrize(
    ("error", "status", "cause"),
    [(KeyError("x"), 500, "internal_error"), (asyncio.CancelledError(), None, None)],
)
def test_what_nobody_expects_is_answered_500_and_what_is_cancelled_is_not_answered(
    error: BaseException, status: int | None, cause: str | None
) -> None:
    log, timing = KeptLog(), Timing("3-1")
    with suppress(type(error)), log.upload(timing), timing.failure(cause_of):
        raise error
    [record] = log.taken()
    assert (record["status"], record["cause"]) == (status, cause)


def test_the_header_is_read_back_as_it_was_measured(clock: Clock) -> None:
    timing = Timing()
    timing.begin("gcs_queue")
    clock.now += 3.5
    timing.end()
    with timing.stage("gcs"):
        clock.now += 0.0501
        assert timing.header() == "gcs_queue;dur=3500.000"  # not the one under way
    assert timing.header() == "gcs_queue;dur=3500.000, gcs;dur=50.100"
    assert stages(timing.header(), speed=1) == {"gcs": 0.0501, "gcs_queue": 3.5}
    assert stages(timing.header(), speed=10) == {"gcs": 0.501, "gcs_queue": 35.0}


@pytest.mark.parametrize("timed", [True, False])
def test_each_request_has_a_timing_that_is_sent_where_it_holds_anything(
    timed: bool, clock: Clock
) -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        if timed:
            with scope["state"]["timing"].stage("auth"):
                clock.now += 0.05
        await send({"type": "http.response.start", "status": 503, "headers": []})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    request = {"type": "http", "path": "/health", "headers": []}
    asyncio.run(ServerTimingMiddleware(app, {}, KeptLog())(request, receive, send))
    expected = [(b"server-timing", b"auth;dur=50.000")] if timed else []
    assert list(sent[0]["headers"]) == expected
