"""A round trip to the database, measured through the proxy; nothing is left of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from types import SimpleNamespace

import psycopg2
import pytest

from lab.errors import PartFailed
from lab.stack.monitor import APART_S, TRIPS, WARM_TRIPS, Monitor, RoundTrip, at_once
from tests.live import Live, make_fault

DELAY_S = 0.010


@pytest.mark.replica
def test_a_round_trip_is_as_the_proxy_delays_it(live: Live) -> None:
    replica = live({"speed": 1})
    bare = replica.round_trip(0)
    with live.slow("db", "20 ms"):
        slow = replica.round_trip(0.020)
    assert 0 < bare < slow
    assert slow >= 0.020


@pytest.mark.replica
def test_it_takes_no_slot_and_leaves_no_connection(live: Live) -> None:
    """With a cap of 2, and both of the application's connections open; and over several at once."""
    replica = live({"db_cap": 2, "speed": 1})
    with ExitStack() as opened:
        for _ in range(2):
            opened.enter_context(closing(psycopg2.connect(replica.app_dsn)))
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(replica.app_dsn)
        with live.slow("db", "10 ms"):
            assert replica.round_trip(DELAY_S) >= DELAY_S
        assert replica.refused() == 1  # the application's third, and no other
    rows = replica.query(
        "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND usename = 'postgres' AND pid <> pg_backend_pid()"
    )
    assert rows == []


@pytest.mark.replica
def test_a_database_that_cannot_be_reached_through_its_proxy_is_an_error(live: Live) -> None:
    replica = live({})
    with (
        live.injected(make_fault("db", down=True)),
        pytest.raises(PartFailed, match="Postgres does not answer through its proxy: "),
    ):
        replica.round_trip(DELAY_S)


@pytest.mark.parametrize(
    ("delay_s", "count"),
    [(0.0, 1), (0.002, 1), (0.004, 1), (0.005, 2), (0.0075, 3), (0.010, 3), (0.1, 3)],
)
def test_as_many_trips_are_under_way_as_stay_apart(delay_s: float, count: int) -> None:
    assert at_once(delay_s) == count
    assert count == 1 or delay_s / count >= APART_S


@pytest.mark.parametrize(("pooled", "shares"), [(False, [10, 10, 11]), (True, [31])])
def test_all_trips_are_made_over_connections_that_begin_apart(
    monkeypatch: pytest.MonkeyPatch, pooled: bool, shares: list[int]
) -> None:
    """Each has trips that warm it up; behind PgBouncer there is one connection."""
    made, begun, met = Counter[object](), list[float](), threading.Barrier(len(shares))

    def trip(query: object) -> float:
        if not made[query]:
            met.wait(5)  # so that none is done before the last has begun
        made[query] += 1
        return 0.011

    monkeypatch.setattr("lab.stack.monitor._trip", trip)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=begun.append)
    monkeypatch.setattr("lab.stack.monitor.time", clock)
    monkeypatch.setattr(Monitor, "query", property(lambda self: self))
    let_go = (lambda: None) if pooled else None
    way = RoundTrip("postgresql://", lambda _sql, *_values: [], let_go=let_go)
    assert way(0.009) == 0.011
    assert sorted(count - WARM_TRIPS for count in made.values()) == shares
    assert sorted(begun) == pytest.approx([0.003 * number for number in range(len(shares))])


def test_the_lower_quartile_of_the_trips_after_the_first_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = iter([9.0] * WARM_TRIPS + [float(n) for n in range(TRIPS)])
    monkeypatch.setattr("lab.stack.monitor._trip", lambda _query: next(took))
    assert RoundTrip("postgresql://", lambda _sql, *_values: [])(0) == 7  # the 8th of 31


def test_from_outside_the_way_in_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([0.030] * (WARM_TRIPS + TRIPS) + [0.004] * (WARM_TRIPS + TRIPS))
    monkeypatch.setattr("lab.stack.monitor._trip", lambda _query: next(took))
    outside = RoundTrip("postgresql://", lambda _sql, *_values: [], from_outside=True)
    assert outside(0) == pytest.approx(0.026)


def test_a_connection_that_stays_open_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.stack.monitor._trip", lambda _query: 0.001)
    monkeypatch.setattr("lab.stack.monitor.ANSWERS_WITHIN_S", 0.05)
    with pytest.raises(PartFailed, match=r"a connection that was closed is open after 0\.05 s"):
        RoundTrip("postgresql://", lambda _sql, *_values: [(1,)])(0)
