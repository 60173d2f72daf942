"""What a stored cell says of the stage times of its network; pure.

Observation ─> auth, release, write, storage's times      of successes, from their timings
            ─> the event loop's work beside them          its busy time, divided by uploads
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import fsum, inf, isfinite
from statistics import fmean

import numpy as np

from lab.capacity.model import simulate
from lab.capacity.network import Network, StageTimes, network_of
from lab.errors import UsageError
from lab.model.evidence import InstanceEvent, LoadDone, Observation, Sample, WorkerReading
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad
from lab.model.physics import PERCENTILES
from lab.model.prediction import PredictedFigures

QUERIES = ("pool_wait", "auth", "release", "pool_wait2", "write")
"""The stages in which a query that blocks holds the event loop, its checkout with it."""

MOST_LEAD, HALVINGS, FITTED_S = 0.98, 7, 600.0
"""λ at most; how often the range is halved in which it is; and seconds of each simulation."""

FEW = 20
"""Uploads below which the times of a cell say too little."""


@dataclass(frozen=True)
class MeasuredCell:
    """What a stored cell says.

    Args:
        stages: its stage times.
        figures: of its load; None where another load is looked at.
        lead: λ, as fitted to its split; None where it has none.
        busiest: the share of the uploads inside workers that were inside the busiest one.
    """

    stages: StageTimes
    figures: PredictedFigures | None
    lead: float | None = None
    busiest: float | None = None


def measured_of(
    cell: Cell, observation: Observation, metrics: Mapping[str, float], seed: int = 1
) -> MeasuredCell:
    """What a stored cell says: stage times, λ, and its figures as it was judged.

    Args:
        cell: as it was measured.
        observation: what was seen of it.
        metrics: of its verdict.
        seed: of the simulations by which λ is fitted.

    Raises:
        UsageError: too few uploads succeeded, or the model does not know the cell.
    """
    stages = stage_times_of(cell, observation)
    network, load = network_of(cell, stages, speed=cell.knobs.speed), cell.load
    lead, busiest = None, busiest_share(observation)
    if network.lead and busiest is not None and isinstance(load, ClosedLoad):
        lead = fitted_lead(network, load, busiest, seed)
    start, end = load.measured
    bound = min((c.bound for c in cell.criteria if c.metric in PERCENTILES), default=inf)
    latency = [
        sample.latency_s
        for sample in _uploads(observation)
        if sample.error is None and start <= sample.sent_at < end
    ]
    late = sum(one >= bound for one in latency) / len(latency) if latency else None
    figures = PredictedFigures(
        throughput=metrics.get("throughput", 0.0),
        p50=metrics.get("p50"),
        p95=metrics.get("p95"),
        p99=metrics.get("p99"),
        error_rate=metrics.get("error_rate"),
        late=late if isfinite(bound) else None,
    )
    return MeasuredCell(stages, figures, lead, None if lead is None else busiest)


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


def busiest_share(observation: Observation) -> float | None:
    """Of the uploads inside workers in the window, the share that were inside the busiest one.

    None where nothing was inside, or a single worker was read.
    """
    window = next(
        (line.window for line in observation.evidence if isinstance(line, LoadDone)), None
    )
    inside: dict[int, list[int]] = defaultdict(list)
    for line in observation.evidence:
        if isinstance(line, WorkerReading) and window and window[0] <= line.t < window[1]:
            inside[line.pid].append(line.inflight)
    means = [fmean(counts) for counts in inside.values()]
    return max(means) / fsum(means) if len(means) > 1 and fsum(means) else None


def fitted_lead(network: Network, load: ClosedLoad, busiest: float, seed: int = 1) -> float:
    """λ with which the busiest worker has this share of the uploads inside, by halving.

    Args:
        network: whose workers share a socket.
        load: that was offered.
        busiest: its mean share, from 0 to 1.
        seed: of the simulations.
    """
    low, high = 1 / network.workers, MOST_LEAD
    for _ in range(HALVINGS):
        lead = (low + high) / 2
        seen = simulate(
            network.with_lead(lead),
            load.users,
            seed=seed,
            warmup=load.warmup,
            window=max(load.window, FITTED_S),
        )
        if seen.inside.max() / seen.inside.sum() < busiest:
            low = lead
        else:
            high = lead
    return (low + high) / 2


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
