"""The held connection to the database: lost ones are made anew, frozen ones are given up."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator

import psycopg2
import pytest

from lab.stack import monitor
from lab.stack.monitor import Monitor
from tests.fakes import make_cell
from tests.live import wait_until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen database is given up soon."""
    monkeypatch.setattr(monitor, "ANSWERS_WITHIN_S", 0.2)


@pytest.fixture
def frozen() -> Iterator[str]:
    """The address of a database that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:p@127.0.0.1:{server.getsockname()[1]}/d"


@pytest.mark.usefixtures("impatient")
def test_a_database_that_says_nothing_is_given_up(frozen: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match=r"no answer within 0\.2 s"):
        Monitor(frozen).query("SELECT 1")


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_the_connection_gets_it_when_it_is_given_up(frozen: str) -> None:
    held = Monitor(frozen)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            held.query("SELECT 1")
        except psycopg2.OperationalError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    held.release()
    wait_until(lambda: len(errors) == 3)


def test_a_database_that_is_not_there_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"postgresql://u:p@127.0.0.1:{taken.getsockname()[1]}/d"
        with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
            Monitor(address).query("SELECT 1")


@pytest.fixture
def held(request: pytest.FixtureRequest) -> Iterator[Monitor]:
    """A real database's."""
    stack = request.getfixturevalue("stack")
    opened = Monitor(stack.apply(make_cell()).monitor_dsn)
    yield opened
    opened.release()


def pid(held: Monitor) -> int:
    """The database's own process behind the held connection."""
    return int(held.query("SELECT pg_backend_pid()")[0][0])


@pytest.mark.replica
def test_one_connection_is_held_and_commits_each_statement(held: Monitor) -> None:
    first = pid(held)
    assert held.query("CREATE TABLE kept (n int)") == []
    assert held.query("INSERT INTO kept VALUES (%s), (%s)", 1, 2) == []
    assert pid(held) == first
    held.release()
    assert held.query("SELECT n FROM kept ORDER BY n") == [(1,), (2,)]
    held.query("DROP TABLE kept")
    assert pid(held) != first


@pytest.mark.replica
def test_wrong_sql_is_an_error_and_the_connection_is_kept(held: Monitor) -> None:
    first = pid(held)
    with pytest.raises(psycopg2.ProgrammingError, match="does not exist"):
        held.query("SELECT * FROM nowhere")
    assert pid(held) == first


@pytest.mark.replica
def test_a_connection_that_was_lost_is_made_anew_after_one_error(held: Monitor) -> None:
    first = pid(held)
    with pytest.raises(psycopg2.OperationalError):
        held.query("SELECT pg_terminate_backend(pg_backend_pid())")
    assert pid(held) != first
    held.query("SELECT pg_sleep(0)")


@pytest.mark.replica
def test_a_late_answer_is_not_taken_for_that_to_the_next_question(
    held: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pid(held)
    os.kill(first, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(monitor, "ANSWERS_WITHIN_S", 0.2)
            with pytest.raises(psycopg2.OperationalError, match="no answer within"):
                held.query("SELECT 1")
    finally:
        os.kill(first, signal.SIGCONT)
    assert held.query("SELECT 2") == [(2,)]
