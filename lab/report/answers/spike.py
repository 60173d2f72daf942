"""Phase 3: what a sudden class of users meets."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim
from lab.model.verdict import Outcome
from lab.report.answers.say import (
    backed,
    counted,
    failed,
    held_against,
    limits,
    listed,
    measured,
    name,
    say,
    verdict,
)
from lab.report.answers.window import too_short

_VERB = {
    Outcome.HELD: "carries the spike",
    Outcome.BROKE: "does not carry the spike",
    Outcome.UNDECIDED: "leaves open whether it carries the spike",
}


def spike(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell's verdict with its errors, and the cold starts where there are instances."""
    return [*map(_told, cells), *limits(cells), *too_short(cells)]


def _told(cell: CellResult) -> Claim:
    told = [held_against(cell, one) for one in cell.findings]
    starts = (
        say(" {}; {} of {} uploads were served.", *_served(cell))
        if "cold_starts" in cell.metrics
        else Claim(text="")
    )
    verb = backed(_VERB[cell.verdict], verdict(cell))
    return say("{} {}: {}; {}.{}", name(cell), verb, listed(told), failed(cell), starts)


def _served(cell: CellResult) -> list[Claim]:
    starts = counted(cell, "cold_starts", "cold start")
    return [starts, *(measured(cell, metric) for metric in ("succeeded", "attempts"))]
