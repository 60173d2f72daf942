"""From the log of Cloud Run's front to evidence: how instances lived, and who waited for one.

What was noted before a cell's trial is left out, but for what still stood when it began:
that the front serves, how its queue was, and how the instances that lived had started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from lab.model.observation import (
    Evidence,
    FrontReading,
    FrontRequest,
    FrontServing,
    InstanceEvent,
)
from lab.observe.collect import Clock, json_lines

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
