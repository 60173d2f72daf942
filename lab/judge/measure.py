"""All metrics of one cell's trial."""

from __future__ import annotations

from lab.judge.instances import instance_metrics
from lab.judge.law import capacity
from lab.judge.leaks import leaks
from lab.judge.readings import reading_metrics
from lab.judge.samples import sample_metrics, stages_of_throughput
from lab.model.cell import Cell
from lab.model.metrics import TABLE
from lab.model.observation import Observation

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
