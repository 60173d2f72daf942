"""Things on the engine that look like a replica's and are not: nobody may touch them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
from docker.types import IPAMConfig, IPAMPool

from lab.stack.compose import images, project
from lab.stack.compose.resources import ID_LABEL, OWNER_LABEL

STAYS = ["python", "-ISc", "import time; time.sleep(3600)"]

LABELS: tuple[dict[str, str], ...] = (
    {},
    {ID_LABEL: "by-hand", OWNER_LABEL: "by-hand"},
    {ID_LABEL: "replica-lab-other", OWNER_LABEL: '{"id": "of another program"}'},
)


@dataclass(frozen=True)
class LookAlikes:
    """Containers, networks and volumes, one of each for each of `LABELS`."""

    containers: list[Any]
    networks: list[Any]
    volumes: list[Any]

    def assert_untouched(self) -> None:
        """All are there, and the containers run as they did."""
        for container in self.containers:
            started = container.attrs["State"]["StartedAt"]
            container.reload()
            assert container.attrs["State"]["Running"]
            assert container.attrs["State"]["StartedAt"] == started
        for each in (*self.networks, *self.volumes):
            each.reload()  # raises where it is not there


@contextmanager
def lookalikes(client: docker.DockerClient, name: str) -> Iterator[LookAlikes]:
    """Make them, with names as the lab's own would have; removed at the end."""
    made = LookAlikes([], [], [])
    try:
        for number, labels in enumerate(LABELS):
            named = f"replica-lab-{name}-{number}"
            prefix = project.free_prefix(project.taken_subnets(client))
            pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/28")])
            network = client.networks.create(f"{named}_near", ipam=pool, labels=labels)
            made.networks.append(network)
            made.volumes.append(client.volumes.create(f"{named}_spool", labels=labels))
            container = client.containers.create(
                images.tags()["LAB_BACKEND_IMAGE"],
                STAYS,
                name=f"{named}-backend-1",
                labels=labels,
                network=network.name,
                volumes=[f"{named}_spool:/tmp"],
            )
            made.containers.append(container)
            container.start()
            container.reload()
        yield made
    finally:
        for container in made.containers:
            container.remove(force=True)
        for each in (*made.networks, *made.volumes):
            each.remove()
