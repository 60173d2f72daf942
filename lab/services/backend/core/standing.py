"""Where the event loop stands: the line of the service that keeps it from everything else.

    IdleSelector   says which turn the loop is in, and which turns were late
    stack_of       what the loop's thread is in, of one moment
    place_of       the line, from that
    Lookout        looks thirty times a second, and adds up the time by line

The evidence thread looks at moments that have nothing to do with what the loop does, and each look
counts for the time since the one before it. So a line's share of the time is fair whatever its
calls last, also of calls that are shorter than the pause between two looks; how few looks a share
rests on is its error. A call is counted only if the turn of the loop that it is in is late
(`lab.services.backend.core.evidence.LATE_S`), and a turn that is shorter is never counted. Looks at
a loop that waits for events are none, and neither are those of a thread that itself had to wait for
a core: then the whole process was kept from working, and no line of it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from asyncio.events import Handle
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE
from itertools import accumulate, chain, repeat, starmap
from operator import attrgetter, methodcaller
from pathlib import Path
from types import CodeType
from typing import Any, Protocol

from lab.model.evidence import ELSEWHERE

LOOK_S = 0.1 / 3
"""Wall-clock seconds between two looks: to wake up is what they cost."""

OVERSLEPT_S = 0.1
"""A pause between two looks that is so long, and in which this process computed for less than half
of it, was the machine's: the process had no core. One that holds the interpreter's lock for so long
computes."""

PLACES = 32
"""How many lines are told apart; what more there are counts as elsewhere."""

SERVICE = f"{Path(__file__).parents[1]}{os.sep}"
INSTRUMENTS = ("core/evidence.py", "core/uploads.py", "core/standing.py")
"""What measures the service is not of it."""

_CALLBACK = Handle._run.__code__
"""What asyncio calls each callback from: what lies before it on the stack is the loop itself."""
_CALLED = attrgetter("f_code", "f_lineno")
_ASYNC = CO_COROUTINE | CO_ITERABLE_COROUTINE | CO_ASYNC_GENERATOR


Called = tuple[CodeType, int]
"""A function that runs, and the line that it is at."""


class Meter(Protocol):
    """What knows the turns of an event loop; `IdleSelector` does."""

    def turn(self) -> int | None:
        """The number of the turn that the loop is in; None while it waits for events."""

    def late(self, turn: int) -> bool:
        """Whether a turn is late, or was when it ended."""


class Lookout:
    """Adds up for how long an event loop stood in which line.

    Args:
        meter: knows the loop's turns.
        thread: the loop's, as `threading.get_ident` names it.
        clock: monotonic seconds.
        cpu: seconds of CPU that this process has used.
    """

    def __init__(
        self,
        meter: Meter,
        thread: int,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._stood: dict[str, float] = {}
        self._meter, self._thread = meter, thread
        self._clock, self._cpu = clock, cpu
        self._looked = clock(), cpu()
        self._seen: tuple[int, str, float] | None = None

    def seconds(self) -> dict[str, float]:
        """Wall-clock seconds by place since the loop began, to the millisecond."""
        return {place: round(seconds, 3) for place, seconds in self._stood.items()}

    def look(self) -> None:
        """See where the loop stands; count what was seen before, if its turn has become late."""
        self._count()
        before, self._looked = self._looked, (self._clock(), self._cpu())
        passed, computed = (now - then for now, then in zip(self._looked, before, strict=True))
        turn = self._meter.turn()
        if turn is None or (passed > OVERSLEPT_S and computed < passed / 2):
            return
        place = place_of(stack_of(self._thread))
        if self._meter.turn() == turn:
            self._seen = turn, place, passed

    def _count(self) -> None:
        seen, self._seen = self._seen, None
        if seen and self._meter.late(seen[0]):
            _, place, passed = seen
            known = place in self._stood or len(self._stood) < PLACES
            place = place if known else ELSEWHERE
            self._stood[place] = self._stood.get(place, 0.0) + passed


def stack_of(thread: int) -> Sequence[Called]:
    """Code and line of each frame of a thread, from the innermost outwards; none where it is gone.

    The thread goes on wherever the interpreter may change threads, and under it frames that are
    walked through return: CPython 3.11 then follows pointers to where they were
    (https://github.com/python/cpython/issues/99110 and those that followed it), which ends a
    process, or takes any object for a frame. So all is one call of functions written in C, between
    whose steps no thread changes, no garbage is collected, and which keeps no frame.
    """
    called: deque[Called] = deque()
    innermost = map(methodcaller("get", thread), starmap(sys._current_frames, [()]))
    frames: Iterable[Any] = accumulate(chain(innermost, repeat("f_back")), getattr)
    collects = gc.isenabled()
    gc.disable()
    try:
        called.extend(map(_CALLED, frames))
    except AttributeError:
        pass  # behind the outermost frame there is None, which has no code
    finally:
        if collects:
            gc.enable()
    return called


def place_of(stack: Iterable[Called]) -> str:
    """The line of the service that keeps the loop, by the stack of the loop's thread.

    A coroutine gives the loop away only where it awaits, so the innermost one on the stack has it,
    and the line is the last of the service's own before its synchronous call left the service:
    ``services/audio_upload.py:126 upload_from_string``, with the function that was called; a line
    that computes itself is told with the function that it is in,
    ``services/audio.py:40 in resample``. Where the innermost coroutine is the framework's, and
    called nothing of the service, it is `ELSEWHERE`.

    What a library calls back, as an HTTP session of the service's own, belongs to the call of the
    library; ``contextlib`` is no library but a way to write a call.

    Args:
        stack: from the innermost frame outwards.
    """
    names = [(code, line) for code, line in _step(stack) if code.co_filename != contextlib.__file__]
    for place, (code, line) in enumerate(names):
        called = names[place + 1][0] if place + 1 < len(names) else None
        if own(code) and not (called and own(called)):
            how = called.co_name if called else f"in {code.co_name}"
            return f"{relative(code)}:{line} {how}"
    return ELSEWHERE


def _step(stack: Iterable[Called]) -> Sequence[Called]:
    """Code and line of what the loop runs now, from the innermost coroutine inwards."""
    step: list[Called] = []
    for code, line in stack:
        if code is _CALLBACK:
            break
        step.append((code, line))
        if code.co_flags & _ASYNC:
            break
    return step[::-1]


def own(code: CodeType) -> bool:
    """Whether code is the service's own, and not what measures it."""
    return code.co_filename.startswith(SERVICE) and relative(code) not in INSTRUMENTS


def relative(code: CodeType) -> str:
    """Where code stands in the service's folder: the same wherever that lies."""
    return Path(code.co_filename.removeprefix(SERVICE)).as_posix()
