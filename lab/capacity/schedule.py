"""Which of many searches goes on next, and what it learns of the others.

One trial for every cell first, then the widest interval.

A matrix is of use when each of its cells has an answer, however wide, so none waits until
another is finished. The choice is a function of what is stored: a run that was interrupted goes
on with the cell, and the trial, that it would have gone on with.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.capacity import CapacityTrial, Standing
from lab.model.experiment import Cell

FREE = {"workers", "balance", "gcs_call", "gcs_threads", "audio_threads", "speed"}
"""The knobs that say how uploads wait for one another, and not how long a stage of one takes; the
speed is here because all times are real-world seconds."""


def next_search(standings: Sequence[Standing]) -> Standing | None:
    """The search that goes on: of those without a trial the first, else the widest.

    Width is that of the interval as a share of its middle; of as wide ones the search that took
    the least load, and of these the first.

    Args:
        standings: of the cells without an answer, in the run's order.

    Returns:
        None where every cell has its answer.
    """
    untried = [standing for standing in standings if not standing.trials]
    if untried:
        return untried[0]
    return min(standings, key=lambda standing: (-standing.width, standing.spent), default=None)


def measured_beside(
    cell: Cell, others: Sequence[tuple[Cell, Sequence[CapacityTrial]]]
) -> tuple[CapacityTrial, ...]:
    """The trials of other cells whose uploads take as long in each stage as this one's.

    Args:
        cell: which is to be searched.
        others: all cells with their trials, in the run's order.
    """
    mine = _of_stages(cell)
    return tuple(
        trial
        for other, trials in others
        if other.id != cell.id and _of_stages(other) == mine
        for trial in trials
    )


def _of_stages(cell: Cell) -> tuple[object, ...]:
    """All of a cell that says how long a stage of an upload takes, where it waits for nobody."""
    load = cell.load
    return (
        cell.target,
        cell.knobs.model_dump(exclude=FREE),
        cell.faults,
        load.model_dump(include={"audio", "uplink", "mix"}),
    )
