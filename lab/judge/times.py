"""What a trial's uploads took, as a search for a capacity reads it of the verdict.

    successes of the window ─> latency and storage time of each
    successes by half       ─> mean of each stage
    workers' readings       ─> uploads inside each, how busy the loop was, CPU of an upload

A time of the database is of what was done, without the wait for a connection. What an upload holds
its event loop for beside its stages is what the loops were busy in all, less what blocks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt
from statistics import fmean, variance

from lab.judge.levels import database_in_loop, storage_in_loop
from lab.judge.readings import busiest_loop, loop_busy
from lab.judge.trial import Trial
from lab.model.evidence import Sample
from lab.model.journeys import Journey
from lab.model.load import ClosedLoad
from lab.model.times import MAX_UPLOADS, STAGES, TrialTimes

STORAGE = "gcs"


def times_of(trial: Trial) -> TrialTimes | None:
    """The times of a closed load's uploads; None of another load, of one in which users do other
    things as well, of no success, of too many, and where the stages of one are not known."""
    good, cell = trial.succeeded, trial.cell
    only_uploads = tuple(cell.load.shares) == (Journey.UPLOAD,)
    if not isinstance(cell.load, ClosedLoad) or not only_uploads or trial.part:
        return None
    if not 0 < len(good) <= MAX_UPLOADS or any(STORAGE not in s.stages for s in good):
        return None
    start, end = trial.window
    good = sorted(good, key=lambda sample: sample.sent_at)
    middle = (start + end) / 2
    halves = [s for s in good if s.sent_at < middle], [s for s in good if s.sent_at >= middle]
    return TrialTimes(
        sent=tuple(round(s.sent_at - start, 2) for s in good),
        latency=tuple(round(s.latency_s, 3) for s in good),
        storage=tuple(round(min(s.stages[STORAGE], s.latency_s), 3) for s in good),
        failed=tuple(sorted(round(s.sent_at - start, 2) for s in trial.sent if s.error)),
        stages={name: _mean(name, good) for name in STAGES},
        halves={name: (_mean(name, halves[0]), _mean(name, halves[1])) for name in STAGES}
        if all(halves)
        else {},
        halves_error=_error_of_difference(halves),
        cpu=_cpu_s(trial),
        loop=busiest_loop(trial),
        inside=_inside(trial),
        drain=round(max(0.0, *(s.sent_at + s.latency_s - end for s in trial.by_users)), 3),
        speed=cell.knobs.speed,
    )


def _mean(stage: str, samples: Sequence[Sample]) -> float:
    """Mean seconds of a stage; what an upload has not, as a release of a held session, is 0."""
    return round(fmean(sample.stages.get(stage, 0.0) for sample in samples), 6)


def _error_of_difference(halves: Sequence[Sequence[Sample]]) -> float:
    """The standard error of what the stages together differ by between two sets of uploads."""
    totals = [[fsum(s.stages.get(name, 0.0) for name in STAGES) for s in half] for half in halves]
    if any(len(half) < 2 for half in totals):
        return 0.0
    return round(sqrt(fsum(variance(half) / len(half) for half in totals)), 6)


def _cpu_s(trial: Trial) -> float | None:
    """Seconds for which an upload held its event loop beside what blocks it in its stages."""
    busy = [loop_busy(life, trial.knobs.speed) for life in trial.by_worker]
    rate = trial.metrics.get("throughput", 0.0)
    if trial.cell.target != "vm" or not busy or None in busy or rate <= 0:
        return None
    blocked = storage_in_loop(trial) + database_in_loop(trial)
    return round(max(0.0, fsum(share or 0.0 for share in busy) / rate - blocked), 6)


def _inside(trial: Trial) -> tuple[float, ...]:
    """Mean uploads inside each worker, the most first; empty where one is missing or replaced."""
    lives = trial.by_worker
    if trial.cell.target != "vm" or len(lives) != trial.knobs.workers:
        return ()
    means = (fmean(reading.inflight for reading in life) for life in lives)
    return tuple(sorted((round(mean, 3) for mean in means), reverse=True))
