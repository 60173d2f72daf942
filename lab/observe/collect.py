"""From raw readings to evidence: one clock, real-world seconds after t = 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.model.observation import (
    DatabaseReading,
    Evidence,
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
