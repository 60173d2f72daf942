"""Where an upload's time goes: its seconds by who kept or served it, adding up to its latency.

    gateway ─ loop ─ anyio ─ pool ─ database ─ threads ─ storage ─ pool ─ database ─ on its way

Percentiles of parts do not add up to the percentile of the whole: no upload is the slowest in each.
So beside the mean there is the mean of the uploads that are as slow as p95 says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, fsum

from lab.judge.trial import Trial
from lab.judge.waiting import Station, Waiting
from lab.model.distribution import TimeSpent
from lab.model.evidence import Sample

NEAR = 0.02
"""The uploads as slow as p95 are those from this share before it to this share after it."""


def time_spent(trial: Trial) -> tuple[TimeSpent, ...]:
    """The seconds of uploads by station, in the order of their way; none where none was sent."""
    ordered = sorted(trial.succeeded, key=lambda sample: (sample.latency_s, sample.sent_at))
    waiting = Waiting(trial)
    good = [_by_station(waiting, sample) for sample in ordered]
    bad = [_by_station(waiting, sample) for sample in trial.sent if sample.error is not None]
    slow = good[slice(*_near_p95(len(good)))]
    return tuple(
        TimeSpent(
            station=str(station),
            mean=_mean(good, station),
            slow=_mean(slow, station),
            failed=_mean(bad, station),
        )
        for station in Station
        if any(life.get(station) for life in (*good, *bad))
    )


def _near_p95(count: int) -> tuple[int, int]:
    """Begin and end, among so many, of those that are as slow as the 95th percentile."""
    rank = max(1, ceil(round(0.95 * count, 9))) - 1
    beside = int(NEAR * count)
    return max(0, rank - beside), min(count, rank + beside + 1)


def _by_station(waiting: Waiting, sample: Sample) -> dict[Station, float]:
    """An upload's seconds; what no record tells it spent on its way."""
    spent = waiting.spent(sample)
    rest = sample.latency_s - fsum(spent.values())
    spent[Station.ELSEWHERE] = max(0.0, spent.get(Station.ELSEWHERE, 0.0) + rest)
    return spent


def _mean(lives: Sequence[dict[Station, float]], station: Station) -> float | None:
    if not lives:
        return None
    return round(fsum(life.get(station, 0.0) for life in lives) / len(lives), 6)
