"""Is a replica of containers whole?"""

from __future__ import annotations

from lab.model.target import PARTS, Target
from lab.stack.compose import engine, resources
from lab.stack.compose.events import SERVICE_LABEL


def services(target: Target) -> tuple[str, ...]:
    """The parts of a target that are containers: the front runs on the host."""
    return tuple(part for part in PARTS[target] if part != "front")


def down_services(replica: str, target: Target = "vm") -> list[str]:
    """The parts of a replica that have no running container, and should have one.

    Raises:
        MissingComponent: the engine does not answer.
    """
    client = engine.connect()
    try:
        running = {
            each.labels.get(SERVICE_LABEL)
            for each in resources.containers(client, replica)
            if each.status == "running"
        }
    finally:
        client.close()
    return [part for part in services(target) if part not in running]
