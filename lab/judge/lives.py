"""What ends an instance before its time: a result, or a reason why a cell shows nothing.

killed for its memory, also in its start-up      a result, the platform's
fails to start, or never listens                 the lab's: nothing was measured
exits, or dies of something else                 the replica's, unless it was struck
cannot be ruled, ended or removed                the lab's
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.judge.window import readings
from lab.model.cell import Cell
from lab.model.observation import InstanceEvent, Observation

_WORDS = {"start_failed": "did not start", "died": "died", "stuck": "could not be ruled"}


def instance_reasons(cell: Cell, observation: Observation) -> Iterable[str]:
    """A sentence for each way in which instances failed that is no result, with the first one."""
    events = readings(InstanceEvent, observation.evidence)
    struck = any(planned.part == "backend" for planned in cell.strikes)
    found: dict[str, list[InstanceEvent]] = {}
    for line in events:
        if line.event in _WORDS and not _is_result(line, events, struck):
            found.setdefault(f"{_WORDS[line.event]}: {line.why}", []).append(line)
    for what, lines in found.items():
        first = lines[0]
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        yield f"{first.instance}{more} {what} (at {first.t:.1f} s)"


def _is_result(line: InstanceEvent, events: Sequence[InstanceEvent], struck: bool) -> bool:
    if line.event == "stuck":
        return False
    killed = any(other.event == "oom" and other.instance == line.instance for other in events)
    # A death in the start-up is told twice: as such, and as a start that failed.
    twice = line.event == "died" and line.during == "starting"
    return killed or struck or twice
