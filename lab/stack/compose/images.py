"""Which images the replica runs on, and where each came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

from lab.errors import MachineError, MissingComponent

COMPOSE = Path(__file__).parents[3] / "compose"
CHOSEN = COMPOSE / ".env"
"""What `make images` wrote: the tag of each image on this machine, and passwords."""

OFFICIAL = {
    "LAB_NGINX_IMAGE": "nginx:1.31.3",
    "LAB_POSTGRES_IMAGE": "postgres:18.6",
    "LAB_STORAGE_IMAGE": "fsouza/fake-gcs-server:1.56.1",
    "LAB_TOXIPROXY_IMAGE": "ghcr.io/shopify/toxiproxy:2.12.0",
    "LAB_BACKEND_IMAGE": "replica-lab/backend:0.1.0",
}
"""The defaults of the Compose file."""

ORIGIN_LABEL = "replica-lab.origin"


@dataclass(frozen=True)
class Image:
    """One image on this engine: ``origin`` is ``official``, ``stand-in`` or ``built``."""

    variable: str
    tag: str
    id: str
    origin: str


def tags(chosen: Path = CHOSEN) -> dict[str, str]:
    """The tag of each image, by the variable of the Compose file that names it."""
    found = dict(OFFICIAL)
    for line in chosen.read_text().splitlines() if chosen.exists() else ():
        name, _, value = line.partition("=")
        if name in found and value:
            found[name] = value.strip()
    return found


def present(client: docker.DockerClient, wanted: dict[str, str]) -> dict[str, Image]:
    """Those of the wanted images that this engine has, by variable.

    Raises:
        MachineError: the engine does not answer.
    """
    found = {}
    try:
        for variable, tag in wanted.items():
            try:
                image = client.images.get(tag)
            except ImageNotFound:
                continue
            origin = (image.labels or {}).get(ORIGIN_LABEL, "official")
            found[variable] = Image(variable, tag, image.id.removeprefix("sha256:")[:12], origin)
    except DockerException as error:
        raise MachineError(f"the engine does not list its images: {error}") from error
    return found


def require(client: docker.DockerClient) -> dict[str, Image]:
    """Every image that the replica needs.

    Raises:
        MissingComponent: one is not on this engine.
    """
    wanted = tags()
    found = present(client, wanted)
    missing = [tag for variable, tag in wanted.items() if variable not in found]
    if missing:
        raise MissingComponent(
            f"the engine has no image {', '.join(missing)}",
            "`make images` pulls or builds what is missing; or use --stack embedded",
        )
    return found
