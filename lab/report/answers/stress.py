"""Phase 5: what fails first on the way up, and what follows in which order."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.answer import Claim, Figure
from lab.model.run import CellResult
from lab.report.answers.say import finding, held_against, knob, limits, listed, measured, name, say
from lab.report.answers.window import too_short


def stress(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell's failures in their order; then backpressure, where there is any."""
    said = [_order(cell) for cell in cells]
    kept = [claim for cell in cells if (claim := _backpressure(cell))]
    return [*said, *kept, *limits(cells), *too_short(cells)]


def _order(cell: CellResult) -> Claim:
    course = cell.course
    events = (
        [
            *(
                (one.t, _event(cell, one.criterion, one.since_users, one.t))
                for one in course.crossings
            ),
            *(
                (one.t, _event(cell, one.cause, one.users, one.t, one.count))
                for one in course.failures
            ),
        ]
        if course
        else []
    )
    top = max((int(stage["users"]) for stage in cell.load.get("stages", ())), default=0)
    if not events:
        sent = measured(cell, "attempts")
        return say(f"{{}}: nothing failed up to {top} users, in {{}} uploads.", name(cell), sent)
    told = [event for _, event in sorted(events, key=lambda pair: pair[0])]
    if len(told) == 1:
        return say("{}: {}, and nothing else up to {} users.", name(cell), told[0], top)
    return say("{}: first {}; then {}.", name(cell), told[0], listed(told[1:], ", then "))


def _event(cell: CellResult, what: str, users: int, t: float, count: int | None = None) -> Claim:
    if count is None:
        figure = Figure(cell=cell.id, name=f"crossing {what}", value=float(users))
        return Claim(text=f"{what} is crossed at {users} users ({t:.0f} s)", figures=(figure,))
    figure = Figure(cell=cell.id, name=f"failure {what}", value=float(count))
    text = f"{what} from {users} users on ({count} in all, {t:.0f} s)"
    return Claim(text=text, figures=(figure,))


def _backpressure(cell: CellResult) -> Claim | None:
    """Whether the uploads that are accepted stay within their p95 while others are refused."""
    one = finding(cell, "p95")
    if cell.knobs.get("max_inflight_uploads") in (None, "off") or one is None:
        return None
    refused = measured(cell, "errors.overloaded")
    kept = {
        "met": "those that it accepted stayed within their p95",
        "missed": "those that it accepted did not stay within their p95",
        "undecided": "whether those that it accepted stayed within their p95 is undecided",
    }[one.outcome]
    return say(
        f"With at most {{}} uploads inside a worker, {{}} refused {{}} uploads at once, and {kept} "
        "({}).",
        knob(cell, "max_inflight_uploads"),
        name(cell),
        refused,
        held_against(cell, one),
    )
