"""A worker's records of its uploads: when each is written, and what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.model.journeys import OF_PATH, REQUESTS, Journey
from lab.model.replica import HANDED_HEADER, REQUEST_HEADER, UPLOAD_PATH
from lab.services.backend.core.middleware import LONGEST_ID, ServerTimingMiddleware, handed_at
from lab.services.backend.core.problems import STATUS, problem
from lab.services.backend.core.uploads import STANDING_S, Timing
from tests.unit.services.records import Clock, KeptLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ask(app: ASGIApp, log: KeptLog, path: str = UPLOAD_PATH, **sent: str) -> None:
    """A request with these headers, to the application within the middleware."""
    exchange(app, log, path, sent, lambda _: None)


def exchange(
    app: ASGIApp,
    log: KeptLog,
    path: str,
    sent: Mapping[str, str],
    heard: Callable[[Message], None],
) -> None:
    """The same; ``heard`` is given every part of the answer as it is sent."""
    headers = [(name.lower().encode(), value.encode()) for name, value in sent.items()]

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        heard(message)

    middleware = ServerTimingMiddleware(app, OF_PATH, log)
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(middleware(scope, receive, send))


def answering(status: int, *bodies: bytes) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


# When.


def test_an_upload_that_has_ended_is_written_once(clock: Clock) -> None:
    log, timing = KeptLog(), Timing("a", 99.5)
    with log.upload(timing):
        with timing.stage("auth"):
            clock.now += 0.05
        timing.status = 200
        assert log.taken() == []
    assert log.taken() == [
        {
            "at": 100.05,
            "request": "a",
            "handed": 99.5,
            "arrived": 100.0,
            "status": 200,
            "cause": None,
            "spans": [("auth", 100.0, 0.05)],
            "journey": "upload",
            "peer": None,
        }
    ]
    assert log.taken() == []
    assert log.taken(every=True) == []


@pytest.mark.parametrize("journey", Journey)
def test_whatever_is_asked_for_is_written_by_its_name(journey: Journey) -> None:
    log = KeptLog()
    ask(answering(200, b"{}"), log, REQUESTS[journey].path)
    [line] = log.taken()
    assert (line["journey"], line["status"]) == (journey, 200)


def test_it_is_written_before_any_of_its_answer_is_sent() -> None:
    """Whoever has all of the answer may freeze the process before its last, empty part is sent."""
    log = KeptLog()
    written: list[list[int]] = []

    def heard(message: Message) -> None:
        if message.get("body"):
            written.append([line["status"] for line in log.taken()])

    exchange(answering(200, b"a", b"b"), log, UPLOAD_PATH, {}, heard)
    assert written == [[200], []]


def test_an_upload_that_stands_in_a_stage_is_written_once_for_each(clock: Clock) -> None:
    log, timing = KeptLog(), Timing("a")
    with log.upload(timing):
        clock.now += STANDING_S / 2
        with timing.stage("pool_wait"):
            clock.now += STANDING_S - 0.01
            assert log.taken() == []  # it has not stood there for long enough
            clock.now += 0.01
            [line] = log.taken()
            assert line["status"] is None
            assert line["spans"] == [("pool_wait", 100.25, STANDING_S)]
            clock.now += 10
            assert log.taken() == []  # it still stands there: what was written is true
        timing.begin("gcs_queue")
        clock.now += STANDING_S
        [line] = log.taken()
        assert [stage for stage, _, _ in line["spans"]] == ["pool_wait", "gcs_queue"]
    [line] = log.taken()
    assert line["spans"][0] == ("pool_wait", 100.25, STANDING_S + 10)


def test_an_upload_that_waits_for_the_loop_after_a_stage_is_written_again(clock: Clock) -> None:
    log, timing = KeptLog(), Timing("a")
    with log.upload(timing):
        with timing.stage("gcs"):
            clock.now += 3
            assert len(log.taken()) == 1
        clock.now += STANDING_S
        [line] = log.taken()
        assert line["spans"] == [("gcs", 100.0, 3.0)]
        assert line["at"] == 103.5
        assert log.taken() == []


def test_an_upload_that_came_into_no_stage_stands_from_its_arrival(clock: Clock) -> None:
    log = KeptLog()
    with log.upload(Timing("a")):
        clock.now += STANDING_S - 0.01
        assert log.taken() == []
        clock.now += 0.01
        assert [line["spans"] for line in log.taken()] == [[]]


def test_the_last_call_records_all_that_are_inside(clock: Clock) -> None:
    log, standing, new = KeptLog(), Timing("standing"), Timing("new")
    with log.upload(standing), standing.stage("gcs"):
        clock.now += STANDING_S
        assert len(log.taken()) == 1
        with log.upload(new):
            lines = log.taken(every=True)
    assert [line["request"] for line in lines] == ["standing", "new"]
    assert [line["status"] for line in lines] == [None, None]


# What.


def test_a_stage_of_another_thread_is_ended_by_it_and_its_beginnings_are_on_the_monotonic_clock(
    clock: Clock,
) -> None:
    timing = Timing("a", None)
    clock.now += 1
    timing.begin("gcs_queue")
    clock.now += 2
    timing.end()
    with timing.stage("gcs"):
        clock.now += 0.5
        line = timing.line()
    assert line["spans"] == [("gcs_queue", 101.0, 2.0), ("gcs", 103.0, 0.5)]
    assert (line["at"], line["arrived"], line["handed"]) == (103.5, 100.0, None)
    assert json.loads(json.dumps(line))["spans"] == [["gcs_queue", 101, 2], ["gcs", 103, 0.5]]


@pytest.mark.parametrize(
    ("status", "bodies", "cause"),
    [
        (500, [b'{"cause": "db_error"}'], "db_error"),
        (429, [b'{"cause": "rate_limited"}', b"{}"], "rate_limited"),
        (200, [b'{"cause": "db_error"}'], None),  # a success has none, whatever it says
        (404, [b"not found"], None),
        (502, [b""], None),
    ],
)
def test_a_cause_is_that_of_the_problem_body(
    status: int, bodies: list[bytes], cause: str | None
) -> None:
    log = KeptLog()
    ask(answering(status, *bodies), log)
    [line] = log.taken()
    assert (line["status"], line["cause"]) == (status, cause)


@pytest.mark.parametrize("cause", STATUS)
def test_each_cause_that_the_service_names_is_read_from_its_problem(cause: str) -> None:
    log = KeptLog()
    ask(problem(cause, "as a test has it"), log)
    [line] = log.taken()
    assert (line["status"], line["cause"]) == (STATUS[cause], cause)


def test_an_exception_is_an_internal_error_which_starlette_answers_500() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ValueError("a defect")

    log = KeptLog()
    with pytest.raises(ValueError, match="a defect"):
        ask(app, log)
    [line] = log.taken()
    assert (line["status"], line["cause"]) == (500, "internal_error")


def test_an_exception_after_the_answer_leaves_what_was_answered() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answering(429, b'{"cause": "rate_limited"}')(scope, receive, send)
        raise ValueError("a defect")

    log = KeptLog()
    with pytest.raises(ValueError, match="a defect"):
        ask(app, log)
    [line] = log.taken()
    assert (line["status"], line["cause"]) == (429, "rate_limited")


def test_only_a_journey_is_recorded_with_what_its_headers_say() -> None:
    log, sent = KeptLog(), {REQUEST_HEADER: "r7", HANDED_HEADER: "m=99.125"}
    ask(answering(200), log, path="/elsewhere", **sent)
    assert log.taken() == []
    ask(answering(200), log, **sent)
    [line] = log.taken()
    assert (line["request"], line["handed"]) == ("r7", 99.125)
    ask(answering(200), log)
    [line] = log.taken()
    assert (line["request"], line["handed"]) == ("", None)


def test_an_id_is_kept_no_longer_than_any_of_the_generators_is() -> None:
    log = KeptLog()
    ask(answering(200), log, **{REQUEST_HEADER: "x" * 1_000_000})
    [line] = log.taken()
    assert line["request"] == "x" * LONGEST_ID


@pytest.mark.parametrize(
    ("header", "at"),
    [
        ("m=99.123", 99.123),
        ("t=1099.123", 99.123),  # of the wall clock, which is ahead
        ("m=nan", None),
        ("x=99.123", None),
        ("", None),
        ("t=", None),
        ("1700000000.123", None),
        ("t=yesterday", None),
        ("t=1,2", None),
        ("t=nan", None),
        ("t=inf", None),
        ("t=-1", None),
        ("t=1e308", None),
        ("t=99999999999", 99999999999.0),
        ("t=\x001", None),
    ],
)
@pytest.mark.usefixtures("clock")
def test_a_header_is_a_moment_of_the_monotonic_clock_or_says_nothing(
    header: str, at: float | None
) -> None:
    assert handed_at(header) == (None if at is None else pytest.approx(at))
