"""What Compose and the engine say when something is wrong, as one line with its remedy."""

from __future__ import annotations

import re

from lab.errors import LabError, MachineError, MissingComponent, PartFailed

_OVERLAPS = r"Pool overlaps|networks have overlapping"
"""The first where the ranges are the same, the second where one holds the other."""

_KNOWN: tuple[tuple[str, type[LabError], str, str], ...] = (
    # what they say           the error         what is wrong                    the remedy
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
        "`make images` pulls or builds what is missing",
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
        "start it, `make engine` (Debian, root)",
    ),
    (
        rf"(?:all predefined address pools have been fully subnetted|{_OVERLAPS})",
        MachineError,
        "the engine has no network left for the replica",
        "`lab down` removes what killed labs left, `docker network ls` shows the others",
    ),
)


def overlaps(said: str) -> bool:
    """Whether another network took the addresses meanwhile."""
    return re.search(_OVERLAPS, said) is not None


def explain(said: str) -> LabError:
    """The error for what ``docker compose`` said on standard error."""
    for pattern, error, what, remedy in _KNOWN:
        if re.search(pattern, said, re.MULTILINE):
            return error(f"{what} ({_last(said)})", remedy)
    return PartFailed(f"docker compose failed: {_last(said)}", "see `docker compose ps`")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def last_lines(log: bytes, count: int = 3) -> str:
    """The end of a container's log, on one line."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "its log is empty"
