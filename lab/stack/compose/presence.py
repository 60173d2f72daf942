"""Is all that the compose stack needs on this machine?"""

from __future__ import annotations

import docker

from lab.errors import LabError
from lab.stack.compose import engine, images

WHOLE = "an engine, Compose and every image are here"


def require() -> None:
    """Find out whether the compose stack can be used.

    Raises:
        LabError: the first thing that is missing, with its remedy.
    """
    client = engine.connect()
    try:
        engine.compose_version()
        images.require(client)
    finally:
        client.close()


def preferred() -> tuple[str, str]:
    """The stack that ``auto`` means here, and why in a few words."""
    try:
        require()
    except LabError as error:
        return "embedded", error.what
    return "compose", WHOLE


def about(client: docker.DockerClient) -> str:
    """The engine in a few words."""
    with engine.answering("tell its version"):
        found = client.version()
    where = engine.host() or "its default socket"
    return f"{found['Version']} (API {found['ApiVersion']}) at {where}"
