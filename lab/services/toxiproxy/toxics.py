"""The toxics, each as the stage that does what Toxiproxy's does."""

from __future__ import annotations

import asyncio
import math
import random
from typing import ClassVar

from lab.services.toxiproxy.stage import END, Chunk, Paced, StageLine, ToxicStage
from lab.services.toxiproxy.wire import Toxic

MS = 1e-3
US = 1e-6


class LatencyStage(Paced):
    """Delays each chunk, from its arrival, by whole ms in [latency - jitter, latency + jitter).

    A chunk never overtakes the one before it. The end of the stream is not delayed.
    """

    attributes = ("latency", "jitter")
    capacity = 1024

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        return data, at + self._draw() * MS if data else 0.0

    def stamp(self, at: float) -> float:
        return max(at, self._due)

    def _draw(self) -> int:
        latency, jitter = self.toxic.attributes["latency"], self.toxic.attributes["jitter"]
        if jitter > 0:
            latency += random.randrange(2 * jitter) - jitter  # noqa: S311 (no secret)
        return latency


class BandwidthStage(Paced):
    """Emits ``rate`` KB a second, 100 ms' worth at a time; nothing at a rate of 0."""

    attributes = ("rate",)

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        rate = self.toxic.attributes["rate"]
        if not data:
            return data, 0.0
        if rate <= 0:
            return data, math.inf
        piece, rest = data[: rate * 100], data[rate * 100 :]
        if rest:
            self.put_back(rest, at)
        self.clock += len(piece) / rate * MS
        return piece, self.clock


class SlicerStage(Paced):
    """Cuts chunks into slices of ``average_size`` +- ``size_variation``, ``delay`` us apart."""

    attributes = ("average_size", "size_variation", "delay")

    def take(self, data: bytes, at: float) -> None:
        for piece in self._slices(data):
            super().take(piece, at)

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        due = self.clock
        self.clock += self.toxic.attributes["delay"] * US
        return data, due

    def _slices(self, data: bytes) -> list[bytes]:
        size = max(1, self.toxic.attributes["average_size"])
        variation = max(0, self.toxic.attributes["size_variation"])
        if len(data) <= size + variation:
            return [data]
        middle = len(data) // 2
        if variation:
            middle += random.randrange(2 * variation) - variation  # noqa: S311 (no secret)
        middle = min(max(middle, 1), len(data) - 1)
        return self._slices(data[:middle]) + self._slices(data[middle:])


class SlowCloseStage(Paced):
    """Delays the end of the stream by ``delay`` ms."""

    attributes = ("delay",)

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        return data, 0.0 if data else self.line.loop.time() + self.toxic.attributes["delay"] * MS


class TimeoutStage(ToxicStage):
    """Drops all data; ends the stream ``timeout`` ms after the last of it, or never at 0.

    Removing it ends the stream too: what it dropped is missing from it.
    """

    attributes = ("timeout",)
    closes_when_removed: ClassVar[bool] = True
    _timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        super().start()
        self._restart()

    def take(self, data: bytes, at: float) -> None:
        if data:
            self._restart()
        else:
            self.surrender()
            self.emit(END, at)

    def surrender(self) -> list[Chunk]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return []

    def _restart(self) -> None:
        self.surrender()
        after = self.toxic.attributes["timeout"]
        if self.struck and after > 0 and not self.closed:
            self._timer = self.line.loop.call_later(after * MS, self._expire)

    def _expire(self) -> None:
        self.emit(END, self.line.loop.time())


class ResetPeerStage(ToxicStage):
    """Resets the connection ``timeout`` ms after the first data, which it drops."""

    attributes = ("timeout",)
    _timer: asyncio.TimerHandle | None = None

    def take(self, data: bytes, at: float) -> None:
        if self._timer is None:
            after = self.toxic.attributes["timeout"] * MS
            self._timer = self.line.loop.call_later(after, self._expire)

    def surrender(self) -> list[Chunk]:
        if self._timer is not None and not self.closed:
            self._timer.cancel()
            self._expire()  # data has been dropped: the connection cannot go on
        return []

    def _expire(self) -> None:
        self.line.reset()
        self.emit(END, self.line.loop.time())


class LimitDataStage(ToxicStage):
    """Ends the stream after ``bytes`` bytes."""

    attributes = ("bytes",)

    def __init__(self, toxic: Toxic, line: StageLine) -> None:
        self._passed = 0
        super().__init__(toxic, line)

    def take(self, data: bytes, at: float) -> None:
        rest = max(0, self.toxic.attributes["bytes"] - self._passed)
        if passing := data[:rest]:
            self._passed += len(passing)
            self.emit(passing, at)
        if not data or len(data) >= rest:
            self.emit(END, at)


TYPES: dict[str, type[ToxicStage]] = {
    "noop": ToxicStage,
    "latency": LatencyStage,
    "bandwidth": BandwidthStage,
    "slicer": SlicerStage,
    "slow_close": SlowCloseStage,
    "timeout": TimeoutStage,
    "reset_peer": ResetPeerStage,
    "limit_data": LimitDataStage,
}
"""Each toxic type of the API and the stage that does it."""
