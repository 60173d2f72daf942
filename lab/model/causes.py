"""Why an upload failed: a closed set, so that two failures are never merged into one."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """The cause of a failed upload, and who says so.

    The backend and the front that stands for Cloud Run name their own in the ``cause`` member
    of an RFC 9457 problem body; nginx's are told by the status of an answer without one; the
    client's are its own.
    """

    POOL_TIMEOUT = "pool_timeout"  #: backend: QueuePool gave up after pool_timeout
    DB_REFUSED = "db_refused"  #: backend: Postgres had no slot left (SQLSTATE 53300)
    DB_ERROR = "db_error"  #: backend: any other failure of the database
    GCS_ERROR = "gcs_error"  #: backend: storage failed, its retries included
    RATE_LIMITED = "rate_limited"  #: backend: the global or the per-user limit
    OVERLOADED = "overloaded"  #: backend: max_inflight_uploads (backpressure)
    UNAUTHORIZED = "unauthorized"  #: backend: no token, or one nobody has
    BAD_UPLOAD = "bad_upload"  #: backend: no file, an empty one, or not audio
    INTERNAL_ERROR = "internal_error"  #: backend: a 500 without a cause, a defect of the replica
    BODY_TOO_LARGE = "body_too_large"  #: nginx: 413, client_max_body_size
    BAD_GATEWAY = "bad_gateway"  #: nginx 502, Cloud Run 503: the backend closed without an answer
    GATEWAY_TIMEOUT = "gateway_timeout"  #: nginx: 504, proxy_read_timeout
    NO_INSTANCE = "no_instance"  #: Cloud Run: 429, no instance took it in time
    INSTANCE_DIED = "instance_died"  #: Cloud Run: 503, its instance died, or none would start
    REQUEST_TIMEOUT = "request_timeout"  #: Cloud Run: 504, cloudrun_timeout
    TOO_LARGE = "too_large"  #: Cloud Run: 413, a body above 32 MiB
    CLIENT_TIMEOUT = "client_timeout"  #: client: no answer within the load's timeout
    CONNECTION = "connection"  #: client: refused, reset or cut


FROM_STATUS = {
    413: Cause.BODY_TOO_LARGE,
    502: Cause.BAD_GATEWAY,
    504: Cause.GATEWAY_TIMEOUT,
}
"""What a status means when the answer carries no problem body, so nginx made it."""

NGINX = frozenset({Cause.BODY_TOO_LARGE, Cause.GATEWAY_TIMEOUT})
"""Causes that only nginx names, which stands before the VM alone."""

CLOUDRUN = frozenset(
    {Cause.NO_INSTANCE, Cause.INSTANCE_DIED, Cause.REQUEST_TIMEOUT, Cause.TOO_LARGE}
)
"""Causes that only Cloud Run names."""
