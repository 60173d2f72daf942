"""A network of its own for each replica, out of the range reserved for benchmarks."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable

import docker

from lab.errors import MachineError

RANGE = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544: for benchmarks of network devices, and routed by nobody."""


def taken(client: docker.DockerClient) -> list[str]:
    """The subnets of all networks that the engine has."""
    found = []
    for network in client.networks.list():
        for config in (network.attrs.get("IPAM") or {}).get("Config") or ():
            if subnet := config.get("Subnet"):
                found.append(str(subnet))
    return found


def free_prefix(subnets: Iterable[str]) -> str:
    """The first three numbers of a /24 that overlaps none of these, chosen at random.

    At random, so that two labs that start together rarely choose the same; where they do,
    the engine refuses the second, which then chooses again.

    Raises:
        MachineError: none is left.
    """
    used = [ipaddress.ip_network(subnet, strict=False) for subnet in subnets]
    free = [
        network
        for network in RANGE.subnets(new_prefix=24)
        if not any(network.overlaps(other) for other in used if other.version == network.version)
    ]
    if not free:
        raise MachineError(
            f"every network of {RANGE} is taken on this engine",
            "`lab down` removes what killed labs left, `docker network prune` the unused",
        )
    return str(secrets.choice(free).network_address).rpartition(".")[0]
