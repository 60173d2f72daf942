"""The verdict that a trial would have had on a machine with time to spare."""

from __future__ import annotations

from lab.model.evidence import Observation
from lab.model.readings import MachineReading

IDLE = 0.5
"""Share of this machine's CPU in use that is no reason for a cell to be invalid."""


def on_idle_machine(seen: Observation) -> Observation:
    """The same as on a machine that was idle enough: its own verdict might be that it was not."""
    evidence = tuple(
        line.model_copy(update={"cpu_share": IDLE}) if isinstance(line, MachineReading) else line
        for line in seen.evidence
    )
    return seen.model_copy(update={"evidence": evidence})
