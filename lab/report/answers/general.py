"""Any spec: which cells hold, which break and by what, and what limits them."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.answer import Claim
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.report import words
from lab.report.answers.say import backed, failed, limits, listed, measured, name, say, verdict

MOST = 4
"""So many cells that broke are told one by one; of more, the table tells."""


def general(cells: Sequence[CellResult]) -> list[Claim]:
    """Who held, who broke and why."""
    held = [cell for cell in cells if cell.verdict is Outcome.HELD]
    broke = [cell for cell in cells if cell.verdict is Outcome.BROKE]
    said = []
    if held:
        said.append(say("Every criterion is met by {}.", listed([_held(cell) for cell in held])))
    if len(broke) > MOST:
        names = listed([backed(name(cell), verdict(cell)) for cell in broke])
        said.append(say("These broke: {}.", names))
    else:
        said += [say("{} {}: {}.", name(c), verdict(c), _why(c)) for c in broke]
    return said + limits(broke if len(broke) <= MOST else [])


def _held(cell: CellResult) -> Claim:
    return say(
        "{} (p95 {}, {} failed)",
        backed(name(cell), verdict(cell)),
        measured(cell, "p95"),
        measured(cell, "error_rate"),
    )


def _why(cell: CellResult) -> Claim:
    return say("{} ({})", words.first_reason(cell), failed(cell))
