"""All metrics of a trial: for each row of the table (`lab.model.metrics`), how it is measured.

    samples        what the users saw                                  here
    readings       what went on inside the replica and this machine    here
    gateway        Cloud Run's queue and instances                     `lab.judge.gateway`
    both           the rate that the slots can carry                   `lab.judge.capacity_bound`

`MEASURES` names a function for each; it returns None where there is no evidence, and then the
figure is absent, never zero. A new metric is a row of the table and an entry here.

Readings of the window count; of a running total, its growth between the first and the
last of them. Times in readings are real-world seconds, CPU is per wall-clock second, so a
stretch of time is divided by ``speed`` before CPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import fsum

from lab.judge import gateway, pooler
from lab.judge.capacity_bound import capacity
from lab.judge.leaks import QUANTITIES
from lab.judge.statistics import growth, mean, p95, peak, total
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import (
    CLOUDRUN_CAUSES,
    GENERATOR,
    NGINX_CAUSES,
    Audit,
    Cause,
    LoadDone,
    MachineReading,
    OomKill,
    Sample,
    WorkerReading,
)
from lab.model.load import OpenLoad
from lab.model.metrics import BY_NAME, TABLE, only_on
from lab.model.physics import PERCENTILES, quantile

DIGITS = 6
"""Decimals that are kept: a microsecond, far below what any figure here is known to."""

STAGE_OF = {"auth": "auth", "release": "release", "write": "write", "gcs_latency": "gcs"}
"""The metrics that are a stage's mean over successful uploads: there every stage ran to its end."""

WAITS = {"pool_wait": ("pool_wait", "pool_wait2"), "gcs_queue": ("gcs_queue",)}
"""The metrics that are a mean wait, of failed uploads too: who gave up has waited longest."""

STALE_WALL_S = 0.5
"""A worker that has not written for this long, at ten readings a second, is gone."""

BACKEND = "backend"

PEAKS: dict[str, Callable[[WorkerReading], float]] = {
    "pool_checked_out": lambda r: r.checked_out,
    "pool_waiting": lambda r: r.waiting,
    "threads_busy": lambda r: r.threads_busy,
    "threads_queued": lambda r: r.threads_queued,
    "uploads_inflight": lambda r: r.inflight,
    "rss_backend": lambda r: r.rss,
}
"""The metrics that are the peak of a gauge of all workers together."""


def measure(trial: Trial) -> dict[str, float]:
    """Every metric of the table that there is evidence for, in the table's order and units."""
    known = foreign(trial)
    measured = ((row.name, MEASURES[row.name](trial)) for row in TABLE)
    values = ((name, known.get(name) if v is None else v) for name, v in measured)
    return {name: round(float(v), DIGITS) for name, v in values if v is not None}


def foreign(trial: Trial) -> dict[str, int]:
    """The counts that a criterion asks for and that only another target can have: known to be 0.

    A spec over both targets asks all of its cells; see `lab.plan.expand`.
    """
    asked = {criterion.metric for criterion in trial.cell.criteria} if trial.sent else set()
    here = (None, trial.cell.target)
    return {
        name: 0 for name in asked if only_on(name) not in here and BY_NAME[name].unit == "count"
    }


# Samples: what the users saw; nothing where no upload was sent in the window.


def throughput(trial: Trial) -> float | None:
    """Successes a second; each counts by the share of its life that lies in the window."""
    start, end = trial.window
    if not trial.sent:
        return None
    return fsum(share for _, share in trial.answered) / (end - start) if end > start else 0.0


def utilisation(trial: Trial) -> float | None:
    """The rate as a share of what the slots can carry."""
    rate, bound = throughput(trial), capacity(trial)
    return None if rate is None or bound is None else rate / bound


def failures(cause: Cause, trial: Trial) -> int | None:
    """How many uploads failed of a cause; None for one that cannot occur on this target."""
    foreign = CLOUDRUN_CAUSES if trial.cell.target == "vm" else NGINX_CAUSES
    known = trial.sent and cause not in foreign
    return trial.causes[cause] if known or cause in trial.causes else None


def latency(sample: Sample, metric: str, timeout: float) -> float | None:
    """What an upload adds to a percentile, in seconds; None where it does not count.

    ``p95_all`` takes every upload that was answered or that timed out. One that timed out
    would have taken at least the client's ``timeout``. The others take successes alone.
    """
    if metric != "p95_all":
        return sample.latency_s if sample.error is None else None
    if sample.status:
        return sample.latency_s
    return max(sample.latency_s, timeout) if sample.error == Cause.CLIENT_TIMEOUT else None


def latencies(samples: Iterable[Sample], metric: str, timeout: float) -> list[float]:
    """The latencies that a percentile is taken of, in order."""
    values = (latency(sample, metric, timeout) for sample in samples)
    return sorted(value for value in values if value is not None)


