"""Phase 2: at how many users, on the way up, a criterion is crossed first."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.criterion import Criterion
from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Crossing
from lab.report.answers.say import (
    backed,
    finding,
    held_against,
    limits,
    listed,
    most_users,
    name,
    say,
)
from lab.report.answers.window import too_short


def gcs_threshold(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell's first crossings, then their order."""
    said = [_crossed(cell) for cell in cells]
    return [*said, *_order(cells), *limits(cells), *_how_read(cells), *too_short(cells)]


def _crossed(cell: CellResult) -> Claim:
    crossings = cell.course.crossings if cell.course else ()
    if crossings:
        told = listed([_where(cell, one) for one in crossings], ", then ")
        return say("{}: {}.", name(cell), told)
    found = [held_against(cell, one) for one in cell.findings if one.value is not None]
    if not found:
        return Claim(text=f"{name(cell)}: nothing was measured to hold against a bound.")
    form = "{}: no bound was crossed for certain up to {} users ({})."
    return say(form, name(cell), most_users(cell), listed(found))


def _where(cell: CellResult, one: Crossing) -> Claim:
    low, high = sorted((one.since_users, one.users))
    users = f"{low}-{high}" if low < high else f"{low}"
    figure = Figure(cell=cell.id, name=f"crossing {one.criterion}", value=float(high))
    first = cell.load.get("stages", [{}])[0].get("users")
    below = ", the fewest there were, so it lies there or below" if low == first else ""
    return Claim(
        text=f"{one.criterion} is crossed at {users} users{below} ({one.t:.0f} s)",
        figures=(figure,),
    )


def _order(cells: Sequence[CellResult]) -> list[Claim]:
    """Who goes first, by the users at whom p95 passes its bound."""
    found = [(cell, one) for cell in cells if (one := _p95(cell))]
    if len(found) < 2:
        return []
    found.sort(key=lambda pair: pair[1].since_users)
    told = [backed(f"{name(cell)} ({one.since_users})", _where(cell, one)) for cell, one in found]
    return [say("By the users at whom p95 gives way: {}.", listed(told, ", then "))]


def _p95(cell: CellResult) -> Crossing | None:
    crossings = cell.course.crossings if cell.course else ()
    return next((one for one in crossings if Criterion.parse(one.criterion).metric == "p95"), None)


def _how_read(cells: Sequence[CellResult]) -> list[Claim]:
    if any(finding(cell, "p95") for cell in cells):
        return [Claim(text="A ramp reads a threshold late; `lab threshold` measures it.")]
    return []
