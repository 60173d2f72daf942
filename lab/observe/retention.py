"""Keeps a long run from growing without bound: verified recordings are removed.

A row whose object exists is correct whatever happens later; row and object are removed, the
oldest first, and the recording counts as verified in the final audit. A row without its object
is left for the audit. Only rows beyond `KEEP` are removed, so that short cells cost nothing.
Scores are rows and nothing else, and are removed in the same way.
"""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import quote

import psycopg2
import requests

from lab.observe import Query
from lab.observe.audit import StoredIds, direct

KEEP = 2000
EVERY_S = 5.0
TIMEOUT_S = 10
BATCH = 500

OLDEST = "SELECT id, object_name FROM recordings ORDER BY created_at LIMIT %s"
COUNT = "SELECT count(*) FROM recordings"
DELETE = "DELETE FROM recordings WHERE id = ANY(%s)"

OLDEST_SCORES = "SELECT id FROM scores ORDER BY created_at LIMIT %s"
COUNT_SCORES = "SELECT count(*) FROM scores"
DELETE_SCORES = "DELETE FROM scores WHERE id = ANY(%s)"


class Retention:
    """The thread that removes; a context manager.

    Args:
        query: runs SQL over the held superuser connection.
        storage: the storage API, not through the proxy.
        bucket: its bucket.
        keep: how many rows are never removed.

    Attributes:
        removed: ids of the recordings that had row and object, and were removed.
        removed_scores: ids of the scores that were.
    """

    def __init__(self, query: Query, storage: str, bucket: str, keep: int = KEEP) -> None:
        self.removed: set[str] = set()
        self.removed_scores: set[str] = set()
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

    @property
    def verified(self) -> StoredIds:
        """What had been stored as it should, and was removed."""
        return StoredIds(self.removed, self.removed_scores)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                while not self._stop.is_set() and self.remove_batch() + self.remove_scores():
                    pass
            except (psycopg2.Error, requests.RequestException):
                continue  # a part is down: the watch notes it

    def remove_batch(self) -> int:
        """Remove a batch of the oldest recordings that have row and object; returns how many.

        Raises:
            psycopg2.Error, requests.RequestException: a part does not answer.
        """
        rows = self._beyond(COUNT, OLDEST)
        whole = [str(recording) for recording, name in rows if self._remove(str(name))]
        if whole:
            self._query(DELETE, whole)
            self.removed.update(whole)
        return len(whole)

    def remove_scores(self) -> int:
        """Remove a batch of the oldest scores; returns how many.

        Raises:
            psycopg2.Error: the database does not answer.
        """
        scores = [str(row[0]) for row in self._beyond(COUNT_SCORES, OLDEST_SCORES)]
        if scores:
            self._query(DELETE_SCORES, scores)
            self.removed_scores.update(scores)
        return len(scores)

    def _beyond(self, count: str, oldest: str) -> list[tuple[Any, ...]]:
        """The oldest rows of those beyond `KEEP`, a batch at most."""
        excess = int(self._query(count)[0][0]) - self._keep
        return self._query(oldest, min(excess, BATCH)) if excess > 0 else []

    def _remove(self, name: str) -> bool:
        """Remove an object; whether it was there."""
        answer = self._http.delete(f"{self._objects}/{quote(name, safe='')}", timeout=TIMEOUT_S)
        return bool(answer.ok)
