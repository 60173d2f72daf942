"""A stage: what one toxic does on one link, from the chunks it is fed to those it emits.

A chunk is ``(data, at)``: bytes, and when they arrived in seconds of the loop's clock.
Empty bytes are the end of the stream, so it keeps its place behind the data before it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from typing import ClassVar, Protocol

from lab.services.toxiproxy.wire import Toxic

CHUNK = 32 * 1024
"""A toxic is given no more than this at once, as the original reads no more at once."""

END = b""
Chunk = tuple[bytes, float]


class Receiver(Protocol):
    """What a stage emits to: the next stage, or the link's end."""

    def feed(self, data: bytes, at: float) -> None: ...


class StageLine(Protocol):
    """What a stage may ask of its link."""

    loop: asyncio.AbstractEventLoop

    def block(self) -> None:
        """Stop reading from the source, once more."""

    def unblock(self) -> None:
        """Take one `block` back."""

    def reset(self) -> None:
        """From now on both connections end with a TCP reset."""


class ToxicStage:
    """Lets everything through; what a toxic does that did not strike this link."""

    attributes: ClassVar[tuple[str, ...]] = ()
    closes_when_removed: ClassVar[bool] = False
    out: Receiver

    def __init__(self, toxic: Toxic, line: StageLine) -> None:
        self.toxic = toxic
        self.line = line
        self.closed = False
        self.start()

    def start(self) -> None:
        """Begin, or begin anew after an update: draw whether this link is struck."""
        self.struck = random.random() < self.toxic.toxicity  # noqa: S311 (no secret)

    def feed(self, data: bytes, at: float) -> None:
        """Take one chunk; nothing follows the end of the stream."""
        if self.closed:
            return
        if self.struck:
            self.take(data, at)
        else:
            self.emit(data, at)

    def take(self, data: bytes, at: float) -> None:
        """What the toxic does to a chunk on a link that it struck."""
        self.emit(data, at)

    def emit(self, data: bytes, at: float) -> None:
        """Pass a chunk on; passing the end on closes the stage."""
        if not data:
            self.closed = True
        self.out.feed(data, at)

    def surrender(self) -> list[Chunk]:
        """Stop timers and give up the chunks held, in order, so that none is lost."""
        return []


class Paced(ToxicStage):
    """Holds chunks in order and emits each when it is due.

    More than ``capacity`` held chunks block the link, which is how a slow toxic slows
    the sender instead of filling memory.
    """

    capacity: ClassVar[int] = 1

    def __init__(self, toxic: Toxic, line: StageLine) -> None:
        self._held: deque[Chunk] = deque()
        self._current: Chunk | None = None
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._blocking = False
        self.clock = 0.0
        super().__init__(toxic, line)

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
        """Hold the rest of a chunk, before all others."""
        self._held.appendleft((data, at))

    def take(self, data: bytes, at: float) -> None:
        self._held.append((data, at))
        if self._current is None:
            self.clock = max(self.clock, self.line.loop.time())
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
        loop = self.line.loop
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
                self.line.block()
            else:
                self.line.unblock()
