"""The log of an instance's life and of the requests to it: JSON lines, each with its time.

    starting ready start_failed paused resumed idle sigterm sigkill died oom stopped stuck removed
    request_start request_end refused left
    reading (10 times a second, where something moved)    usage (twice a second, each instance)

``at`` is the wall clock (seconds since 1970), durations are in seconds, memory in bytes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TextIO

READ_EVERY_S = 0.1
USAGE_EVERY_S = 0.5


class Log(Protocol):
    """Where events go."""

    def write(self, event: str, **fields: object) -> None:
        """Note an event."""
        ...


class EventFile:
    """Events as lines of a file that is flushed line by line, so that it outlives a kill."""

    def __init__(self, file: TextIO, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def write(self, event: str, **fields: object) -> None:
        line = {"at": round(self._clock(), 6), "event": event, **fields}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()


async def keep_reading(log: Log, read: Callable[[], Mapping[str, object]]) -> None:
    """Note a reading ten times a second whenever it differs from the last; until cancelled."""
    last: Mapping[str, object] | None = None
    while True:
        if (now := read()) != last:
            log.write("reading", **now)
            last = now
        await asyncio.sleep(READ_EVERY_S)


async def keep_usage(log: Log, usages: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
    """Note twice a second what each instance has used, where it has; until cancelled."""
    last: Mapping[str, Mapping[str, float]] = {}
    while True:
        now = usages()
        for instance, used in now.items():
            if used != last.get(instance):
                log.write("usage", instance=instance, **used)
        last = dict(now)
        await asyncio.sleep(USAGE_EVERY_S)
