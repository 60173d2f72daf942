"""When a cell's window may end early, and what keeps it from that; known before it is measured.

         ramp   warm-up        window
    ____/‾‾‾‾‾‾|‾‾‾‾‾‾‾‾‾‾‾|‾‾‾‾‾‾‾‾|‾‾‾‾‾‾‾‾‾|
        |─── longest time-out ───|── may end ──|

Whether it is decided then, `lab.judge.sequential` says from the uploads.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad, OneWindow, end_of
from lab.model.physics import allowed_share, countable_share, longest_timeout
from lab.model.units import format_duration


def earliest_end(cell: Cell) -> float | None:
    """From when on a cell's window may end, in real-world seconds after its load started.

    None where it goes on to its end whatever is seen.
    """
    return None if not cell.stop_when_decided or never_early(cell) else _earliest(cell)


def never_early(cell: Cell) -> list[str]:
    """A sentence for each reason why a cell that is to stop when it is decided never does."""
    if not cell.stop_when_decided:
        return []
    return [f"{cell.id}: never stops early: {reason}" for reason in _reasons(cell)]


def _reasons(cell: Cell) -> Iterator[str]:
    if not isinstance(cell.load, OneWindow):
        yield f"a load of kind {cell.load.kind} has no window that could end early"
        return
    for criterion in cell.criteria:
        if countable_share(criterion, cell.load.timeout_of(criterion.journey)) is None:
            yield _uncountable(criterion)
    for criterion in cell.relative:
        yield f"'{criterion}' is a comparison of figures, which an early end would bend"
    for planned in cell.process_faults:
        yield f"{planned.fault} is planned by time"
    earliest, end = _earliest(cell), end_of(cell.load)
    if earliest >= end:
        longest = format_duration(longest_timeout(cell))
        yield (
            f"a time-out of {longest} can strike until {format_duration(earliest)}, and the window"
            f" ends at {format_duration(end)}"
        )
    if not cell.criteria:
        yield "it has no criteria"


def _uncountable(criterion: Criterion) -> str:
    if allowed_share(criterion) is None:
        return f"'{criterion}' is no claim about a share of uploads"
    return f"no number of uploads shows on which side of '{criterion}' it is"


def _earliest(cell: Cell) -> float:
    """When the window has begun, and the longest time-out can have struck each user's upload.

    Users begin along the ramp; those who waited for a time-out from then on send again, and count.
    """
    ramp = cell.load.ramp if isinstance(cell.load, ClosedLoad) else 0.0
    return max(cell.load.measured[0], ramp + longest_timeout(cell))
