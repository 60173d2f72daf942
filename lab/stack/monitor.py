"""What the lab asks of the database, as superuser, without taking a slot of the application's.

`Monitor` holds the lab's only lasting connection. It is opened before the application's, and
every query of a stack or an observer goes through it. `RoundTrip` opens others while it
measures, through the proxy, as clients do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from select import select
from statistics import quantiles
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, connection

from lab.errors import PartFailed
from lab.model.replica import APP_ROLE, DATABASE, SUPERUSER
from lab.stack.ports import HOST, POLL_S

PLAIN: Mapping[str, Any] = {
    "hostaddr": HOST,
    "sslmode": "disable",
    "gssencmode": "disable",
    "channel_binding": "disable",
    "client_encoding": "utf8",
    "options": "",
}
"""What the lab says to libpq itself, which would else take it from ``PGSSLMODE`` and the like.

The backend's connections have libpq's own defaults: the question for TLS with which one begins is
a round trip of production's, too.
"""

Query = Callable[..., list[tuple[Any, ...]]]
"""Runs SQL, with values for its placeholders, and returns the rows."""

Answer = tuple[list[str], list[tuple[Any, ...]]]
"""The names of an answer's columns, and its rows."""

ANSWERS_WITHIN_S = 5.0
"""After this long without an answer the database counts as gone: a frozen one gives no error."""

RESERVED = 3
"""``superuser_reserved_connections``: Postgres' own default."""
MONITORS = 1
"""Connections that a `Monitor` holds; `lab.stack.postgres` adds them to max_connections."""

TRIPS = 31
WARM_TRIPS = 3
APART_S = 0.0025
"""Wall-clock seconds between two trips that are under way at once: without its delay a trip takes
1 to 2 ms, and so long the one would be in the other's way."""
ROUND_TRIP_NAME = "replica-lab-round-trip"


class Monitor:
    """Holds a connection, which is opened when it is first needed and again after it was lost.

    Args:
        dsn: libpq URL of the superuser, not through a proxy.
        name: the connections' ``application_name``.
    """

    def __init__(self, dsn: str, name: str = "replica-lab") -> None:
        self.dsn = dsn
        self._name = name
        self._lock = threading.Lock()
        self._held: connection | None = None

    def connect(self, database: str = DATABASE) -> connection:
        """A new connection to a database of the server, which commits each statement.

        Raises:
            psycopg2.OperationalError: it does not answer.
        """
        dsn = f"{self.dsn.rsplit('/', 1)[0]}/{database}"
        opened: connection = psycopg2.connect(
            dsn, connect_timeout=5, application_name=self._name, **PLAIN
        )
        opened.autocommit = True
        return opened

    def answers(self, database: str = DATABASE) -> bool:
        """Whether a superuser can log in."""
        try:
            self.connect(database).close()
        except psycopg2.OperationalError:
            return False
        return True

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Run SQL over the held connection; its rows.

        Raises:
            psycopg2.Error: the database is gone or frozen, or the SQL is wrong.
        """
        return self._asked(sql, values)[1]

    def records(self, sql: str) -> list[dict[str, Any]]:
        """Run SQL over the held connection; its rows, by the columns' names.

        Raises:
            psycopg2.Error: as `query`.
        """
        names, rows = self._asked(sql, ())
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _asked(self, sql: str, values: tuple[object, ...]) -> Answer:
        with self._lock:
            try:
                return self._ask(sql, values)
            except psycopg2.OperationalError:
                self._close()  # or a late answer would be read as the next query's
                raise

    def _ask(self, sql: str, values: tuple[object, ...]) -> Answer:
        if self._held is None or self._held.closed:
            self._held = psycopg2.connect(
                self.dsn, application_name=self._name, async_=True, **PLAIN
            )
            _wait(self._held)
        cursor = self._held.cursor()
        cursor.execute(sql, values or None)
        _wait(self._held)
        columns = cursor.description or ()
        return [column.name for column in columns], cursor.fetchall() if columns else []

    def app_connections(self) -> int:
        """How many connections the application has now."""
        rows = self.query("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", APP_ROLE)
        return int(rows[0][0])

    def empty(self) -> None:
        """Remove every recording and every score, and reset the progress."""
        self.query("TRUNCATE recordings, scores")
        self.query("UPDATE progress SET recordings = 0 WHERE recordings > 0")

    def release(self) -> None:
        """Close the connection; the next query opens another."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._held:
            self._held.close()
            self._held = None


