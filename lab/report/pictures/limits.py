"""How much there is of what a load can fill, by the series that shows how much was in use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite

from lab.model.knobs import Knobs
from lab.model.physics import pool_connections
from lab.model.replica import Target, pooled
from lab.model.run import CellResult


def _processes(knobs: Knobs, target: Target) -> int:
    on_cloudrun = knobs.cloudrun_max_instances * knobs.cloudrun_workers
    return knobs.workers if target == "vm" else on_cloudrun


def _backpressure(knobs: Knobs, target: Target) -> float | None:
    most = knobs.max_inflight_uploads
    return None if most is None else most * _processes(knobs, target)


def _memory(knobs: Knobs, target: Target) -> float | None:
    """Of Cloud Run's instances files count too, which no worker's memory tells."""
    return knobs.vm_memory if target == "vm" else None


def _places(knobs: Knobs, target: Target) -> float | None:
    if target == "vm":
        return None
    return knobs.cloudrun_max_instances * knobs.cloudrun_concurrency


Limit = Callable[[Knobs, Target], float | None]

LIMITS: Mapping[str, Limit] = {
    "loop_busy": lambda _knobs, _target: 1.0,
    "uploads_inflight": _backpressure,
    "pool_checked_out": lambda knobs, target: pool_connections(knobs) * _processes(knobs, target),
    "pg_connections": lambda knobs, _: knobs.pooler_size if pooled(knobs) else knobs.db_cap,
    "threads_busy": lambda knobs, target: (
        knobs.storage_slots if target == "vm" else knobs.instance_slots
    ),
    "anyio_busy": lambda knobs, target: knobs.anyio_threads * _processes(knobs, target),
    "cpu_backend": lambda knobs, target: (
        knobs.vm_cpus if target == "vm" else knobs.cloudrun_max_instances * knobs.cloudrun_cpus
    ),
    "rss_backend": _memory,
    "gateway_inflight": _places,
}
"""A row a series, in its unit; None where there is no end to it."""


def limits(cell: CellResult) -> dict[str, float]:
    """Those of a cell, by the name of the series."""
    knobs = Knobs.model_validate(cell.knobs)
    found = {name: of(knobs, cell.target) for name, of in LIMITS.items()}
    return {name: float(most) for name, most in found.items() if most and isfinite(most)}
