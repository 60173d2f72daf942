"""A user's line to the service: a body that leaves no faster than the line carries it.

The pieces are short against what anybody waits for, and few enough for a hundred users at once.
The answer is read when the body is out, as it is without a limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PIECE = 0.05
"""Wall seconds for which the line is busy with one piece."""


class PacedBody:
    """A request's body as a file that is read piece by piece, each when the line has carried it.

    Args:
        body: all of it.
        rate: bytes a wall-clock second.
        sleep: suspends the user alone, for a number of wall seconds.
    """

    def __init__(self, body: bytes, rate: float, sleep: Callable[[float], object]) -> None:
        self._body = memoryview(body)
        self._rate = rate
        self._piece = max(1, int(rate * PIECE))
        self._sleep = sleep
        self._sent = 0
        self._begun = self._ended = 0.0

    @property
    def carried_s(self) -> float:
        """Wall seconds for which the line was busy, or has been so far; 0 before the first."""
        return (self._ended or time.monotonic()) - self._begun if self._begun else 0.0

    def __len__(self) -> int:
        return len(self._body)

    def read(self, _size: int = -1) -> memoryview:
        """The next piece, at the time at which its last byte has left; empty at the end."""
        self._begun = self._begun or time.monotonic()
        piece = self._body[self._sent : self._sent + self._piece]
        self._sent += len(piece)
        due = self._begun + self._sent / self._rate
        while piece and (left := due - time.monotonic()) > 0:
            self._sleep(left)
        if not piece:
            self._ended = self._ended or time.monotonic()
        return piece
