"""The audit: bucket, table and samples against each other, after the load.

answered 200, but no row or no object    lost      a defect of the replica
an object, but no row                    orphan    a finding
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import psycopg2
import requests

from lab.errors import PartFailed

TIMEOUT_S = 10
QUIET_WITHIN_S = 3.0

_NAME = re.compile(r"([0-9a-f-]{36})\.wav$")


@dataclass(frozen=True)
class Audited:
    """What the audit found; names are recording ids."""

    rows: int
    objects: int
    lost: tuple[str, ...]
    orphans: tuple[str, ...]
    inflight: int
    refused: int


def object_ids(storage: str, bucket: str) -> set[str]:
    """The recording ids of all objects in the bucket, straight from the storage API.

    Raises:
        PartFailed: storage does not answer.
    """
    ids: set[str] = set()
    page = ""
    while True:
        try:
            answer = requests.get(
                f"{storage}/storage/v1/b/{bucket}/o",
                params={"maxResults": "1000", "pageToken": page},
                timeout=TIMEOUT_S,
            ).json()
        except (requests.RequestException, ValueError) as error:
            raise PartFailed(f"storage does not answer the audit: {error}") from error
        for item in answer.get("items", []):
            found = _NAME.search(item["name"])
            ids.add(found[1] if found else item["name"])
        page = answer.get("nextPageToken", "")
        if not page:
            return ids


def row_ids(query: Callable[..., list[tuple[Any, ...]]]) -> set[str]:
    """The recording ids of all rows.

    Raises:
        PartFailed: the database does not answer.
    """
    try:
        return {str(row[0]) for row in query("SELECT id FROM recordings")}
    except psycopg2.Error as error:
        said = str(error).partition("\n")[0]
        raise PartFailed(f"the database does not answer the audit: {said}") from error


def audit(
    answered: Iterable[str],
    query: Callable[..., list[tuple[Any, ...]]],
    storage: str,
    bucket: str,
    inflight: Callable[[], int],
    refused: Callable[[], int],
) -> Audited:
    """Compare; waits a moment for uploads that are about to end.

    Args:
        answered: recording ids that were answered 200.
        query: SQL over the held superuser connection.
        storage: the storage API, not through the proxy.
        bucket: its bucket.
        inflight: uploads that are inside a worker now.
        refused: connections that Postgres refused, by its own log.

    Raises:
        PartFailed: storage or the database does not answer.
    """
    deadline = time.monotonic() + QUIET_WITHIN_S
    while inflight() and time.monotonic() < deadline:
        time.sleep(0.05)
    left = inflight()
    # Objects first: a row that is written meanwhile cannot make its object an orphan.
    objects = object_ids(storage, bucket)
    rows = row_ids(query)
    lost = {name for name in answered if name not in rows or name not in objects}
    return Audited(
        rows=len(rows),
        objects=len(objects),
        lost=tuple(sorted(lost)),
        orphans=tuple(sorted(objects - rows)),
        inflight=left,
        refused=refused(),
    )
