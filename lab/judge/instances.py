"""Metrics of Cloud Run's instances and of its queue, from the front's log and its timings.

What counts once, however early (starts, kills, peaks of memory and of instances), is of the
whole trial from the load's first moment on; the queue, waits and throttling are the window's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import fsum

from lab.judge.statistics import quantile
from lab.judge.window import Window, kills, readings, sent_in_window, window_of
from lab.model.causes import Cause
from lab.model.cell import Cell
from lab.model.observation import FrontReading, FrontRequest, InstanceEvent, Observation, Sample


def instance_metrics(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric that the front's log and its timings hold evidence for; none of a VM."""
    window = window_of(cell, observation)
    found = _waits(sent_in_window(cell, observation))
    standing = readings(FrontReading, observation.evidence)
    if standing:
        events = readings(InstanceEvent, observation.evidence)
        found |= _lives(events)
        found["instances"] = max(reading.starting + reading.ready for reading in standing)
        found["queue_depth"] = max(r.queue for r in _standing_in(standing, window))
        if (share := _throttled(events, window)) is not None:
            found["throttled_backend"] = share
    return found


def ready_instances(observation: Observation, window: Window) -> float | None:
    """Instances that were ready, as a mean over the window's time; None without evidence."""
    standing = readings(FrontReading, observation.evidence)
    start, end = window
    if not standing or end <= start:
        return None
    ends = [reading.t for reading in standing[1:]] + [end]
    spans = (
        reading.ready * max(0.0, min(until, end) - max(reading.t, start))
        for reading, until in zip(standing, ends, strict=True)
    )
    return fsum(spans) / (end - start)


def time_held(observation: Observation, window: Window) -> float | None:
    """Seconds for which an answered request held its place, as a mean of those of the window.

    One belongs to the window that was given its place in it, whenever it gave it back.
    """
    start, end = window
    took = [
        line.took
        for line in readings(FrontRequest, observation.evidence)
        if line.event == "request_end"
        and line.how == "answered"
        and line.took is not None
        and start <= line.t - line.took <= end
    ]
    return fsum(took) / len(took) if took else None


def _waits(sent: Sequence[Sample]) -> dict[str, float]:
    """What answers said of their wait; of refused uploads, those for want of an instance."""
    served = sorted(s.stages["queue"] for s in sent if s.error is None and "queue" in s.stages)
    refused = [
        s.stages["queue"] for s in sent if s.error == Cause.NO_INSTANCE and "queue" in s.stages
    ]
    found: dict[str, float] = {}
    if served:
        found["queue_wait"] = fsum(served) / len(served)
        found["queue_wait_p95"] = quantile(served, 0.95)
        found["cold_uploads"] = sum("cold" in s.stages for s in sent)
    if refused:
        found["queue_wait_refused"] = fsum(refused) / len(refused)
    return found


def _lives(events: Sequence[InstanceEvent]) -> dict[str, float]:
    """Starts since the load began, how long they took, kills, and the peak of memory."""
    cold = [line.instance for line in events if line.event == "starting" and line.t >= 0]
    ready = [line for line in events if line.event == "ready" and line.instance in cold]
    took = [line.start_s for line in ready if line.start_s is not None]
    made = [line.made_s for line in ready if line.made_s is not None]
    peaks = [line.peak_bytes for line in events if line.peak_bytes is not None]
    found: dict[str, float] = {
        "cold_starts": len(cold),
        "oom_kills": len(kills(events)),
    }
    if took:
        found |= {"cold_start_s": fsum(took) / len(took), "cold_start_max": max(took)}
    if made:
        found["cold_start_made"] = fsum(made) / len(made)
    if peaks:
        found["memory_instance"] = max(peaks)
    return found


def _standing_in(standing: Sequence[FrontReading], window: Window) -> list[FrontReading]:
    """The readings of the window, and the last one before it: that one still stood."""
    start, end = window
    before = [reading for reading in standing if reading.t < start][-1:]
    return [*before, *(reading for reading in standing if start <= reading.t <= end)] or [
        standing[0]
    ]


def _throttled(events: Iterable[InstanceEvent], window: Window) -> float | None:
    """Share of the instances' time in the window for which their CPU quota kept them waiting."""
    kept = lived = 0.0
    for life in usage_by_instance(events, window).values():
        kept += growth(life, lambda line: line.throttled_s)
        lived += life[-1].t - life[0].t
    return kept / lived if lived > 0 else None


def usage_by_instance(
    events: Iterable[InstanceEvent], window: Window | None = None
) -> dict[str, list[InstanceEvent]]:
    """The running totals of each instance in the order of their times."""
    start, end = window or (float("-inf"), float("inf"))
    lives: dict[str, list[InstanceEvent]] = defaultdict(list)
    for line in events:
        if line.cpu_s is not None and start <= line.t <= end:
            lives[line.instance].append(line)
    return lives


def growth(life: Sequence[InstanceEvent], of: Callable[[InstanceEvent], float | None]) -> float:
    """Growth of a running total over a life; 0 where it is not known."""
    totals = [value for line in life if (value := of(line)) is not None]
    return fsum(now - before for before, now in pairwise(totals))
