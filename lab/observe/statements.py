"""What the database counts of statements by itself: Postgres' extension ``pg_stat_statements``.

    reset   as the watch begins, before the load: the extension is made where it is not there yet,
            and its counts are 0
    read    as the watch ends, once: nothing is asked in between, so that what is measured pays
            for nothing but the counting itself

Both connect as superuser. A server that was not started with the extension counts nothing, which
is no error: the metrics of its figures are absent, and `lab doctor` says why.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import psycopg2

from lab.model.replica import APP_ROLE
from lab.observe import Query

COUNTS = "SELECT 1 FROM pg_settings WHERE name = %s AND setting LIKE %s"
"""Whether the library is loaded, which only the server's start can do."""

TOTALS = (
    "SELECT coalesce(sum(calls), 0), coalesce(sum(total_exec_time), 0), "
    "coalesce(max(max_exec_time), 0) FROM pg_stat_statements "
    "WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = %s)"
)
"""Of the plain role alone; times in milliseconds."""


class Statements(NamedTuple):
    """Statements since the last reset: how many, their wall-clock seconds, and the longest's."""

    at: float
    calls: int
    total_s: float
    max_s: float


def counts(query: Query) -> bool:
    """Whether the server counts statements.

    Raises:
        psycopg2.Error: the database is gone.
    """
    return bool(query(COUNTS, "shared_preload_libraries", "%pg_stat_statements%"))


def reset(query: Query) -> None:
    """Begin to count anew; nothing where the server does not count, or is gone."""
    try:
        if counts(query):
            query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            query("SELECT pg_stat_statements_reset()")
    except psycopg2.Error:
        return  # that it is down, `down_parts` says; that nothing was counted, `read` finds


def read(query: Query) -> Statements | None:
    """What was counted since; None where the server does not count, or is gone."""
    try:
        if not counts(query):
            return None
        [(calls, total_ms, max_ms)] = query(TOTALS, APP_ROLE)
    except psycopg2.Error:
        return None
    return Statements(time.monotonic(), int(calls), float(total_ms) / 1e3, float(max_ms) / 1e3)
