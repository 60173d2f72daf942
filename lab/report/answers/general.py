"""Any spec: which cells hold, which break and by what, and what limits them."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Outcome
from lab.report import words
from lab.report.answers.say import backed, failed, limits, listed, measured, name, say, verdict

MOST = 4
"""So many cells that broke are told one by one; more, by what limits them."""


def general(cells: Sequence[CellResult]) -> list[Claim]:
    """Who held, who broke and why."""
    held = [cell for cell in cells if cell.verdict is Outcome.HELD]
    broke = [cell for cell in cells if cell.verdict is Outcome.BROKE]
    said = []
    if held:
        said.append(say("Every criterion is met by {}.", listed([_held(cell) for cell in held])))
    if len(broke) > MOST:
        return said + _by_limit(broke)
    told = [say("{} {}: {}.", name(cell), verdict(cell), _why(cell)) for cell in broke]
    return [*said, *told, *limits(broke)]


def _by_limit(broke: Sequence[CellResult]) -> list[Claim]:
    """A sentence a limit: the cells that it broke."""
    by_limit: dict[str, list[Claim]] = {}
    for cell in broke:
        limit = str(cell.limit.resource) if cell.limit else "none"
        figure = Figure(cell=cell.id, name=f"limit {limit}")
        told = backed(name(cell), verdict(cell), Claim(text="", figures=(figure,)))
        by_limit.setdefault(limit, []).append(told)
    nameless = {"none": "with no limit in sight", "unclear": "with a limit that is unclear"}
    return [
        say(f"{len(of)} broke {nameless.get(limit, f'at the limit {limit}')}: {{}}.", listed(of))
        for limit, of in by_limit.items()
    ]


def _held(cell: CellResult) -> Claim:
    return say(
        "{} (p95 {}, {} failed)",
        backed(name(cell), verdict(cell)),
        measured(cell, "p95"),
        measured(cell, "error_rate"),
    )


def _why(cell: CellResult) -> Claim:
    return say("{} ({})", words.first_reason(cell), failed(cell))
