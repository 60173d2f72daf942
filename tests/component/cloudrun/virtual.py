"""An event loop whose clock jumps to the next timer: hours of waiting pass in no time.

Nothing sleeps, so what a test sees does not depend on the machine. A loop in which nothing
would ever happen again is an error, not a test that hangs.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
TICK = 1e-9


class _Selector(selectors.SelectSelector):
    """Waits for nothing: what it would have waited is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("every task waits for something that will never happen")
            if timeout > 0:
                self.now += max(timeout, TICK)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector event loop on a clock of its own, which starts at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def now() -> float:
    """Virtual seconds, rounded to a microsecond."""
    return round(asyncio.get_running_loop().time(), 6)
