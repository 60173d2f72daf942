"""A worker's record of each upload, and of whatever else students ask for: its stages with their
times, and how it was answered.

The record does not depend on the answer reaching anybody. Of an upload that stands in one stage
for a while a line is written before it has ended, so that one that nobody follows to its end
shows what it was waiting for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lab.model.journeys import Journey

STANDING_S = 0.5
"""Wall-clock seconds in one stage after which an upload that is inside is written down."""


class Timing:
    """The stages of a request, in wall-clock seconds.

    Args:
        request: the id that came with it; empty where none did.
        handed: when a proxy passed it on, on the monotonic clock, where it said so.
        journey: what is asked for.
        peer: the port of the other end of its connection, where that has one.

    Attributes:
        status: what it was answered, as soon as it is.
        cause: of its failure, as soon as it fails.
    """

    def __init__(
        self,
        request: str = "",
        handed: float | None = None,
        journey: Journey = Journey.UPLOAD,
        peer: int | None = None,
    ) -> None:
        self.request, self.handed, self.journey, self.peer = request, handed, journey, peer
        self.status: int | None = None
        self.cause: str | None = None
        self.arrived = time.monotonic()
        self._spans: list[tuple[str, float, float | None]] = []

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, of those that have ended."""
        seconds: dict[str, float] = {}
        for stage, _, took in self._spans:
            if took is not None:
                seconds[stage] = seconds.get(stage, 0.0) + took
        return seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, even if it fails."""
        begun = time.monotonic()
        place = len(self._spans)
        self._spans.append((name, begun, None))
        try:
            yield
        finally:
            self._spans[place] = (name, begun, time.monotonic() - begun)

    @contextmanager
    def failure(self, cause_of: Callable[[Exception], str | None]) -> Iterator[None]:
        """Note the cause of what is raised inside; the answer may have to wait for its turn."""
        try:
            yield
        except Exception as error:
            self.cause = cause_of(error)
            raise

    def begin(self, name: str) -> None:
        """Begin a stage that the next `end` ends, in another thread perhaps."""
        self._spans.append((name, time.monotonic(), None))

    def end(self) -> None:
        """End the stage that was begun last."""
        name, begun, _ = self._spans[-1]
        self._spans[-1] = (name, begun, time.monotonic() - begun)

    def header(self) -> str:
        """The value of ``Server-Timing``: ``auth;dur=50.1, gcs;dur=3500.2``."""
        return ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in self.stages.items())

    def changed(self) -> float:
        """When it last came into a stage or out of one, on the monotonic clock."""
        if not self._spans:
            return self.arrived
        _, begun, took = self._spans[-1]
        return begun + (took or 0.0)

    def line(self) -> dict[str, Any]:
        """The record: ``at`` now, ``arrived``, ``handed`` and beginnings on the monotonic clock."""
        now = time.monotonic()
        spans = [
            (name, round(begun, 6), round(now - begun if took is None else took, 6))
            for name, begun, took in self._spans
        ]
        return {
            "at": round(now, 6),
            "request": self.request,
            "handed": None if self.handed is None else round(self.handed, 6),
            "arrived": round(self.arrived, 6),
            "status": self.status,
            "cause": self.cause,
            "spans": spans,
            "journey": self.journey,
            "peer": self.peer,
        }


class UploadLog:
    """The uploads, and the like, inside a worker; each is written before its answer is sent.

    So whoever has an answer can find its record, and an instance that is frozen as soon as it has
    answered has written it. Those that stand still are written by the evidence thread.

    Attributes:
        write: takes a record, in whichever thread; None while nobody wants any.
    """

    def __init__(self) -> None:
        self.write: Callable[[dict[str, Any]], object] | None = None
        self._inside: dict[Timing, float] = {}  # and how it stood when it was last written
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        """How many there are now."""
        return len(self._inside)

    @contextmanager
    def upload(self, timing: Timing) -> Iterator[None]:
        """Follow an upload while inside; what is raised there is answered 500, by Starlette."""
        with self._lock:
            self._inside[timing] = 0.0
        try:
            yield
        except Exception:
            timing.status, timing.cause = timing.status or 500, timing.cause or "internal_error"
            raise
        finally:
            self.end(timing)

    def end(self, timing: Timing) -> None:
        """Write the record of an upload that is about to be answered; once."""
        with self._lock:
            if self._inside.pop(timing, None) is not None and self.write:
                self.write(timing.line())

    def write_standing(self, every: bool = False) -> None:
        """Write those that have stood in one stage for a while since they were last written.

        Args:
            every: write all that are inside, for there will be no other call.
        """
        now, write = time.monotonic(), self.write
        if write is None:
            return
        with self._lock:
            for timing, written in self._inside.items():
                changed = timing.changed()
                if every or (changed != written and now - changed >= STANDING_S):
                    self._inside[timing] = changed
                    write(timing.line())
