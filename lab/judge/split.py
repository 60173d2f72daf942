"""Whether the limit is how uploads are split among workers: one is full, and another is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum, isfinite
from statistics import fmean

from lab.judge.capacity_bound import CALLS, SERVED, mean_stages
from lab.judge.levels import Gauge, Level, fullness_of, loop_of
from lab.judge.trial import Trial
from lab.judge.workers import several, uploads_by_worker
from lab.model.evidence import WorkerReading
from lab.model.journeys import Journey
from lab.model.load import BurstLoad, OpenLoad
from lab.model.physics import SATURATED, pool_connections, worker_storage_slots
from lab.model.units import percent

GAIN = 0.05
"""How much more an even split has to carry to be what is wanting: a measured rate is told from its
law no better than that."""


def split_level(trial: Trial) -> Level | None:
    """How uneven the split was: 0 where all workers had as much, 1 where one had it all.

    At the limit where one worker is full with a queue, another is not, and an even split would
    carry more. None without several workers, of which every one was read and none replaced.
    """
    uploads, lives, workers = uploads_by_worker(trial), trial.by_worker, trial.knobs.workers
    if not several(trial) or not uploads or len(lives) != workers:
        return None
    share = max(uploads.values()) / uploads.total()
    level = (share * workers - 1) / (workers - 1)
    full = [is_full(trial, life) for life in lives]
    rate, even = trial.metrics.get("throughput", 0.0), carried_evenly(trial)
    if not any(full) or all(full) or even is None or even < rate * (1 + GAIN):
        evidence = f"the busiest of {workers} workers had {percent(share)} of the uploads"
        return Level(level, False, evidence)
    slots = worker_storage_slots(trial.cell)
    idlest = min(fmean(reading.threads_busy / slots for reading in life) for life in lives)
    evidence = (
        f"the busiest of {workers} workers had {percent(share)} of the uploads and was full, while "
        f"another used {percent(idlest)} of its slots: they carried {rate:.2f} uploads/s, and an "
        f"even split would carry {even:.2f}"
    )
    return Level(level, True, evidence)


def is_full(trial: Trial, life: Sequence[WorkerReading]) -> bool:
    """Whether a worker was at the limit of anything that it has to itself."""
    loop = loop_of(trial, life)
    if loop and loop.own >= SATURATED and loop.inside > 1:
        return True
    return any(
        fullness_of(life, used, waiting, slots).at_limit
        for used, waiting, slots in _slots(trial)
        if isfinite(slots)
    )


def _slots(trial: Trial) -> Iterator[tuple[Gauge, Gauge, float]]:
    """The kinds of slot of a worker: how many are used, who waits for one, and how many it has."""
    knobs = trial.knobs
    yield lambda r: r.checked_out, lambda r: r.waiting, pool_connections(knobs)
    if knobs.db_call == "threadpool":
        yield lambda r: r.anyio_busy or 0, lambda r: r.anyio_queued or 0, knobs.anyio_threads
    if knobs.gcs_call != "blocking":
        yield lambda r: r.threads_busy, lambda r: r.threads_queued, worker_storage_slots(trial.cell)


def carried_evenly(trial: Trial) -> float | None:
    """Uploads a second that an even split would carry of this load; None where no stage is known.

    No more than the slots allow, nor than is offered: the arrivals of an open load, or what its
    users send who wait for nobody (asymptotic bounds; Lazowska et al., 1984, ch. 5).
    """
    bound, load = trial.metrics.get("capacity"), trial.load
    if bound is None or isinstance(load, BurstLoad):
        return bound
    if isinstance(load, OpenLoad):
        return min(bound, load.rate)
    stages = mean_stages(trial)
    served = (*SERVED, CALLS[Journey.UPLOAD])
    turn_s = fsum(stages.get(stage, 0.0) for stage in served) + load.uplink_s + load.think.mean
    return min(bound, load.peak_users / turn_s)
