"""Errors as RFC 9457 problem details with their cause.

Pool exhaustion (QueuePool gave up after pool_timeout) and database exhaustion (Postgres
refused at once) are different failures and have different causes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import requests
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import TransportError
from psycopg2.errorcodes import PROTOCOL_VIOLATION, TOO_MANY_CONNECTIONS
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from lab.model.problem import MEDIA_TYPE, problem_body

log = logging.getLogger("uvicorn.error")

STATUS = {
    "pool_timeout": 503,
    "db_refused": 503,
    "db_error": 500,
    "gcs_error": 502,
    "speech_error": 502,
    "rate_limited": 429,
    "overloaded": 503,
    "unauthorized": 401,
    "bad_upload": 400,
    "bad_audio": 422,
    "upload_too_large": 413,
    "not_found": 404,
    "method_not_allowed": 405,
}
"""HTTP status by cause, for the causes that this service can name."""

STORAGE_ERRORS = (GoogleAPIError, TransportError, requests.RequestException)
"""How a call to storage fails."""

OF_STATUS = {400: "bad_upload", 404: "not_found", 405: "method_not_allowed"}
"""What the framework's own answers mean; the statuses without a row are none of an endpoint's."""

CLIENT_LEFT = 499
"""The status, nginx's, of a request whose client left before its body was here."""

REFUSALS = (
    *("too many clients", "remaining connection slots", "too many connections"),
    *("no more connections allowed", "query_wait_timeout"),
)
"""The texts of SQLSTATE 53300 (Postgres' proc.c and postinit.c), and PgBouncer's where it has no
place for a client, or has had none of Postgres' for it in time: it sends them as 08P01, a violation
of the protocol, which is what everything else that it refuses is, too.

libpq reports an error of connection start without its SQLSTATE: psycopg2's ``pgcode`` is
None then (seen with psycopg2 2.9.13), so the code is matched if there is one and otherwise
the text. Postgres' own log, which has the code, is counted in addition.
"""


class Problem(Exception):
    """An error that an endpoint answers deliberately; the arguments are those of `problem`."""

    def __init__(
        self,
        cause: str,
        detail: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.cause = cause
        self.response = problem(cause, detail, status, headers)


def problem(
    cause: str,
    detail: str,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer that names its cause; the default HTTP status is that of the cause."""
    status = STATUS[cause] if status is None else status
    return JSONResponse(problem_body(cause, detail, status), status, headers, MEDIA_TYPE)


def database_cause(error: DBAPIError) -> str:
    """``db_refused`` for SQLSTATE 53300, or PgBouncer's like; ``db_error`` for everything else."""
    code = getattr(error.orig, "pgcode", None)
    refused = code == TOO_MANY_CONNECTIONS or (
        code in (None, PROTOCOL_VIOLATION) and any(text in str(error.orig) for text in REFUSALS)
    )
    return "db_refused" if refused else "db_error"


def cause_of(error: Exception) -> str | None:
    """The cause by which an error of an endpoint is answered; None of one that nobody expects."""
    if isinstance(error, Problem):
        return error.cause
    if isinstance(error, PoolTimeout):
        return "pool_timeout"
    if isinstance(error, DBAPIError):
        return database_cause(error)
    return "gcs_error" if isinstance(error, STORAGE_ERRORS) else None


def install(app: FastAPI) -> None:
    """Answer errors with their cause; an unknown error stays a plain 500."""

    @app.exception_handler(Problem)
    async def on_problem(_request: Request, error: Problem) -> Response:
        return error.response

    @app.exception_handler(PoolTimeout)
    async def on_pool_timeout(_request: Request, error: PoolTimeout) -> Response:
        return problem("pool_timeout", str(error))

    @app.exception_handler(DBAPIError)
    async def on_database(_request: Request, error: DBAPIError) -> Response:
        return problem(database_cause(error), str(error.orig).strip())

    async def on_storage(_request: Request, error: Exception) -> Response:
        log.warning("storage: %s", error)
        return problem("gcs_error", f"{type(error).__name__}: {error}")

    for kind in STORAGE_ERRORS:
        app.add_exception_handler(kind, on_storage)

    @app.exception_handler(RequestValidationError)
    async def on_validation(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return problem("bad_upload", f"{where}: {first['msg']}", 422)

    @app.exception_handler(HTTPException)
    async def on_http(_request: Request, error: HTTPException) -> Response:
        return answer_to(error)


def answer_to(error: HTTPException) -> Response:
    """The answer to an error that the framework raises itself."""
    if isinstance(error.__cause__, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)  # nobody reads it; no upload was bad
    if isinstance(error.__cause__, Problem):
        return error.__cause__.response  # the body was refused while it was read
    if cause := OF_STATUS.get(error.status_code):
        return problem(cause, str(error.detail), headers=error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
