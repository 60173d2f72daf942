"""The Docker engine and Compose: are they here, and new enough?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import docker
from docker.context import ContextAPI
from docker.errors import DockerException

from lab.errors import MachineError, MissingComponent

OLDEST_API = (1, 41)
"""Engine 20.10: the first whose one-shot statistics and event filters the lab needs."""

TIMEOUT_S = 30


def host() -> str | None:
    """The engine's address: DOCKER_HOST, else the current context's, as the client's is.

    None is the platform's default socket.
    """
    if given := os.environ.get("DOCKER_HOST"):
        return given
    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return None
    return context.Host if context else None


def connect() -> docker.DockerClient:
    """The engine.

    Raises:
        MissingComponent: it does not answer, or is too old.
    """
    where = host()
    try:
        client = docker.DockerClient(base_url=where, version="auto", timeout=TIMEOUT_S)
        about = client.version()
    except (DockerException, OSError) as error:
        raise MissingComponent(
            f"the Docker engine at {where or 'its default socket'} does not answer",
            "start it, `make engine` (Debian, root), or use --stack embedded",
        ) from error
    if tuple(map(int, about["ApiVersion"].split("."))) < OLDEST_API:
        client.close()
        raise MissingComponent(
            f"the Docker engine {about['Version']} is too old (API {about['ApiVersion']})",
            "install Docker engine 20.10 or later, or use --stack embedded",
        )
    return client


LIMITS = {"MemoryLimit": "memory", "SwapLimit": "swap", "CpuCfsQuota": "CPU"}
"""What a container of Cloud Run is limited in, by the field in which the engine says it can."""


def require_limits(client: docker.DockerClient) -> None:
    """Whether the engine can limit a container as Cloud Run limits an instance.

    Raises:
        MissingComponent: not so, or it does not answer.
    """
    try:
        about = client.info()
    except (DockerException, OSError) as error:
        raise MissingComponent(f"the Docker engine does not answer: {error}") from error
    if lacking := [name for field, name in LIMITS.items() if not about.get(field)]:
        raise MissingComponent(
            f"an instance cannot be limited here: the engine limits no {', '.join(lacking)}",
            "boot the kernel with cgroup_enable=memory swapaccount=1, or use --stack embedded",
        )


def compose_version() -> str:
    """The version of Compose.

    Raises:
        MissingComponent: there is no client, or Compose v2 is not among its plugins.
    """
    remedy = "install the Compose plugin, `make engine` (Debian, root), or use --stack embedded"
    if shutil.which("docker") is None:
        raise MissingComponent("the command `docker` is not on PATH", remedy)
    done = run(["compose", "version", "--format", "json"])
    try:
        version = str(json.loads(done.stdout)["version"]).removeprefix("v")
    except (ValueError, KeyError) as error:
        raise MissingComponent("Docker Compose v2 is not installed", remedy) from error
    if int(version.partition(".")[0]) < 2:
        raise MissingComponent(f"Docker Compose {version} is too old: 2 is needed", remedy)
    return version


def run(
    arguments: Sequence[str], variables: Mapping[str, str] | None = None, within: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run the client ``docker`` against the same engine, whatever its exit code.

    No variable of the lab's reaches it but those given.

    Raises:
        MachineError: it did not end ``within`` these seconds.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LAB_")}
    where = host()
    env = {**clean, **({"DOCKER_HOST": where} if where else {}), **(variables or {})}
    try:
        return subprocess.run(  # noqa: S603 - the engine's own client
            ["docker", *arguments],  # noqa: S607 - wherever it is on PATH
            env=env,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"`docker {' '.join(arguments[:1])}` did not end within {within:.0f} s",
            "see whether the engine answers `docker info`",
        ) from error
