"""How many uploads failed for a cause, as the service counted, also those that nobody heard of."""

from __future__ import annotations

from lab.model.evidence import Cause
from validation.raw_metrics import RawCell

INSIDE = frozenset(
    {
        Cause.POOL_TIMEOUT,
        Cause.DB_REFUSED,
        Cause.DB_ERROR,
        Cause.GCS_ERROR,
        Cause.RATE_LIMITED,
        Cause.OVERLOADED,
        Cause.UNAUTHORIZED,
        Cause.BAD_UPLOAD,
        Cause.INTERNAL_ERROR,
    }
)
"""Causes that the backend itself answers with."""


def server_count(cause: str, raw: RawCell) -> int | None:
    """Uploads of the window that the service answered with a cause; None: it did not count them.

    Postgres' log has the connections that it refused in the whole trial: none there is none
    in the window, and more says nothing of it.
    """
    audit = next(iter(raw.of("audit")), None)
    if cause == Cause.DB_REFUSED and audit is not None and audit["refused"] == 0:
        return 0
    return None
