"""How long a run will take: for ``--dry-run`` and for the time left."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.cell import Cell
from lab.model.load import end_of

OVERHEAD_S = 5.0
"""Wall-clock seconds between two loads: parts restarted, faults armed, generator started, audit."""

DB_ROUND_TRIPS = 7
"""An upload's round trips to the database: auth 2, release 1, write 4."""


def estimate(cells: Sequence[Cell]) -> float:
    """Wall-clock seconds that a run of these cells most likely takes."""
    return sum(OVERHEAD_S + (end_of(c.load) + drain(c)) / c.knobs.speed for c in cells)


def drain(cell: Cell) -> float:
    """Real-world seconds from the last request sent to the last answer: a guess.

    The users there are, each in turn on one of the workers' upload slots, for one upload's
    service time (Little's law at saturation); no longer than the client waits.
    """
    turns = max(1.0, cell.load.peak_users / slots(cell))
    return min(cell.load.timeout, service_s(cell) * turns)


def service_s(cell: Cell) -> float:
    """Real-world seconds of an upload that waits for nobody: storage, and the database's trips."""
    return cell.knobs.gcs_latency.mean + DB_ROUND_TRIPS * cell.knobs.db_rtt.mean


def slots(cell: Cell) -> int:
    """Uploads that can be inside a storage call at once: threads, or connections held for them."""
    knobs = cell.knobs
    if knobs.db_session == "release":
        return cell.storage_slots
    processes = knobs.workers if cell.target == "vm" else knobs.cloudrun_max_instances
    return min(cell.storage_slots, processes * (knobs.pool_size + knobs.max_overflow))
