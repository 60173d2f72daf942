"""The backend's workers, by the evidence that each of them writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.stack.process import last_line

LINE_S = 0.1
"""A worker writes so often."""


class Workers:
    """Reads the workers' evidence files.

    Args:
        evidence: their folder.
        alive: whether the worker with this pid and this evidence file lives.
    """

    def __init__(self, evidence: Path, alive: Callable[[int, Path], bool]) -> None:
        self.evidence = evidence
        self._alive = alive

    def forget(self) -> None:
        """Remove what earlier workers wrote."""
        for old in self.evidence.glob("*.jsonl"):
            old.unlink(missing_ok=True)

    def seen(self) -> list[int]:
        """Every worker that ever wrote a line."""
        files = self.evidence.glob("worker-*.jsonl")
        return [int(file.stem.removeprefix("worker-")) for file in files if file.stat().st_size]

    def alive(self, since: float = 0.0) -> list[int]:
        """Those that live, and wrote after this many seconds since 1970."""
        return [
            pid
            for pid in self.seen()
            if self._alive(pid, self._file(pid)) and self._file(pid).stat().st_mtime >= since
        ]

    def inflight(self) -> int:
        """Uploads inside the workers, by the last line of each."""
        return sum(self._last(pid).get("inflight", 0) for pid in self.alive())

    def busy(self) -> bool:
        """Whether uploads stay inside the workers for longer than a line of evidence is old."""
        deadline = time.monotonic() + 3 * LINE_S
        while self.inflight():
            if time.monotonic() > deadline:
                return True
            time.sleep(LINE_S / 4)
        return False

    def _file(self, pid: int) -> Path:
        return self.evidence / f"worker-{pid}.jsonl"

    def _last(self, pid: int) -> dict[str, Any]:
        try:
            found = json.loads(last_line(self._file(pid)))
        except ValueError:  # half a line, being written
            return {}
        return dict(found)


def wrote_lately(pid: int, file: Path) -> bool:
    """Whether a worker whose process cannot be looked at still writes."""
    try:
        return time.time() - file.stat().st_mtime < 5 * LINE_S
    except FileNotFoundError:
        return False
