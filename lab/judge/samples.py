"""Metrics from the samples: what the users saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import fsum

from lab.judge.statistics import quantile
from lab.judge.window import Window, sent_in_window, window_of
from lab.model.causes import CLOUDRUN, NGINX, Cause
from lab.model.cell import Cell
from lab.model.load import BurstLoad
from lab.model.observation import Observation, Sample

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
