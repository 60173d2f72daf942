"""What the lab made on an engine: found by its labels, removed by them, nothing else touched.

Every container, network and volume of a replica carries two labels: the replica's id, and
its owner as JSON (`lab.stack.owner.Owner`). A name is never a reason to touch anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from lab.errors import MachineError
from lab.stack.owner import Owner

ID_LABEL = "replica-lab.id"
OWNER_LABEL = "replica-lab.owner"
BY_HAND = "by-hand"
"""The owner of a replica that somebody brought up with Compose alone: it is never ours."""

REMOVE_WITHIN_S = 20.0


def containers(client: docker.DockerClient, replica: str) -> list[Any]:
    """A replica's containers, running or not; none that is removed at this moment."""
    return _mine(client.containers, replica, all=True, ignore_removed=True)


def _mine(collection: Any, replica: str, **options: Any) -> list[Any]:
    return list(collection.list(filters={"label": f"{ID_LABEL}={replica}"}, **options))


def owners(client: docker.DockerClient) -> Iterator[Owner]:
    """The owner of each replica that has anything on the engine, once.

    Raises:
        MachineError: the engine does not answer.
    """
    seen = set()
    try:
        for text in _labels(client):
            if text not in seen and text != BY_HAND:
                seen.add(text)
                yield Owner(**json.loads(text))
    except (DockerException, OSError) as error:
        raise MachineError(f"the engine does not list what it has: {error}") from error
    except (ValueError, TypeError) as error:
        raise MachineError(
            f"a label {OWNER_LABEL} on the engine is not the lab's", f"see {error}"
        ) from error


def _labels(client: docker.DockerClient) -> Iterator[str]:
    wanted = {"label": OWNER_LABEL}
    for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
        yield container.labels[OWNER_LABEL]
    for network in client.networks.list(filters=wanted):
        yield network.attrs["Labels"][OWNER_LABEL]
    for volume in client.volumes.list(filters=wanted):
        yield volume.attrs["Labels"][OWNER_LABEL]


def remove(client: docker.DockerClient, replica: str) -> int:
    """Remove all of a replica's containers, networks and volumes; how many there were.

    Raises:
        MachineError: something is still there after 20 s.
    """
    deadline = time.monotonic() + REMOVE_WITHIN_S
    count = 0
    while left := _left(client, replica):
        for thing, options in left:
            count += _remove(thing, options)
        if time.monotonic() > deadline and _left(client, replica):
            names = ", ".join(thing.name for thing, _ in left)
            raise MachineError(
                f"the engine still has {names}", "remove them by hand: docker rm, network rm"
            )
    return count


def _left(client: docker.DockerClient, replica: str) -> list[tuple[Any, dict[str, Any]]]:
    """Containers first: a network or a volume in use cannot be removed."""
    found = [(each, {"force": True, "v": True}) for each in containers(client, replica)]
    if found:
        return found
    networks: list[tuple[Any, dict[str, Any]]] = [
        (each, {}) for each in _mine(client.networks, replica)
    ]
    return networks + [(each, {"force": True}) for each in _mine(client.volumes, replica)]


def _remove(thing: Any, options: dict[str, Any]) -> int:
    try:
        thing.remove(**options)
    except NotFound:
        return 0
    except APIError as error:
        if error.status_code in (403, 409):  # in use for a moment more, or being removed already
            return 0
        raise
    return 1
