"""Times that many requests have each, and what is made of them: a mean and percentiles.

A row of the table (`lab.model.metrics.StageRow`) names the timings that it adds up, and nothing
more is to be done; a time that is worked out of other evidence has an entry in `WORKED_OUT`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import fsum

from lab.judge import gateway
from lab.judge.statistics import mean, percentile
from lab.judge.trial import Trial
from lab.model.evidence import Sample
from lab.model.metrics import QUANTILES, STAGES, StageRow

STAGE_OF = {
    row.name: row.timings[0] for row in STAGES.values() if row.timings and row.of == "successes"
}
"""The stages in which something is done for a request, as ``Server-Timing`` calls them."""

WAITS = {row.name: row.timings for row in STAGES.values() if row.timings and row.of == "all"}
"""The stages in which it waits, likewise."""

STATISTICS: Mapping[str, Callable[[Iterable[float]], float | None]] = {
    "": mean,
    **{end: partial(percentile, p) for end, p in QUANTILES.items()},
}
"""What is made of a stage's times, by how the names of its metrics end."""


def timings(stage: StageRow, trial: Trial) -> list[float]:
    """The seconds of a stage, of each request that had it."""
    return [
        fsum(sample.stages.get(timing, 0.0) for timing in stage.timings)
        for sample in (trial.succeeded if stage.of == "successes" else trial.sent)
        if any(timing in sample.stages for timing in stage.timings)
    ]


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


WORKED_OUT: Mapping[str, Callable[[Trial], list[float]]] = {
    "accept_wait": accept_waits,
    "wait": waits,
    "queue_wait": gateway.waits,
}
"""The stages that no timing tells, and how their times are worked out."""


def durations(trial: Trial) -> dict[str, list[float]]:
    """The times of each stage, in seconds, by the name of its mean."""
    return {
        name: timings(row, trial) if row.timings else WORKED_OUT[name](trial)
        for name, row in STAGES.items()
    }


def figure(stage: str, end: str, trial: Trial) -> float | None:
    """A stage's mean, or the percentile whose name ends so; None where nobody had it."""
    return STATISTICS[end](trial.durations[stage])


MEASURES: Mapping[str, Callable[[Trial], float | None]] = {
    name + end: partial(figure, name, end) for name in STAGES for end in STATISTICS
}
"""How each metric of a stage is measured."""
