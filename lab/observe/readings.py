"""Turns readings on the monotonic clock into evidence, in real-world seconds after t = 0.

    worker-*.jsonl, oom.jsonl   every worker, and which was killed for its memory
    uploads-*.jsonl             every upload as its worker saw it
    health.jsonl                health probes of the VM's backend that failed
    front.jsonl                 Cloud Run's gateway: instances' lives, requests that waited
    Seen                        the watch: connections, PgBouncer, CPU and memory, parts down

What was noted before a cell's trial is left out, except what was still true at the gateway when
the trial began: that it serves, its queue, and how its live instances had started.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, get_args

from lab.errors import PartFailed
from lab.files import Folder
from lab.model.clock import foreign_clock
from lab.model.evidence import (
    Evidence,
    GatewayBeat,
    GatewayReading,
    GatewayRequest,
    GatewayServing,
    InstanceEvent,
    OomKill,
    PartDown,
    StageSpan,
    UploadRecord,
    WorkerReading,
)
from lab.model.pooler import PoolerReading
from lab.model.probe import ProbeRecord
from lab.model.readings import DatabaseReading, DatabaseStatements, MachineReading, Usage
from lab.model.replica import HEALTH_FILE
from lab.observe.watch import Seen

GATEWAY_LOG = "front.jsonl"

OF_RECORD = ("request", "worker", "status", "cause", "journey")
"""What of a worker's record is taken over as it is."""

Line = dict[str, Any]


class Clock:
    """Monotonic clock (`lab.model.clock`) to real-world seconds after the load's t = 0."""

    def __init__(self, t0: float, speed: float) -> None:
        self._t0 = t0
        self._speed = speed

    def __call__(self, at: float) -> float:
        """The moment ``at`` on the experiment's clock, to the millisecond."""
        return round((at - self._t0) * self._speed, 3)

    def scaled(self, wall: float) -> float:
        """The real-world duration that a wall-clock duration stands for."""
        return round(wall * self._speed, 6)


def complete_lines(folder: Folder, name: str) -> Iterator[bytes]:
    """The complete lines of a file that may still grow; none if there is no file.

    Raises:
        StoreError: it cannot be read, or is no regular file.
    """
    if folder.has(name):
        yield from (line for line in folder.lines(name) if line.endswith(b"\n"))


def json_lines(path: Path) -> Iterator[Line]:
    """What the complete lines of a file of the replica's hold; as `complete_lines`."""
    yield from map(json.loads, complete_lines(Folder(path.parent), path.name))


def from_workers(folder: Path, clock: Clock, since: float) -> Iterator[Evidence]:
    """What the workers, and the memory watch, wrote since ``since``.

    Raises:
        PartFailed: a worker's clock is not the lab's, so their moments cannot be compared.
    """
    for path in sorted(folder.glob("worker-*.jsonl")):
        for line in json_lines(path):
            if wrong := foreign_clock(line.pop("clock", None)):
                raise PartFailed(f"{path.stem}: {wrong}", "run the backend on the lab's own kernel")
            if line["at"] >= since:
                t, lag = clock(line.pop("at")), clock.scaled(line.pop("loop_lag"))
                yield WorkerReading(t=t, loop_lag=lag, **line)
    for line in json_lines(folder / "oom.jsonl"):
        if line["at"] >= since:
            yield OomKill(t=clock(line["at"]), pid=line["pid"], rss=line["rss"])


def from_health(folder: Path, clock: Clock, since: float) -> Iterator[Evidence]:
    """What who asks for the VM's health noted since ``since``; nothing where nobody asks."""
    for line in json_lines(folder / HEALTH_FILE):
        if line["at"] >= since:
            yield ProbeRecord(t=clock(line.pop("at")), **line)


def from_uploads(
    folder: Path, clock: Clock, since: float, until: float = inf
) -> Iterator[Evidence]:
    """The last record, by ``until``, of each upload that a worker had since ``since``.

    Both are moments of the monotonic clock.
    """
    records: dict[str, UploadRecord] = {}
    for path in sorted(folder.glob("uploads-*.jsonl")):
        for line in json_lines(path):
            if line["arrived"] >= since and line["at"] <= until:
                records[line["request"] or f"{path.name}@{line['arrived']}"] = UploadRecord(
                    t=clock(line["at"]),
                    handed=None if line["handed"] is None else clock(line["handed"]),
                    arrived=clock(line["arrived"]),
                    spans=[
                        StageSpan(stage, clock(begun), clock.scaled(took))
                        for stage, begun, took in line["spans"]
                    ],
                    peer=line.get("peer"),
                    **{name: line[name] for name in OF_RECORD},
                )
    yield from records.values()