def judged(
    criterion: Criterion, samples: Iterable[Sample], timeout: float
) -> list[tuple[Sample, bool]]:
    """The uploads that a claim about a share counts, and whether each failed, or took so long."""
    if criterion.metric == "error_rate":
        return [(sample, sample.error is not None) for sample in samples]
    taken = ((sample, latency(sample, criterion.metric, timeout)) for sample in samples)
    return [(sample, s >= criterion.bound) for sample, s in taken if s is not None]


def percentile(metric: str, trial: Trial) -> float | None:
    """A percentile of latency, in seconds."""
    ordered = latencies(trial.sent, metric, trial.cell.load.timeout)
    return quantile(ordered, PERCENTILES[metric]) if ordered else None


def mean_stage(stage: str, trial: Trial) -> float | None:
    """The mean of a stage of successful uploads, in seconds."""
    return mean(sample.stages[stage] for sample in trial.succeeded if stage in sample.stages)


def mean_wait(stages: Sequence[str], trial: Trial) -> float | None:
    """The mean of what uploads waited in some stages together, in seconds."""
    return mean(
        fsum(sample.stages.get(stage, 0.0) for stage in stages)
        for sample in trial.sent
        if any(stage in sample.stages for stage in stages)
    )


def accept_waits(trial: Trial) -> list[float]:
    """How long uploads waited from being passed on until their worker had them, in seconds.

    In the kernel's accept queue, and in that of an event loop which is held; of those that were
    not passed on by a proxy that says when, nothing is known.
    """
    records = (trial.record_of(sample) for sample in trial.sent)
    return [max(0.0, r.arrived - r.handed) for r in records if r and r.handed is not None]


def waits(trial: Trial) -> list[float]:
    """How long uploads waited for their turn, wherever: in the event loop, for a thread or pool."""
    return [
        max(0.0, sample.latency_s - sample.uplink_s - _in_stages(sample))
        for sample in trial.succeeded
        if "gcs" in sample.stages
    ]


def _in_stages(sample: Sample) -> float:
    return fsum(sample.stages.get(stage, 0.0) for stage in STAGE_OF.values())


def dropped(trial: Trial) -> int | None:
    """Arrivals of the window that were not sent; None for a load whose users keep none back."""
    load = trial.cell.load
    if not isinstance(load, OpenLoad) or load.max_in_flight is None:
        return None
    return next((line.dropped for line in trial.evidence(LoadDone)), None)


# Readings: what went on inside the replica and this machine.


