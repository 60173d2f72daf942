"""Single services of the Compose file, each started by testcontainers as the file says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import docker
from docker.types import IPAMConfig, IPAMPool
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from lab.model.knobs import Knobs
from lab.model.replica import DATABASE, SUPERUSER
from lab.paths import ROOT
from lab.stack import ports
from lab.stack.compose import images, project
from lab.stack.compose.confinement import CONFINED
from lab.stack.compose.environment import variables
from lab.stack.compose.passwords import ROLES, write
from tests.unit.stack.test_compose_file import MODEL, REFERENCE, SERVICES

PASSWORD = "only-in-this-test"


def network(client: docker.DockerClient, labels: Mapping[str, str]) -> Network:
    """A network of its own, out of the lab's range, that leads nowhere."""
    prefix = project.free_prefix(project.taken_subnets(client))
    return Network(
        docker_network_kw={
            "driver": "bridge",
            "options": {"com.docker.network.bridge.enable_ip_masquerade": "false"},
            "ipam": IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/24")]),
            "labels": dict(labels),
        }
    )


def service(
    name: str,
    knobs: Knobs,
    network: Network,
    published: Mapping[int, int],
    labels: Mapping[str, str],
    secrets: Path,
) -> DockerContainer:
    """A service of the Compose file, to be entered as a context.

    Args:
        name: as the file names it; so it is known in the network.
        published: port on 127.0.0.1 by port of the container. testcontainers itself would
            publish on every address of the machine.
        secrets: folder for the passwords' files.
    """
    write(secrets, dict.fromkeys(ROLES, PASSWORD))
    values = variables(knobs) | images.tags() | {"LAB_SECRETS": str(secrets)}
    found: dict[str, Any] = SERVICES[name]

    def filled(text: str) -> str:
        return REFERENCE.sub(lambda reference: values[reference[1]], text)

    image = values[REFERENCE.match(found["image"])[1]]  # type: ignore[index] # each is a variable
    made = (
        PostgresContainer(image, username=SUPERUSER, password=PASSWORD, dbname=DATABASE)
        if name == "postgres"
        else DockerContainer(image)
    )
    made.with_command([filled(word) for word in found["command"]])
    for key, value in found.get("environment", {}).items():
        if key != "POSTGRES_PASSWORD_FILE":  # testcontainers hands the password itself
            made.with_env(key, filled(value))
    for volume in found.get("volumes", ()):
        source, target = filled(volume).split(":")[:2]
        if source.startswith("."):
            made.with_volume_mapping(ROOT / "compose" / source, target)
        else:
            made.with_tmpfs_mount(target, owned_by(found["user"]))
    for secret in found.get("secrets", ()):
        file = filled(MODEL["secrets"][secret]["file"])
        made.with_volume_mapping(file, f"{project.SECRETS}/{secret}")
    for mount in found.get("tmpfs", ()):
        target, _, options = filled(mount).partition(":")
        made.with_tmpfs_mount(target, options)
    made.ports = {f"{inner}/tcp": (ports.HOST, outer) for inner, outer in published.items()}  # type: ignore[misc] # what the SDK takes
    made.with_network(network).with_network_aliases(name, *aliases(found["networks"]))
    entrypoint = {"entrypoint": unescaped(found["entrypoint"])} if "entrypoint" in found else {}
    limits = {"mem_limit": found["mem_limit"], "memswap_limit": found["mem_limit"]}
    user = {"user": found["user"], "pids_limit": found["pids_limit"], "labels": dict(labels)}
    return made.with_kwargs(**CONFINED | limits | user | entrypoint)


def aliases(networks: list[str] | dict[str, Any]) -> list[str]:
    """The further names that a service has in any of its networks."""
    options = networks.values() if isinstance(networks, dict) else ()
    return [alias for given in options if given for alias in given["aliases"]]


def unescaped(words: list[str]) -> list[str]:
    """As Compose hands them on: ``$$`` is its ``$``."""
    return [word.replace("$$", "$") for word in words]


def owned_by(user: str) -> str:
    """Options of a tmpfs that stands for a volume of that user."""
    uid, gid = user.split(":")
    return f"uid={uid},gid={gid},mode=700"
