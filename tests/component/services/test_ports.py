"""A listening socket for each worker, as processes: who answers where, and who takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.model.environment import python_variables
from lab.model.knobs import Knobs
from lab.model.replica import HEALTH_PATH, PORTS_VARIABLE, WORKER_HEADER
from lab.stack import ports

NOWHERE = {
    "DATABASE_URL": "postgresql+psycopg2://app@127.0.0.1:1/students",
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
    "SPEECH_URL": "http://127.0.0.1:1",
    "AUDIO_BUCKET": "student-recordings",
}
"""Neighbours that nobody asks anything here."""
WITHIN_S = 60.0


@contextmanager
def backend(folder: Path, **settings: Any) -> Iterator[list[int]]:
    """The backend with these knobs; the ports that it was given."""
    knobs = Knobs().with_settings(settings)
    given = ports.free(knobs.workers)
    env = {
        **python_variables(),
        **knobs.as_env(),
        **NOWHERE,
        "HOST": ports.HOST,
        "PORT": str(given[0]),
        PORTS_VARIABLE: " ".join(map(str, given)),
    }
    with (folder / "backend.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.services.backend"], env=env, stdout=log, stderr=log
        )
    try:
        yield given
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WITHIN_S)


def answered_by(port: int) -> int | None:
    """The worker that answers at a port; None while none does."""
    try:
        answer = ports.http().get(f"http://{ports.HOST}:{port}{HEALTH_PATH}", timeout=5)
    except requests.RequestException:
        return None
    return int(answer.headers[WORKER_HEADER])


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(ports.POLL_S)


@pytest.mark.knob("balance")
@pytest.mark.parametrize(
    "settings", [{}, {"vm_memory": "8 GB"}], ids=["forked", "uvicorn's own workers"]
)
def test_each_worker_answers_at_a_port_of_its_own_and_another_takes_over_a_dead_ones(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    with backend(tmp_path, workers=3, balance="round_robin", **settings) as given:
        wait_until(lambda: all(map(answered_by, given)))
        first, second, third = map(answered_by, given)
        assert len({first, second, third}) == 3
        for _ in range(3):
            assert [answered_by(port) for port in given] == [first, second, third]
        assert second
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: answered_by(given[1]) not in (None, second))
        assert (answered_by(given[0]), answered_by(given[2])) == (first, third)
        assert answered_by(given[1]) not in (first, third)


@pytest.mark.knob("balance")
def test_workers_of_one_socket_answer_at_one_port_alone(tmp_path: Path) -> None:
    with backend(tmp_path, workers=2) as given:
        wait_until(lambda: answered_by(given[0]))
        assert not ports.accepts(given[1])
