"""Keeps a long run from growing without bound: verified recordings are removed.

A row whose object exists is correct whatever happens later; row and object are removed, the
oldest first, and the recording counts as verified in the final audit. A row without its object
is left for the audit. Only rows beyond `KEEP` are removed, so that short cells cost nothing.
"""

from __future__ import annotations

import threading
from urllib.parse import quote

import psycopg2
import requests

from lab.observe import Query
from lab.observe.audit import direct

KEEP = 2000
EVERY_S = 5.0
TIMEOUT_S = 10
BATCH = 500

OLDEST = "SELECT id, object_name FROM recordings ORDER BY created_at LIMIT %s"
COUNT = "SELECT count(*) FROM recordings"
DELETE = "DELETE FROM recordings WHERE id = ANY(%s)"


class Retention:
    """The thread that removes; a context manager.

    Args:
        query: runs SQL over the held superuser connection.
        storage: the storage API, not through the proxy.
        bucket: its bucket.
        keep: how many rows are never removed.

    Attributes:
        verified: ids of the recordings that had row and object, and were removed.
    """

    def __init__(self, query: Query, storage: str, bucket: str, keep: int = KEEP) -> None:
        self.verified: set[str] = set()
        self._query = query
        self._objects = f"{storage}/storage/v1/b/{bucket}/o"
        self._keep = keep
        self._http = direct()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def __enter__(self) -> Retention:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End the thread, after the batch that is under way."""
        self._stop.set()
        self._thread.join(timeout=TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                while not self._stop.is_set() and self.remove_batch():
                    pass
            except (psycopg2.Error, requests.RequestException):
                continue  # a part is down: the watch notes it

    def remove_batch(self) -> int:
        """Remove a batch of the oldest recordings that have row and object; returns how many.

        Raises:
            psycopg2.Error, requests.RequestException: a part does not answer.
        """
        excess = int(self._query(COUNT)[0][0]) - self._keep
        if excess <= 0:
            return 0
        rows = self._query(OLDEST, min(excess, BATCH))
        whole = [str(recording) for recording, name in rows if self._remove(str(name))]
        if whole:
            self._query(DELETE, whole)
            self.verified.update(whole)
        return len(whole)

    def _remove(self, name: str) -> bool:
        """Remove an object; whether it was there."""
        answer = self._http.delete(f"{self._objects}/{quote(name, safe='')}", timeout=TIMEOUT_S)
        return bool(answer.ok)