def _wait(held: connection) -> None:
    """Wait for an asynchronous connection like psycopg2's ``wait_select``, but with a timeout.

    libpq itself waits as long as the other side's kernel acknowledges packets, and the kernel
    does that for a frozen container too.

    Raises:
        psycopg2.OperationalError: the database did not answer in time, or is gone.
    """
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while (state := held.poll()) != POLL_OK:
        read, write = ([held], []) if state == POLL_READ else ([], [held])
        if not any(select(read, write, [], max(0.0, deadline - time.monotonic()))):
            raise psycopg2.OperationalError(f"no answer within {ANSWERS_WITHIN_S:g} s")


def count_refused(log: Iterable[bytes]) -> int:
    """Count the connections refused with SQLSTATE 53300 in lines of Postgres' own log.

    Its ``log_line_prefix`` is ``%m [%p] %e``; the code is matched, because it has two texts.
    """
    return sum(1 for line in log if b"FATAL" in line and b" 53300 " in line)


class RoundTrip:
    """Measures a round trip over connections of its own, which it closes.

    The lower quartile is taken: other work on the machine can only lengthen a round trip. A trip
    behind a delay is nearly all waiting, so others are made meanwhile, over as many connections as
    are reserved for a superuser; never so many that there is no `APART_S` between two of them. It
    comes out shorter than one trip after the other, on two cores by 0.05 ms behind 5 ms and by 0.2
    behind 25: whoever is on the way has not gone to sleep meanwhile, and has not under a load.

    Args:
        dsn: libpq URL of the superuser, through the proxy.
        query: queries the database directly, not through the proxy.
        from_outside: whether all connections enter through a published port, which the
            backend does not. The round trip of ``query`` is then subtracted, and with it
            the database's own time.
        let_go: has PgBouncer close its connection, which it keeps; None where there is none. Behind
            it, which may have but one for all, trips are made one after the other.
    """

    def __init__(
        self,
        dsn: str,
        query: Query,
        from_outside: bool = False,
        let_go: Callable[[], None] | None = None,
    ) -> None:
        self._dsn = dsn
        self._query = query
        self._from_outside = from_outside
        self._let_go = let_go

    def __call__(self, delay_s: float) -> float:
        """The lower quartile of 31 round trips, in wall-clock seconds.

        Args:
            delay_s: the wall-clock seconds by which the proxy delays each.

        Raises:
            PartFailed: the database does not answer there.
        """
        try:
            took = _lower_quartile(self._trips(delay_s))
            self._wait_until_gone()
            inside = _lower_quartile(_trips(self._query, TRIPS)) if self._from_outside else 0.0
            return took - inside
        except psycopg2.Error as error:
            raise PartFailed(
                f"Postgres does not answer through its proxy: {' '.join(str(error).split())}",
                "see both parts' logs",
            ) from error

    def _trips(self, delay_s: float) -> list[float]:
        """All trips, shared out among connections that are used at once."""
        count = 1 if self._let_go else at_once(delay_s)
        shares = [len(range(number, TRIPS, count)) for number in range(count)]
        begins = [delay_s / count * number for number in range(count)]
        with ThreadPoolExecutor(count, "round-trip") as pool:
            return list(chain.from_iterable(pool.map(self._over_one, shares, begins)))

    def _over_one(self, count: int, after_s: float) -> list[float]:
        """So many trips over a connection of their own, begun so long after it has warmed up."""
        client = Monitor(self._dsn, ROUND_TRIP_NAME)
        try:
            return _trips(client.query, count, after_s)
        finally:
            client.release()

    def _wait_until_gone(self) -> None:
        """Postgres ends a backend a moment after its connection, and it holds a slot until then."""
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        held = (
            "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND usename = %s AND application_name = ANY(%s)"
        )
        names = [ROUND_TRIP_NAME]
        if self._let_go:
            self._let_go()
            names.append("")  # PgBouncer's own, once it has reset a session
        while self._query(held, SUPERUSER, names):
            if time.monotonic() > deadline:
                raise PartFailed(
                    f"a connection that was closed is open after {ANSWERS_WITHIN_S:g} s",
                    "see Postgres' and Toxiproxy's logs",
                )
            time.sleep(POLL_S)


def at_once(delay_s: float) -> int:
    """How many trips behind a delay, in wall-clock seconds, may be under way at once."""
    return max(1, min(RESERVED, int(delay_s / APART_S)))


def _lower_quartile(trips: list[float]) -> float:
    return quantiles(trips, n=4)[0]


def _trips(query: Query, count: int, after_s: float = 0.0) -> list[float]:
    """The seconds of each, but for the first, which find nothing warm."""
    for _ in range(WARM_TRIPS):
        _trip(query)
    time.sleep(after_s)  # so that those of several connections stay apart
    return [_trip(query) for _ in range(count)]


def _trip(query: Query) -> float:
    start = time.perf_counter()
    query("SELECT 1")
    return time.perf_counter() - start
