"""Scenario 2: how long a user of a burst waits, beside the wait that the report works out."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim
from lab.report.answers.say import failed, limits, measured, name, say

REPORT_S = 4.5
"""The incident report's mean wait of 50 users: 30 that queue / 6.7 uploads a second."""


def gcs_backlog(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell's waits, and how they stand beside the report's."""
    return [*map(_told, cells), *limits(cells)]


def _told(cell: CellResult) -> Claim:
    users = str(cell.load.get("burst", "its"))
    if "wait" not in cell.metrics:
        return say("{}: of {} users nobody was served; {}.", name(cell), users, failed(cell))
    served, all_of = measured(cell, "succeeded"), measured(cell, "attempts")
    return say(
        "{}: {} of {} were served, after waiting {} on average and {} at the 95th percentile, "
        f"{cell.metrics['wait'] / REPORT_S:.1f} times the report's {REPORT_S} s; {{}}.",
        name(cell),
        served,
        all_of,
        measured(cell, "wait"),
        measured(cell, "wait_p95"),
        failed(cell),
    )
