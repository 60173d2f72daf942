"""All metrics of one cell's trial.

Metrics from the samples: what the users saw.

Metrics from the readings: what went on inside the replica and this machine.

Readings of the window count; of a running total, its growth between the first and the
last of them. Times in readings are real-world seconds, CPU is per wall-clock second, so a
stretch of time is divided by ``speed`` before CPU is.

Metrics of Cloud Run's instances and of its queue, from the front's log and its timings.

What counts once, however early (starts, kills, peaks of memory and of instances), is of the
whole trial from the load's first moment on; the queue, waits and throttling are the window's.

The law a replica cannot beat: slots, divided by the time that a slot is held.

An upload passes three kinds of slot. Each kind carries at most its number of slots divided
by the time one is held (Little's law with every slot busy); the scarcest sets the capacity.
The times are this cell's own measured stages, so the law says nothing of how fast storage
or the database should be.

    event loop    one a worker         whatever runs in it: blocking calls
    threads       gcs_call's pool      the storage call
    connections   the pools, db_cap    auth to release, and write; held across the upload: all
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from math import fsum
from typing import TypeVar

from lab.judge.leaks import leaks
from lab.judge.statistics import quantile
from lab.judge.trial import Window, kills, readings, sent_in_window, window_of
from lab.model.evidence import (
    CLOUDRUN,
    NGINX,
    Audit,
    Cause,
    DatabaseReading,
    Evidence,
    GatewayReading,
    GatewayRequest,
    InstanceEvent,
    MachineReading,
    Observation,
    OomKill,
    Sample,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.load import BurstLoad
from lab.model.metrics import TABLE

DIGITS = 6
"""Decimals that are kept: a microsecond, far below what any figure here is known to."""


def measure(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric of the table that there is evidence for, in the table's order.

    A figure without evidence is absent, never zero. Units are the table's.
    """
    found = sample_metrics(cell, observation) | reading_metrics(cell, observation)
    found |= instance_metrics(cell, observation)
    limit = capacity(cell, observation, stages_of_throughput(cell, observation))
    if limit and "throughput" in found:
        found["capacity"] = limit
        found["utilisation"] = found["throughput"] / limit
    found |= {leak.metric: leak.slope for leak in leaks(cell, observation)}
    return {row.name: round(float(found[row.name]), DIGITS) for row in TABLE if row.name in found}


STAGE_OF = {"auth": "auth", "release": "release", "write": "write", "gcs_latency": "gcs"}
"""The metrics that are a stage's mean over successful uploads: there every stage ran to its end."""

WAITS = {"pool_wait": ("pool_wait", "pool_wait2"), "gcs_queue": ("gcs_queue",)}
"""The metrics that are a mean wait, of failed uploads too: who gave up has waited longest."""


