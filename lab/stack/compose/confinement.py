"""Tests that a replica's containers are confined: CPU quota, memory limit, networks.

The limits are read from the backend's container on the engine, not from the knobs. They are
tested on small containers of the lab's own, which are confined like the parts and always
removed, so that nothing of the replica is killed.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.types import IPAMConfig, IPAMPool

from lab.errors import PartFailed
from lab.stack.base import Reached
from lab.stack.compose import images
from lab.stack.compose.engine import explain, last_lines
from lab.stack.compose.project import Project, free_prefix, taken_subnets
from lab.stack.compose.watch import usage

CONFINED: dict[str, Any] = {
    "user": "10001:10001",
    "init": True,
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "pids_limit": 256,
}
NO_NETWORK = "none"
CONNECT_S = 2.0
ENDS_WITHIN_S = 60
REFUSED = 3
"""Exit code of a program that could not connect."""
KILLED = 137

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
CONNECT = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), {CONNECT_S})
except OSError:
    sys.exit({REFUSED})
"""


class ContainerConfinement:
    """Tests the confinement of a project's containers.

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
        """Run a busy loop on every core under the backend's quota.

        Both figures come from the engine's running totals, as the lab's own readings do.

        Returns:
            Cores' worth of CPU, and seconds throttled, during at least this many seconds.
        """
        quota = self._limits()["NanoCpus"]
        with self._running(BUSY, nano_cpus=quota) as container:
            next(iter(container.logs(stream=True)))  # printed when all loops run
            readings = (
                (datetime.fromisoformat(stats["read"]).timestamp(), usage(stats))
                for stats in self._client.api.stats(container.id, stream=True, decode=True)
            )
            begun, first = next(readings)
            for at, last in readings:
                if at - begun >= seconds:
                    throttled_s = (last.throttled_s or 0.0) - (first.throttled_s or 0.0)
                    return (last.cpu_s - first.cpu_s) / (at - begun), throttled_s
        raise PartFailed("the engine ended the statistics of a container that runs")

    def killed_for_memory(self, share: float) -> bool:
        """Whether a process that fills this share of the backend's memory limit is killed.

        Raises:
            PartFailed: it ended neither so nor in an orderly way.
        """
        host = self._limits()
        limits = {"mem_limit": host["Memory"], "memswap_limit": host["MemorySwap"]}
        with self._running(FILL, int(host["Memory"] * share), **limits) as container:
            code = int(container.wait(timeout=ENDS_WITHIN_S)["StatusCode"])
            container.reload()
            killed = bool(container.attrs["State"]["OOMKilled"])
        if code != (KILLED if killed else 0):
            raise PartFailed(f"a process that fills memory exited ({code})")
        return killed

    def reached(self) -> Reached | None:
        """Which parts, and which allowed container, reach an address outside their networks.

        None if the engine's networks are on another machine: the lab cannot listen there.
        """
        labels = self._project.labels
        parts = self._project.containers()
        with outside(self._client, labels) as there, ThreadPoolExecutor() as pool:
            if there is None:
                return None
            host, port = there.host, there.port

            def reaches(network: str) -> bool:
                return connects(self._client, network, host, port, labels)

            networks = (f"container:{container.id}" for container in parts.values())
            return Reached(
                control=reaches(there.network),
                by_part=dict(zip(parts, pool.map(reaches, networks), strict=True)),
            )

    def _limits(self) -> dict[str, Any]:
        return dict(self._project.containers()["backend"].attrs["HostConfig"])

    def _running(self, code: str, *arguments: object, **limits: Any) -> Any:
        labels = self._project.labels
        return running(self._client, code, *arguments, labels=labels, **limits)


@contextmanager
def running(
    client: docker.DockerClient,
    code: str,
    *arguments: object,
    labels: Mapping[str, str],
    network: str = NO_NETWORK,
    **limits: Any,
) -> Iterator[Any]:
    """A container that runs this Python code.

    Args:
        labels: by which its maker lists and removes it.
        network: its name, or ``container:<id>`` for that container's own.
        limits: as the SDK names them: ``nano_cpus``, ``mem_limit``, ...

    Raises:
        LabError: the engine refuses.
    """
    container = None
    command = ["python", "-ISc", code, *map(str, arguments)]
    try:
        try:
            container = client.containers.create(
                images.tags()["LAB_BACKEND_IMAGE"],
                command,
                labels=dict(labels),
                network_mode=network,
                **(CONFINED | {"mem_limit": "64m", "memswap_limit": "64m"} | limits),
            )
            container.start()
        except DockerException as error:
            raise explain(str(error)) from error
        yield container
    finally:
        if container is not None:
            container.remove(force=True)


def connects(
    client: docker.DockerClient, network: str, host: str, port: int, labels: Mapping[str, str]
) -> bool:
    """Whether a connection can be opened from that network, or from a container's own.

    Raises:
        LabError: the engine refuses, or the probe failed in another way.
    """
    with running(client, CONNECT, host, port, labels=labels, network=network) as probe:
        code = int(probe.wait(timeout=ENDS_WITHIN_S)["StatusCode"])
        if code not in (0, REFUSED):
            raise PartFailed(f"a probe exited ({code}): {last_lines(probe.logs())}")
        return code == 0


@dataclass(frozen=True)
class Outside:
    """A listener on this machine: its address, and the only network that leads there."""

    host: str
    port: int
    network: str


@contextmanager
def outside(client: docker.DockerClient, labels: Mapping[str, str]) -> Iterator[Outside | None]:
    """Listen where no part of a replica has a network.

    None if the engine's networks are on another machine: the lab cannot listen there.

    Raises:
        LabError: the engine refuses.
    """
    prefix = free_prefix(taken_subnets(client))
    pool = IPAMPool(subnet=f"{prefix}.0/24", gateway=f"{prefix}.1")
    try:
        network = client.networks.create(
            f"outside-{prefix}",
            driver="bridge",
            ipam=IPAMConfig(pool_configs=[pool]),
            options={"com.docker.network.bridge.enable_ip_masquerade": "false"},
            labels=dict(labels),
        )
    except APIError as error:
        raise explain(str(error)) from error
    try:
        with _listening(f"{prefix}.1") as port:
            yield Outside(f"{prefix}.1", port, network.name) if port else None
    finally:
        network.remove()


@contextmanager
def _listening(address: str) -> Iterator[int | None]:
    """A port of this address that accepts connections; None if the machine lacks the address."""
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            yield None
            return
        listener.listen()
        yield int(listener.getsockname()[1])
