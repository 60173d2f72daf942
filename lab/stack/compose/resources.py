"""What the lab made on an engine, listed and removed by its labels; nothing else is touched.

Every container, network and volume of a replica carries two labels: the replica's id, and
its ownership as JSON (`lab.stack.ownership.Ownership`). Nothing is touched because of its
name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import docker
from docker.errors import APIError, NotFound

from lab.errors import MachineError
from lab.model.replica import Target, services
from lab.stack import ownership
from lab.stack.compose import engine
from lab.stack.ownership import Ownership

SERVICE_LABEL = "com.docker.compose.service"
ID_LABEL = "replica-lab.id"
OWNER_LABEL = "replica-lab.owner"
MISCOUNT_WITHIN_S = 5.0
REMOVE_WITHIN_S = 20.0
ASKED_BEFORE_S = 0.5
"""The engine may still make something that a client, dead by now, has asked for."""


def containers(client: docker.DockerClient, replica: str) -> list[Any]:
    """A replica's containers, newest first, running or not, but not those being removed."""
    return _mine(client.containers, replica, all=True, ignore_removed=True)


def _mine(collection: Any, replica: str, **options: Any) -> list[Any]:
    return list(collection.list(filters={"label": f"{ID_LABEL}={replica}"}, **options))


def ownerships(client: docker.DockerClient) -> Iterator[Ownership]:
    """The ownership of every replica that has anything on the engine.

    Raises:
        MachineError: the engine does not answer.
    """
    with engine.answering("list what it has"):
        labels = set(_labels(client))
    for replica, text in sorted(labels):
        with suppress(ValueError):  # brought up by hand, or not the lab's
            mine = ownership.parse(text)
            if mine.id == replica and mine.stack == "compose":
                yield mine


def _labels(client: docker.DockerClient) -> Iterator[tuple[str, str]]:
    """The id and the ownership on everything that has both."""
    wanted = {"label": [ID_LABEL, OWNER_LABEL]}
    for container in client.containers.list(all=True, filters=wanted, ignore_removed=True):
        yield container.labels[ID_LABEL], container.labels[OWNER_LABEL]
    for other in (*client.networks.list(filters=wanted), *client.volumes.list(filters=wanted)):
        yield other.attrs["Labels"][ID_LABEL], other.attrs["Labels"][OWNER_LABEL]


def remove(client: docker.DockerClient, replica: str) -> int:
    """Remove all containers, networks and volumes of a replica; returns how many there were.

    May run several times at once: in the lab itself, its guardian, another lab's cleanup.

    What the engine itself cannot remove (`_is_miscounted`) is left to its next start.

    Raises:
        MachineError: something is still there after 20 s, or the engine does not answer.
    """
    with engine.answering(f"remove {replica}"):
        return _remove_all(client, replica)


def _remove_all(client: docker.DockerClient, replica: str) -> int:
    began = time.monotonic()
    count, looked_in_vain = 0, 0
    while looked_in_vain < 2:
        if not (left := _left(client, replica)):
            looked_in_vain += 1
            time.sleep(ASKED_BEFORE_S if looked_in_vain == 1 else 0)
            continue
        looked_in_vain = 0
        with ThreadPoolExecutor() as pool:
            outcomes = list(zip(left, pool.map(_remove, left), strict=True))
        refused = [(thing, error) for (thing, _), error in outcomes if error]
        count += len(left) - len(refused)
        waited = time.monotonic() - began
        if refused and waited > MISCOUNT_WITHIN_S and all(_is_miscounted(*one) for one in refused):
            return count
        if refused and waited > REMOVE_WITHIN_S:
            names = ", ".join(thing.name for thing, _ in refused)
            raise MachineError(
                f"the engine still has {names}: {refused[0][1]}",
                "remove them by hand: docker rm, network rm, volume rm",
            )
    return count


def _is_miscounted(thing: Any, error: APIError) -> bool:
    """Whether the engine keeps an empty network of ours for an endpoint that is gone.

    Engine 20.10 now and then loses count of a network's endpoints where several containers start
    and end at once, and refuses to remove it until it starts anew itself, when it says "Fixing
    inconsistent endpoint_cnt". Nothing is in such a network, and no lab can do more about it.
    """
    if "has active endpoints" not in str(error):
        return False
    try:
        thing.reload()
    except NotFound:  # removed meanwhile, by another that cleans up
        return False
    return not thing.containers


def _left(client: docker.DockerClient, replica: str) -> list[tuple[Any, dict[str, Any]]]:
    """What to remove next: containers first, since a network or volume in use cannot go."""
    left: list[tuple[Any, dict[str, Any]]] = [
        (container, {"force": True, "v": True}) for container in containers(client, replica)
    ]
    if left:
        return left
    left += [(network, {}) for network in _mine(client.networks, replica)]
    return left + [(volume, {"force": True}) for volume in _mine(client.volumes, replica)]


def _remove(left: tuple[Any, dict[str, Any]]) -> APIError | None:
    """Remove a thing; the error if it is still in use, or is being removed already."""
    thing, options = left
    try:
        thing.remove(**options)
    except NotFound:
        return None
    except APIError as error:
        return error
    return None


def down_services(replica: str, target: Target = "vm", with_pooler: bool = False) -> list[str]:
    """The parts of a replica that have no running container, and should have one.

    Raises:
        MissingComponent: the engine does not answer.
    """
    client = engine.connect()
    try:
        running = {
            container.labels.get(SERVICE_LABEL)
            for container in containers(client, replica)
            if container.status == "running"
        }
    finally:
        client.close()
    return [part for part in services(target, with_pooler) if part not in running]
