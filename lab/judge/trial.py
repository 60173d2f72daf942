"""Which samples and readings of an observation count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from lab.model.evidence import (
    DatabaseReading,
    Evidence,
    GatewayReading,
    GatewayRequest,
    InstanceEvent,
    MachineReading,
    Observation,
    OomKill,
    ProcessFaultRecord,
    Sample,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.load import BurstLoad

Window = tuple[float, float]
"""Start and end in real-world seconds after the load started; the end is not in it."""

Reading = TypeVar(
    "Reading",
    WorkerReading,
    DatabaseReading,
    MachineReading,
    GatewayReading,
    GatewayRequest,
    InstanceEvent,
)


def window_of(cell: Cell, observation: Observation) -> Window:
    """The load's window; of a burst, the time until its last answer."""
    if isinstance(cell.load, BurstLoad) and observation.samples:
        return 0.0, max(sample.sent_at + sample.latency_s for sample in observation.samples)
    return cell.load.measured


def sent_in_window(cell: Cell, observation: Observation) -> list[Sample]:
    """The uploads that count: all of a burst, else those sent in the window."""
    if isinstance(cell.load, BurstLoad):
        return list(observation.samples)
    start, end = cell.load.measured
    return [sample for sample in observation.samples if start <= sample.sent_at < end]


def restricted(observation: Observation, window: Window) -> Observation:
    """What was sent, and read, within a part of the trial; what holds for all of it stays.

    So does how things stood at the front when the part began.
    """
    start, end = window
    timed = (
        *(WorkerReading, DatabaseReading, MachineReading, OomKill),
        *(GatewayReading, GatewayRequest, InstanceEvent),
    )
    stood = [line for line in readings(GatewayReading, observation.evidence) if line.t < start][-1:]
    return Observation(
        samples=tuple(s for s in observation.samples if start <= s.sent_at < end),
        evidence=tuple(
            line
            for line in observation.evidence
            if not isinstance(line, timed) or start <= line.t <= end or line in stood
        ),
    )


def readings(
    kind: type[Reading], evidence: Iterable[Evidence], window: Window | None = None
) -> list[Reading]:
    """The readings of one kind in the order of their times, of the window or of the whole trial."""
    start, end = window or (float("-inf"), float("inf"))
    found = [line for line in evidence if isinstance(line, kind) and start <= line.t <= end]
    return sorted(found, key=lambda reading: reading.t)


def kills(evidence: Iterable[Evidence]) -> list[float]:
    """When workers, or instances of Cloud Run, were killed for their memory, in order."""
    return sorted(
        line.t
        for line in evidence
        if isinstance(line, OomKill) or (isinstance(line, InstanceEvent) and line.event == "oom")
    )


def struck(observation: Observation) -> dict[str, ProcessFaultRecord]:
    """The strikes that happened, by fault."""
    return {
        line.fault: line for line in observation.evidence if isinstance(line, ProcessFaultRecord)
    }
