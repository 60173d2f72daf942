"""What happens to a replica's containers, told by the engine as it happens.

One thread reads the engine's event stream. It knows of each part whether it is dead or
paused, and of a container that passed its memory it writes a line for the observer.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab.stack.compose.resources import ID_LABEL

SERVICE_LABEL = "com.docker.compose.service"
SIGNALLED = 128
KILLED = 137
KNOWN = ("die", "oom", "pause", "unpause", "start")


class Events(threading.Thread):
    """Follows the events of one replica's containers.

    Args:
        client: a connection of its own: the stream holds it.
        replica: id of the replica.
        evidence: folder whose ``oom.jsonl`` gets a line when a container is killed for memory.
        comes_back: the parts that the engine starts anew when they were killed for memory.
    """

    def __init__(
        self, client: docker.DockerClient, replica: str, evidence: Path, comes_back: frozenset[str]
    ) -> None:
        super().__init__(name="engine-events", daemon=True)
        self._client = client
        self._evidence = evidence
        self._comes_back = comes_back
        self._down: dict[str, str] = {}
        self._killed_for_memory: set[str] = set()
        self._ended = False
        self._stream = client.events(
            decode=True, filters={"label": f"{ID_LABEL}={replica}", "type": "container"}
        )
        self.start()

    def run(self) -> None:
        """Read until the stream ends; that it ends before `close` means a dead engine."""
        try:
            for event in self._stream:
                self._see(event)
        except (DockerException, RequestException, OSError, ValueError) as error:
            self._lost(str(error))
        else:
            self._lost("its event stream ended")

    def _lost(self, why: str) -> None:
        if not self._ended:
            self._down["engine"] = f"the Docker engine does not answer: {why}"

    def _see(self, event: dict[str, Any]) -> None:
        attributes = event.get("Actor", {}).get("Attributes", {})
        part, action = attributes.get(SERVICE_LABEL), str(event.get("Action"))
        if not part or action not in KNOWN:
            return
        if action in ("unpause", "start"):
            self._down.pop(part, None)
        elif action == "pause":
            self._down[part] = "is paused"
        elif action == "oom":
            self._killed_for_memory.add(part)
            self._note_oom(event)
        else:
            self._see_death(part, int(attributes.get("exitCode", 0)))

    def _see_death(self, part: str, code: int) -> None:
        for_memory = part in self._killed_for_memory and code == KILLED
        self._killed_for_memory.discard(part)
        if for_memory and part in self._comes_back:
            return  # a result: the engine starts it again
        why = f"was killed by signal {code - SIGNALLED}" if code > SIGNALLED else f"exited ({code})"
        self._down[part] = "was killed for its memory" if for_memory else why

    def _note_oom(self, event: dict[str, Any]) -> None:
        at = event.get("timeNano", time.time_ns()) / 1e9
        with (self._evidence / "oom.jsonl").open("a") as file:
            file.write(json.dumps({"at": at, "pid": 0, "rss": 0}) + "\n")

    def down(self) -> dict[str, str]:
        """The parts that are dead or paused now, each with one line."""
        return dict(self._down)

    def forget(self, parts: set[str]) -> None:
        """These were taken down on purpose."""
        for part in parts:
            self._down.pop(part, None)

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._stream.close()
        self.join(timeout=10)
        self._client.close()
