"""A trial over time, put together: stages, series, where limits were crossed, what failed."""

from __future__ import annotations

from lab.judge.crossings import crossings
from lab.judge.failures import failures
from lab.judge.series import series
from lab.judge.stages import stages
from lab.model.cell import Cell
from lab.model.course import Course
from lab.model.observation import Observation


def course(cell: Cell, observation: Observation) -> Course:
    """Everything that is said of a cell over time; stages only of a load that has them."""
    return Course(
        stages=stages(cell, observation),
        series=series(cell, observation),
        crossings=crossings(cell, observation),
        failures=failures(cell, observation),
    )
