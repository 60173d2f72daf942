"""Phase 5: what fails first on the way up, and what follows in which order."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.run import CellResult, Claim, Figure
from lab.model.verdict import Crossing, Failure
from lab.report.answers.say import (
    finding,
    held_against,
    knob,
    limits,
    listed,
    measured,
    most_users,
    name,
    say,
)
from lab.report.answers.window import too_short


def stress(cells: Sequence[CellResult]) -> list[Claim]:
    """Each cell's failures in their order; then backpressure, where there is any."""
    said = [_order(cell) for cell in cells]
    kept = [claim for cell in cells if (claim := _backpressure(cell))]
    return [*said, *kept, *limits(cells), *too_short(cells)]


def _order(cell: CellResult) -> Claim:
    told, top = _events(cell), most_users(cell)
    if not told:
        sent = measured(cell, "attempts")
        return say(f"{{}}: nothing failed up to {top} users, in {{}} uploads.", name(cell), sent)
    if len(told) == 1:
        return say("{}: {}, and nothing else up to {} users.", name(cell), told[0], top)
    return say("{}: first {}; then {}.", name(cell), told[0], listed(told[1:], ", then "))


def _events(cell: CellResult) -> list[Claim]:
    """What was crossed and what failed, in the order of time."""
    if not cell.course:
        return []
    events = [(one.t, _crossed(cell, one)) for one in cell.course.crossings]
    events += [(one.t, _failed(cell, one)) for one in cell.course.failures]
    return [claim for _, claim in sorted(events, key=lambda pair: pair[0])]


def _crossed(cell: CellResult, one: Crossing) -> Claim:
    users = one.since_users
    figure = Figure(cell=cell.id, name=f"crossing {one.criterion}", value=float(users))
    text = f"{one.criterion} is crossed at {users} users ({one.t:.0f} s)"
    return Claim(text=text, figures=(figure,))


def _failed(cell: CellResult, one: Failure) -> Claim:
    figure = Figure(cell=cell.id, name=f"failure {one.cause}", value=float(one.count))
    text = f"{one.cause} from {one.users} users on ({one.count} in all, {one.t:.0f} s)"
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
