"""A round trip to the database as a client has it: through the proxy, as that is now."""

from __future__ import annotations

import time
from statistics import median

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

    Args:
        dsn: libpq URL of the superuser, through the proxy: it has slots of its own.
        query: asks the database, not through the proxy.
    """

    def __init__(self, dsn: str, query: Query) -> None:
        self._dsn = dsn
        self._query = query

    def __call__(self) -> float:
        """Its median, in wall-clock seconds.

        Raises:
            PartFailed: the database does not answer there.
        """
        client = Monitor(self._dsn, NAME)
        try:
            trips = [_trip(client) for _ in range(WARM_TRIPS + TRIPS)]
        except psycopg2.Error as error:
            said = str(error).strip().splitlines()[0]
            raise PartFailed(
                f"Postgres does not answer through its proxy: {said}", "see both parts' logs"
            ) from error
        finally:
            client.release()
        self._wait_until_gone()
        return median(trips[WARM_TRIPS:])

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


def _trip(client: Monitor) -> float:
    start = time.perf_counter()
    client.query("SELECT 1")
    return time.perf_counter() - start
