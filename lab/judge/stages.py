"""Each stage of a load in stages, judged as a cell of its own would be.

A stage owns the uploads that were sent in it, its ramp included, however long they took; it
has its own readings. Its rate counts, as a cell's does, each success by the share of its
life that lies in the stage.
"""

from __future__ import annotations

from lab.judge.criteria import decide, outcome_of
from lab.judge.measure import DIGITS, measure
from lab.judge.samples import throughput
from lab.judge.users import stage_spans
from lab.judge.window import Window, restricted, sent_in_window
from lab.model.cell import Cell
from lab.model.course import StageResult
from lab.model.load import StagesLoad
from lab.model.observation import Observation

KEPT = (
    *("attempts", "succeeded", "error_rate", "throughput", "p50", "p95"),
    *("pg_connections", "pool_checked_out", "uploads_inflight", "loop_busy"),
)
"""The metrics that a stage keeps, beside those that its criteria are about and its failures."""


def stages(cell: Cell, observation: Observation) -> tuple[StageResult, ...]:
    """A result a stage, in order; empty for a load without stages."""
    if not isinstance(cell.load, StagesLoad):
        return ()
    spans = zip(cell.load.stages, stage_spans(cell.load), strict=True)
    return tuple(
        _stage(cell, observation, index, stage.users, span)
        for index, (stage, span) in enumerate(spans)
        if span[1] > span[0]
    )


def _stage(
    cell: Cell, observation: Observation, index: int, users: int, span: Window
) -> StageResult:
    part = restricted(observation, span)
    metrics = measure(cell, part)
    if "throughput" in metrics:
        metrics["throughput"] = round(throughput(cell, observation, span), DIGITS)
    findings = [decide(criterion, cell, part, metrics) for criterion in cell.criteria]
    kept = {*KEPT, *(criterion.metric for criterion in cell.criteria)}
    return StageResult(
        index=index,
        users=users,
        start=span[0],
        end=span[1],
        outcome=outcome_of(findings, len(sent_in_window(cell, part))),
        reasons=tuple(one.reason for one in findings if one.outcome != "met"),
        metrics={
            name: value
            for name, value in metrics.items()
            if name in kept or (name.startswith("errors.") and value)
        },
    )
