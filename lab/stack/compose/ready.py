"""Whether a part in a container serves: asked of the part itself, with what happens in view."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import requests

from lab.errors import PartFailed
from lab.model.knobs import Knobs
from lab.stack import ports
from lab.stack.bucket import Bucket
from lab.stack.compose.events import Events
from lab.stack.compose.explain import last_lines
from lab.stack.compose.project import Project
from lab.stack.monitor import Monitor
from lab.stack.workers import Workers

READY_WITHIN_S = 60.0
POLL_S = 0.02


@dataclass(frozen=True)
class Readiness:
    """Asks the parts of one replica."""

    project: Project
    events: Events
    monitor: Monitor
    bucket: Bucket
    workers: Workers

    def wait(self, parts: Sequence[str], knobs: Knobs) -> None:
        """Wait until each of these parts serves.

        Raises:
            PartFailed: one exited, or did not serve within a minute; with its last log lines.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        waiting = list(parts)
        while waiting:
            waiting = [part for part in waiting if not self._serves(part, knobs)]
            for part, why in self.events.down().items():
                if part == "engine" or part in parts:
                    raise self.failure(part, why)
            if waiting and time.monotonic() > deadline:
                raise self.failure(waiting[0], f"did not serve within {READY_WITHIN_S:.0f} s")
            if waiting:
                time.sleep(POLL_S)

    def failure(self, part: str, why: str) -> PartFailed:
        """The error for a part that did not come up."""
        said = last_lines(self.project.log(part))
        return PartFailed(f"{part} {why}: {said}", "see the part's log, and `lab doctor`")

    def wait_for_free_slots(self) -> None:
        """Until the last backend's connections are gone, so that the next one finds db_cap.

        Raises:
            PartFailed: they do not go within a minute.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while self.monitor.app_connections():
            if time.monotonic() > deadline:
                raise self.failure("postgres", "still has connections of what was ended")
            time.sleep(POLL_S)

    def _serves(self, part: str, knobs: Knobs) -> bool:
        if part == "postgres":
            return self.monitor.answers()
        if part == "fake-gcs-server":
            return self.bucket.answers()
        if part == "toxiproxy":
            return answers(f"{url_of(self.project.place.toxiproxy_port)}/version")
        if part == "backend":
            # Nobody else may hold a connection of the application's: the last one's end too.
            idle = self.monitor.answers() and self.monitor.app_connections() == 0
            return idle and len(self.workers.alive()) >= knobs.workers
        return answers(f"{url_of(self.project.place.nginx_port)}/health")


def url_of(port: int) -> str:
    """Of what is published on a port."""
    return f"http://{ports.HOST}:{port}"


def answers(url: str) -> bool:
    """Whether a URL is answered with 200."""
    try:
        return bool(requests.get(url, timeout=5).status_code == 200)
    except requests.RequestException:
        return False
