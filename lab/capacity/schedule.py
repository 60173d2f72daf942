"""Which of many searches goes on next: one trial for every cell first, then the widest interval.

A matrix is of use when each of its cells has an answer, however wide, so none waits until
another is finished. The choice is a function of what is stored: a run that was interrupted goes
on with the cell, and the trial, that it would have gone on with.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.capacity import Standing


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
