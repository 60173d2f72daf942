"""A strike: what befalls a part itself while the load runs, when, and for how long.

window begins ──at──> strike ──for──> brought back ──> it serves again

kill      at once (SIGKILL), whatever it was doing
pause     frozen: connections stay open and nobody answers
restart   ended in good order and started again, as for a release
stop      ended in good order and gone meanwhile
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.model.units import format_duration

PartName = Literal["backend", "postgres", "fake-gcs-server", "nginx"]
"""The parts that a strike may hit; Toxiproxy has ``down`` and its toxics for that."""

Action = Literal["kill", "pause", "restart", "stop"]

DONE: dict[Action, str] = {
    "kill": "killed",
    "pause": "paused",
    "restart": "restarted",
    "stop": "stopped",
}
"""What has been done to a part, in words."""


@dataclass(frozen=True)
class PlannedStrike:
    """A strike as its fault plans it.

    Args:
        fault: name of the fault.
        part: what is struck.
        action: how.
        at: when, in real-world seconds after the measured window begins.
        lasts: how long until it is brought back, in real-world seconds.
    """

    fault: str
    part: PartName
    action: Action
    at: float
    lasts: float

    def overlaps(self, other: PlannedStrike) -> bool:
        """Whether another strike hits the same part before this one is over, or the reverse."""
        first, second = sorted((self, other), key=lambda strike: strike.at)
        return self.part == other.part and second.at <= first.at + first.lasts

    def __str__(self) -> str:
        when = f"{self.action} at {format_duration(self.at)}"
        return f"{when}, for {format_duration(self.lasts)}" if self.lasts else when