_OF_POOLER = ("longest_wait_s", "wait_s")
"""The durations of a `PoolerState`."""


def from_watch(seen: Seen, clock: Clock) -> Iterator[Evidence]:
    """What the watch saw."""
    for backends in seen.connections:
        yield DatabaseReading(
            t=clock(backends.at),
            connections=sum(backends.states.values()),
            states=dict(backends.states),
            lock_waiting=backends.lock_waiting,
        )
    if seen.statements:
        at, calls, total, longest = seen.statements
        took = {"total_s": clock.scaled(total), "max_s": clock.scaled(longest)}
        yield DatabaseStatements(t=clock(at), calls=calls, **took)
    for at, state in seen.pooler:
        real_s = {name: clock.scaled(getattr(state, name)) for name in _OF_POOLER}
        yield PoolerReading(t=clock(at), **{**state._asdict(), **real_s})
    for reading in seen.machine:
        yield MachineReading(
            t=clock(reading.at),
            wall_s=reading.wall_s,
            cpu_share=reading.cpu_share,
            cpu_s={part: used.cpu_s for part, used in reading.usage.items()},
            memory={part: used.memory for part, used in reading.usage.items()},
            throttled_s=_known(reading.usage, lambda used: used.throttled_s),
            received=_known(reading.usage, lambda used: used.received),
            sent=_known(reading.usage, lambda used: used.sent),
            clock_offset=reading.clock_offset,
            cores=reading.cores,
        )
    for part, (at, why) in seen.down.items():
        yield PartDown(t=clock(at), part=part, why=why)


def _known(usage: Mapping[str, Usage], of: Callable[[Usage], float | None]) -> dict[str, float]:
    """A figure by part, of the parts that have it."""
    return {part: value for part, used in usage.items() if (value := of(used)) is not None}


_KINDS: dict[
    str, type[GatewayServing | GatewayReading | GatewayBeat | InstanceEvent | GatewayRequest]
] = {
    "serving": GatewayServing,
    "reading": GatewayReading,
    "beat": GatewayBeat,
    **dict.fromkeys(get_args(InstanceEvent.model_fields["event"].annotation), InstanceEvent),
    **dict.fromkeys(get_args(GatewayRequest.model_fields["event"].annotation), GatewayRequest),
}
"""What a line of the gateway's log becomes, by its event; other lines are not evidence."""

_PROBES = {"probe_failed": "failed", "probe_ended": "ended"}
"""What a probe's line of the gateway's log is called in evidence."""

_LEFT_OUT = {
    "serving": {"at", "event", "port"},
    "reading": {"at", "event"},
    "beat": {"at", "event"},
}
"""The keys of a line that its evidence does not have; for other events only ``at``."""

_DURATIONS = ("start_s", "made_s", "waited", "cold", "took")


def from_gateway(folder: Path, clock: Clock, since: float) -> Iterator[Evidence]:
    """What the gateway noted since ``since``, and what was true then; nothing on a VM."""
    lines = list(json_lines(folder / GATEWAY_LOG))
    before = [line for line in lines if line["at"] < since]
    for line in [*_still_standing(before), *(line for line in lines if line["at"] >= since)]:
        if event := _PROBES.get(line["event"]):
            fields = {name: line[name] for name in ("instance", "why", "in_row")}
            yield ProbeRecord(t=clock(line["at"]), event=event, **fields)
        elif kind := _KINDS.get(line["event"]):
            left_out = _LEFT_OUT.get(line["event"], {"at"})
            fields = {
                name: clock.scaled(value) if name in _DURATIONS else value
                for name, value in line.items()
                if name not in left_out
            }
            yield kind(t=clock(line["at"]), **fields)


def _still_standing(before: Sequence[Line]) -> list[Line]:
    """The earlier lines that are still true, in their order."""
    lasting: dict[tuple[str, str], Line] = {}
    for line in before:
        event = line["event"]
        if event == "serving":
            lasting = {(event, ""): line}  # nothing is left of an earlier gateway
        elif event == "reading":
            lasting[event, ""] = line
        elif event in ("starting", "ready"):
            lasting[event, line["instance"]] = line
        elif event == "removed":
            for earlier in ("starting", "ready"):
                lasting.pop((earlier, line["instance"]), None)
    return sorted(lasting.values(), key=lambda line: float(line["at"]))
