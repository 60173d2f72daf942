"""The audit after a load: do bucket, tables and samples agree?

answered 200, but no row or no object    lost      a defect of the replica; of assessments the row
an object, but no row                    orphan    a finding
row and object, but nobody was told      unheard   a finding
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import psycopg2
import requests

from lab.errors import PartFailed
from lab.model.evidence import Audit
from lab.observe import Observed, Query
from lab.observe.readings import Clock

TIMEOUT_S = 10
QUIET_WITHIN_S = 3.0
LOOK_S = 0.02
"""Wall seconds between two looks whether uploads are inside; each worker says so every 0.1 s, at a
moment of its own."""
UNDELAYED_S = 0.5
"""Wall seconds within which an upload that is being served ends where no fault delays it."""

_NAME = re.compile(r"([0-9a-f-]{36})\.wav$")


def direct() -> requests.Session:
    """A client for the lab's own bucket: no proxy or password of the user's environment."""
    session = requests.Session()
    session.trust_env = False
    return session


def object_ids(api: str, bucket: str) -> set[str]:
    """The recording ids of all objects in a bucket; the name of an object that has none.

    Args:
        api: address of the storage API, not through the proxy.
        bucket: its name.

    Raises:
        PartFailed: storage does not answer, or there is no such bucket.
    """
    # Here, because every command would start a tenth of a second later.
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(
        project="replica",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": api},
        _http=direct(),
    )
    fields = "items(name),nextPageToken"
    try:
        # Without the library's retries, which go on for 2 minutes if storage is down.
        with client:
            blobs = client.list_blobs(bucket, fields=fields, timeout=TIMEOUT_S, retry=None)
            names = [str(blob.name) for blob in blobs]
    except (requests.RequestException, GoogleAPIError) as error:
        raise PartFailed(f"storage does not answer the audit: {error}") from error
    return {match[1] if (match := _NAME.search(name)) else name for name in names}


def row_ids(query: Query, table: Literal["recordings", "scores"] = "recordings") -> set[str]:
    """The ids of all rows of a table.

    Raises:
        PartFailed: the database does not answer.
    """
    try:
        return {str(row[0]) for row in query(f"SELECT id FROM {table}")}  # noqa: S608 - of ours
    except psycopg2.Error as error:
        first_line = str(error).partition("\n")[0]
        raise PartFailed(f"the database does not answer the audit: {first_line}") from error


def wait_for_quiet(replica: Observed, patience: float = QUIET_WITHIN_S) -> int:
    """Wait a moment for uploads that are about to end; how many are still inside a worker.

    Args:
        replica: after its load.
        patience: wall seconds without one that ends after which none is about to.
    """
    deadline = time.monotonic() + QUIET_WITHIN_S
    inside, since = replica.inflight(), time.monotonic()
    while inside and time.monotonic() < min(deadline, since + patience):
        time.sleep(LOOK_S)
        if (now_inside := replica.inflight()) != inside:
            inside, since = now_inside, time.monotonic()
    return inside


@dataclass(frozen=True)
class StoredIds:
    """What is said to be stored: ids of recordings, and of assessments."""

    recordings: Collection[str] = ()
    scores: Collection[str] = ()


def audit(replica: Observed, answered: StoredIds, verified: StoredIds, clock: Clock) -> Audit:
    """Compare bucket, tables and samples, after waiting a moment for uploads about to end.

    Args:
        replica: after its load.
        answered: what was answered 200.
        verified: recordings with row and object, and scores, that retention removed during the
            load, whether or not a client was told of them.
        clock: of the load.

    Raises:
        PartFailed: storage or the database does not answer.
    """
    inflight = wait_for_quiet(replica, UNDELAYED_S)  # its faults are gone by now
    # Objects first: a row that is written meanwhile cannot make its object an orphan.
    objects = object_ids(replica.storage, replica.bucket)
    rows, scores = row_ids(replica.query), row_ids(replica.query, "scores")
    told, removed = set(answered.recordings), set(verified.recordings)
    return Audit(
        t=clock(time.monotonic()),
        rows=len(rows) + len(removed),
        objects=len(objects) + len(removed),
        lost=sorted(told - removed - (rows & objects)),
        orphans=sorted(objects - rows),
        unheard=sorted(((rows & objects) | removed) - told),
        inflight=inflight,
        refused=replica.refused(),
        shortages=replica.shortages(),
        scores=len(scores) + len(verified.scores),
        lost_scores=sorted(set(answered.scores) - set(verified.scores) - scores),
    )
