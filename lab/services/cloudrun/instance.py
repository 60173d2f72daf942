"""What a driver of instances offers, whether they are processes, containers or test doubles.

Also the log in which the gateway notes what happens to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Address = tuple[str, int]

HOST = "127.0.0.1"
CPU_PERIOD_US = 100_000
"""Period of the CPU quota: the kernel's default, and Docker's."""
PROBE_WITHIN_S = 1.0
"""Seconds within which an instance that listens accepts a connection."""


class DriverError(Exception):
    """An instance could not be made or controlled; the message is a line that says why."""


@dataclass(frozen=True)
class Ended:
    """How an instance ended.

    Args:
        code: its exit code, negative for a signal; None if unknown.
        oom: whether it was killed for exceeding its memory.
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
    """An instance. Calls may raise DriverError; after its end all but `usage` do nothing."""

    @property
    def address(self) -> Address:
        """Where it serves HTTP."""

    async def listening(self) -> bool:
        """Whether a TCP connection to its port is accepted now."""

    async def health(self, within: float) -> str:
        """Why /health was not answered well within so many seconds; empty if it was."""

    async def set_cpus(self, cpus: float) -> None:
        """Limit its CPU time, in cores; fractions are shares of time."""

    async def pause(self) -> None:
        """Withhold its CPU; it keeps memory and connections."""

    async def resume(self) -> None:
        """Give its CPU back."""

    async def terminate(self) -> None:
        """Send SIGTERM."""

    async def kill(self) -> None:
        """Send SIGKILL; ends a paused instance too."""

    async def ended(self) -> Ended:
        """Wait for its end."""

    def usage(self) -> Mapping[str, float]:
        """What it has used so far: ``cpu_s``, ``throttled_s``, ``peak_bytes``, where known."""

    async def withheld(self) -> str:
        """How its CPU is withheld now, in a few words; empty if it is not."""

    async def read_usage(self) -> float:
        """Refresh what `usage` gives.

        Returns:
            The time of the reading, in seconds of some clock.
        """

    async def remove(self) -> None:
        """End it, if it is alive, and remove all that it has; safe to call twice.

        Raises:
            DriverError: something could not be removed.
        """


class Driver(Protocol):
    """Makes instances."""

    async def start(self, name: str, cpus: float) -> Instance:
        """Make and start an instance, which may listen later or never.

        Raises:
            DriverError: it cannot be made.
        """


class EventLog(Protocol):
    """The log of events: of instances' lives, and of the requests to them.

    starting ready start_failed paused resumed idle sigterm sigkill died oom stopped frozen stuck
    removed
    probe_failed probe_ended
    request_start request_end refused left
    beat (10 times a second)    reading (as often, if something changed)
    usage (twice a second, each instance)

    Durations are in seconds, memory in bytes.
    """

    def write(self, event: str, **fields: object) -> None:
        """Note an event."""
