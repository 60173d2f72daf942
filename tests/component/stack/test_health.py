"""Who asks for the VM's health: what counts as an answer, and when the backend is started anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lab.errors import PartFailed
from lab.model.knobs import Knobs
from lab.model.probe import ProbeRecord
from lab.model.replica import HEALTH_FILE
from lab.observe.readings import Clock, from_health
from lab.stack.health import HealthWatch
from tests.live import wait_until

SPEED = 20


class Backend:
    """What answers /health: with this status, or with nothing while it is ``silent``."""

    def __init__(self) -> None:
        self.status, self.asked, self.renewed = 200, 0, 0
        self.fails = ""
        self.talks = threading.Event()
        self.talks.set()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                backend.asked += 1
                assert self.path == "/health"
                backend.talks.wait(10)
                self.send_response(backend.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def renew(self) -> None:
        self.renewed += 1
        if self.fails:
            raise PartFailed(self.fails)
        self.status = 200
        self.talks.set()


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.talks.set()
    made.server.shutdown()
    made.server.server_close()


def watching(backend: Backend, folder: Path, **settings: Any) -> HealthWatch:
    given = {"speed": SPEED, "health_probe": "5 s", "health_timeout": "5 s", **settings}
    watch = HealthWatch(backend.url, Knobs().with_settings(given), folder, backend.renew)
    watch.start()
    return watch


def noted(folder: Path) -> list[tuple[str, int]]:
    file = folder / HEALTH_FILE
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [(line["event"], line.get("in_row", 0)) for line in lines]


def probes(folder: Path, since: float = 0.0) -> list[ProbeRecord]:
    """What an observer reads of it."""
    seen = from_health(folder, Clock(0.0, 1), since)
    return [record for record in seen if isinstance(record, ProbeRecord)]


def test_one_that_answers_is_left_alone(backend: Backend, tmp_path: Path) -> None:
    watch = watching(backend, tmp_path)
    wait_until(lambda: backend.asked >= 3)
    watch.stop()
    assert (backend.renewed, noted(tmp_path)) == (0, [])


@pytest.mark.parametrize(
    ("silent", "status", "why"),
    [(True, 200, "no answer within 5 s"), (False, 503, "it answered 503")],
)
def test_one_that_does_not_is_started_anew_after_so_many_in_a_row(
    backend: Backend, tmp_path: Path, silent: bool, status: int, why: str
) -> None:
    backend.status = status
    if silent:
        backend.talks.clear()
    watch = watching(backend, tmp_path, health_failures=2)
    wait_until(lambda: ("back", 0) in noted(tmp_path))
    wait_until(lambda: backend.asked >= 4)
    watch.stop()
    assert backend.renewed == 1
    assert noted(tmp_path) == [("failed", 1), ("failed", 2), ("ended", 2), ("back", 0)]
    assert watch.failed == ""
    records = probes(tmp_path)
    assert [(record.event, record.why) for record in records] == [
        ("failed", why),
        ("failed", why),
        ("ended", why),
        ("back", ""),
    ]
    assert probes(tmp_path, since=records[-1].t + 1) == []


def test_one_that_does_not_come_back_is_told(backend: Backend, tmp_path: Path) -> None:
    backend.status, backend.fails = 500, "backend did not come up"
    watch = watching(backend, tmp_path, health_failures=1)
    wait_until(lambda: bool(watch.failed))
    watch.stop()
    assert watch.failed == "backend did not come up"
    assert ("back", 0) not in noted(tmp_path)


def test_nothing_is_asked_while_it_is_away_on_purpose(backend: Backend, tmp_path: Path) -> None:
    backend.status = 500
    watch = watching(backend, tmp_path, health_failures=100)
    wait_until(lambda: len(noted(tmp_path)) >= 1)
    watch.pause()
    known = backend.asked
    threading.Event().wait(3 * 5 / SPEED)
    assert backend.asked <= known + 1
    watch.resume()
    wait_until(lambda: backend.asked > known + 1)
    watch.stop()