def sample_metrics(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric that the samples hold evidence for; none if nothing was sent in the window."""
    sent = sent_in_window(cell, observation)
    if not sent:
        return {}
    good = successes(sent)
    late = sorted(sample.sent_at - sample.planned_at for sample in sent)
    return {
        "attempts": len(sent),
        "succeeded": len(good),
        "error_rate": (len(sent) - len(good)) / len(sent),
        "throughput": throughput(cell, observation),
        **_latencies(cell, sent),
        **{f"errors.{cause}": count for cause, count in _causes_of(cell, sent).items()},
        **_stage_means(sent),
        **_waits(sent),
        "lateness": quantile(late, 0.95),
    }


def successes(samples: Iterable[Sample]) -> list[Sample]:
    """The uploads that were answered 200."""
    return [sample for sample in samples if sample.error is None]


def causes(samples: Iterable[Sample]) -> dict[Cause, int]:
    """How many uploads failed of each cause, zeros included."""
    counted = Counter(sample.error for sample in samples)
    return {cause: counted[cause] for cause in Cause}


def _causes_of(cell: Cell, sent: Sequence[Sample]) -> dict[Cause, int]:
    """The causes that there are before this target, and whatever else was seen."""
    other = CLOUDRUN if cell.target == "vm" else NGINX
    return {cause: count for cause, count in causes(sent).items() if count or cause not in other}


def latencies(cell: Cell, sent: Sequence[Sample], metric: str) -> list[float]:
    """The latencies that a percentile is taken of, in order, in seconds.

    ``p95_all`` takes every upload that was answered or that timed out. One that timed out
    would have taken at least the client's timeout.
    """
    if metric != "p95_all":
        return sorted(sample.latency_s for sample in successes(sent))
    answered = [sample.latency_s for sample in sent if sample.status]
    gave_up = [s.latency_s for s in sent if not s.status and s.error == Cause.CLIENT_TIMEOUT]
    return sorted(answered + [max(latency, cell.load.timeout) for latency in gave_up])


PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p95_all": 0.95}


def _latencies(cell: Cell, sent: Sequence[Sample]) -> dict[str, float]:
    ordered = {name: latencies(cell, sent, name) for name in PERCENTILES}
    return {name: quantile(ordered[name], p) for name, p in PERCENTILES.items() if ordered[name]}


def throughput(cell: Cell, observation: Observation, window: Window | None = None) -> float:
    """Successes a second; each counts by the share of its life that lies in the window.

    So an upload that began before the window or ended after it counts in part, and a
    steady flow is measured without an edge, however long an upload takes.
    """
    start, end = window or window_of(cell, observation)
    if isinstance(cell.load, BurstLoad):
        return len(successes(observation.samples)) / end if end > 0 else 0.0
    return fsum(weight for _, weight in _weighed(cell, observation, (start, end))) / (end - start)


def stages_of_throughput(cell: Cell, observation: Observation) -> dict[str, float]:
    """The mean stages of the uploads that the throughput counts, each by its share in it.

    A rate and the times that set it are then of the same uploads. Those that were sent in the
    window are others, where most of an upload's life is spent waiting: each is served a whole
    queue later than it was sent.
    """
    weighed = list(_weighed(cell, observation, window_of(cell, observation)))
    found: dict[str, float] = {}
    for metric, stage in {**STAGE_OF, "gcs_queue": "gcs_queue"}.items():
        of = [(s.stages[stage], weight) for s, weight in weighed if stage in s.stages]
        if total := fsum(weight for _, weight in of):
            found[metric] = fsum(value * weight for value, weight in of) / total
    return found


def _weighed(
    cell: Cell, observation: Observation, window: Window
) -> Iterator[tuple[Sample, float]]:
    """Each success with the share of its life that lies in the window; of a burst, all of it."""
    for sample in successes(observation.samples):
        whole = isinstance(cell.load, BurstLoad)
        yield sample, 1.0 if whole else _share_inside(sample, *window)


def _share_inside(sample: Sample, start: float, end: float) -> float:
    if sample.latency_s <= 0:
        return float(start <= sample.sent_at < end)
    inside = min(end, sample.sent_at + sample.latency_s) - max(start, sample.sent_at)
    return max(0.0, inside) / sample.latency_s


def _stage_means(sent: Sequence[Sample]) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, stage in STAGE_OF.items():
        values = [s.stages[stage] for s in successes(sent) if stage in s.stages]
        if values:
            found[metric] = fsum(values) / len(values)
    for metric, stages in WAITS.items():
        waits = [
            fsum(s.stages.get(stage, 0.0) for stage in stages)
            for s in sent
            if any(stage in s.stages for stage in stages)
        ]
        if waits:
            found[metric] = fsum(waits) / len(waits)
    return found


def _waits(sent: Sequence[Sample]) -> dict[str, float]:
    """How long an upload waited for its turn, wherever: in the event loop, for a thread or pool."""
    stages = tuple(STAGE_OF.values())
    waits = sorted(
        max(0.0, sample.latency_s - fsum(sample.stages.get(stage, 0.0) for stage in stages))
        for sample in successes(sent)
        if "gcs" in sample.stages
    )
    return {"wait": fsum(waits) / len(waits), "wait_p95": quantile(waits, 0.95)} if waits else {}


STALE_WALL_S = 0.5
"""A worker that has not written for this long, at ten readings a second, is gone."""

R = TypeVar("R", WorkerReading, MachineReading)

BACKEND = "backend"
GENERATOR = "generator"

PEAKS: dict[str, Callable[[WorkerReading], float]] = {
    "pool_checked_out": lambda r: r.checked_out,
    "pool_waiting": lambda r: r.waiting,
    "threads_busy": lambda r: r.threads_busy,
    "threads_queued": lambda r: r.threads_queued,
    "uploads_inflight": lambda r: r.inflight,
    "rss_backend": lambda r: r.rss,
}


def reading_metrics(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric that the readings and the audit hold evidence for."""
    window, evidence = window_of(cell, observation), observation.evidence
    found: dict[str, float] = {}
    if workers := readings(WorkerReading, evidence, window):
        found |= _worker_metrics(workers, cell.knobs.speed)
    if database := readings(DatabaseReading, evidence, window):
        found["pg_connections"] = max(reading.connections for reading in database)
    if machine := readings(MachineReading, evidence, window):
        found |= _machine_metrics(machine, cell.knobs.speed)
    return found | _trial_metrics(evidence)


def peak_sum(
    workers: Sequence[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> float:
    """Peak of a figure summed over all workers, each with its latest reading.

    Workers write at moments of their own, a tenth of a wall-clock second apart; at each
    reading the others still stand as they last said.
    """
    return max((value for _, value in running_sum(workers, of, speed)), default=0.0)


def running_sum(
    workers: Sequence[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> Iterator[tuple[float, float]]:
    """Time of each reading, and the figure summed over all workers then."""
    latest: dict[int, WorkerReading] = {}
    for reading in workers:
        latest[reading.pid] = reading
        oldest = reading.t - STALE_WALL_S * speed
        yield reading.t, sum(of(other) for other in latest.values() if other.t >= oldest)


def _worker_metrics(workers: Sequence[WorkerReading], speed: float) -> dict[str, float]:
    found = {name: peak_sum(workers, of, speed) for name, of in PEAKS.items()}
    if all(reading.threads is not None for reading in workers):
        found["threads"] = peak_sum(workers, lambda r: r.threads or 0, speed)
    if all(reading.fds is not None for reading in workers):
        found["fds"] = peak_sum(workers, lambda r: r.fds or 0, speed)
    found["loop_lag"] = quantile(sorted(reading.loop_lag for reading in workers), 0.95)
    seconds = workers[-1].t - workers[0].t
    if seconds <= 0:
        return found
    by_pid: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in workers:
        by_pid[reading.pid].append(reading)
    lives = list(by_pid.values())
    cpu = [_growth(life, lambda r: r.cpu_s) * speed / seconds for life in lives]
    found["cpu_backend"] = fsum(cpu)
    found["cpu_worker_max"] = max(cpu)
    busy = [one for life in lives if (one := loop_busy(life, speed)) is not None]
    if len(busy) == len(lives):
        found["loop_busy"] = max(busy)
    found["gcs_attempts"] = fsum(_growth(life, lambda r: r.gcs_attempts) for life in lives)
    found["net_to_gcs"] = fsum(_growth(life, lambda r: r.gcs_bytes) for life in lives) / seconds
    return found


def loop_busy(life: Sequence[WorkerReading], speed: float) -> float | None:
    """Share of its time that one worker's event loop was busy; None where it was not read."""
    seconds = life[-1].t - life[0].t
    if seconds <= 0 or any(reading.loop_busy_s is None for reading in life):
        return None
    return min(1.0, _growth(life, lambda r: r.loop_busy_s or 0.0) * speed / seconds)


def _growth(life: Sequence[R], of: Callable[[R], float]) -> float:
    """Growth of a running total; it begins at 0 again where a part was started anew.

    In a container a worker has the same pid as the one before it.
    """
    totals = [of(reading) for reading in life]
    return fsum(now - before if now >= before else now for before, now in pairwise(totals))


def _machine_metrics(machine: Sequence[MachineReading], speed: float) -> dict[str, float]:
    found = {"cpu_machine": fsum(reading.cpu_share for reading in machine) / len(machine)}
    if held := [reading.memory[BACKEND] for reading in machine if BACKEND in reading.memory]:
        found["memory_backend"] = max(held)
    quota = [reading for reading in machine if BACKEND in reading.throttled_s]
    if len(quota) > 1 and quota[-1].t > quota[0].t:
        kept = _growth(quota, lambda r: r.throttled_s[BACKEND])
        found["throttled_backend"] = kept * speed / (quota[-1].t - quota[0].t)
    own = [reading for reading in machine if GENERATOR in reading.cpu_s]
    if len(own) > 1 and own[-1].t > own[0].t:
        used = _growth(own, lambda r: r.cpu_s[GENERATOR])
        found["cpu_generator"] = used * speed / (own[-1].t - own[0].t)
    return found


def _trial_metrics(evidence: Sequence[Evidence]) -> dict[str, float]:
    """What counts for the whole trial, its ramp and drain included."""
    found: dict[str, float] = {}
    watched = any(isinstance(line, WorkerReading | MachineReading | OomKill) for line in evidence)
    if watched:
        found["oom_kills"] = sum(isinstance(line, OomKill) for line in evidence)
    audits = [line for line in evidence if isinstance(line, Audit)]
    if audits:
        last = audits[-1]
        found |= {
            "db_refusals": last.refused,
            "orphans": max(0, len(last.orphans) - last.inflight),
            "lost": len(last.lost),
        }
    return found


def instance_metrics(cell: Cell, observation: Observation) -> dict[str, float]:
    """Every metric that the front's log and its timings hold evidence for; none of a VM."""
    window = window_of(cell, observation)
    found = _queue_waits(sent_in_window(cell, observation))
    standing = readings(GatewayReading, observation.evidence)
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
    standing = readings(GatewayReading, observation.evidence)
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
        for line in readings(GatewayRequest, observation.evidence)
        if line.event == "request_end"
        and line.how == "answered"
        and line.took is not None
        and start <= line.t - line.took <= end
    ]
    return fsum(took) / len(took) if took else None


def _queue_waits(sent: Sequence[Sample]) -> dict[str, float]:
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


def _standing_in(standing: Sequence[GatewayReading], window: Window) -> list[GatewayReading]:
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


Slot = tuple[float, float]
"""How many there are, and for how many seconds an upload holds one."""


def capacity(cell: Cell, observation: Observation, stages: Mapping[str, float]) -> float | None:
    """Uploads a second that this cell can carry; None where a stage was not measured.

    Args:
        cell: with its knobs.
        observation: says how many instances were ready, and for how long a place was held.
        stages: means in seconds, of the uploads whose rate is held against this: ``auth``,
            ``write``, ``gcs_latency``, and ``release`` and ``gcs_queue`` where there are such.
    """
    if any(stage not in stages for stage in ("auth", "write", "gcs_latency")):
        return None
    slots = _slots_of_vm(cell, stages)
    if cell.target == "cloudrun":
        slots = _slots_of_instances(cell, observation, stages)
    laws = [count / held for count, held in slots if held > 0]
    return min(laws) if laws else None


def _slots_of_vm(cell: Cell, stages: Mapping[str, float]) -> list[Slot]:
    return _slots(cell.knobs, cell.knobs.workers, cell.storage_slots, stages)


def _slots_of_instances(
    cell: Cell, observation: Observation, stages: Mapping[str, float]
) -> list[Slot]:
    """None where the front was not read, or served nothing in the window."""
    window = window_of(cell, observation)
    ready, held = ready_instances(observation, window), time_held(observation, window)
    if not ready or held is None:
        return []
    knobs = cell.knobs
    each = cell.storage_slots / knobs.cloudrun_max_instances
    places = (ready * knobs.cloudrun_concurrency, held)
    return [places, *_slots(knobs, ready, ready * each, stages)]


def _slots(
    knobs: Knobs, processes: float, storage_slots: float, stages: Mapping[str, float]
) -> list[Slot]:
    """Each kind of slot of so many processes."""
    database = stages["auth"] + stages.get("release", 0.0) + stages["write"]
    storage = stages["gcs_latency"]
    in_loop = database if knobs.db_call == "blocking" else 0.0
    pools = processes * (knobs.pool_size + knobs.max_overflow)
    connected = database
    if knobs.db_session == "hold":
        connected += storage + stages.get("gcs_queue", 0.0)
    slots = [(min(pools, knobs.db_cap), connected)]
    if knobs.gcs_call == "blocking":
        slots.append((processes, in_loop + storage))
    else:
        slots += [(processes, in_loop), (storage_slots, storage)]
    return slots
