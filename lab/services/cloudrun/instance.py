"""What a driver of instances offers, whatever an instance is: a process, a container, a double."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Address = tuple[str, int]


class DriverError(Exception):
    """An instance could not be made, or not be ruled; one line that says why."""


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
        ...

    async def listening(self) -> bool:
        """Whether a TCP connection to its port is accepted now."""
        ...

    async def set_cpus(self, cpus: float) -> None:
        """Limit its CPU to so many cores, as a share of time."""
        ...

    async def pause(self) -> None:
        """Withhold its CPU; its memory and its connections stay."""
        ...

    async def resume(self) -> None:
        """Give it its CPU again."""
        ...

    async def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    async def kill(self) -> None:
        """Send SIGKILL; works on one that is paused, too."""
        ...

    async def ended(self) -> Ended:
        """Wait for its end."""
        ...

    def usage(self) -> Mapping[str, float]:
        """What it has used so far: ``cpu_s``, ``throttled_s``, ``peak_bytes``, where known."""
        ...

    async def look(self) -> float:
        """Read anew what `usage` tells; the moment that it is of, in seconds of some clock."""
        ...

    async def remove(self) -> None:
        """Remove all that it held, and end it if it lives; safe to call twice.

        Raises:
            DriverError: something is left over.
        """
        ...


class Driver(Protocol):
    """Makes instances."""

    async def start(self, name: str, cpus: float) -> Instance:
        """Make an instance and start it; it may listen later, or never.

        Raises:
            DriverError: it cannot be made.
        """
        ...
