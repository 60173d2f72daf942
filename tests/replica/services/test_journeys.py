"""What students ask for beside uploads, on a running replica: through nginx and the proxies."""

from __future__ import annotations

import io
import json
import wave
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from lab.config import read_faults
from lab.load.audio import voice, wav
from lab.load.upload import headers, multipart
from lab.model.evidence import Cause
from lab.model.journeys import REQUESTS, Journey
from lab.paths import ROOT
from lab.stack.base import Replica
from tests.live import PATIENCE_S, Live, left_behind, make_fault, timing, upload, wait_until

pytestmark = pytest.mark.replica

FAULTS = read_faults(ROOT / "faults")
RECORDING = wav(30_000, voice(seed=5))


def ask(
    url: str, journey: Journey, student: int = 0, content: bytes = RECORDING
) -> requests.Response:
    """A student's request."""
    how = REQUESTS[journey]
    body = multipart(content, "a.wav") if how.audio else None
    sent = headers(student)
    return requests.request(how.method, url + how.path, data=body, headers=sent, timeout=PATIENCE_S)


def scores(replica: Replica) -> dict[str, float]:
    return dict(replica.query("SELECT id, score FROM scores"))


def records(live: Live) -> list[dict[str, Any]]:
    """What the workers have written of each request."""
    files = live.stack.backend.evidence.glob("uploads-*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().split("\n")[:-1]]


@pytest.mark.parametrize("call", ["blocking", "threadpool"])
def test_each_journey_is_answered_with_what_it_promises(live: Live, call: str) -> None:
    replica = live({"gcs_call": "executor", "db_call": call})
    stored = upload(replica.url).json()
    assessed = ask(replica.url, Journey.ASSESS).json()
    assert scores(replica) == {assessed["assessment"]: assessed["score"]}
    with wave.open(io.BytesIO(ask(replica.url, Journey.CONVERT).content)) as converted:
        assert (converted.getframerate(), converted.getnchannels()) == (16_000, 1)
    told = ask(replica.url, Journey.PROGRESS).json()
    assert told["recordings"] == 1
    assert [one["id"] for one in told["latest"]] == [stored["recording"]]
    assert ask(replica.url, Journey.PROGRESS, student=1).json()["latest"] == []
    journeys = {record["journey"] for record in records(live)}
    assert journeys == {*Journey} - {Journey.HEALTH}
    assert scores(live({"gcs_call": "executor", "db_call": call})) == {}


def test_the_speech_service_is_speech_latency_away_and_its_threads_are_counted(live: Live) -> None:
    replica = live({"speech_latency": "8 s", "speech_threads": 2, "speed": 10})
    with live.injected(FAULTS["speech-latency"]), ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda n: ask(replica.url, Journey.ASSESS, n), range(3)))
    took = sorted(timing(answer)["speech"] for answer in answers)
    assert all(0.8 <= seconds < 1.0 for seconds in took)
    assert sorted(timing(answer)["speech_queue"] for answer in answers)[-1] > 0.7
    wait_until(lambda: live.readings()[-1]["inside"] == 0)
    busiest = max(live.readings(), key=lambda line: line["speech_queued"])
    assert (busiest["speech_busy"], busiest["speech_queued"]) == (2, 1)
    assert (busiest["inside"], busiest["inflight"], busiest["threads_busy"]) == (3, 0, 0)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (FAULTS["speech-down"], 503),
        (make_fault("speech", delay="12 s"), 504),
    ],
    ids=["down", "slow"],
)
@pytest.mark.parametrize("through", ["nginx", "backend"])
def test_a_speech_service_that_is_down_or_slow_is_a_speech_error(
    live: Live, fault: Any, status: int, through: str
) -> None:
    replica = live({})
    with live.injected(fault):
        answer = ask(replica.url if through == "nginx" else replica.backend, Journey.ASSESS)
    body = answer.json()
    assert (answer.status_code, body["cause"]) == (status, Cause.SPEECH_ERROR)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert scores(replica) == {}
    record = records(live)[-1]
    assert (record["cause"], record["status"]) == ("speech_error", status)
    assert ask(replica.url, Journey.ASSESS).status_code == 200


@pytest.mark.parametrize("through", ["nginx", "backend"])
@pytest.mark.parametrize(
    ("journey", "content", "status", "cause"),
    [
        (Journey.CONVERT, b"no WAV file", 422, Cause.BAD_AUDIO),
        (Journey.CONVERT, RECORDING[:30], 422, Cause.BAD_AUDIO),
        (Journey.CONVERT, b"", 400, Cause.BAD_UPLOAD),
        (Journey.ASSESS, b"no WAV file", 422, Cause.BAD_AUDIO),
        (Journey.ASSESS, b"", 400, Cause.BAD_UPLOAD),
    ],
)
def test_what_is_no_audio_is_told_so(
    live: Live, through: str, journey: Journey, content: bytes, status: int, cause: Cause
) -> None:
    replica = live({})
    url = replica.url if through == "nginx" else replica.backend
    answer = ask(url, journey, content=content)
    assert (answer.status_code, answer.json()["cause"]) == (status, cause)
    assert (left_behind(replica), scores(replica)) == ((0, 0), {})


@pytest.mark.parametrize("journey", [Journey.ASSESS, Journey.CONVERT, Journey.PROGRESS])
def test_nobody_without_a_token_is_answered(live: Live, journey: Journey) -> None:
    replica = live({})
    assert ask(replica.url, journey, student=5000).json()["cause"] == Cause.UNAUTHORIZED


def test_a_worker_that_still_assesses_is_not_taken_over_to_the_next_cell(live: Live) -> None:
    """It would write its score among those of the next."""
    replica = live({})
    with live.slow("speech", "8 s"), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, replica.backend, Journey.ASSESS)
        wait_until(lambda: live.readings()[-1]["speech_busy"] == 1)
        assert live.stack.workers.busy()
        assert asked.result().status_code == 200
    wait_until(lambda: not live.stack.workers.inside())
    assert not live.stack.workers.busy()
