"""What a worker says of itself, ten times a second, from a thread of its own.

A blocked event loop cannot stop this thread, and a file outlives a killed process. Each
line is one JSON object; ``at`` is the wall clock (seconds since 1970), everything else is
as measured in this process, in wall-clock seconds and bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

INTERVAL_S = 0.1
BEAT_S = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Resident memory of this process; from /proc, or 0 where there is none."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def count_entries(folder: str) -> int | None:
    """How many entries a folder of /proc has; None where there is no such folder."""
    try:
        return len(os.listdir(folder))  # noqa: PTH208 - a count needs no paths, ten times a second
    except OSError:
        return None


def threads() -> int | None:
    """All threads of this process, whoever started them; from /proc, or None."""
    return count_entries("/proc/self/task")


def file_descriptors() -> int | None:
    """Open files and sockets of this process; from /proc, or None.

    One is the open folder itself, so it is not counted.
    """
    found = count_entries("/proc/self/fd")
    return None if found is None else found - 1


class Heartbeat:
    """How late the event loop is: a beat that it should make every 50 ms."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last = time.monotonic()
        self._handle = loop.call_soon(self._beat)

    def _beat(self) -> None:
        self._last = time.monotonic()
        self._handle = self._loop.call_later(BEAT_S, self._beat)

    def lag(self) -> float:
        """Seconds by which the next beat is overdue."""
        return max(0.0, time.monotonic() - self._last - BEAT_S)

    def stop(self) -> None:
        """Beat no more."""
        self._handle.cancel()


def worker_number() -> int:
    """What tells this worker apart: its process id, or in a container its instance's number.

    In a container of its own every instance of Cloud Run has the same process id.
    """
    return int(os.environ.get("LAB_INSTANCE") or os.getpid())


class EvidenceWriter:
    """The thread that writes ``worker-<number>.jsonl``.

    Args:
        folder: where the file goes.
        read: gives one reading; called in the thread.
    """

    def __init__(self, folder: Path, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._number = worker_number()
        self._file = (folder / f"worker-{self._number}.jsonl").open("a", buffering=1)
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Write the first line now and one every 0.1 s from now on."""
        self._write()
        self._thread.start()

    def _write(self) -> None:
        line = {"at": time.time(), "pid": self._number, **self._read()}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._write()

    def close(self) -> None:
        """Write a last line and end the thread; a worker that never served writes none."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._write()
        self._file.close()
