"""The speech service as a process: what it answers, and that it is light."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from lab.load.audio import voice, wav
from lab.model.environment import child_environment, python_variables
from lab.model.speech import SPEECH_HEALTH_PATH, SPEECH_PATH
from lab.stack.ports import HOST, free
from lab.stack.speech import speech_answers
from tests.live import wait_until

PCM = voice(seed=3)
LIGHT = 60 * 1024**2
"""Bytes that the process may take; without the lab's own words, and no framework, it is half."""


class Running:
    """The process, and how it is asked."""

    def __init__(self) -> None:
        [port] = free(1)
        self.url = f"http://{HOST}:{port}"
        env = child_environment({**python_variables(), "HOST": HOST, "PORT": str(port)})
        self.process = subprocess.Popen([sys.executable, "-m", "lab.services.speech"], env=env)
        wait_until(lambda: speech_answers(self.url))

    def assess(self, body: bytes, path: str = SPEECH_PATH) -> requests.Response:
        headers = {"Content-Type": "audio/wav"}
        return requests.post(self.url + path, data=body, headers=headers, timeout=30)

    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
def speech() -> Iterator[Running]:
    running = Running()
    yield running
    running.process.kill()
    running.process.wait()


def test_the_same_recording_has_the_same_score_and_others_have_others(speech: Running) -> None:
    recordings = [wav(20_000 + 2 * n, PCM, offset=n) for n in range(20)]
    scores = [speech.assess(one).json()["score"] for one in recordings]
    assert [speech.assess(one).json()["score"] for one in recordings] == scores
    assert len(set(scores)) > 10
    assert all(0 <= score <= 100 for score in scores)


@pytest.mark.parametrize(
    ("body", "path", "status", "error"),
    [
        (b"", SPEECH_PATH, 400, "the body is empty"),
        (b"no WAV file", SPEECH_PATH, 415, "the body is no WAV file"),
        (b"RIFF", SPEECH_PATH, 415, "the body is no WAV file"),
        (b"x", "/elsewhere", 404, "there is no /elsewhere"),
        (b"x", SPEECH_HEALTH_PATH, 405, "/health takes GET"),
    ],
)
def test_what_it_cannot_assess_it_refuses(
    speech: Running, body: bytes, path: str, status: int, error: str
) -> None:
    answer = speech.assess(body, path)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_it_carries_a_hundred_at_once_and_keeps_none_of_them(speech: Running) -> None:
    recording = wav(2_000_000, PCM)
    expected = speech.assess(recording).json()
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(speech.assess, [recording] * 100))
    assert [answer.json() for answer in answers] == [expected] * 100
    assert speech.memory() < LIGHT


def test_it_ends_in_good_order_and_says_when_its_address_is_taken() -> None:
    one = Running()
    port = one.url.rpartition(":")[2]
    env = child_environment({**python_variables(), "HOST": HOST, "PORT": port})
    taken = subprocess.run(
        [sys.executable, "-m", "lab.services.speech"],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert taken.returncode == 3
    assert "address already in use" in taken.stderr
    os.kill(one.process.pid, signal.SIGTERM)
    assert one.process.wait(10) in (0, -signal.SIGTERM)
