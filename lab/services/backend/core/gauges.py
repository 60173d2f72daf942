"""What a worker is doing right now, counted where it happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gauges:
    """Counts that several threads change and the evidence thread reads.

    ``waiting``: checkouts waiting for a connection; ``threads_busy``: threads inside a
    storage call (the event loop's own, under ``gcs_call: blocking``); ``threads_queued``:
    storage calls waiting for a thread; ``inflight``: uploads inside this worker;
    ``gcs_attempts`` and ``gcs_bytes``: HTTP requests to storage and what they carried, ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting = 0
        self.threads_busy = 0
        self.threads_queued = 0
        self.inflight = 0
        self.gcs_attempts = 0
        self.gcs_bytes = 0

    def _add(self, name: str, step: int) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + step)

    @contextmanager
    def _during(self, name: str) -> Iterator[None]:
        self._add(name, 1)
        try:
            yield
        finally:
            self._add(name, -1)

    @contextmanager
    def waiting_for_connection(self) -> Iterator[None]:
        """While a checkout waits."""
        with self._during("waiting"):
            yield

    @contextmanager
    def busy_with_storage(self) -> Iterator[None]:
        """While a thread is inside a storage call."""
        with self._during("threads_busy"):
            yield

    @contextmanager
    def upload(self) -> Iterator[None]:
        """While an upload is inside this worker."""
        with self._during("inflight"):
            yield

    def queued_for_thread(self, step: int) -> None:
        """One storage call more (+1) or fewer (-1) waits for a thread."""
        self._add("threads_queued", step)

    def storage_attempt(self, size: int) -> None:
        """One more HTTP request to storage, carrying ``size`` bytes."""
        self._add("gcs_attempts", 1)
        self._add("gcs_bytes", size)
