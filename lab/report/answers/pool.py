"""The pool: do connections stay where they must, and does it run dry?"""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.criterion import Criterion
from lab.model.run import CellResult, Claim
from lab.model.verdict import Finding
from lab.report import figures
from lab.report.answers.say import (
    backed,
    failed,
    finding,
    held_against,
    knob,
    limits,
    listed,
    measured,
    name,
    say,
)
from lab.report.answers.window import too_short

_DRY = ("pool_timeout", "db_refused")


def pool_validation(cells: Sequence[CellResult]) -> list[Claim]:
    """Phase 1: do connections stay within the bound, and is that the pool's merit?"""
    return [
        *_within(cells),
        *_cannot_pass(cells),
        *_ran_dry(cells),
        *limits(cells),
        *too_short(cells),
    ]


def pool_exhaustion(cells: Sequence[CellResult]) -> list[Claim]:
    """Scenario 1: the session held and released, side by side at each load."""
    said = []
    for session, way in (("hold", "held across the upload"), ("release", "released before it")):
        of = [cell for cell in cells if cell.knobs["db_session"] == session]
        if of:
            told = listed([_dry(cell) for cell in of], "; and ")
            said.append(say(f"With the session {way}: {{}}.", told))
    return [*said, *_fixed(cells), *limits([cell for cell in cells if _failures(cell)])]


def _within(cells: Sequence[CellResult]) -> list[Claim]:
    found = [(cell, one) for cell in cells if (one := finding(cell, "pg_connections"))]
    said = []
    for outcome, form in (
        ("met", "Connections never passed {:g} in {{}}."),
        ("missed", "They did pass {:g} in {{}}."),
        ("undecided", "Whether they passed {:g} is undecided in {{}}."),
    ):
        of = [_peak(cell, one) for cell, one in found if one.outcome == outcome]
        if of:
            bound = Criterion.parse(found[0][1].criterion).bound
            said.append(say(form.format(bound), listed(of)))
    return said


def _peak(cell: CellResult, one: Finding) -> Claim:
    value = figures.metric("pg_connections", one.value)
    return backed(f"{name(cell)} (peak {value})", held_against(cell, one))


def _cannot_pass(cells: Sequence[CellResult]) -> list[Claim]:
    """The cells whose pools hold fewer than the bound: there, it could not be missed."""
    could_not = [
        backed(name(cell), knob(cell, "pool_size"), knob(cell, "max_overflow"))
        for cell in cells
        if (one := finding(cell, "pg_connections"))
        and one.outcome == "met"
        and _most(cell) <= Criterion.parse(one.criterion).bound
    ]
    if not could_not:
        return []
    form = "Pool and overflow allow no more in {}: there the bound cannot be passed, only run dry."
    return [say(form, listed(could_not))]


def _most(cell: CellResult) -> int:
    knobs = cell.knobs
    return int(knobs["workers"] * (knobs["pool_size"] + knobs["max_overflow"]))


def _failures(cell: CellResult) -> float:
    return sum(cell.metrics.get(f"errors.{cause}", 0) for cause in _DRY)


def _ran_dry(cells: Sequence[CellResult]) -> list[Claim]:
    of = [cell for cell in cells if _failures(cell)]
    if of:
        return [say("Connections ran out in {}.", listed([_dry(cell) for cell in of], "; and "))]
    counted = [_none(cell) for cell in cells if _counted(cell)]
    form = "No upload failed for want of a connection in {}."
    return [say(form, listed(counted))] if counted else []


def _none(cell: CellResult) -> Claim:
    return backed(name(cell), *(measured(cell, f"errors.{cause}") for cause in _DRY))


def _dry(cell: CellResult) -> Claim:
    parts = [
        say("{} {}", measured(cell, f"errors.{cause}"), cause)
        for cause in _DRY
        if cell.metrics.get(f"errors.{cause}", 0) or cause == _DRY[0]
    ]
    peak, all_of = measured(cell, "pg_connections"), measured(cell, "attempts")
    form = "{}: {} of {} uploads, peak {} connections, {}"
    return say(form, name(cell), listed(parts), all_of, peak, failed(cell))


def _fixed(cells: Sequence[CellResult]) -> list[Claim]:
    """What the fix changes, at each load at which both were measured."""
    by_load: dict[str, dict[str, CellResult]] = {}
    for cell in cells:
        key = cell.axes.get("load", "this load")
        by_load.setdefault(key, {})[cell.knobs["db_session"]] = cell
    said = []
    for load, pair in by_load.items():
        if set(pair) != {"hold", "release"} or not all(map(_counted, pair.values())):
            continue
        before, after = (_failures(pair[session]) for session in ("hold", "release"))
        counts = [_count(pair["hold"]), _count(pair["release"])]
        if before and not after:
            what = "the fix holds"
        else:
            what = "the fix does not suffice" if after else "nothing tells them apart"
        said.append(say("{} at {} ({} against {})", what, load, *counts))
    return [say("Held against released: {}.", listed(said))] if said else []


def _counted(cell: CellResult) -> bool:
    return all(f"errors.{cause}" in cell.metrics for cause in _DRY)


def _count(cell: CellResult) -> Claim:
    parts = [measured(cell, f"errors.{cause}") for cause in _DRY]
    return backed(f"{_failures(cell):.0f}", *parts)
