"""Does a part serve? The lab asks the part itself, as its users would."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping

import requests

from lab.errors import PartFailed
from lab.stack import ports
from lab.stack.backend import Workers
from lab.stack.compose.environment import Place
from lab.stack.monitor import Monitor
from lab.stack.storage import Bucket

WITHIN_S = 60.0
POLL_S = 0.02
ASK_S = 5.0


class Readiness:
    """Waits for parts.

    Args:
        place: where they listen.
        monitor: of the database.
        bucket: of storage.
        workers: of the backend.
        down: the parts that are dead now, each with one line.
        failed: the error for a part and what is wrong with it.
    """

    def __init__(
        self,
        place: Callable[[], Place],
        monitor: Monitor,
        bucket: Bucket,
        workers: Workers,
        down: Callable[[], Mapping[str, str]],
        failed: Callable[[str, str], PartFailed],
    ) -> None:
        self._place = place
        self._monitor = monitor
        self._bucket = bucket
        self._workers = workers
        self._down = down
        self._failed = failed

    def wait(self, parts: list[str], workers: int) -> None:
        """Wait until each of these parts serves, all of them new and without a load.

        Raises:
            PartFailed: one exited, or did not serve within a minute; with its last log lines.
        """
        self._wait(parts, lambda part: self._is_new(part, workers))

    def wait_again(self, part: str, workers: int, since: float) -> None:
        """Wait until a part serves that was brought back at ``since``, also under a load.

        Raises:
            PartFailed: as `wait`.
        """
        self._wait([part], lambda part: self._is_back(part, workers, since))

    def wait_for_free_slots(self) -> None:
        """Until the last backend's connections are gone, so that the next one finds db_cap.

        Raises:
            PartFailed: they do not go within a minute.
        """
        deadline = time.monotonic() + WITHIN_S
        while self._monitor.app_connections():
            if time.monotonic() > deadline:
                raise self._failed("postgres", "still has connections of what was ended")
            time.sleep(POLL_S)

    def _wait(self, parts: list[str], ready: Callable[[str], bool]) -> None:
        deadline = time.monotonic() + WITHIN_S
        waiting = list(parts)
        while waiting:
            waiting = [part for part in waiting if not ready(part)]
            for part, why in self._down().items():
                if part == "engine" or part in parts:
                    raise self._failed(part, why)
            if waiting and time.monotonic() > deadline:
                raise self._failed(waiting[0], f"did not serve within {WITHIN_S:.0f} s")
            if waiting:
                time.sleep(POLL_S)

    def _is_new(self, part: str, workers: int) -> bool:
        if part == "backend":
            # The workers first: to log in takes CPU that they come up with.
            up = len(self._workers.alive()) >= workers
            # Nobody else may hold a connection of the application's: the last one's end too.
            return up and self._monitor.answers() and self._monitor.app_connections() == 0
        if part == "nginx":
            return _answers(f"{url(self._place().nginx_port)}/health")
        return self._serves(part)

    def _is_back(self, part: str, workers: int, since: float) -> bool:
        if part == "backend":
            return len(self._workers.alive(since)) >= workers
        if part == "nginx":
            return _refuses(self._place().nginx_port)
        return self._serves(part)

    def _serves(self, part: str) -> bool:
        if part == "postgres":
            return self._monitor.answers()
        if part == "fake-gcs-server":
            return self._bucket.answers()
        return _answers(f"{url(self._place().toxiproxy_port)}/version")


def url(port: int) -> str:
    """Of what listens on a port of this machine."""
    return f"http://{ports.HOST}:{port}"


def _answers(where: str) -> bool:
    try:
        return bool(requests.get(where, timeout=ASK_S).status_code == 200)
    except requests.RequestException:
        return False


def _refuses(port: int) -> bool:
    """Whether nginx itself refuses what is no request, whatever the backend does meanwhile."""
    try:
        with socket.create_connection((ports.HOST, port), ASK_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return connection.recv(12) == b"HTTP/1.1 400"
    except OSError:
        return False
