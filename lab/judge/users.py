"""How many users there are at a moment: what the load asks for, whatever the answers are."""

from __future__ import annotations

from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.load import BurstLoad, ClosedLoad, OpenLoad, StagesLoad

AnyLoad = ClosedLoad | StagesLoad | BurstLoad | OpenLoad

PEAK = 0.9
"""Share of the most users from which on a load in stages counts as at its peak."""


def users_at(load: AnyLoad, t: float, inflight: int = 0) -> int:
    """Active users ``t`` real-world seconds after the load started.

    Burst and open loads have no users of their own: theirs are the uploads in flight. Before
    its start a load has none: parts are read from the moment on in which faults are armed.
    """
    if t < 0:
        return 0
    if isinstance(load, ClosedLoad):
        if t > load.measured[1]:
            return 0
        return load.users if t >= load.ramp else round(load.users * t / load.ramp)
    if isinstance(load, StagesLoad):
        return round(_in_stages(load, t))
    return inflight


def users_when(cell: Cell, observation: Observation, t: float) -> int:
    """Users at a moment of a trial."""
    inflight = sum(s.sent_at <= t < s.sent_at + s.latency_s for s in observation.samples)
    return users_at(cell.load, t, inflight)


def _in_stages(load: StagesLoad, t: float) -> float:
    begin, before = 0.0, 0
    for stage in load.stages:
        if t < begin + stage.over:
            return before + (stage.users - before) * (t - begin) / stage.over
        begin, before = begin + stage.over + stage.hold, stage.users
        if t < begin:
            return before
    return before if t <= begin else 0


def stage_spans(load: StagesLoad) -> list[tuple[float, float]]:
    """Begin of each stage's ramp and end of its hold."""
    spans, begin = [], 0.0
    for stage in load.stages:
        end = begin + stage.over + stage.hold
        spans.append((begin, end))
        begin = end
    return spans


def at_peak(load: StagesLoad) -> tuple[float, float]:
    """The longest stretch of time with nearly the most users: there the replica is fullest."""
    enough = PEAK * load.peak_users
    begin, before, found = 0.0, 0, [(0.0, 0.0)]
    for stage in load.stages:
        end = begin + stage.over + stage.hold
        if stage.users >= enough:
            rise = (enough - before) / (stage.users - before) if before < enough else 0.0
            start = begin + stage.over * rise
            joined = before >= enough and found[-1][1] == begin
            found.append((found.pop()[0] if joined else start, end))
        elif before >= enough:
            fall = (before - enough) / (before - stage.users)
            found.append((found.pop()[0], begin + stage.over * fall))
        begin, before = end, stage.users
    return max(found, key=lambda span: span[1] - span[0])
