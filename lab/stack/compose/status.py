"""Is a replica of containers whole?"""

from __future__ import annotations

from lab.stack.compose import engine, resources
from lab.stack.compose.events import SERVICE_LABEL

PARTS = ("postgres", "fake-gcs-server", "toxiproxy", "backend", "nginx")


def down_services(replica: str) -> list[str]:
    """The parts of a replica that have no running container.

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
    return [part for part in PARTS if part not in running]
