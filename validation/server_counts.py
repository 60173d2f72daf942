"""How many uploads failed for a cause, as the service counted, also those that nobody heard of."""

from __future__ import annotations

from lab.model.evidence import Cause
from validation.raw_metrics import CUT_OFF, Line, RawCell

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
        Cause.UPLOAD_TOO_LARGE,
        Cause.NOT_FOUND,
        Cause.METHOD_NOT_ALLOWED,
        Cause.INTERNAL_ERROR,
    }
)
"""Causes that the backend itself answers with."""


def server_count(cause: str, raw: RawCell) -> int | None:
    """Uploads of the window that the service answered with a cause; None: it did not count them.

    Each upload's last record says how it ended, also where nobody waited for the answer. Where
    there are none (an earlier lab), Postgres' log has the connections that it refused in
    the whole trial: none there is none in the window, and more says nothing of it.
    """
    last = _last_records(raw)
    if last:
        return len([record for record in last if record["cause"] == cause])
    audit = next(iter(raw.of("audit")), None)
    if cause == Cause.DB_REFUSED and audit is not None and audit["refused"] == 0:
        return 0
    return None


def still_inside(raw: RawCell) -> int:
    """Uploads of the window that were cut off, and not answered when the evidence ends."""
    cut_off = {sample.get("request") for sample in raw.sent if sample["error"] in CUT_OFF}
    records = [record for record in _last_records(raw) if record["request"] in cut_off]
    return sum(record["status"] is None for record in records)


def _last_records(raw: RawCell) -> list[Line]:
    """The last record of each upload of the window that came to a worker."""
    by_request = {record["request"]: record for record in raw.of("upload")}
    requests = {sample.get("request") for sample in raw.sent}
    return [record for request, record in by_request.items() if request in requests]
