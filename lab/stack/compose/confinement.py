"""What holds a replica's containers in, tried out: CPU quota, memory limit, networks.

The limits are those that the engine has of the backend's container, whatever Compose made
of the knobs; they are tried by containers of their own, so that nothing of the replica
is killed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import docker

from lab.errors import PartFailed
from lab.model.observation import Usage
from lab.stack.compose import probe
from lab.stack.compose.project import Project
from lab.stack.compose.statistics import usage
from lab.stack.protocol import Reached

BUSY = """
import os
for _ in range(os.cpu_count() - 1):
    if os.fork() == 0:
        break
else:
    print("busy", flush=True)
while True:
    pass
"""
FILL = "import sys; b'x' * int(sys.argv[1])"
KILLED = 137


class Confinement:
    """Tries the confinement of one project's containers.

    Args:
        client: the engine.
        project: whose backend has the limits.

    Attributes:
        cores: how many the engine has.
    """

    def __init__(self, client: docker.DockerClient, project: Project) -> None:
        self._client = client
        self._project = project
        self.cores = int(client.info()["NCPU"])

    def busy(self, seconds: float) -> tuple[float, float]:
        """What a busy loop for every core gets under the backend's quota.

        Both from the engine's running totals, which the lab's own figures come from too.

        Returns:
            Cores' worth of CPU, and seconds throttled, over at least this many seconds.
        """
        quota = self._limits()["NanoCpus"]
        with self._running(BUSY, nano_cpus=quota) as container:
            next(iter(container.logs(stream=True)))  # all of them run
            readings = (
                (datetime.fromisoformat(stats["read"]).timestamp(), usage(stats))
                for stats in self._client.api.stats(container.id, stream=True, decode=True)
            )
            begun, first = next(readings)
            for at, last in readings:
                if at - begun >= seconds:
                    return (last.cpu_s - first.cpu_s) / (at - begun), _throttled(first, last)
        raise PartFailed("the engine ended the statistics of a container that runs")

    def killed_for_memory(self, share: float) -> bool:
        """Whether a process that fills this share of the backend's memory limit is killed.

        Raises:
            PartFailed: it ended in another way.
        """
        host = self._limits()
        limits = {"mem_limit": host["Memory"], "memswap_limit": host["MemorySwap"]}
        with self._running(FILL, int(host["Memory"] * share), **limits) as container:
            code = int(container.wait(timeout=probe.ENDS_WITHIN_S)["StatusCode"])
            container.reload()
            killed = bool(container.attrs["State"]["OOMKilled"])
        if code != (KILLED if killed else 0):
            raise PartFailed(f"a process that fills memory exited ({code})")
        return killed

    def reached(self) -> Reached | None:
        """Whether an address outside its networks answers each part, and a container that may.

        None where the engine's networks are not this machine's, so nobody can listen there.
        """
        labels = self._project.labels
        parts = self._project.containers()
        with probe.outside(self._client, labels) as there, ThreadPoolExecutor() as pool:
            if there is None:
                return None
            host, port = there.host, there.port

            def reaches(network: str) -> bool:
                return probe.connects(self._client, network, host, port, labels)

            networks = (f"container:{container.id}" for container in parts.values())
            return Reached(
                control=reaches(there.network),
                by_part=dict(zip(parts, pool.map(reaches, networks), strict=True)),
            )

    def _limits(self) -> dict[str, Any]:
        return dict(self._project.containers()["backend"].attrs["HostConfig"])

    def _running(self, code: str, *arguments: object, **limits: Any) -> Any:
        labels = self._project.labels
        return probe.running(self._client, code, *arguments, labels=labels, **limits)


def _throttled(first: Usage, last: Usage) -> float:
    return (last.throttled_s or 0.0) - (first.throttled_s or 0.0)
