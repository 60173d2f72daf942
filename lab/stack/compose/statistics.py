"""CPU, memory and throttling of a container, as the engine reads them from its cgroup."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Any

import docker
import requests
from docker.errors import DockerException

from lab.model.observation import Usage

NS = 1e9


def usage(stats: dict[str, Any]) -> Usage:
    """One reading of ``GET /containers/{id}/stats?one-shot=1``.

    Memory is what the container is charged with, less the file pages that the kernel may
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
    )


class Statistics:
    """Follows the statistics of containers, a reading a second from each.

    The engine takes about a second for a single reading, and none for one of a stream. A
    stream ends when its container is removed.

    Args:
        client: the engine; each stream takes a connection of its own from it.
    """

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._followed: dict[str, str] = {}
        self._latest: dict[str, Usage] = {}

    def follow(self, containers: Mapping[str, Any]) -> None:
        """Follow these, by part, and none but these."""
        for part in set(self._followed) - set(containers):
            del self._followed[part]
            self._latest.pop(part, None)
        for part, container in containers.items():
            if self._followed.get(part) != container.id:
                self._followed[part] = container.id
                self._latest.pop(part, None)
                Thread(
                    target=self._read, args=(part, container.id), name=f"stats-{part}", daemon=True
                ).start()

    def _read(self, part: str, container: str) -> None:
        before = Usage(cpu_s=0, memory=0, throttled_s=0)  # its earlier lives
        last = before
        try:
            for stats in self._client.api.stats(container, stream=True, decode=True):
                if not stats.get("memory_stats"):  # it does not run now
                    continue
                if self._followed.get(part) != container:
                    return
                now = usage(stats)
                if now.cpu_s < last.cpu_s:
                    before = plus(before, last)
                last = now
                self._latest[part] = plus(before, now)
        except (DockerException, requests.RequestException, OSError):
            return  # dead or gone: the events say which

    def __call__(self) -> dict[str, Usage]:
        """What each has used so far, as of at most a second ago."""
        return dict(self._latest)


def plus(before: Usage, now: Usage) -> Usage:
    """Totals of a container's earlier lives and of this one: a restart begins them anew."""
    return Usage(
        cpu_s=before.cpu_s + now.cpu_s,
        memory=now.memory,
        throttled_s=(before.throttled_s or 0) + (now.throttled_s or 0),
    )
