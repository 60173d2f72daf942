"""Metrics of Cloud Run's instances and of its queue, from the gateway's log and its timings.

What counts once, however early (starts, kills, peaks of memory and of instances), is of the
whole trial from the load's first moment on; the queue, waits and throttling are the window's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from math import fsum

from lab.judge.statistics import growth, mean, peak
from lab.judge.trial import Trial
from lab.model.evidence import Cause, GatewayReading, InstanceEvent


def waits(trial: Trial) -> list[float]:
    """How long successful uploads waited for an instance, its start-up included, in seconds."""
    return [sample.stages["queue"] for sample in trial.succeeded if "queue" in sample.stages]


def refused_waits(trial: Trial) -> list[float]:
    """The same of the uploads that were refused for want of an instance."""
    refused = [sample for sample in trial.sent if sample.error == Cause.NO_INSTANCE]
    return [sample.stages["queue"] for sample in refused if "queue" in sample.stages]


def standing(trial: Trial) -> list[GatewayReading]:
    """The readings of the window, and the last one before it: that one still stood."""
    start, end = trial.window
    readings = trial.gateway_readings
    before = [reading for reading in readings if reading.t < start][-1:]
    return [*before, *(r for r in readings if start <= r.t <= end)] or readings[:1]


def cold_starts(trial: Trial) -> list[str]:
    """The instances that were started since the load began."""
    events = trial.instance_events
    return [line.instance for line in events if line.event == "starting" and line.t >= 0]


def start_times(of: Callable[[InstanceEvent], float | None], trial: Trial) -> list[float]:
    """A time of each such start that came to its end, where it was noted, in seconds."""
    cold = cold_starts(trial)
    ready = [e for e in trial.instance_events if e.event == "ready" and e.instance in cold]
    return [seconds for line in ready if (seconds := of(line)) is not None]


def usage_by_instance(events: Iterable[InstanceEvent]) -> dict[str, list[InstanceEvent]]:
    """The running totals of each instance in the order of their times."""
    lives: dict[str, list[InstanceEvent]] = defaultdict(list)
    for line in events:
        if line.cpu_s is not None:
            lives[line.instance].append(line)
    return lives


def throttled(trial: Trial) -> float | None:
    """Share of the instances' time in the window for which their CPU quota kept them waiting."""
    start, end = trial.window
    lives = usage_by_instance(e for e in trial.instance_events if start <= e.t <= end).values()
    kept = fsum(
        growth(line.throttled_s for line in life if line.throttled_s is not None) for life in lives
    )
    lived = fsum(life[-1].t - life[0].t for life in lives)
    return kept / lived if lived > 0 else None


def mean_over_time(of: Callable[[GatewayReading], float], trial: Trial) -> float | None:
    """The mean of how things stood, over the window's time; None without evidence."""
    readings, (start, end) = trial.gateway_readings, trial.window
    if not readings or end <= start:
        return None
    ends = [reading.t for reading in readings[1:]] + [end]
    spans = (
        of(reading) * max(0.0, min(until, end) - max(reading.t, start))
        for reading, until in zip(readings, ends, strict=True)
    )
    return fsum(spans) / (end - start)


def ready_instances(trial: Trial) -> float | None:
    """Instances that were ready, as a mean over the window's time; None without evidence."""
    return mean_over_time(lambda reading: reading.ready, trial)


def queued_share(trial: Trial) -> float | None:
    """Share of the window's time for which requests waited for an instance."""
    return mean_over_time(lambda reading: reading.queue > 0, trial)


def places_taken(trial: Trial) -> float | None:
    """Requests inside instances as a share of the places in those that were ready, or of one.

    While none is ready all places are taken.
    """
    at_once = trial.knobs.cloudrun_concurrency
    return mean_over_time(
        lambda r: min(1.0, r.in_flight / (r.ready * at_once)) if r.ready else 1.0, trial
    )


def time_held(trial: Trial) -> float | None:
    """Seconds for which an answered request held its place, as a mean of those of the window.

    One belongs to the window that was given its place in it, whenever it gave it back.
    """
    start, end = trial.window
    return mean(
        line.took
        for line in trial.gateway_requests
        if line.event == "request_end"
        and line.how == "answered"
        and line.took is not None
        and start <= line.t - line.took <= end
    )


MEASURES: Mapping[str, Callable[[Trial], float | None]] = {
    "cold_starts": lambda trial: len(cold_starts(trial)) if trial.gateway_readings else None,
    "cold_start_s": lambda trial: mean(start_times(lambda line: line.start_s, trial)),
    "cold_start_made": lambda trial: mean(start_times(lambda line: line.made_s, trial)),
    "cold_start_max": lambda trial: peak(start_times(lambda line: line.start_s, trial)),
    "cold_uploads": lambda trial: (
        sum("cold" in sample.stages for sample in trial.sent) if waits(trial) else None
    ),
    "instances": lambda trial: peak(r.starting + r.ready for r in trial.gateway_readings),
    "memory_instance": lambda trial: peak(
        line.peak_bytes for line in trial.instance_events if line.peak_bytes is not None
    ),
    "queue_depth": lambda trial: peak(reading.queue for reading in standing(trial)),
    "queue_wait_refused": lambda trial: mean(refused_waits(trial)),
}
"""How each metric of Cloud Run's gateway is measured."""
