"""An event loop whose timers keep microseconds.

asyncio's selector rounds a timeout up to the next millisecond, because ``epoll_wait``
takes whole ones: a delay of 5 ms becomes 5.0-6.1 ms. ``select`` takes microseconds, and
an epoll descriptor is itself selectable, so waiting there first loses only the kernel's
timer slack of 50 us.
"""

from __future__ import annotations

import asyncio
import select
import selectors


def precise_loop() -> asyncio.AbstractEventLoop:
    """A new selector event loop, with precise timers where the system has epoll."""
    return asyncio.SelectorEventLoop(_precise_selector())


def _precise_selector() -> selectors.BaseSelector:
    if not hasattr(selectors, "EpollSelector"):
        return selectors.DefaultSelector()

    class PreciseSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)

    return PreciseSelector()
