"""From raw readings to evidence: one clock, real-world seconds after t = 0.

From the log of Cloud Run's front to evidence: how instances lived, and who waited for one.

What was noted before a cell's trial is left out, but for what still stood when it began:
that the front serves, how its queue was, and how the instances that lived had started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from lab.model.evidence import (
    DatabaseReading,
    Evidence,
    FrontReading,
    FrontRequest,
    FrontServing,
    InstanceEvent,
    MachineReading,
    OomKill,
    PartDown,
    WorkerReading,
)
from lab.observe.watch import Seen

_SCALED = ("loop_lag",)


class Clock:
    """Wall clock (seconds since 1970) to real-world seconds after the load's t = 0."""

    def __init__(self, t0: float, speed: float) -> None:
        self._t0 = t0
        self._speed = speed

    def __call__(self, at: float) -> float:
        """The moment ``at`` on the experiment's clock, to the millisecond."""
        return round((at - self._t0) * self._speed, 3)

    def scaled(self, wall: float) -> float:
        """A wall-clock duration as the real-world one it stands for."""
        return round(wall * self._speed, 6)


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file that may still be written to."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def from_workers(folder: Path, clock: Clock, since: float) -> Iterator[Evidence]:
    """What the workers, and the memory watch, wrote after wall clock ``since``."""
    for path in sorted(folder.glob("worker-*.jsonl")):
        for line in json_lines(path):
            if line["at"] >= since:
                at = line.pop("at")
                for name in _SCALED:
                    line[name] = clock.scaled(line[name])
                yield WorkerReading(t=clock(at), **line)
    kills = folder / "oom.jsonl"
    for line in json_lines(kills) if kills.exists() else ():
        if line["at"] >= since:
            yield OomKill(t=clock(line["at"]), pid=line["pid"], rss=line["rss"])


def from_watch(seen: Seen, clock: Clock) -> Iterator[Evidence]:
    """What the watch saw."""
    for at, count in seen.connections:
        yield DatabaseReading(t=clock(at), connections=count)
    for at, wall, share, usage in seen.machine:
        throttled = {name: used.throttled_s for name, used in usage.items()}
        yield MachineReading(
            t=clock(at),
            wall_s=wall,
            cpu_share=share,
            cpu_s={name: used.cpu_s for name, used in usage.items()},
            memory={name: used.memory for name, used in usage.items()},
            throttled_s={name: s for name, s in throttled.items() if s is not None},
        )
    for part, (at, why) in seen.down.items():
        yield PartDown(t=clock(at), part=part, why=why)


FILE = "front.jsonl"

Line = dict[str, Any]

_DURATIONS = ("start_s", "made_s", "waited", "cold", "took")


def from_front(folder: Path, clock: Clock, since: float) -> Iterator[Evidence]:
    """What the front noted after wall clock ``since``, and what stood then; nothing on a VM."""
    path = folder / FILE
    lines = list(json_lines(path)) if path.exists() else []
    before = [line for line in lines if line["at"] < since]
    for line in [*_standing(before), *(line for line in lines if line["at"] >= since)]:
        if make := _MADE.get(line["event"]):
            yield make(line, clock)


def _standing(before: list[Line]) -> list[Line]:
    """The lines of which the effect lasts, in their order."""
    lasting: dict[tuple[str, str], Line] = {}
    for line in before:
        event = line["event"]
        if event == "serving":
            lasting = {(event, ""): line}  # of an earlier front nothing is left
        elif event == "reading":
            lasting[event, ""] = line
        elif event in ("starting", "ready"):
            lasting[event, line["instance"]] = line
        elif event == "removed":
            for was in ("starting", "ready"):
                lasting.pop((was, line["instance"]), None)
    return sorted(lasting.values(), key=lambda line: float(line["at"]))


def _timed(line: Line, clock: Clock) -> Line:
    """A line's fields on the experiment's clock; the front divides nothing, nor does speed 1."""
    fields = {name: value for name, value in line.items() if name != "at"}
    scaled = {name: clock.scaled(line[name]) for name in _DURATIONS if name in line}
    return {**fields, **scaled, "t": clock(line["at"])}


def _serving(line: Line, clock: Clock) -> Evidence:
    return FrontServing(
        t=clock(line["at"]), driver=line["driver"], files_are_memory=line["files_are_memory"]
    )


def _reading(line: Line, clock: Clock) -> Evidence:
    fields = _timed(line, clock)
    del fields["event"]
    return FrontReading(**fields)


def _instance(line: Line, clock: Clock) -> Evidence:
    return InstanceEvent(**_timed(line, clock))


def _request(line: Line, clock: Clock) -> Evidence:
    return FrontRequest(**_timed(line, clock))


def _events(kind: type[InstanceEvent] | type[FrontRequest]) -> tuple[str, ...]:
    """The events that become lines of this kind."""
    return get_args(kind.model_fields["event"].annotation)


_MADE: dict[str, Callable[[Line, Clock], Evidence]] = {
    "serving": _serving,
    "reading": _reading,
    **dict.fromkeys(_events(InstanceEvent), _instance),
    **dict.fromkeys(_events(FrontRequest), _request),
}
