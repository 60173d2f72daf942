"""A round trip to the database as a client has it: through the proxy, as that is now."""

from __future__ import annotations

import time
from statistics import quantiles

import psycopg2

from lab.errors import PartFailed
from lab.stack.monitor import ANSWERS_WITHIN_S, Monitor
from lab.stack.protocol import Query

TRIPS = 31
WARM_TRIPS = 3
NAME = "replica-lab-round-trip"
POLL_S = 0.005


class RoundTrip:
    """Measures it over a connection of its own, and leaves none behind.

    The lower quartile is taken: what else is at work on the machine can only lengthen it.

    Args:
        dsn: libpq URL of the superuser, through the proxy.
        query: asks the database, not through the proxy.
        from_outside: whether both ways begin at a published port, which no backend passes:
            a round trip of the other is then taken off, the database's own time with it.
    """

    def __init__(self, dsn: str, query: Query, from_outside: bool = False) -> None:
        self._dsn = dsn
        self._query = query
        self._from_outside = from_outside

    def __call__(self) -> float:
        """The lower quartile of some, in wall-clock seconds.

        Raises:
            PartFailed: the database does not answer there.
        """
        client = Monitor(self._dsn, NAME)
        try:
            try:
                took = _lower_quartile(client.query)
            finally:
                client.release()
            self._wait_until_gone()
            return took - _lower_quartile(self._query) if self._from_outside else took
        except psycopg2.Error as error:
            raise PartFailed(
                f"Postgres does not answer through its proxy: {' '.join(str(error).split())}",
                "see both parts' logs",
            ) from error

    def _wait_until_gone(self) -> None:
        """Its backend ends a moment after the connection, and until then holds a slot."""
        deadline = time.monotonic() + ANSWERS_WITHIN_S
        while self._query("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", NAME):
            if time.monotonic() > deadline:
                raise PartFailed(
                    f"a connection that was closed is open after {ANSWERS_WITHIN_S:g} s",
                    "see Postgres' and Toxiproxy's logs",
                )
            time.sleep(POLL_S)


def _lower_quartile(query: Query) -> float:
    trips = [_trip(query) for _ in range(WARM_TRIPS + TRIPS)]
    return quantiles(trips[WARM_TRIPS:], n=4)[0]


def _trip(query: Query) -> float:
    start = time.perf_counter()
    query("SELECT 1")
    return time.perf_counter() - start
