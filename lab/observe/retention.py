"""Keeps a long run from growing without bound: what was audited is removed.

A row whose object is there is right whatever happens later; row and object go, the oldest
first, and the recording counts as verified in the final audit. A row without its object is
left for the audit to find. Only past `KEEP` rows, so short cells never pay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg2
import requests

KEEP = 2000
EVERY_S = 5.0
TIMEOUT_S = 10
BATCH = 500

OLDEST = "SELECT id, object_name FROM recordings ORDER BY created_at LIMIT %s"
COUNT = "SELECT count(*) FROM recordings"
DELETE = "DELETE FROM recordings WHERE id = ANY(%s)"


class Retention:
    """The trimming thread; a context manager.

    Args:
        query: SQL over the held superuser connection.
        storage: the storage API, not through the proxy.
        bucket: its bucket.
        keep: rows that are left alone.
    """

    def __init__(
        self,
        query: Callable[..., list[tuple[Any, ...]]],
        storage: str,
        bucket: str,
        keep: int = KEEP,
    ) -> None:
        self.verified: set[str] = set()
        self._query = query
        self._where = f"{storage}/storage/v1/b/{bucket}/o"
        self._keep = keep
        self._http = requests.Session()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trim", daemon=True)

    def __enter__(self) -> Retention:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """End; a batch that is under way is finished."""
        self._stop.set()
        self._thread.join(timeout=TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                while not self._stop.is_set() and self.once():
                    pass
            except (psycopg2.Error, requests.RequestException):
                continue  # a part is down: the watch says so

    def once(self) -> int:
        """Remove one batch; how many recordings that were."""
        excess = int(self._query(COUNT)[0][0]) - self._keep
        if excess <= 0:
            return 0
        rows = self._query(OLDEST, min(excess, BATCH))
        right = [(str(row[0]), str(row[1])) for row in rows if self._remove(str(row[1]))]
        ids = [name for name, _ in right]
        if ids:
            self._query(DELETE, ids)
            self.verified.update(ids)
        return len(ids)

    def _remove(self, name: str) -> bool:
        """Remove an object; whether it was there."""
        answer = self._http.delete(f"{self._where}/{quote(name, safe='')}", timeout=TIMEOUT_S)
        return bool(answer.ok)
