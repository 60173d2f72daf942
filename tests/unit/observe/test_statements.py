"""What is asked of the database about its statements, and what is made of the answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg2
import pytest

from lab.observe import statements

RESET = ["CREATE EXTENSION IF NOT EXISTS pg_stat_statements", "SELECT pg_stat_statements_reset()"]


class Database:
    """A server that counts statements, or does not, or fails from a query on."""

    def __init__(self, counts: bool = True, fails_at: str = "") -> None:
        self.counts, self.fails_at = counts, fails_at
        self.asked: list[tuple[str, tuple[object, ...]]] = []

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        self.asked.append((sql, values))
        if self.fails_at and self.fails_at in sql:
            raise psycopg2.OperationalError("gone")
        if sql == statements.COUNTS:
            return [(1,)] if self.counts else []
        return [(Decimal(70), 140.0, 25.5)] if sql == statements.TOTALS else []


def test_a_reset_makes_the_extension_and_begins_anew() -> None:
    database = Database()
    statements.reset(database.query)
    assert [sql for sql, _ in database.asked[1:]] == RESET


def test_times_are_read_in_seconds_and_of_the_applications_role() -> None:
    database = Database()
    read = statements.read(database.query)
    assert read is not None
    assert read[1:] == (70, 0.14, 0.0255)
    assert database.asked[-1] == (statements.TOTALS, ("app",))


def test_a_server_without_the_extension_is_asked_nothing_more() -> None:
    database = Database(counts=False)
    statements.reset(database.query)
    assert statements.read(database.query) is None
    assert {sql for sql, _ in database.asked} == {statements.COUNTS}


@pytest.mark.parametrize("fails_at", ["pg_settings", "CREATE", "reset", "total_exec_time"])
def test_a_database_that_is_gone_is_no_error(fails_at: str) -> None:
    database = Database(fails_at=fails_at)
    statements.reset(database.query)
    read = statements.read(database.query)
    assert (read is None) == (fails_at in ("pg_settings", "total_exec_time"))
