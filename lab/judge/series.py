"""Figures over time, in bins so wide that no trial has more than `POINTS` of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from math import ceil

from lab.judge.readings import running_sum
from lab.judge.samples import successes
from lab.judge.statistics import quantile
from lab.judge.users import users_at
from lab.judge.window import readings
from lab.model.cell import Cell
from lab.model.course import POINTS, Series
from lab.model.load import BurstLoad, end_of
from lab.model.observation import DatabaseReading, Observation, Sample, WorkerReading

BINS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a bin, in real-world seconds; the last serves a trial of twelve days."""

SPAN = 20
"""The window that p95 is taken of is at least this part of the trial."""

FEWEST = 5
"""Uploads below which a window has no p95."""


def series(cell: Cell, observation: Observation) -> Series:
    """The cell's figures over time, from the load's start to its last answer."""
    samples = sorted(observation.samples, key=lambda sample: sample.sent_at)
    end = max([_last_sent(cell), *(s.sent_at + s.latency_s for s in samples)])
    width = _width(end / POINTS)
    count = max(1, ceil(end / width))
    window = max(width, _width(end / SPAN))
    good = successes(samples)
    bad = [sample for sample in samples if sample.error is not None]
    inflight = _inflight(samples)
    ends = [(index + 1) * width for index in range(count)]
    workers = readings(WorkerReading, observation.evidence)

    def peak(of: Callable[[WorkerReading], float]) -> list[int | None]:
        return _peaks(running_sum(workers, of, cell.knobs.speed), width, count)

    database = readings(DatabaseReading, observation.evidence)
    return Series(
        start=0.0,
        bin_s=width,
        window_s=window,
        users=[users_at(cell.load, t - width / 2, inflight(t - width / 2)) for t in ends],
        sent=_rates([s.sent_at for s in samples], width, count),
        answered=_rates([s.sent_at + s.latency_s for s in good], width, count),
        errors=_rates([s.sent_at + s.latency_s for s in bad], width, count),
        p95=_p95(good, ends, window),
        pg_connections=_peaks(((r.t, r.connections) for r in database), width, count),
        pool_checked_out=peak(lambda reading: reading.checked_out),
        uploads_inflight=peak(lambda reading: reading.inflight),
    )


def _last_sent(cell: Cell) -> float:
    return 1.0 if isinstance(cell.load, BurstLoad) else end_of(cell.load)


def _width(least: float) -> float:
    return float(next((width for width in BINS_S if width >= least), BINS_S[-1]))


def _inflight(samples: Sequence[Sample]) -> Callable[[float], int]:
    """How many uploads were sent and not yet answered at a moment."""
    sent = sorted(sample.sent_at for sample in samples)
    ended = sorted(sample.sent_at + sample.latency_s for sample in samples)
    return lambda t: bisect_right(sent, t) - bisect_right(ended, t)


def _bin(t: float, width: float, count: int) -> int | None:
    index = int(t // width)
    return min(index, count - 1) if 0 <= t <= count * width else None


def _rates(times: Iterable[float], width: float, count: int) -> list[float]:
    found = [0] * count
    for t in times:
        index = _bin(t, width, count)
        if index is not None:
            found[index] += 1
    return [round(number / width, 3) for number in found]


def _peaks(seen: Iterable[tuple[float, float]], width: float, count: int) -> list[int | None]:
    found: list[int | None] = [None] * count
    for t, value in seen:
        index = _bin(t, width, count)
        if index is not None:
            found[index] = max(found[index] or 0, int(value))
    return found


def _p95(good: Sequence[Sample], ends: Sequence[float], window: float) -> list[float | None]:
    """By the time of sending, as everywhere: a slow answer belongs to the load that it met."""
    sent = [sample.sent_at for sample in good]
    found: list[float | None] = []
    for end in ends:
        part = good[bisect_left(sent, end - window) : bisect_left(sent, end)]
        ordered = sorted(sample.latency_s for sample in part)
        found.append(round(quantile(ordered, 0.95), 3) if len(ordered) >= FEWEST else None)
    return found
