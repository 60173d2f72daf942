"""The toxics: what they do on a link, from the chunks that they get to those that they emit.

    chunk ──feed──> ToxicStage ──emit──> the next stage, or the link's end

A chunk is ``(data, at)``: bytes, and when they arrived in seconds of the loop's clock. Empty
bytes are the end of the stream, which so keeps its place behind the data.

A new toxic is a class here, with the names of its attributes, and a line in `TYPES`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

STREAMS = UPSTREAM, DOWNSTREAM = "upstream", "downstream"

CHUNK = 32 * 1024
"""The most that a toxic is given at once, as the original reads no more at once."""

MS = 1e-3
US = 1e-6

END = b""
Chunk = tuple[bytes, float]


@dataclass
class Toxic:
    """A toxic as the API shows it; the stages of all its links read it live.

    Args:
        toxicity: the share of links that it applies to.
        attributes: whole numbers in the units of their type (ms, KB/s, us, bytes).
    """

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int]

    @property
    def direction(self) -> str:
        """Upstream or downstream; the API takes either in capital letters too."""
        return UPSTREAM if self.stream.lower() == UPSTREAM else DOWNSTREAM

    def as_json(self) -> dict[str, Any]:
        """Its members, as the API shows them."""
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }


class Receiver(Protocol):
    """What a stage emits to: the next stage, or the link's end."""

    def feed(self, data: bytes, at: float) -> None: ...


class StageLink(Protocol):
    """What a stage may ask of its link."""

    loop: asyncio.AbstractEventLoop

    def block(self) -> None:
        """Stop reading from the source; calls are counted."""

    def unblock(self) -> None:
        """Take one `block` back."""

    def reset(self) -> None:
        """From now on both connections end with a TCP reset."""


class ToxicStage:
    """Lets everything through: ``noop``, and any toxic on a link that it does not apply to."""

    attributes: ClassVar[tuple[str, ...]] = ()
    closes_when_removed: ClassVar[bool] = False
    out: Receiver

    def __init__(self, toxic: Toxic, link: StageLink) -> None:
        self.toxic = toxic
        self.link = link
        self.closed = False
        self.start()

    def start(self) -> None:
        """Begin, or begin again after an update: draw whether it applies to this link."""
        self.applies = random.random() < self.toxic.toxicity  # noqa: S311 (no secret)

    def feed(self, data: bytes, at: float) -> None:
        """Take a chunk; what follows the end of the stream is ignored."""
        if self.closed:
            return
        if self.applies:
            self.take(data, at)
        else:
            self.emit(data, at)

    def take(self, data: bytes, at: float) -> None:
        """What the toxic does to a chunk on a link that it applies to."""
        self.emit(data, at)

    def emit(self, data: bytes, at: float) -> None:
        """Pass a chunk on; passing the end on closes the stage."""
        if not data:
            self.closed = True
        self.out.feed(data, at)

    def surrender(self) -> list[Chunk]:
        """Stop timers and return the held chunks in order, so that none is lost."""
        return []


