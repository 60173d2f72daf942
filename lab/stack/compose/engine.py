"""The Docker engine and Compose: whether they are here and new enough, and how to call them.

Their error messages become one line with its remedy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import docker
from docker.context import ContextAPI
from docker.errors import DockerException
from requests.exceptions import RequestException

from lab.errors import LabError, MachineError, MissingComponent, PartFailed
from lab.model.environment import ENGINE, child_environment
from lab.paths import ENGINE as INSTALL

OLDEST_API = "1.41"
"""Engine 20.10: the first whose one-shot statistics and event filters the lab needs."""

TIMEOUT_S = 30

LIMITS = {"MemoryLimit": "memory", "SwapLimit": "swap", "CpuCfsQuota": "CPU"}
"""What a Cloud Run container is limited in, by the engine's field that says it can do so."""

_OVERLAPS = r"Pool overlaps|networks have overlapping"
"""The first if two ranges are the same, the second if a range contains the other."""

_KNOWN: tuple[tuple[str, type[LabError], str, str], ...] = (
    # their message           the error         what is wrong                    the remedy
    (
        r"no space left on device",
        MachineError,
        "the engine's store is full",
        "free space there: `docker system df` shows what takes it",
    ),
    (
        r"(?:port is already allocated|address already in use)",
        MachineError,
        "a port that the replica needs was taken meanwhile",
        "run again, or choose another with --port",
    ),
    (
        r"(?:No such image|pull access denied|manifest unknown|not found: manifest)",
        MissingComponent,
        "an image of the replica is not on this engine",
        "`lab images` pulls or builds what is missing",
    ),
    (
        r"Range of CPUs is from",
        MachineError,
        "the engine has fewer cores than vm_cpus asks for",
        "set vm_cpus to what `docker info` shows, or less",
    ),
    (
        r"(?:Cannot connect to the Docker daemon|Is the docker daemon running|EOF$)",
        MachineError,
        "the Docker engine does not answer",
        f"start it, or {INSTALL}",
    ),
    (
        rf"(?:all predefined address pools have been fully subnetted|{_OVERLAPS})",
        MachineError,
        "the engine has no network left for the replica",
        "`lab down` removes what killed labs left, `docker network ls` shows the others",
    ),
)


def host() -> str | None:
    """The engine's address: DOCKER_HOST, else the current context's, as for the client.

    None stands for the platform's default socket.
    """
    if given := os.environ.get("DOCKER_HOST"):
        return given
    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return None
    return context.Host if context else None


def client_variables() -> dict[str, str]:
    """What another process needs to reach the same engine."""
    given = {name: os.environ[name] for name in ENGINE if name in os.environ}
    address = host()
    return given | ({"DOCKER_HOST": address} if address else {})


def connect() -> docker.DockerClient:
    """The engine.

    Raises:
        MissingComponent: it does not answer, or is too old.
    """
    address = host()
    try:
        # Checked first, because the SDK raises an error for an engine that is too old for it.
        client = docker.APIClient(address, OLDEST_API, TIMEOUT_S)
        about = client.version(api_version=False)
        client.close()
        engine, api = about["Version"], about["ApiVersion"]
        too_old = _numbers(api) < _numbers(OLDEST_API)
    except (DockerException, OSError, ValueError, KeyError, TypeError) as error:
        raise MissingComponent(
            f"the Docker engine at {address or 'its default socket'} does not answer",
            f"start it, {INSTALL}, or use --stack embedded",
        ) from error
    if too_old:
        raise MissingComponent(
            f"the Docker engine {engine} is too old (API {api})",
            "install Docker engine 20.10 or later, or use --stack embedded",
        )
    return docker.DockerClient(base_url=address, version=api, timeout=TIMEOUT_S)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def describe(client: docker.DockerClient) -> str:
    """The engine in a few words: its version, its API's, and where it is.

    Raises:
        MachineError: it does not answer.
    """
    with answering("give its version"):
        about = client.version()
    return f"{about['Version']} (API {about['ApiVersion']}) at {host() or 'its default socket'}"


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Turn an error of the engine inside the block into one of the machine.

    Raises:
        MachineError: the engine did not do ``what``.
    """
    try:
        yield
    except (DockerException, RequestException, OSError) as error:
        raise MachineError(
            f"the Docker engine did not {what}: {error}",
            "see whether it answers `docker info`, then `lab down`",
        ) from error


def require_limits(client: docker.DockerClient) -> None:
    """Check that the engine can limit a container as Cloud Run limits an instance.

    Raises:
        MissingComponent: it cannot, or does not answer.
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
    remedy = f"install the Compose plugin, {INSTALL}, or use --stack embedded"
    if shutil.which("docker") is None:
        raise MissingComponent("the command `docker` is not on PATH", remedy)
    done = run(["compose", "version", "--format", "json"])
    try:
        version = str(json.loads(done.stdout)["version"]).removeprefix("v")
        major = int(version.partition(".")[0])
    except (ValueError, KeyError, TypeError) as error:
        raise MissingComponent("Docker Compose v2 is not installed", remedy) from error
    if major < 2:
        raise MissingComponent(f"Docker Compose {version} is too old: 2 is needed", remedy)
    return version


def run(
    arguments: Sequence[str], variables: Mapping[str, str] | None = None, within: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run the client ``docker`` against the same engine, whatever its exit code.

    Of the user's variables it gets those alone that say where the engine is.

    Raises:
        MachineError: it did not end ``within`` these seconds.
    """
    env = child_environment({**client_variables(), **(variables or {})})
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


def overlaps(message: str) -> bool:
    """Whether Compose failed because another network has taken the addresses."""
    return re.search(_OVERLAPS, message) is not None


def explain(message: str) -> LabError:
    """The error for a message of the engine, or of ``docker compose`` on standard error."""
    last = _lines(message)[-1:] or ["no message"]
    for pattern, error, what, remedy in _KNOWN:
        if re.search(pattern, message, re.MULTILINE):
            return error(f"{what} ({last[0]})", remedy)
    return PartFailed(f"docker compose failed: {last[0]}", "see `docker compose ps`")


def last_lines(log: bytes, count: int = 3) -> str:
    """The end of a container's log, on one line."""
    return " | ".join(_lines(log.decode(errors="replace"))[-count:]) or "its log is empty"


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
