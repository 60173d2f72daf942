"""What a worker measures about itself, and writes ten times a second from its own thread.

    Gauges           what it is doing now, counted where it happens
    MeteredLoop      how busy its event loop is, and when it serves
    Heartbeat        how late its event loop is
    EvidenceWriter   the thread, and its files; the other holds the records of uploads

A blocked event loop cannot stop this thread, and a file outlives a killed process. Each
line is one JSON object; ``at`` is the monotonic clock that ``clock`` names (`lab.model.clock`),
everything else is as measured in this process, in wall-clock seconds and bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from lab.model.clock import clock_name
from lab.services.backend.core.uploads import UploadLog
from lab.services.backend.settings import instance_name, worker_number

INTERVAL_S = 0.1
"""Seconds between two lines."""
BEAT_S = 0.05
"""Seconds between two beats of an event loop that is on time."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Gauges:
    """Counts that several threads change and the evidence thread reads.

    ``waiting``: checkouts waiting for a connection; ``threads_busy``: threads inside a
    storage call (the event loop's own, under ``gcs_call: blocking``); ``threads_queued``:
    storage calls waiting for a thread; ``speech_busy``, ``speech_queued``, ``audio_busy`` and
    ``audio_queued``: the same of assessments and of conversions; ``inflight``: uploads inside
    this worker; ``gcs_attempts`` and ``gcs_bytes``: HTTP requests to storage and what they
    carried, ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting = 0
        self.threads_busy = 0
        self.threads_queued = 0
        self.speech_busy = self.speech_queued = 0
        self.audio_busy = self.audio_queued = 0
        self.inflight = 0
        self.gcs_attempts = 0
        self.gcs_bytes = 0

    def waiting_for_connection(self) -> AbstractContextManager[None]:
        """Count a waiting checkout while inside."""
        return self._during("waiting")

    def busy_with_storage(self) -> AbstractContextManager[None]:
        """Count a thread that makes a storage call while inside."""
        return self._during("threads_busy")

    def busy(self, pool: str) -> AbstractContextManager[None]:
        """Count a call in a thread of ``speech`` or ``audio`` while inside."""
        return self._during(f"{pool}_busy")

    def queued(self, pool: str, step: int) -> None:
        """Count a call more (+1) or fewer (-1) that waits for one of these threads."""
        self._add(f"{pool}_queued", step)

    def upload(self) -> AbstractContextManager[None]:
        """Count an upload in this worker while inside."""
        return self._during("inflight")

    def queued_for_thread(self, step: int) -> None:
        """Count a storage call more (+1) or fewer (-1) that waits for a thread."""
        self._add("threads_queued", step)

    def storage_attempt(self, size: int) -> None:
        """Count an HTTP request to storage with ``size`` bytes."""
        self._add("gcs_attempts", 1)
        self._add("gcs_bytes", size)

    @contextmanager
    def _during(self, name: str) -> Iterator[None]:
        self._add(name, 1)
        try:
            yield
        finally:
            self._add(name, -1)

    def _add(self, name: str, step: int) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + step)


class IdleSelector(selectors.DefaultSelector):
    """The platform's selector, which counts the seconds that it waits.

    A loop is idle while its selector waits for an event, and busy the rest of the time, when it
    runs callbacks or is blocked in a call. The busy share is a direct measure of how full the
    worker's single slot is; a late beat (`Heartbeat`) only shows that it was blocked.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._began = clock()
        self._waited = 0.0
        self._since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as the platform's selector does, and count the wait."""
        self._since = since = self._clock()
        try:
            return super().select(timeout)
        finally:
            self._since = None
            self._waited += self._clock() - since

    def busy_s(self) -> float:
        """Seconds since the loop was made in which it did not wait; any thread may call this.

        Reads without a lock, so as not to delay the loop's thread; a reading between two of its
        lines is off by the time that these take.
        """
        waited, since, now = self._waited, self._since, self._clock()
        return now - self._began - waited - (now - since if since is not None else 0.0)


class MeteredLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on Unix, with a selector that counts; for ``uvicorn --loop``."""

    def __init__(self) -> None:
        self.meter = IdleSelector()
        self._serving = False
        self._then: list[Callable[[], None]] = []
        super().__init__(self.meter)

    def when_serving(self, call: Callable[[], None]) -> None:
        """Call this once a server listens, which with uvicorn is after the application's start."""
        if self._serving:
            call()
        else:
            self._then.append(call)

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen as asyncio's loop does, then make the calls that waited for it."""
        server = await super().create_server(*args, **options)
        self._serving = True
        while self._then:
            self._then.pop(0)()
        return server


class Heartbeat:
    """Measures how late the event loop is, by a beat that it should make every 50 ms."""

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
        """Stop the beats."""
        self._handle.cancel()


class EvidenceWriter:
    """The thread that writes ``worker-<number>.jsonl`` and ``uploads-<number>.jsonl``.

    `worker_number` says which number.

    Args:
        folder: where the file goes.
        read: returns a reading; called in the thread.
        uploads: the records of this worker's uploads.
    """

    def __init__(
        self, folder: Path, read: Callable[[], dict[str, Any]], uploads: UploadLog
    ) -> None:
        self._read = read
        self._uploads = uploads
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        self._number = worker_number()
        self._who = {"pid": self._number, "clock": clock_name(), "instance": instance_name()}
        self._file = (folder / f"worker-{self._number}.jsonl").open("a", buffering=1)
        self._records = (folder / f"uploads-{self._number}.jsonl").open("a", buffering=1)
        uploads.write = self._record
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)

    def start(self) -> None:
        """Write a line now, and another every 0.1 s."""
        self._write()
        self._thread.start()

    def close(self) -> None:
        """Write a last line and end the thread; a worker that never served writes none."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._write()
            self._uploads.write_standing(every=True)
        self._uploads.write = None
        self._file.close()
        self._records.close()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._write()
            self._uploads.write_standing()

    def _write(self) -> None:
        line = {"at": time.monotonic(), **self._who, **process_figures(), **self._read()}
        self._file.write(_json(line))

    def _record(self, line: dict[str, Any]) -> None:
        self._records.write(_json({"worker": self._number, **line}))


def _json(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":")) + "\n"


def process_figures() -> dict[str, float | None]:
    """What this process uses, from /proc; without /proc counts are None and memory is 0.

    Returns:
        ``threads``, all of the process; ``fds``, open files and sockets; ``rss``, resident
        bytes; ``cpu_s``, seconds of CPU used so far.
    """
    open_files = count_entries("/proc/self/fd")
    return {
        "threads": count_entries("/proc/self/task"),
        "fds": None if open_files is None else open_files - 1,  # without the open folder itself
        "rss": resident_bytes(),
        "cpu_s": time.process_time(),
    }


def count_entries(folder: str) -> int | None:
    """How many entries a folder of /proc has; None if there is no such folder."""
    try:
        return len(os.listdir(folder))  # noqa: PTH208 - a count needs no paths, ten times a second
    except OSError:
        return None


def resident_bytes() -> int:
    """Resident memory of this process; 0 if there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0
