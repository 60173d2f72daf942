"""What tests ask of a running replica: uploads, many at once, and what they left behind."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from lab.faults.network import Toxiproxy
from lab.load.upload import headers, multipart, stages
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.replica import UPLOAD_PATH, WORKER_HEADER
from lab.observe.audit import object_ids
from lab.stack.base import Replica
from lab.stack.embedded import EmbeddedStack
from tests.fakes import make_cell

SPEED = 20
PATIENCE_S = 60.0


class Live:
    """The session's replica, at the settings of one test."""

    def __init__(self, stack: EmbeddedStack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.knobs = Knobs()

    def __call__(self, settings: Mapping[str, Any]) -> Replica:
        """Bring it to these settings; at `SPEED` and without a global limit, if not said."""
        cell = make_cell({"speed": SPEED, "global_rate_limit": "off", **settings})
        self.knobs = cell.knobs
        return self.stack.apply(cell)

    @contextmanager
    def slow(self, proxy: str, delay: str) -> Iterator[None]:
        """Every answer of ``gcs`` or ``db`` comes this much real-world time later."""
        with self.injected(make_fault(proxy, delay=delay)):
            yield

    @contextmanager
    def injected(self, *faults: Fault) -> Iterator[None]:
        """These faults injected."""
        with Toxiproxy(self.stack.toxiproxy.url).injected(faults, self.knobs):
            yield

    def readings(self) -> list[dict[str, Any]]:
        """Every reading of the workers since they started."""
        return [
            json.loads(line)
            for file in self.stack.backend.evidence.glob("worker-*.jsonl")
            for line in file.read_text().split("\n")[:-1]
        ]

    def health(self) -> dict[str, Any]:
        """The backend's own figures, not through nginx."""
        answer = requests.get(f"{self.stack.backend.url}/health", timeout=PATIENCE_S)
        return dict(answer.json())


def make_fault(proxy: str, *, down: bool = False, delay: str | None = None) -> Fault:
    """A fault as a file would say it."""
    toxics = [{"type": "latency", "delay": delay}] if delay else []
    return Fault.model_validate(
        {"fault": "test", "about": "test", "proxy": proxy, "down": down, "toxics": toxics}
    )


def upload(url: str, student: int = 0, size: int = 1000) -> requests.Response:
    """One upload of a student, answered."""
    return requests.post(
        url + UPLOAD_PATH,
        data=multipart(b"\0" * size, "test.wav"),
        headers=headers(student),
        timeout=PATIENCE_S,
    )


def uploads(url: str, count: int, size: int = 1000) -> list[requests.Response]:
    """That many at once, each of another student."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda student: upload(url, student, size), range(count)))


def causes(answers: Sequence[requests.Response]) -> dict[str, int]:
    """How many answers by cause; ``ok`` for a success."""
    found: dict[str, int] = {}
    for answer in answers:
        cause = "ok" if answer.status_code == 200 else str(answer.json()["cause"])
        found[cause] = found.get(cause, 0) + 1
    return found


def by_worker(answers: Iterable[requests.Response]) -> Counter[str]:
    """How many answers each worker gave."""
    return Counter(answer.headers[WORKER_HEADER] for answer in answers)


def timing(answer: requests.Response) -> dict[str, float]:
    """Wall-clock seconds by stage."""
    return stages(answer.headers.get("Server-Timing", ""), speed=1.0)


def left_behind(replica: Replica) -> tuple[int, int]:
    """How many rows and objects there are."""
    rows = int(replica.query("SELECT count(*) FROM recordings")[0][0])
    return rows, len(object_ids(replica.storage, replica.bucket))


def wait_until(true: Callable[[], object], within: float = PATIENCE_S) -> None:
    """Wait until a condition holds, and fail where it does not come about."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def raw(url: str) -> socket.socket:
    """A connection to the server of a URL."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
