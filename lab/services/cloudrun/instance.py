"""What a driver of instances offers, whatever an instance is: a process, a container, a double.

And where the gateway notes what happens to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Address = tuple[str, int]

HOST = "127.0.0.1"
PREFIX = "replica-lab-front-"
"""What the names of instances begin with; the gateway's process id follows."""
CPU_PERIOD_US = 100_000
"""Period of the CPU quota: the kernel's default, and Docker's."""
PROBE_WITHIN_S = 1.0
"""Seconds in which an instance that listens accepts a connection."""


class DriverError(Exception):
    """An instance could not be made, or not be controlled; one line that says why."""


@dataclass(frozen=True)
class Ended:
    """Why an instance is no more.

    Args:
        code: its exit code, negative for a signal; None where it is not known.
        oom: whether it was killed for passing its memory.
    """

    code: int | None
    oom: bool = False

    def __str__(self) -> str:
        if self.oom:
            return "out of memory"
        if self.code is None:
            return "gone"
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class Instance(Protocol):
    """One instance. Each call may raise DriverError; all but `usage` do nothing once it ended."""

    @property
    def address(self) -> Address:
        """Where it serves HTTP."""

    async def listening(self) -> bool:
        """Whether a TCP connection to its port is accepted now."""

    async def set_cpus(self, cpus: float) -> None:
        """Limit its CPU to so many cores, as a share of time."""

    async def pause(self) -> None:
        """Withhold its CPU; its memory and its connections stay."""

    async def resume(self) -> None:
        """Give it its CPU again."""

    async def terminate(self) -> None:
        """Send SIGTERM."""

    async def kill(self) -> None:
        """Send SIGKILL; works on one that is paused, too."""

    async def ended(self) -> Ended:
        """Wait for its end."""

    def usage(self) -> Mapping[str, float]:
        """What it has used so far: ``cpu_s``, ``throttled_s``, ``peak_bytes``, where known."""

    async def read_usage(self) -> float:
        """Read anew what `usage` gives.

        Returns:
            The moment of the reading, in seconds of some clock.
        """

    async def remove(self) -> None:
        """Remove all that it held, and end it if it lives; safe to call twice.

        Raises:
            DriverError: something is left over.
        """


class Driver(Protocol):
    """Makes instances."""

    async def start(self, name: str, cpus: float) -> Instance:
        """Make an instance and start it; it may listen later, or never.

        Raises:
            DriverError: it cannot be made.
        """


class EventLog(Protocol):
    """Where events go: of an instance's life, and of the requests to it.

    starting ready start_failed paused resumed idle sigterm sigkill died oom stopped stuck removed
    request_start request_end refused left
    reading (10 times a second, where something moved)    usage (twice a second, each instance)

    Durations are in seconds, memory in bytes.
    """

    def write(self, event: str, **fields: object) -> None:
        """Note an event."""


def process_runs(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for yet is none any more."""
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