def running_sum(
    workers: Iterable[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> Iterator[tuple[float, float]]:
    """Time of each reading, and a figure summed over all workers then.

    Workers write at moments of their own, a tenth of a wall-clock second apart; at each
    reading the others still stand as they last said.
    """
    latest: dict[int, WorkerReading] = {}
    for reading in workers:
        latest[reading.pid] = reading
        oldest = reading.t - STALE_WALL_S * speed
        yield reading.t, sum(of(other) for other in latest.values() if other.t >= oldest)


def peak_of(gauge: Callable[[WorkerReading], float | None], trial: Trial) -> float | None:
    """The peak of a gauge, summed over all workers; None where one did not read it."""
    if any(gauge(reading) is None for reading in trial.workers):
        return None
    sums = running_sum(trial.workers, lambda reading: gauge(reading) or 0, trial.knobs.speed)
    return peak(value for _, value in sums)


def seconds(trial: Trial) -> float:
    """Real-world seconds from the first reading of a worker to the last."""
    return trial.workers[-1].t - trial.workers[0].t if trial.workers else 0.0


def growths(of: Callable[[WorkerReading], float], trial: Trial) -> list[float]:
    """Growth of each worker's running total; empty where no time passed between readings.

    One that was not there when the window began has used all of it since.
    """
    lives = trial.by_worker if seconds(trial) > 0 else []
    was_there = trial.window[0] + STALE_WALL_S * trial.knobs.speed
    return [
        growth([*([0.0] if life[0].t > was_there else []), *(of(reading) for reading in life)])
        for life in lives
    ]


def cores(trial: Trial) -> list[float]:
    """Cores that each worker used."""
    used = growths(lambda reading: reading.cpu_s, trial)
    return [cpu_s * trial.knobs.speed / seconds(trial) for cpu_s in used]


def loop_busy(life: Sequence[WorkerReading], speed: float) -> float | None:
    """Share of its time that one worker's event loop was busy; None where it was not read."""
    lived = life[-1].t - life[0].t
    if lived <= 0 or any(reading.loop_busy_s is None for reading in life):
        return None
    return min(1.0, growth([reading.loop_busy_s or 0.0 for reading in life]) * speed / lived)


def busiest_loop(trial: Trial) -> float | None:
    """The share of the worker whose event loop was busiest, where all were read."""
    shares = [loop_busy(life, trial.knobs.speed) for life in trial.by_worker]
    busy = [share for share in shares if share is not None]
    return max(busy) if busy and len(busy) == len(shares) else None


def net_to_gcs(trial: Trial) -> float | None:
    """Bytes of audio sent to storage a second."""
    sent = total(growths(lambda reading: reading.gcs_bytes, trial))
    return None if sent is None else sent / seconds(trial)


def machine_rate(
    totals: Callable[[MachineReading], Mapping[str, float]], part: str, trial: Trial
) -> float | None:
    """Growth of a part's running total by wall-clock second."""
    read = [(r.t, totals(r)[part]) for r in trial.machine if part in totals(r)]
    if not read or read[-1][0] <= read[0][0]:
        return None
    grown = growth([total for _, total in read])
    return grown * trial.knobs.speed / (read[-1][0] - read[0][0])


def throttled(trial: Trial) -> float | None:
    """Share of the time for which a CPU quota kept the backend, or its instances, waiting."""
    share = gateway.throttled(trial)
    return machine_rate(lambda r: r.throttled_s, BACKEND, trial) if share is None else share


def oom_kills(trial: Trial) -> int | None:
    """Kills for memory, in the whole trial, its ramp and drain included."""
    kinds = (WorkerReading, MachineReading, OomKill)
    watched = trial.gateway_readings or any(trial.evidence(kind) for kind in kinds)
    return len(trial.kills) if watched else None


def unseen_failures(trial: Trial) -> int | None:
    """How many uploads the service failed whose clients were cut off; None without records."""
    if not trial.sent or not trial.records:
        return None
    return sum(counts.total() for counts in trial.unseen_causes.values())


def audited(of: Callable[[Audit], int | None], trial: Trial) -> int | None:
    """A figure of the audit after the trial."""
    return of(trial.audit) if trial.audit else None


def slope(metric: str, trial: Trial) -> float | None:
    """The growth of a figure in the steady part of a long window."""
    return next((leak.slope for leak in trial.leaks if leak.metric == metric), None)


Measure = Callable[[Trial], float | None]

MEASURES: Mapping[str, Measure] = {
    "attempts": lambda trial: len(trial.sent) or None,
    "succeeded": lambda trial: len(trial.succeeded) if trial.sent else None,
    "dropped": dropped,
    "error_rate": lambda trial: mean(sample.error is not None for sample in trial.sent),
    "throughput": throughput,
    "capacity": lambda trial: capacity(trial) if trial.sent else None,
    "utilisation": utilisation,
    **{name: partial(percentile, name) for name in PERCENTILES},
    **{f"errors.{cause}": partial(failures, cause) for cause in Cause},
    "unseen_failures": unseen_failures,
    **{name: partial(mean_stage, stage) for name, stage in STAGE_OF.items()},
    **{name: partial(mean_wait, stages) for name, stages in WAITS.items()},
    "accept_wait": lambda trial: mean(accept_waits(trial)),
    "wait": lambda trial: mean(waits(trial)),
    "wait_p95": lambda trial: p95(waits(trial)),
    "lateness": lambda trial: p95(sample.sent_at - sample.planned_at for sample in trial.sent),
    **{name: partial(peak_of, gauge) for name, gauge in PEAKS.items()},
    "threads": partial(peak_of, lambda reading: reading.threads),
    "fds": partial(peak_of, lambda reading: reading.fds),
    "loop_lag": lambda trial: p95(reading.loop_lag for reading in trial.workers),
    "loop_busy": busiest_loop,
    "cpu_backend": lambda trial: total(cores(trial)),
    "cpu_worker_max": lambda trial: peak(cores(trial)),
    "gcs_attempts": lambda trial: total(growths(lambda reading: reading.gcs_attempts, trial)),
    "net_to_gcs": net_to_gcs,
    "pg_connections": lambda trial: peak(reading.connections for reading in trial.database),
    **pooler.MEASURES,
    "cpu_machine": lambda trial: mean(reading.cpu_share for reading in trial.machine),
    "cpu_generator": partial(machine_rate, lambda reading: reading.cpu_s, GENERATOR),
    "memory_backend": lambda trial: peak(
        reading.memory[BACKEND] for reading in trial.machine if BACKEND in reading.memory
    ),
    "throttled_backend": throttled,
    "oom_kills": oom_kills,
    "db_refusals": partial(audited, lambda audit: audit.refused),
    "orphans": partial(audited, lambda audit: max(0, len(audit.orphans) - audit.inflight)),
    "unheard": partial(
        audited, lambda audit: None if audit.unheard is None else len(audit.unheard)
    ),
    "lost": partial(audited, lambda audit: len(audit.lost)),
    **{name: partial(slope, name) for name in QUANTITIES},
    **gateway.MEASURES,
}
"""How each metric of the table is measured."""
