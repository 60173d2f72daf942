"""Small containers of the lab's own, to find out what can be done from where a part is.

Each is as confined as the parts are, carries the labels that it is given, and is removed
whatever happens.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.types import IPAMConfig, IPAMPool

from lab.errors import PartFailed
from lab.stack.compose import addresses, images
from lab.stack.compose.explain import explain, last_lines

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

CONNECT = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), {CONNECT_S})
except OSError:
    sys.exit({REFUSED})
"""


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
        labels: by which whoever made it finds it.
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
    """A listener on this machine: its address, and the one network that leads there."""

    host: str
    port: int
    network: str


@contextmanager
def outside(client: docker.DockerClient, labels: Mapping[str, str]) -> Iterator[Outside | None]:
    """Listen where no part of a replica has a network.

    None where the engine's networks are not this machine's: nobody can listen there.

    Raises:
        LabError: the engine refuses.
    """
    prefix = addresses.free_prefix(addresses.taken(client))
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
    """A port of this address that takes connections; None where the address is not here."""
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
