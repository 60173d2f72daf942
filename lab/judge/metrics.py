"""All metrics of a trial: for each row of the table (`lab.model.metrics`), how it is measured.

    samples        what the users saw                                  here
    stages         where their time went                               `lab.judge.stages`
    readings       what went on inside the replica and this machine    `lab.judge.readings`
    gateway        Cloud Run's queue and instances                     `lab.judge.gateway`
    workers        how uploads were split among them                   `lab.judge.workers`
    both           the rate that the slots can carry                   `lab.judge.capacity_bound`

`MEASURES` names a function for each; it returns None where there is no evidence, and then the
figure is absent, never zero. A family has one for all of its members, in `FAMILIES`. A new metric
is a row of the table and an entry here; a new stage is a row alone. Those of
`lab.model.metrics.OF_JOURNEYS` are measured of each journey, by the same functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import fsum

from lab.judge import gateway, pooler, readings, stages
from lab.judge.capacity_bound import capacity, capacity_split
from lab.judge.leaks import QUANTITIES
from lab.judge.readings import (
    BACKEND,
    PEAKS,
    busiest_loop,
    cores,
    grown,
    grown_per_second,
    machine_rate,
    mean_of,
    peak_of,
)
from lab.judge.sizes import oversize
from lab.judge.standing import stood_share
from lab.judge.statistics import mean, p95, peak, total
from lab.judge.trial import Trial
from lab.judge.waste import wasted
from lab.judge.workers import connections_reused, split_idle, worker_share_max
from lab.model.criterion import Criterion
from lab.model.evidence import (
    CLOUDRUN_CAUSES,
    GENERATOR,
    NGINX_CAUSES,
    Audit,
    Cause,
    LoadDone,
    OomKill,
    Sample,
    WorkerReading,
)
from lab.model.load import OpenLoad
from lab.model.metrics import (
    BY_NAME,
    OF_JOURNEYS,
    STATUS,
    TABLE,
    Metric,
    only_on,
    status_of,
    with_journey,
)
from lab.model.physics import PERCENTILES, quantile
from lab.model.readings import MachineReading

DIGITS = 6
"""Decimals that are kept: a microsecond, far below what any figure here is known to."""


def measure_all(trial: Trial) -> dict[str, float]:
    """Every metric of a trial, and after them those of its other journeys: ``p95(progress)``."""
    others = [trial.of(journey) for journey in trial.cell.load.journeys]
    return trial.metrics | {
        with_journey(name, of.journey): of.metrics[name]
        for of in others
        if of is not trial
        for name, journeys in OF_JOURNEYS.items()
        if of.journey in journeys and name in of.metrics
    }


def measure(trial: Trial) -> dict[str, float]:
    """Every metric of the table that there is evidence for, in the table's order and units.

    What is of samples is of the trial's journey, the rest is the same for each.
    """
    known = foreign(trial)
    measured = (figure for row in TABLE for figure in _figures(row, trial).items())
    values = ((name, known.get(name) if v is None else v) for name, v in measured)
    return {name: round(float(v), DIGITS) for name, v in values if v is not None}


def _figures(row: Metric, trial: Trial) -> Mapping[str, float | None]:
    """The figures of a row: one, or those of a family that there are."""
    if row.members:
        return FAMILIES[row.name](trial)
    return {row.name: MEASURES[row.name](trial)}


def asked(trial: Trial) -> set[str]:
    """The metrics that the cell's criteria on the trial's journey are about."""
    criteria = (*trial.cell.criteria, *trial.cell.relative)
    return {criterion.metric for criterion in criteria if criterion.journey is trial.journey}


def foreign(trial: Trial) -> dict[str, int]:
    """The counts that a criterion asks for and that only another target can have: known to be 0.

    A spec over both targets asks all of its cells; see `lab.plan.expand`.
    """
    names = asked(trial) if trial.sent else set()
    here = (None, trial.cell.target)
    return {
        name: 0 for name in names if only_on(name) not in here and BY_NAME[name].unit == "count"
    }


# Samples: what the users saw; nothing where no upload was sent in the window.


def throughput(trial: Trial) -> float | None:
    """Successes a second; each counts by the share of its life that lies in the window."""
    start, end = trial.window
    if not trial.sent:
        return None
    return fsum(share for _, share in trial.answered) / (end - start) if end > start else 0.0


def attempt_rate(trial: Trial) -> float | None:
    """Uploads sent a second of the window; None where none was."""
    start, end = trial.window
    return len(trial.sent) / (end - start) if trial.sent and end > start else None


def statuses(trial: Trial) -> dict[str, float | None]:
    """How many uploads were answered with each HTTP status, in their order.

    A status that nobody was answered with is left out, but one that a criterion asks for is known
    to be 0.
    """
    counts = Counter(sample.status for sample in trial.sent if 100 <= sample.status < 600)
    wanted = map(status_of, asked(trial)) if trial.sent else ()
    return {f"{STATUS}{code}": counts[code] for code in sorted({*counts, *filter(None, wanted)})}


def utilisation(law: Callable[[Trial], float | None], trial: Trial) -> float | None:
    """The rate as a share of what the slots can carry, by a law."""
    rate, bound = throughput(trial), law(trial)
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
    ordered = latencies(trial.sent, metric, trial.timeout)
    return quantile(ordered, PERCENTILES[metric]) if ordered else None


def dropped(trial: Trial) -> int | None:
    """Arrivals of the window that were not sent; None for a load whose users keep none back."""
    load = trial.cell.load
    if not isinstance(load, OpenLoad) or load.max_in_flight is None:
        return None
    return next((line.dropped for line in trial.evidence(LoadDone)), None)


# Readings: what went on inside the replica and this machine; see `lab.judge.readings`.


def throttled(trial: Trial) -> float | None:
    """Share of the time for which a CPU quota kept the backend, or its instances, waiting."""
    share = gateway.throttled(trial)
    return machine_rate(lambda r: r.throttled_s, BACKEND, trial) if share is None else share


def oom_kills(trial: Trial) -> int | None:
    """Kills for memory, in the whole trial, its ramp and drain included."""
    kinds = (WorkerReading, MachineReading, OomKill)
    watched = trial.gateway_readings or any(trial.evidence(kind) for kind in kinds)
    return len(trial.kills) if watched else None


def probed(event: str, trial: Trial) -> int | None:
    """How often a health probe failed, or ended what it asked; None where nobody asks."""
    return None if trial.knobs.health_probe is None else len(trial.probes(event))


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
    "attempt_rate": attempt_rate,
    "succeeded": lambda trial: len(trial.succeeded) if trial.sent else None,
    "dropped": dropped,
    "error_rate": lambda trial: mean(sample.error is not None for sample in trial.sent),
    "throughput": throughput,
    "capacity": lambda trial: capacity(trial) if trial.sent else None,
    "utilisation": partial(utilisation, capacity),
    "capacity_split": lambda trial: capacity_split(trial) if trial.sent else None,
    "utilisation_split": partial(utilisation, capacity_split),
    "worker_share_max": worker_share_max,
    "connections_reused": connections_reused,
    "split_idle": split_idle,
    **{name: partial(percentile, name) for name in PERCENTILES},
    **{f"errors.{cause}": partial(failures, cause) for cause in Cause},
    "oversize": oversize,
    "unseen_failures": unseen_failures,
    **stages.MEASURES,
    "lateness": lambda trial: p95(
        sample.sent_at - sample.planned_at for sample in trial.counted(trial.observation.samples)
    ),
    **{name: partial(peak_of, gauge) for name, gauge in PEAKS.items()},
    "pool_abandoned": partial(mean_of, lambda reading: reading.abandoned),
    "threads": partial(peak_of, lambda reading: reading.threads),
    "fds": partial(peak_of, lambda reading: reading.fds),
    "loop_lag": lambda trial: p95(reading.loop_lag for reading in trial.workers),
    "loop_busy": busiest_loop,
    "loop_stood": stood_share,
    "cpu_backend": lambda trial: total(cores(trial)),
    "cpu_worker_max": lambda trial: peak(cores(trial)),
    "gcs_attempts": partial(grown, lambda reading: reading.gcs_attempts),
    "net_to_gcs": partial(grown_per_second, lambda reading: reading.gcs_bytes),
    "pg_connections": lambda trial: peak(reading.connections for reading in trial.database),
    **pooler.MEASURES,
    "cpu_machine": lambda trial: mean(reading.cpu_share for reading in trial.machine),
    "cpu_generator": partial(machine_rate, lambda reading: reading.cpu_s, GENERATOR),
    "memory_backend": lambda trial: peak(
        reading.memory[BACKEND] for reading in trial.machine if BACKEND in reading.memory
    ),
    "throttled_backend": throttled,
    "oom_kills": oom_kills,
    "probe_failures": partial(probed, "failed"),
    "probe_restarts": partial(probed, "ended"),
    "db_refusals": partial(audited, lambda audit: audit.refused),
    "orphans": partial(audited, lambda audit: max(0, len(audit.orphans) - audit.inflight)),
    "wasted": wasted,
    "unheard": partial(
        audited, lambda audit: None if audit.unheard is None else len(audit.unheard)
    ),
    "lost": partial(audited, lambda audit: len(audit.lost)),
    **{name: partial(slope, name) for name in QUANTITIES},
    **readings.MEASURES,
    **gateway.MEASURES,
}
"""How each metric of the table is measured."""

FAMILIES: Mapping[str, Callable[[Trial], Mapping[str, float | None]]] = {"status.NNN": statuses}
"""How those of each family are, by the names of its members."""
