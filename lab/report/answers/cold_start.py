"""Scenario 3: who is served when a class comes at once to instances that are not there."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim
from lab.report.answers.say import counted, limits, measured, name, say


def cold_start(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell: served, refused, how long both waited, and how many instances were started."""
    return [*map(_told, cells), *limits(cells)]


def _told(cell: CellResult) -> Claim:
    refused = Claim(text="")
    if cell.metrics.get("errors.no_instance"):
        refused = say(
            " {} were refused for want of an instance, after {} on average.",
            measured(cell, "errors.no_instance"),
            measured(cell, "queue_wait_refused"),
        )
    return say(
        "{}: {} of {} uploads were served, after {} of waiting for an instance on average; {}.{}",
        name(cell),
        measured(cell, "succeeded"),
        measured(cell, "attempts"),
        measured(cell, "queue_wait"),
        counted(cell, "cold_starts", "cold start"),
        refused,
    )
