"""The replica's parts at a moment: each with what is in it, of how much, and who waits for it.

    users ─> nginx ─> workers ─> pool ─> Postgres
                              └> threads ─> storage

On Cloud Run its gateway stands in nginx's place, with the queue for an instance. A part is full
where nearly all of it is in use, and holds others up where somebody waits for it besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, isfinite

from lab.model.experiment import Cell
from lab.model.physics import (
    SATURATED,
    max_processes,
    pool_connections,
    worker_storage_slots,
)
from lab.model.replica import pooled
from lab.web.track import Frame


@dataclass(frozen=True)
class PartLevel:
    """A part of the replica.

    Args:
        key: by which the drawing places it.
        name: for people.
        used: what is in use, or inside, now; None where nothing tells.
        slots: of how much; None where it has no limit of its own.
        waiting: who waits for it.
        unit: what is counted.
    """

    key: str
    name: str
    used: float | None
    slots: float | None = None
    waiting: float = 0
    unit: str = ""

    @property
    def level(self) -> float | None:
        """How full it is, from 0 to 1; None where that is not known, or it has no limit."""
        if self.used is None or not self.slots:
            return None
        return min(1.0, self.used / self.slots)

    @property
    def full(self) -> bool:
        """Whether nearly all of it is in use."""
        return (self.level or 0.0) >= SATURATED

    @property
    def limiting(self) -> bool:
        """Whether others wait for it because it is full."""
        return self.full and self.waiting >= 1


def parts(cell: Cell, frame: Frame) -> tuple[PartLevel, ...]:
    """The parts on an upload's way, in its order."""
    knobs = cell.knobs
    processes = max_processes(cell) if cell.target == "vm" else _instances(cell, frame)
    slots, pool = worker_storage_slots(cell) * processes, pool_connections(knobs) * processes
    inside = _sum(frame, "inside")
    lent = _sum(frame, "checked_out")
    pooler = PartLevel("pooler", "PgBouncer", lent, None, 0, "clients")
    granted = frame.connections if frame.connections is not None else lent
    return (
        PartLevel("users", "users", max(frame.in_flight, inside or 0.0), None, 0, "under way"),
        _entrance(cell, frame, inside),
        _loops(frame, processes),
        PartLevel(
            *("pool", "connection pool", lent, pool if isfinite(pool) else None),
            *(_sum(frame, "waiting") or 0, "connections"),
        ),
        PartLevel(
            *("threads", "storage calls", _sum(frame, "threads_busy"), slots),
            *(_sum(frame, "threads_queued") or 0, "at once"),
        ),
        *([pooler] if pooled(knobs) else []),
        PartLevel("database", "Postgres", granted, knobs.db_cap, 0, "connections"),
        PartLevel("storage", "storage", _sum(frame, "threads_busy"), None, 0, "under way"),
    )


def _entrance(cell: Cell, frame: Frame, inside: float | None) -> PartLevel:
    """nginx, or Cloud Run's gateway with the queue before its instances."""
    if cell.target == "vm":
        outside = None if inside is None else max(0.0, frame.in_flight - inside)
        return PartLevel("entrance", "nginx", outside, None, 0, "in no worker yet")
    places = cell.knobs.cloudrun_max_instances * cell.knobs.cloudrun_concurrency
    told = frame.gateway
    if told is None:
        return PartLevel("entrance", "gateway", None, places, 0, "places")
    return PartLevel("entrance", "gateway", told["in_flight"], places, told["queue"], "places")


def _instances(cell: Cell, frame: Frame) -> int:
    """Processes of the instances that serve, one at least."""
    ready = frame.gateway["ready"] if frame.gateway else 1
    return max(1, ready) * cell.knobs.cloudrun_workers


def _loops(frame: Frame, processes: int) -> PartLevel:
    """The busiest worker's event loop; what else is inside that worker waits for it, if it is full.

    One with a single request inside keeps nobody waiting.
    """
    name = "event loop" if processes == 1 else f"{processes} event loops"
    unit = "of its time" if processes == 1 else "of the busiest"
    told = [
        (one.busy, one.counts.get("inside", 0.0)) for one in frame.workers if one.busy is not None
    ]
    if not told:
        return PartLevel("loops", name, None, 1.0, 0, unit)
    busy, inside = max(told)
    waiting = max(0.0, inside - 1) if busy >= SATURATED else 0.0
    return PartLevel("loops", name, busy, 1.0, waiting, unit)


def _sum(frame: Frame, name: str) -> float | None:
    """A count over all workers; None where no worker has told of any."""
    counts = [one.counts[name] for one in frame.workers if name in one.counts]
    return fsum(counts) if counts else None
