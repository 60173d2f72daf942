"""Planned strikes against those that happened: without its strike a cell shows nothing.

A part that was struck has to start before it serves again. That is work, which no speed
divides: at speed s what takes e seconds looks like s e seconds, s e - e of which are not
real (`lab.judge.scaling` says the same of uploads).
"""

from __future__ import annotations

from collections.abc import Iterable

from lab.judge.scaling import ALLOWED
from lab.model.cell import Cell
from lab.model.observation import Observation, Strike
from lab.model.strike import DONE, PlannedStrike
from lab.model.units import format_duration
from lab.model.verdict import Check


def strike_checks(cell: Cell, observation: Observation) -> Iterable[Check]:
    """A check for each planned strike; what it measures is how long it took, in seconds.

    It is ok when the part was struck within the window, whether or not the load ended
    before its time was over, and served again.
    """
    struck = _struck(observation)
    start, end = cell.load.measured
    for planned in cell.strikes:
        done = struck.get(planned.fault)
        took = None if done is None or done.until is None else round(done.until - done.t, 6)
        yield Check(
            name=planned.fault,
            expected=_expected(planned, start + planned.at),
            measured=took,
            ok=took is not None and done is not None and start <= done.t < end,
            reason=_reason(planned, done, end),
        )


def prolonged(cell: Cell, observation: Observation) -> Iterable[str]:
    """Sentences, one for each part that this speed kept away for longer than is true."""
    struck, speed = _struck(observation), cell.knobs.speed
    start, end = cell.load.measured
    for planned in cell.strikes:
        done = struck.get(planned.fault)
        if done is None or done.until is None:
            continue
        longer = (done.until - done.t - planned.lasts) * (1 - 1 / speed)
        if longer > ALLOWED * (end - start):
            yield (
                f"at speed {speed:g} {planned.part} was away {longer:.1f} s longer than it would"
                f" be, in a window of {end - start:.0f} s ({ALLOWED:.0%} is allowed)"
                " - lower --speed"
            )


def _struck(observation: Observation) -> dict[str, Strike]:
    """The strikes that happened, by fault."""
    return {line.fault: line for line in observation.evidence if isinstance(line, Strike)}


def _expected(planned: PlannedStrike, at: float) -> str:
    lasts = f", for {format_duration(planned.lasts)}" if planned.lasts else ""
    return f"{planned.part} {DONE[planned.action]} at {format_duration(at)}{lasts}"


def _reason(planned: PlannedStrike, done: Strike | None, end: float) -> str:
    if done is None:
        return f"the strike {planned.fault} did not happen"
    what = f"{done.part} was {DONE[done.action]} at {done.t:.1f} s"
    if done.t >= end:
        return f"{what}, after the window's end ({end:.0f} s)"
    if done.until is None:
        return f"{what} and did not come back"
    return f"{what} and served again at {done.until:.1f} s"
