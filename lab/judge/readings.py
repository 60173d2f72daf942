"""Metrics from the readings: what went on inside the replica and this machine.

Readings of the window count; of a running total, its growth between the first and the
last of them. Times in readings are real-world seconds, CPU is per wall-clock second, so a
stretch of time is divided by ``speed`` before CPU is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import fsum
from typing import TypeVar

from lab.judge.statistics import quantile
from lab.judge.window import readings, window_of
from lab.model.cell import Cell
from lab.model.observation import (
    Audit,
    DatabaseReading,
    Evidence,
    MachineReading,
    Observation,
    OomKill,
    WorkerReading,
)

STALE_WALL_S = 0.5
"""A worker that has not written for this long, at ten readings a second, is gone."""

R = TypeVar("R", WorkerReading, MachineReading)

BACKEND = "backend"
GENERATOR = "generator"

PEAKS: dict[str, Callable[[WorkerReading], float]] = {
    "pool_checked_out": lambda r: r.checked_out,
    "pool_waiting": lambda r: r.waiting,
    "threads_busy": lambda r: r.threads_busy,
    "threads_queued": lambda r: r.threads_queued,
    "uploads_inflight": lambda r: r.inflight,
    "rss_backend": lambda r: r.rss,
}


def reading_metrics(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric that the readings and the audit hold evidence for."""
    window, evidence = window_of(cell, observation), observation.evidence
    found: dict[str, float] = {}
    if workers := readings(WorkerReading, evidence, window):
        found |= _worker_metrics(workers, cell.knobs.speed)
    if database := readings(DatabaseReading, evidence, window):
        found["pg_connections"] = max(reading.connections for reading in database)
    if machine := readings(MachineReading, evidence, window):
        found |= _machine_metrics(machine, cell.knobs.speed)
    return found | _trial_metrics(evidence)


def peak_sum(
    workers: Sequence[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> float:
    """Peak of a figure summed over all workers, each with its latest reading.

    Workers write at moments of their own, a tenth of a wall-clock second apart; at each
    reading the others still stand as they last said.
    """
    return max((value for _, value in running_sum(workers, of, speed)), default=0.0)


def running_sum(
    workers: Sequence[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> Iterator[tuple[float, float]]:
    """Time of each reading, and the figure summed over all workers then."""
    latest: dict[int, WorkerReading] = {}
    for reading in workers:
        latest[reading.pid] = reading
        oldest = reading.t - STALE_WALL_S * speed
        yield reading.t, sum(of(other) for other in latest.values() if other.t >= oldest)


def _worker_metrics(workers: Sequence[WorkerReading], speed: float) -> dict[str, float]:
    found = {name: peak_sum(workers, of, speed) for name, of in PEAKS.items()}
    if all(reading.threads is not None for reading in workers):
        found["threads"] = peak_sum(workers, lambda r: r.threads or 0, speed)
    if all(reading.fds is not None for reading in workers):
        found["fds"] = peak_sum(workers, lambda r: r.fds or 0, speed)
    found["loop_lag"] = quantile(sorted(reading.loop_lag for reading in workers), 0.95)
    seconds = workers[-1].t - workers[0].t
    if seconds <= 0:
        return found
    by_pid: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in workers:
        by_pid[reading.pid].append(reading)
    lives = list(by_pid.values())
    cpu = [_growth(life, lambda r: r.cpu_s) * speed / seconds for life in lives]
    found["cpu_backend"] = fsum(cpu)
    found["cpu_worker_max"] = max(cpu)
    busy = [one for life in lives if (one := loop_busy(life, speed)) is not None]
    if len(busy) == len(lives):
        found["loop_busy"] = max(busy)
    found["gcs_attempts"] = fsum(_growth(life, lambda r: r.gcs_attempts) for life in lives)
    found["net_to_gcs"] = fsum(_growth(life, lambda r: r.gcs_bytes) for life in lives) / seconds
    return found


def loop_busy(life: Sequence[WorkerReading], speed: float) -> float | None:
    """Share of its time that one worker's event loop was busy; None where it was not read."""
    seconds = life[-1].t - life[0].t
    if seconds <= 0 or any(reading.loop_busy_s is None for reading in life):
        return None
    return min(1.0, _growth(life, lambda r: r.loop_busy_s or 0.0) * speed / seconds)


def _growth(life: Sequence[R], of: Callable[[R], float]) -> float:
    """Growth of a running total; it begins at 0 again where a part was started anew.

    In a container a worker has the same pid as the one before it.
    """
    totals = [of(reading) for reading in life]
    return fsum(now - before if now >= before else now for before, now in pairwise(totals))


def _machine_metrics(machine: Sequence[MachineReading], speed: float) -> dict[str, float]:
    found = {"cpu_machine": fsum(reading.cpu_share for reading in machine) / len(machine)}
    if held := [reading.memory[BACKEND] for reading in machine if BACKEND in reading.memory]:
        found["memory_backend"] = max(held)
    quota = [reading for reading in machine if BACKEND in reading.throttled_s]
    if len(quota) > 1 and quota[-1].t > quota[0].t:
        kept = _growth(quota, lambda r: r.throttled_s[BACKEND])
        found["throttled_backend"] = kept * speed / (quota[-1].t - quota[0].t)
    own = [reading for reading in machine if GENERATOR in reading.cpu_s]
    if len(own) > 1 and own[-1].t > own[0].t:
        used = _growth(own, lambda r: r.cpu_s[GENERATOR])
        found["cpu_generator"] = used * speed / (own[-1].t - own[0].t)
    return found


def _trial_metrics(evidence: Sequence[Evidence]) -> dict[str, float]:
    """What counts for the whole trial, its ramp and drain included."""
    found: dict[str, float] = {}
    watched = any(isinstance(line, WorkerReading | MachineReading | OomKill) for line in evidence)
    if watched:
        found["oom_kills"] = sum(isinstance(line, OomKill) for line in evidence)
    audits = [line for line in evidence if isinstance(line, Audit)]
    if audits:
        last = audits[-1]
        found |= {
            "db_refusals": last.refused,
            "orphans": max(0, len(last.orphans) - last.inflight),
            "lost": len(last.lost),
        }
    return found
