"""What an upload that fails says: its own cause, and where the time went."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
import requests
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import TransportError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from lab.services.backend.core.problems import STATUS, Problem, cause_of, database_cause
from tests.live import Live, causes, left_behind, make_fault, timing, upload, wait_until


@pytest.mark.parametrize(
    ("code", "text", "cause"),
    [
        ("53300", "whatever it says", "db_refused"),
        (None, "FATAL:  sorry, too many clients already", "db_refused"),
        (None, "FATAL:  remaining connection slots are reserved for roles", "db_refused"),
        (None, 'FATAL:  too many connections for role "app"', "db_refused"),
        (None, "FATAL:  no more connections allowed (max_client_conn)", "db_refused"),
        ("08P01", "query_wait_timeout\nserver closed the connection", "db_refused"),
        ("08P01", "server_login_retry", "db_error"),
        (None, "connection refused", "db_error"),
        (None, "server closed the connection unexpectedly", "db_error"),
        ("57P01", "too many clients, says an error with a code of its own", "db_error"),
    ],
)
def test_a_refusal_is_told_by_its_code_or_where_there_is_none_by_its_text(
    code: str | None, text: str, cause: str
) -> None:
    kind = type("Error", (psycopg2.OperationalError,), {"pgcode": code})  # libpq's to set
    assert database_cause(OperationalError("SELECT", {}, kind(text))) == cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (Problem("rate_limited", "again later"), "rate_limited"),
        (PoolTimeout("QueuePool limit reached"), "pool_timeout"),
        (OperationalError("SELECT", {}, psycopg2.OperationalError("gone")), "db_error"),
        (GoogleAPIError("503"), "gcs_error"),
        (TransportError("no route"), "gcs_error"),
        (requests.ConnectionError("refused"), "gcs_error"),
        (KeyError("x"), None),
    ],
)
def test_an_error_has_the_cause_that_it_is_answered_with(
    error: Exception, cause: str | None
) -> None:
    assert cause_of(error) == cause


def test_every_cause_of_the_service_has_a_status_of_an_error() -> None:
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.replica
@pytest.mark.parametrize("session", ["hold", "release"])
def test_a_database_that_goes_away_half_way_is_a_db_error(live: Live, session: str) -> None:
    replica = live({"gcs_call": "executor", "db_session": session})
    with live.slow("gcs", "20 s"), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(upload, replica.url)
        wait_until(lambda: live.health()["threads"]["busy"] == 1)
        requests.post(f"{replica.toxiproxy}/proxies/db", json={"enabled": False}, timeout=5)
        answer = sent.result()
    assert (answer.status_code, causes([answer])) == (500, {"db_error": 1})
    assert {"auth", "gcs"} <= set(timing(answer))
    assert left_behind(replica) == (0, 1)  # the object without its row: an orphan
    assert causes([upload(replica.url)]) == {"ok": 1}  # the next one finds a new connection


@pytest.mark.replica
def test_no_database_at_all_is_a_db_error_and_no_refusal(live: Live) -> None:
    replica = live({})
    with live.injected(make_fault("db", down=True)):
        answer = upload(replica.url)
    assert (answer.status_code, causes([answer])) == (500, {"db_error": 1})
    assert "pool_wait" in timing(answer)
    assert left_behind(replica) == (0, 0)


@pytest.mark.replica
@pytest.mark.parametrize("call", ["blocking", "executor"])
def test_storage_that_is_down_is_a_gcs_error_after_its_retries(live: Live, call: str) -> None:
    replica = live({"speed": 50, "nginx": "as-found", "gcs_call": call})
    with live.injected(make_fault("gcs", down=True)):
        answer = upload(replica.backend)  # nginx would have given up before the library does
    assert (answer.status_code, causes([answer])) == (502, {"gcs_error": 1})
    took = timing(answer)
    assert "auth" in took
    assert took["gcs"] > 0
    assert "write" not in took
    assert left_behind(replica) == (0, 0)
    wait_until(lambda: max(line["gcs_attempts"] for line in live.readings()) > 1)
