"""What tests of timings and records share: a clock that they move, a log that keeps its lines."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lab.services.backend.core.uploads import UploadLog

WALL = 1000.0
"""How far the wall clock of these tests is ahead of the monotonic one."""


class Clock:
    """A clock that tests move, in place of ``time.monotonic`` and ``time.time``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.now + WALL)


class KeptLog(UploadLog):
    """A log whose records are kept here."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.write = self.lines.append

    def taken(self, every: bool = False) -> list[dict[str, Any]]:
        """The records written since the last call, and those of uploads that stand still."""
        self.write_standing(every)
        lines, self.lines[:] = list(self.lines), []
        return lines
