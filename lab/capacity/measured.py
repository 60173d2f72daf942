"""What a stored cell says of the stage times of its network; pure.

Observation ─> auth, release, write, storage's times      of successes, from their timings
            ─> the event loop's work beside them          its busy time, divided by uploads
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import fsum
from statistics import fmean

import numpy as np

from lab.capacity.network import StageTimes
from lab.errors import UsageError
from lab.model.evidence import InstanceEvent, Observation, Sample, WorkerReading
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.knobs import Knobs

QUERIES = ("pool_wait", "auth", "release", "pool_wait2", "write")
"""The stages in which a query that blocks holds the event loop, its checkout with it."""

FEW = 20
"""Uploads below which the times of a cell say too little."""


def stage_times_of(cell: Cell, observation: Observation) -> StageTimes:
    """The stage times of a cell that was measured, in real-world seconds.

    Raises:
        UsageError: fewer than `FEW` uploads succeeded.
    """
    good = [sample for sample in _uploads(observation) if sample.error is None]
    good = [sample for sample in good if "gcs" in sample.stages]
    if len(good) < FEW:
        raise UsageError(
            f"{cell.id}: {len(good)} uploads succeeded, too few to know its stage times",
            f"give a run with {FEW} or more, or predict from the knobs alone",
        )

    def mean(stage: str) -> float:
        return fmean(sample.stages.get(stage, 0.0) for sample in good)

    times = {stage: mean(stage) for stage in ("auth", "release", "write", "gcs")}
    return StageTimes(
        auth=times["auth"],
        release=times["release"],
        write=times["write"],
        cpu=_work(cell.knobs, observation),
        storage=np.array([sample.stages["gcs"] for sample in good], dtype=np.float64),
        speed=cell.knobs.speed,
        start=_start(observation),
    )


def _uploads(observation: Observation) -> Iterator[Sample]:
    return (sample for sample in observation.samples if sample.journey is Journey.UPLOAD)


def _work(knobs: Knobs, observation: Observation) -> float:
    """Seconds for which an upload held the loop outside of its stages; 0 at least.

    From when its first reading was until its last each worker's loop was busy for so long, with
    those uploads that came to it. What of it are calls that block it is taken off.
    """
    lives: dict[int, list[WorkerReading]] = defaultdict(list)
    for line in observation.evidence:
        if isinstance(line, WorkerReading) and line.loop_busy_s is not None:
            lives[line.pid].append(line)
    came = sum(sample.worker is not None for sample in _uploads(observation))
    if not lives or not came:
        return 0.0
    busy = fsum(
        (life[-1].loop_busy_s or 0.0) - (life[0].loop_busy_s or 0.0) for life in lives.values()
    )
    stood = [*(QUERIES if knobs.db_call == "blocking" else ())]
    stood += ["gcs"] if knobs.gcs_call == "blocking" else []
    inside = fsum(
        sample.stages.get(stage, 0.0) for sample in _uploads(observation) for stage in stood
    )
    return max(0.0, (busy * knobs.speed - inside) / came)


def _start(observation: Observation) -> float | None:
    """Mean seconds in which an instance of Cloud Run started; None where none did."""
    starts = [
        line.start_s
        for line in observation.evidence
        if isinstance(line, InstanceEvent) and line.event == "ready" and line.start_s is not None
    ]
    return fmean(starts) if starts else None
