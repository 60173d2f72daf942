"""What a trial's uploads cost this machine: by what the next cells' speeds are chosen."""

from __future__ import annotations

from math import fsum

from lab.judge.delays import only_delay
from lab.judge.readings import BACKEND, machine_rate
from lab.judge.trial import Trial
from lab.judge.validity import beyond_trips
from lab.model.costs import GENERATOR, TrialCost
from lab.model.journeys import Journey
from lab.model.physics import db_trips

FEWEST = 50
"""So many uploads it takes to tell what one costs."""

SERVED = 0.8
"""The share that has to be answered 200: one that is turned away costs less than another."""


def cost_of(trial: Trial) -> TrialCost | None:
    """What an upload of the window cost; None where too few were served, or CPU was not read.

    And none of Cloud Run's, whose instances' CPU is rationed, nor where users did anything else
    than upload, for what of it was the uploads' nobody can tell.
    """
    metrics, sent = trial.metrics, trial.sent
    start, end = trial.window
    enough = len(sent) >= FEWEST and len(trial.succeeded) >= SERVED * len(sent)
    known = {BACKEND: "cpu_backend", GENERATOR: "cpu_generator"}
    if set(trial.cell.load.shares) != {Journey.UPLOAD}:
        return None
    if trial.cell.target != "vm" or not enough or end <= start or "cpu_machine" not in metrics:
        return None
    if any(metric not in metrics for metric in known.values()):
        return None
    wall_s = (end - start) / trial.knobs.speed / len(sent)
    cores = _cores(trial) | {part: metrics[metric] for part, metric in known.items()}
    return TrialCost(
        workers=trial.knobs.workers,
        uploads=len(sent),
        size=fsum(sample.bytes for sample in sent) / len(sent),
        wall_s=wall_s,
        cpu_s={part: used * wall_s for part, used in sorted(cores.items())},
        machine_s=metrics["cpu_machine"] * wall_s,
        trip_s=_trip_s(trial),
        loop_s=_loop_s(trial),
        call_s=_call_s(trial),
        speed=trial.knobs.speed,
    )


def _cores(trial: Trial) -> dict[str, float]:
    """What each part that this machine was asked of used, in CPU-seconds a second."""
    parts = {part for reading in trial.machine for part in reading.cpu_s}
    used = ((part, machine_rate(lambda r: r.cpu_s, part, trial)) for part in parts)
    return {part: cores for part, cores in used if cores is not None}


def _call_s(trial: Trial) -> float | None:
    """Wall seconds that a call of storage took beyond its delay."""
    span, took = only_delay(trial.cell, "gcs"), trial.metrics.get("gcs_latency")
    if span is None or took is None:
        return None
    return max(0.0, took - span.mean) / trial.knobs.speed


def _loop_s(trial: Trial) -> float | None:
    """Seconds for an upload in which the busiest worker's event loop worked."""
    worker = trial.busiest
    if worker is None or worker.loop_work is None or "loop_busy" not in trial.metrics:
        return None
    return worker.loop_work / worker.rate


def _trip_s(trial: Trial) -> float | None:
    """Wall seconds that a round trip to the database took beyond its delay."""
    made = sum(n for stage, n in db_trips(trial.knobs).items() if stage in trial.metrics)
    return beyond_trips(trial) / trial.knobs.speed / made if made else None
