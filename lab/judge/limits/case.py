"""What the rules look at: one cell while its load was at its highest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum

from lab.judge.metrics import measure
from lab.judge.trial import readings, restricted, window_of
from lab.judge.users import at_peak
from lab.judge.validity import SATURATED
from lab.model.evidence import Cause, Observation, WorkerReading
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import StagesLoad
from lab.model.verdict import Candidate, Resource

QUEUED = 0.5
"""Share of the time for which somebody must be seen waiting before a full resource is a limit.

A resource that is just full holds nobody up: what limits is what others wait for.
"""

Of = Callable[[WorkerReading], float]


@dataclass(frozen=True)
class Case:
    """One cell's evidence.

    Args:
        cell: its knobs and load.
        metrics: of the whole window, for what is counted: failures, kills.
        peak: of the part of it in which a load in stages was near its most users; else the same.
        lives: the readings of that part, by worker.
    """

    cell: Cell
    metrics: Mapping[str, float]
    peak: Mapping[str, float]
    lives: Sequence[Sequence[WorkerReading]]

    @property
    def knobs(self) -> Knobs:
        """The cell's knobs."""
        return self.cell.knobs

    @property
    def on_vm(self) -> bool:
        """Whether the backend runs on the VM; on Cloud Run an instance is one worker."""
        return self.cell.target == "vm"

    @property
    def processes(self) -> float:
        """Workers of the VM, or the most instances that there were."""
        return self.knobs.workers if self.on_vm else self.metrics.get("instances", 0.0) or 1.0

    @property
    def threads(self) -> int:
        """Threads of a worker in which storage calls run, as many as may be in use."""
        knobs = self.knobs
        return self.cell.storage_slots // (
            knobs.workers if self.on_vm else knobs.cloudrun_max_instances
        )

    @property
    def connections(self) -> int:
        """Connections that a worker's pool may have out."""
        return self.knobs.pool_size + self.knobs.max_overflow

    @property
    def cores(self) -> float:
        """Cores that the backend may use, all instances together."""
        return self.knobs.vm_cpus if self.on_vm else self.processes * self.knobs.cloudrun_cpus

    @property
    def core(self) -> float:
        """Of one core, what a worker may use: its Python code runs on one at a time."""
        return 1.0 if self.on_vm else min(1.0, self.knobs.cloudrun_cpus)

    @property
    def memory(self) -> int | None:
        """Bytes that the backend, or an instance, may hold; None: no limit."""
        return self.knobs.vm_memory if self.on_vm else self.knobs.cloudrun_memory

    def failed(self, *causes: Cause) -> int:
        """How many uploads of the window failed with these causes."""
        return round(fsum(self.metrics.get(f"errors.{cause}", 0.0) for cause in causes))

    def of_attempts(self, count: int) -> str:
        """A count beside all attempts: ``41 of 100 uploads``."""
        return f"{count} of {self.metrics.get('attempts', 0):.0f} uploads"

    def share(self, count: int) -> float:
        """A count as a share of all attempts."""
        attempts = self.metrics.get("attempts", 0.0)
        return count / attempts if attempts else 0.0


def look_at(cell: Cell, observation: Observation, metrics: Mapping[str, float]) -> Case:
    """The case that a cell's observation makes; ``metrics`` are the cell's."""
    window, peak = window_of(cell, observation), metrics
    if isinstance(cell.load, StagesLoad):
        window = at_peak(cell.load)
        observation = restricted(observation, window)
        peak = measure(cell, observation)
    lives: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in readings(WorkerReading, observation.evidence, window):
        lives[reading.pid].append(reading)
    return Case(cell, metrics, peak, [lives[pid] for pid in sorted(lives)])


@dataclass(frozen=True)
class Fullness:
    """How full one kind of slot was in the worker where it was fullest.

    Args:
        level: mean share of the slots in use.
        peak: the most in use at once in any worker, be it another one.
        waiting: share of the readings in which somebody waited for one.
    """

    level: float
    peak: int
    waiting: float

    @property
    def at_limit(self) -> bool:
        """Whether it was full, and others waited for it."""
        return self.level >= SATURATED and self.waiting >= QUEUED


def fullness(case: Case, used: Of, waiting: Of, slots: int) -> Fullness | None:
    """Fullness of a kind of slot that each worker has ``slots`` of; None without readings."""
    found = [
        Fullness(
            level=mean([used(reading) for reading in life]) / slots,
            peak=int(max(used(reading) for reading in life)),
            waiting=mean([float(waiting(reading) > 0) for reading in life]),
        )
        for life in case.lives
    ]
    if not found:
        return None
    fullest = max(found, key=lambda one: (one.at_limit, one.level))
    return replace(fullest, peak=max(one.peak for one in found))


def percent(share: float) -> str:
    """A share as a whole percentage: ``99 %``."""
    return f"{share * 100:.0f} %"


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of at least one value."""
    return fsum(values) / len(values)


def refusals(case: Case, resource: Resource, causes: Sequence[Cause], why: str) -> Candidate:
    """A candidate that turns uploads away: its level is the share of them."""
    count = case.failed(*causes)
    evidence = f"{case.of_attempts(count)} were refused: {why}" if count else "refused nothing"
    return Candidate(
        resource=resource, level=case.share(count), at_limit=count > 0, evidence=evidence
    )
