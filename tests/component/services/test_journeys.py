"""What students ask for beside uploads: each endpoint of the service, on a database of a file."""

from __future__ import annotations

import io
import threading
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import requests

from lab.load.upload import stages
from lab.model.evidence import Cause
from lab.model.journeys import REQUESTS, Journey
from lab.model.problem import MEDIA_TYPE
from lab.model.replica import token
from lab.services.backend.database import Recording, StudentProgress
from lab.services.backend.services import conversion
from lab.stack.ports import HOST
from tests.component.services.conftest import BEARER, RECORDING, Serve, misbehaving, saying
from tests.live import wait_until

NOBODY = {"Authorization": f"Bearer {token(99)}"}
DOWN = f"http://{HOST}:1"
"""An address at which nothing listens."""

AUTHENTICATED = ["pool_wait", "auth", "release"]
STAGES = {
    Journey.ASSESS: [*AUTHENTICATED, "speech_queue", "speech", "pool_wait2", "write"],
    Journey.CONVERT: [*AUTHENTICATED, "convert_queue", "convert"],
    Journey.PROGRESS: [*AUTHENTICATED, "pool_wait2", "read"],
}


@pytest.mark.parametrize("journey", STAGES)
def test_a_journey_is_timed_by_stages_in_its_answer_and_in_its_record(
    serve: Serve, recogniser: str, journey: Journey
) -> None:
    service = serve(recogniser)
    answer = service.ask(journey)
    assert answer.status_code == 200
    assert list(stages(answer.headers["Server-Timing"], speed=1)) == STAGES[journey]
    [record] = service.records()
    assert (record["journey"], record["status"], record["cause"]) == (journey, 200, None)
    assert [stage for stage, _, _ in record["spans"]] == STAGES[journey]


@pytest.mark.parametrize("call", ["blocking", "threadpool"])
@pytest.mark.parametrize("journey", STAGES)
def test_queries_run_where_db_call_says(
    serve: Serve, recogniser: str, journey: Journey, call: str
) -> None:
    answer = serve(recogniser, db_call=call).ask(journey)
    queued = "anyio_queue" in stages(answer.headers["Server-Timing"], speed=1)
    assert queued == (call == "threadpool")


# Assessments.


def test_an_assessment_has_its_row_and_the_same_recording_the_same_score(
    serve: Serve, recogniser: str
) -> None:
    service = serve(recogniser)
    one, other = (service.ask(Journey.ASSESS).json() for _ in range(2))
    assert one["score"] == other["score"]
    assert 0 <= one["score"] <= 100
    assert one["assessment"] != other["assessment"]
    row = (0, one["score"])
    assert service.scores() == {one["assessment"]: row, other["assessment"]: row}


def _breaks_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"sco')


@pytest.mark.parametrize(
    ("does", "status", "detail"),
    [
        (saying(500, b"oops"), 502, "the speech service answered 500"),
        (saying(429, b"later"), 502, "the speech service answered 429"),
        (saying(200, b'{"points": 3}'), 502, "the speech service answered without a score"),
        (saying(200, b'["score"]'), 502, "the speech service answered without a score"),
        (saying(200, b"not JSON"), 502, "the speech service answered without a score"),
        (saying(200, b'{"score": NaN}'), 502, "the speech service answered with a score of nan"),
        (_breaks_off, 503, "the speech service refused, or broke off (ChunkedEncodingError)"),
        (lambda _: None, 503, "the speech service refused, or broke off (ConnectionError)"),
    ],
    ids=["500", "429", "no score", "no object", "no JSON", "NaN", "breaks off", "closes"],
)
def test_a_speech_service_that_fails_is_a_speech_error_and_leaves_no_row(
    serve: Serve, does: Callable[[BaseHTTPRequestHandler], None], status: int, detail: str
) -> None:
    with misbehaving(does) as url:
        service = serve(url)
        answer = service.ask(Journey.ASSESS)
    body = answer.json()
    assert (answer.status_code, body["cause"], body["detail"]) == (status, "speech_error", detail)
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert service.scores() == {}
    [record] = service.records()
    assert (record["status"], record["cause"]) == (status, "speech_error")
    assert record["spans"][-1][0] == "speech"


def test_one_that_is_down_is_told_at_once(serve: Serve) -> None:
    answer = serve(DOWN).ask(Journey.ASSESS)
    assert (answer.status_code, answer.json()["cause"]) == (503, "speech_error")
    assert "refused, or broke off (ConnectionError)" in answer.json()["detail"]


def test_one_that_is_silent_is_given_up_after_ten_seconds(serve: Serve) -> None:
    """A fifth of a second of the wall clock, at this speed."""
    told = threading.Event()

    def never(_handler: BaseHTTPRequestHandler) -> None:
        told.wait(30)

    with misbehaving(never) as url:
        answer = serve(url, speed=50).ask(Journey.ASSESS)
        told.set()
    assert (answer.status_code, answer.json()["cause"]) == (504, "speech_error")
    assert answer.json()["detail"] == "the speech service did not answer within 10 s"
    assert stages(answer.headers["Server-Timing"], speed=50)["speech"] == pytest.approx(10, abs=2.5)


@pytest.mark.knob("speech_threads")
def test_so_many_assessments_run_at_once_and_the_others_queue(serve: Serve) -> None:
    told = threading.Event()

    def later(handler: BaseHTTPRequestHandler) -> None:
        told.wait(30)
        saying(200, b'{"score": 50.5}')(handler)

    with misbehaving(later) as url, ThreadPoolExecutor(5) as pool:
        service = serve(url, speech_threads=3)
        gauges = service.app.state.speech._pool._gauges
        asked = [pool.submit(service.ask, Journey.ASSESS) for _ in range(5)]
        wait_until(lambda: (gauges.speech_busy, gauges.speech_queued) == (3, 2))
        told.set()
        assert {one.result().status_code for one in asked} == {200}
    assert (gauges.speech_busy, gauges.speech_queued, gauges.inflight) == (0, 0, 0)
    assert {score for _, score in service.scores().values()} == {50.5}


