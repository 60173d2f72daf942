"""What the front of Cloud Run says of its instances, read as it is written."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from lab.model.observation import Usage

OVER = {"stopped", "died", "oom", "removed", "start_failed"}
"""Events after which an instance takes no memory any more."""


class Instances:
    """Follows the front's log of events, on demand and from any thread.

    Args:
        file: the log; it need not be there yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._at = 0
        self._inflight = 0
        self._live: dict[str, bool] = {}
        self._used: dict[str, dict[str, Any]] = {}
        self._failed = ""

    def ready(self) -> int:
        """How many instances serve now."""
        with self._lock:
            self._read()
            return sum(self._live.values())

    def inflight(self) -> int:
        """How many requests are inside instances now, those of clients that left too."""
        with self._lock:
            self._read()
            return self._inflight

    def failed(self) -> str:
        """Why an instance last failed to start; empty where none has."""
        with self._lock:
            self._read()
            return self._failed

    def usage(self) -> Usage:
        """What all instances have used so far, those that ended too.

        Its memory is the sum of what each that lives has had at most, its files included.
        """
        with self._lock:
            self._read()
            return Usage(
                cpu_s=sum(used.get("cpu_s", 0.0) for used in self._used.values()),
                throttled_s=sum(used.get("throttled_s", 0.0) for used in self._used.values()),
                memory=round(
                    sum(self._used.get(name, {}).get("peak_bytes", 0.0) for name in self._live)
                ),
            )

    def _read(self) -> None:
        """Take in the whole lines that are new."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        for line in whole.splitlines():
            self._see(json.loads(line))

    def _see(self, said: dict[str, Any]) -> None:
        event, name = said["event"], said.get("instance", "")
        if "cpu_s" in said:
            self._used[name] = said
        if event == "request_start":
            self._inflight += 1
        elif event == "request_end":
            self._inflight -= 1
        elif event in ("starting", "ready"):
            self._live[name] = event == "ready"
        elif event in OVER:
            self._live.pop(name, None)
        if event == "start_failed":
            self._failed = str(said["why"])
