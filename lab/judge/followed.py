"""What workers recorded of their calls, and until when each of these was followed.

A call that was under way when the load ended, or when its worker was last read, took at least as
long as until then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from lab.judge.trial import Trial
from lab.model.evidence import StageSpan, UploadRecord, WorkerReading
from lab.model.journeys import Journey

GAP_WALL_S = 0.1
RECENT_WALL_S = 1.0
"""A worker writes ten times a second, and of an upload that stands in a stage after half a second:
where uploads were inside at its last reading, its records are complete up to a tenth of a second
before it, and of calls that had begun a second before it."""


def call_records(trial: Trial, journey: Journey = Journey.UPLOAD) -> list[UploadRecord]:
    """The records of a journey that came to a stage at all; none of an earlier lab."""
    records = trial.evidence(UploadRecord)
    return [record for record in records if record.spans and record.journey is journey]


def ended_stages(record: UploadRecord) -> list[StageSpan]:
    """The stages that came to their end without an error.

    An upload that failed did so in its last stage; one that is inside may be in its last still.
    """
    whole = record.status == 200 or (record.status is None and not record.standing)
    return record.spans if whole else record.spans[:-1]


class _Life(NamedTuple):
    """A worker's life: when it was first and last read, and whether anything was inside then.

    A worker that had none inside has recorded all of them to their end.
    """

    begun: float
    last: float
    inside: bool


def _lives(readings: Sequence[WorkerReading]) -> list[_Life]:
    """Those of one pid: in a container a worker has that of the one before it."""
    cuts = [n for n, (a, b) in enumerate(pairwise(readings), 1) if b.cpu_s < a.cpu_s]
    parts = [readings[a:b] for a, b in pairwise([0, *cuts, len(readings)])]
    return [_Life(part[0].t, part[-1].t, _inside(part[-1]) > 0) for part in parts]


def _inside(reading: WorkerReading) -> int:
    """What students had asked for and were not answered; an earlier lab knew of uploads alone."""
    return reading.inflight if reading.inside is None else reading.inside


def load_end(trial: Trial) -> float:
    """When the last user was answered or left, in seconds: soon afterwards the faults are removed.

    What a proxy still holds back then, it lets go of.
    """
    samples = trial.observation.samples
    return max((sample.sent_at + sample.latency_s for sample in samples), default=0.0)


Followed = Callable[[UploadRecord], tuple[float, float]]
"""Until when the calls of a record were followed, and until when they had to begin for that."""


def followed_until(trial: Trial) -> Followed:
    """Until the end of the load; where anything was inside a worker when it was last read, until
    a moment before that."""
    readings: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in trial.evidence(WorkerReading):
        readings[reading.pid].append(reading)
    lives, end = {pid: _lives(of_pid) for pid, of_pid in readings.items()}, load_end(trial)
    gap, recent = GAP_WALL_S * trial.knobs.speed, RECENT_WALL_S * trial.knobs.speed

    def followed(record: UploadRecord) -> tuple[float, float]:
        of_pid = lives.get(record.worker, [])
        place = bisect_right([life.begun for life in of_pid], record.arrived) - 1
        if place < 0 or not of_pid[place].inside:
            return end, end
        last = of_pid[place].last
        return min(end, last - gap), last - recent

    return followed