# Conversions.


def test_a_conversion_is_a_wav_file_of_16_khz(serve: Serve) -> None:
    service = serve(DOWN)
    answer = service.ask(Journey.CONVERT)
    assert answer.headers["Content-Type"] == "audio/wav"
    with wave.open(io.BytesIO(answer.content)) as of:
        assert (of.getframerate(), of.getnchannels(), of.getsampwidth()) == (16_000, 1, 2)
        assert of.getnframes() == pytest.approx(len(RECORDING) / 2, abs=30)
    assert (service.recordings(), service.scores()) == (0, {})


@pytest.mark.knob("convert_call", "audio_threads")
@pytest.mark.parametrize("call", ["blocking", "audio_pool"])
def test_it_runs_where_convert_call_says(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    threads: list[str] = []
    convert = conversion.to_16_khz

    def seen(content: bytes) -> bytes:
        threads.append(threading.current_thread().name)
        return convert(content)

    monkeypatch.setattr(conversion, "to_16_khz", seen)
    service = serve(DOWN, convert_call=call, audio_threads=1)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: service.ask(Journey.CONVERT), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    [thread] = set(threads)
    assert (thread == "audio_0") == (call == "audio_pool")
    queued = ["convert_queue" in answer.headers["Server-Timing"] for answer in answers]
    assert set(queued) == {call == "audio_pool"}


# Progress.


def test_progress_tells_the_count_and_the_last_ten(serve: Serve) -> None:
    service = serve(DOWN)
    assert service.ask(Journey.PROGRESS).json() == {"student": 0, "recordings": 0, "latest": []}
    moments = [datetime(2026, 1, 1, 0, 0, second) for second in range(12)]
    rows = [
        Recording(id=f"r{n}", student_id=0, object_name=f"o{n}", size=n, created_at=moment)
        for n, moment in enumerate(moments)
    ]
    service.add(*rows, Recording(id="other", student_id=1, object_name="o", size=1))
    with service.app.state.database.SessionLocal() as session:
        session.get(StudentProgress, 0).recordings = 12
        session.commit()
    told = service.ask(Journey.PROGRESS).json()
    assert told["recordings"] == 12
    assert [one["id"] for one in told["latest"]] == [f"r{n}" for n in range(11, 1, -1)]
    assert told["latest"][0] == {"id": "r11", "size": 11, "created_at": "2026-01-01T00:00:11"}


# Bad input.

TEXT = {"file": ("a.txt", b"text", "text/plain")}
CASES: dict[str, tuple[dict[str, Any], int, Cause]] = {
    "no token": ({"headers": {}}, 401, Cause.UNAUTHORIZED),
    "a token that nobody has": ({"headers": NOBODY}, 401, Cause.UNAUTHORIZED),
    "another scheme": ({"headers": {"Authorization": "Basic x"}}, 401, Cause.UNAUTHORIZED),
    "no body": ({"files": None}, 422, Cause.BAD_UPLOAD),
    "a form without the file": (
        {"files": {"other": ("a", b"x", "audio/wav")}},
        422,
        Cause.BAD_UPLOAD,
    ),
    "an empty file": ({"files": {"file": ("a", b"", "audio/wav")}}, 400, Cause.BAD_UPLOAD),
    "a wrong content type": ({"files": TEXT}, 415, Cause.BAD_UPLOAD),
    "no content type": ({"files": {"file": ("a", RECORDING)}}, 415, Cause.BAD_UPLOAD),
    "no WAV file": ({"files": {"file": ("a", b"x" * 99, "audio/wav")}}, 422, Cause.BAD_AUDIO),
}
OF_EACH = [
    *((journey, case) for journey in (Journey.ASSESS, Journey.CONVERT) for case in CASES),
    *((Journey.PROGRESS, case) for case in list(CASES)[:3]),
    (Journey.CONVERT, "a WAV file that is cut off in its header"),
]
CASES["a WAV file that is cut off in its header"] = (
    {"files": {"file": ("a", RECORDING[:30], "audio/wav")}},
    422,
    Cause.BAD_AUDIO,
)


@pytest.mark.parametrize(("journey", "case"), OF_EACH)
def test_bad_input_is_told_by_a_cause_of_its_own(
    serve: Serve, recogniser: str, journey: Journey, case: str
) -> None:
    request, status, cause = CASES[case]
    service = serve(recogniser)
    answer = service.ask(journey, **request)
    body = answer.json()
    assert (answer.status_code, body["cause"], body["status"]) == (status, cause, status)
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    assert (service.scores(), service.recordings()) == ({}, 0)
    [record] = service.records()
    assert (record["journey"], record["status"], record["cause"]) == (journey, status, cause)


@pytest.mark.parametrize(
    ("journey", "method"),
    [(Journey.ASSESS, "GET"), (Journey.CONVERT, "PUT"), (Journey.PROGRESS, "POST")],
)
def test_another_method_is_not_allowed(serve: Serve, journey: Journey, method: str) -> None:
    url = serve(DOWN).url + REQUESTS[journey].path
    answer = requests.request(method, url, headers=BEARER, timeout=10)
    assert (answer.status_code, answer.json()["cause"]) == (405, "method_not_allowed")
