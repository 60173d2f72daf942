"""What the engine reports about a replica's containers, as it happens.

`Events` reads its stream of events: it knows which parts are dead or paused, and writes a line
for the observer when a container exceeds its memory. `Statistics` reads CPU, memory and
throttling, which the engine takes from each container's cgroup.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from math import inf
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab.model.clock import from_wall
from lab.model.readings import Usage
from lab.stack.backend import note_oom
from lab.stack.compose.resources import ID_LABEL, SERVICE_LABEL

SIGNALLED = 128
KILLED = 137
KNOWN = ("die", "oom", "pause", "unpause", "start")
NS = 1e9
NOTHING = Usage(cpu_s=0, memory=0, throttled_s=0, received=0, sent=0)
OOM_WITHIN_S = 2.0
"""A container that dies this soon after it exceeded its memory was killed for that. Further OOM
events within this time are the same kill, which the engine often reports a dozen times."""


class Events(threading.Thread):
    """Follows the events of a replica's containers, of each part only the current one.

    A part that died or was paused stays down until the lab itself starts or resumes it, even if
    the engine restarts it at once: it has lost what it was doing, or stood still.

    Args:
        client: a connection of its own, because the stream occupies it.
        replica: id of the replica.
        evidence: folder that gets a line (`note_oom`) when a container is killed for memory.
        comes_back: the parts that the engine restarts after a kill for memory.
    """

    def __init__(
        self, client: docker.DockerClient, replica: str, evidence: Path, comes_back: frozenset[str]
    ) -> None:
        super().__init__(name="engine-events", daemon=True)
        self._client = client
        self._evidence = evidence
        self._comes_back = comes_back
        self._down: dict[str, str] = {}
        self._containers: dict[str, str] = {}
        self._coming: set[str] = set()
        self._oom: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._ended = False
        self._stream = client.events(
            decode=True, filters={"label": f"{ID_LABEL}={replica}", "type": "container"}
        )
        self.start()

    def run(self) -> None:
        """Read until the stream ends; if it ends before `close`, the engine is dead."""
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
        actor = event.get("Actor", {})
        attributes = actor.get("Attributes", {})
        part, action = str(attributes.get(SERVICE_LABEL)), str(event.get("Action"))
        if action not in KNOWN or self._containers.get(part) != actor.get("ID"):
            return
        if action in ("start", "unpause"):
            self._coming.discard(part)
        if action == "oom":
            self._see_oom(part, _at(event))
        elif action in ("pause", "die") and part not in self._coming:
            self._see_down(part, event)

    def _see_down(self, part: str, event: dict[str, Any]) -> None:
        if event["Action"] == "pause":
            self._down[part] = "was paused"
            return
        code = int(event["Actor"]["Attributes"].get("exitCode", 0))
        for_memory = code == KILLED and _at(event) - self._oom.get(part, -inf) < OOM_WITHIN_S
        if for_memory and part in self._comes_back:
            return  # a result of the cell: the engine restarts it
        why = f"was killed by signal {code - SIGNALLED}" if code > SIGNALLED else f"exited ({code})"
        self._down[part] = "was killed for its memory" if for_memory else why

    def _see_oom(self, part: str, at: float) -> None:
        if at - self._noted.get(part, -inf) >= OOM_WITHIN_S:
            self._noted[part] = at
            note_oom(self._evidence, at)
        self._oom[part] = at
        self._told[part] = time.monotonic()

    def exceeded(self, part: str) -> bool:
        """Whether the engine has just told that a part exceeded its memory."""
        return time.monotonic() - self._told.get(part, -OOM_WITHIN_S) < OOM_WITHIN_S

    def down(self) -> dict[str, str]:
        """The parts that died or were paused, each with a line that says which.

        One that others have resumed has been away, and stays among them until it is expected.
        """
        return dict(self._down)

    def expect(self, containers: Mapping[str, str]) -> None:
        """These containers, by part, are about to start or resume: only they count from now on.

        Late events about how they ended before are ignored.
        """
        self._containers |= containers
        self._coming |= set(containers)
        for part in containers:
            self._down.pop(part, None)
            self._oom.pop(part, None)

    def arrived(self, parts: Iterable[str]) -> None:
        """These parts serve: no start is to be expected of a part that never stopped."""
        self._coming -= set(parts)

    def close(self) -> None:
        """End the thread."""
        self._ended = True
        self._stream.close()
        self.join(timeout=10)
        self._client.close()


def _at(event: dict[str, Any]) -> float:
    """When it happened, on the monotonic clock; the engine stamps its events by the wall clock."""
    return from_wall(float(event.get("timeNano", time.time_ns())) / NS)


def usage(stats: dict[str, Any]) -> Usage:
    """A reading of ``GET /containers/{id}/stats?one-shot=1``.

    Memory is what the container is charged with, minus the file pages that the kernel may
    drop at once: the figure of ``docker stats``.
    """
    cpu = stats.get("cpu_stats", {})
    memory = stats.get("memory_stats", {})
    details = memory.get("stats", {})
    # cgroup v1 and v2 name it differently.
    droppable = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        cpu_s=cpu.get("cpu_usage", {}).get("total_usage", 0) / NS,
        memory=max(0, memory.get("usage", 0) - droppable),
        throttled_s=cpu.get("throttling_data", {}).get("throttled_time", 0) / NS,
        received=_on_network(stats, "rx_bytes"),
        sent=_on_network(stats, "tx_bytes"),
    )


def _on_network(stats: dict[str, Any], count: str) -> float | None:
    """Bytes on all of a container's interfaces, the loopback's left out; None if none is told."""
    interfaces = stats.get("networks") or {}
    return float(sum(each[count] for each in interfaces.values())) if interfaces else None


class Statistics:
    """Follows the statistics of containers, with a reading a second from each.

    The engine takes about a second for a single reading, but a stream gives them without a
    wait. A stream ends when its container is removed.

    Args:
        client: the engine; each stream opens a connection of its own.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._followed: dict[str, str] = {}
        self._latest: dict[str, Usage] = {}

    def follow(self, containers: Mapping[str, Any]) -> None:
        """Follow exactly these containers, by part."""
        for part in set(self._followed) - set(containers):
            del self._followed[part]
            self._latest.pop(part, None)
        for part, container in containers.items():
            if self._followed.get(part) != container.id:
                self._followed[part] = container.id
                self._latest.pop(part, None)
                threading.Thread(
                    target=self._read, args=(part, container.id), name=f"stats-{part}", daemon=True
                ).start()

    def _read(self, part: str, container: str) -> None:
        before = last = NOTHING  # before its last restart, and so far since
        try:
            for stats in self._client.api.stats(container, stream=True, decode=True):
                if not stats.get("memory_stats"):  # it is not running
                    continue
                if self._followed.get(part) != container:
                    return
                now = usage(stats)
                if now.cpu_s < last.cpu_s:
                    before = plus(before, last)
                last = now
                self._latest[part] = plus(before, now)
        except (DockerException, requests.RequestException, OSError):
            return  # dead or removed: the events say which

    def __call__(self) -> dict[str, Usage]:
        """What each part has used so far, as of at most a second ago."""
        return dict(self._latest)


def plus(before: Usage, now: Usage) -> Usage:
    """Add what a container used before its last restart, which resets its totals."""
    return Usage(
        cpu_s=before.cpu_s + now.cpu_s,
        memory=now.memory,
        throttled_s=(before.throttled_s or 0) + (now.throttled_s or 0),
        received=None if now.received is None else (before.received or 0) + now.received,
        sent=None if now.sent is None else (before.sent or 0) + now.sent,
    )
