"""A container in the place of another, where only knobs have changed.

Compose makes a part's first container. The next one is made from what the engine has of that
one, with what follows from the knobs changed: it is what Compose would have made (a test
holds the one against the other), and no client has to read the file, ask the engine for
everything, and do one thing after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import docker
from docker.errors import APIError, DockerException

from lab.errors import MachineError
from lab.stack.compose.resources import SERVICE_LABEL

HASH = "com.docker.compose.config-hash"
"""Label by which Compose knows its containers, and whether one is still what its file says."""
NOT_BY_COMPOSE = "replica-lab"
REPLACED = "com.docker.compose.replace"
"""Label that names what a container has replaced."""

MAX_CONNECTIONS = re.compile(r"-cmax_connections=\d+")
SITE = re.compile(r"/nginx/[a-z-]+(\.conf\.template:/etc/nginx/templates/site\.conf\.template:ro)")
NANO = 10**9


def replace(client: docker.DockerClient, old: Any, values: Mapping[str, str]) -> Any:
    """End a container and make the one that takes its place, not started yet.

    The next one is made while the old one ends, so under another name. It starts when the old
    one is dead: taken off its network first, that one would leave its connections half open at
    Toxiproxy, and with them the database's. It is left, without its name, for the caller to
    remove.

    Args:
        old: in any state; its attributes are those that the engine has.
        values: all variables that the Compose file asks for.

    Raises:
        MachineError: its image was built or pulled anew: results would be of two.
        DockerException: the engine refuses.
    """
    image = old.attrs["Config"]["Image"]
    if client.api.inspect_image(image)["Id"] != old.attrs["Image"]:
        raise MachineError(f"the image {image} has changed since the replica started", "run again")
    name, own = old.name, old.id[:12]
    with ThreadPoolExecutor(1) as beside:
        ending = beside.submit(_end, old)
        made = _make(client, old, values, f"{own}-next-{name}")
    try:
        ending.result()
        # The engine holds it until its address and its ports are free: then the name is, too.
        old.rename(f"{own}-{name}")
        client.api.rename(made, name)
    except DockerException:
        client.api.remove_container(made, force=True)
        raise
    return client.containers.get(made)


def _end(old: Any) -> None:
    """Kill a container, and have it dead; one that is not running is so already."""
    try:
        old.kill()
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise


def _make(client: docker.DockerClient, old: Any, values: Mapping[str, str], name: str) -> str:
    """The id of the next container, on the networks that the old one is on."""
    primary, *others = _networks(old.attrs).items()
    body = successor(old.attrs, values)
    body["NetworkingConfig"] = {"EndpointsConfig": dict([primary])}
    made = str(client.api.create_container_from_config(body, name)["Id"])
    for network, endpoint in others:
        aliases = endpoint["Aliases"]
        client.api.connect_container_to_network(made, network, aliases=aliases)
    return made


def successor(attrs: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    """What the engine is to make: as it has the old one, but for what follows from knobs."""
    config, host = attrs["Config"], attrs["HostConfig"]
    made = {name: value for name, value in config.items() if name != "Hostname"}  # its own id
    made["Labels"] = {k: v for k, v in config["Labels"].items() if k != REPLACED}
    made["Labels"][HASH] = NOT_BY_COMPOSE
    made["Env"] = [_variable(line, values) for line in config["Env"]]
    limit = f"-cmax_connections={values['LAB_MAX_CONNECTIONS']}"
    made["Cmd"] = [MAX_CONNECTIONS.sub(limit, word) for word in config["Cmd"] or ()]
    site = rf"/nginx/{values['LAB_NGINX']}\1"
    binds = [SITE.sub(site, bind) for bind in host["Binds"] or ()]
    limits = _limits(values) if config["Labels"][SERVICE_LABEL] == "backend" else {}
    return made | {"HostConfig": host | {"Binds": binds or None} | limits}


def _limits(values: Mapping[str, str]) -> dict[str, int]:
    memory = int(values["LAB_VM_MEMORY_BYTES"])
    cpus = round(float(values["LAB_VM_CPUS"]) * NANO)
    return {"NanoCpus": cpus, "Memory": memory, "MemorySwap": memory}


def _variable(line: str, values: Mapping[str, str]) -> str:
    """``NAME=value`` with the value of now, where the name is one of the variables."""
    name, _, value = line.partition("=")
    return f"{name}={values.get(name, value)}"


def _networks(attrs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What was asked for of each network, that of the container's mode first."""
    found = attrs["NetworkSettings"]["Networks"]
    own = attrs["Id"][:12]  # an alias that the engine adds
    asked = {
        name: {
            "IPAMConfig": endpoint["IPAMConfig"],
            "Aliases": [alias for alias in endpoint["Aliases"] or () if alias != own],
        }
        for name, endpoint in found.items()
    }
    first = attrs["HostConfig"]["NetworkMode"]
    return {first: asked.pop(first), **asked}
