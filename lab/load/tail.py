"""Running totals of a samples file that still grows."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

RECENT = 5.0
"""Real-world seconds over which the rate is taken."""


class SampleTail:
    """Reads what was added since the last time; a line not yet whole is left for the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._successes: deque[float] = deque()
        self.answered = 0
        self.failed = 0

    def read(self) -> None:
        """Take in the lines that are whole by now."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take(json.loads(line))

    def _take(self, sample: dict[str, float]) -> None:
        self.answered += 1
        if sample["error"] is None:
            self._successes.append(sample["sent_at"] + sample["latency_s"])
        else:
            self.failed += 1

    def rate(self, t: float) -> float:
        """Successes a real-world second over the last few before ``t``."""
        while self._successes and self._successes[0] < t - RECENT:
            self._successes.popleft()
        return len(self._successes) / min(RECENT, t) if t > 0 else 0.0