class PacedStage(ToxicStage):
    """Holds chunks in order and emits each when it is due.

    More than ``capacity`` held chunks block the link, so that a slow toxic slows the sender
    instead of filling memory.
    """

    capacity: ClassVar[int] = 1

    def __init__(self, toxic: Toxic, link: StageLink) -> None:
        self._held: deque[Chunk] = deque()
        self._current: Chunk | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._blocking = False
        self.clock = 0.0
        super().__init__(toxic, link)

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        """How much of a chunk is emitted next, and when it is due (loop's clock).

        ``self.clock`` is when the stage became free; what is left of the chunk is put back
        by `put_back`.
        """
        raise NotImplementedError

    def stamp(self, at: float) -> float:
        """The arrival time that an emitted chunk carries on."""
        return at

    def put_back(self, data: bytes, at: float) -> None:
        """Hold the rest of a chunk, ahead of all others."""
        self._held.appendleft((data, at))

    def take(self, data: bytes, at: float) -> None:
        self._held.append((data, at))
        if self._current is None:
            self.clock = max(self.clock, self.link.loop.time())
            self._run()
        self._signal()

    def surrender(self) -> list[Chunk]:
        if self._timer is not None:
            self._timer.cancel()
        given = ([self._current] if self._current else []) + list(self._held)
        self._held.clear()
        self._current = self._timer = None
        self._signal()
        return given

    def _run(self) -> None:
        loop = self.link.loop
        while self._held:
            _, at = self._held[0]
            piece, self._due = self.pace(*self._held.popleft())
            if self._due > loop.time():
                self._current = (piece, at)
                if self._due < math.inf:
                    self._timer = loop.call_at(self._due, self._expire)
                return
            self.emit(piece, self.stamp(at))

    def _expire(self) -> None:
        current, self._current, self._timer = self._current, None, None
        if current is not None:
            self.emit(current[0], self.stamp(current[1]))
        self._run()
        self._signal()

    def _signal(self) -> None:
        full = len(self._held) > self.capacity
        if full != self._blocking:
            self._blocking = full
            if full:
                self.link.block()
            else:
                self.link.unblock()


class LatencyStage(PacedStage):
    """Delays each chunk, from its arrival, by whole ms in [latency - jitter, latency + jitter).

    A chunk never overtakes the one before it. The end of the stream is not delayed.
    """

    attributes = ("latency", "jitter")
    capacity = 1024

    def pace(self, data: bytes, at: float) -> tuple[bytes, float]:
        if not data:
            return data, 0.0
        latency, jitter = self.toxic.attributes["latency"], self.toxic.attributes["jitter"]
        if jitter > 0:
            latency += random.randrange(2 * jitter) - jitter  # noqa: S311 (no secret)
        return data, at + latency * MS

    def stamp(self, at: float) -> float:
        return max(at, self._due)


class BandwidthStage(PacedStage):
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


class SlicerStage(PacedStage):
    """Cuts chunks into slices of ``average_size`` +- ``size_variation``, ``delay`` us apart."""

    attributes = ("average_size", "size_variation", "delay")

    def take(self, data: bytes, at: float) -> None:
        for piece in self._slices(data):
            super().take(piece, at)

    def pace(self, data: bytes, _at: float) -> tuple[bytes, float]:
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


class SlowCloseStage(PacedStage):
    """Delays the end of the stream by ``delay`` ms."""

    attributes = ("delay",)

    def pace(self, data: bytes, _at: float) -> tuple[bytes, float]:
        return data, 0.0 if data else self.link.loop.time() + self.toxic.attributes["delay"] * MS


class TimeoutStage(ToxicStage):
    """Drops all data; ends the stream ``timeout`` ms after the last data, or never at 0.

    Removing it ends the stream too, because the dropped data is missing.
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
        if self.applies and after > 0 and not self.closed:
            self._timer = self.link.loop.call_later(after * MS, self._expire)

    def _expire(self) -> None:
        self.emit(END, self.link.loop.time())


class ResetPeerStage(ToxicStage):
    """Resets the connection ``timeout`` ms after the first data, which it drops."""

    attributes = ("timeout",)
    _timer: asyncio.TimerHandle | None = None

    def take(self, _data: bytes, _at: float) -> None:
        if self._timer is None:
            after = self.toxic.attributes["timeout"] * MS
            self._timer = self.link.loop.call_later(after, self._expire)

    def surrender(self) -> list[Chunk]:
        if self._timer is not None and not self.closed:
            self._timer.cancel()
            self._expire()  # data has been dropped: the connection cannot go on
        return []

    def _expire(self) -> None:
        self.link.reset()
        self.emit(END, self.link.loop.time())


class LimitDataStage(ToxicStage):
    """Ends the stream after ``bytes`` bytes."""

    attributes = ("bytes",)

    def __init__(self, toxic: Toxic, link: StageLink) -> None:
        self._passed = 0
        super().__init__(toxic, link)

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
"""The stage that implements each toxic type of the API."""
