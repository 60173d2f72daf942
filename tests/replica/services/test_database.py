"""The knobs of sessions, pool and connections, seen on a running replica."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest

from lab.config import read_faults
from lab.model.physics import checkout_trips
from lab.paths import ROOT
from tests.live import Live, causes, timing, upload, uploads, wait_until

pytestmark = pytest.mark.replica

HOLD = {"db_session": "hold", "gcs_call": "executor"}


@pytest.mark.knob("db_session")
@pytest.mark.parametrize(("session", "held"), [("hold", 4), ("release", 0)])
def test_a_session_is_held_or_released_while_storage_is_busy(
    live: Live, session: str, held: int
) -> None:
    replica = live({"db_session": session, "gcs_call": "executor"})
    with live.slow("gcs", "20 s"):
        answers = uploads(replica.url, 4)
    assert causes(answers) == {"ok": 4}
    in_storage = [line for line in live.readings() if line["threads_busy"] == 4]
    assert in_storage
    assert {line["checked_out"] for line in in_storage} == {held}
    # Only what was given back had to be taken again.
    assert all(("pool_wait2" in timing(answer)) == (session == "release") for answer in answers)


@pytest.mark.knob("pool_size", "max_overflow")
@pytest.mark.parametrize(("size", "overflow"), [(2, 1), (2, 0), (1, 3)])
def test_uploads_past_the_pool_fail_with_pool_timeout(live: Live, size: int, overflow: int) -> None:
    replica = live({**HOLD, "pool_size": size, "max_overflow": overflow, "pool_timeout": "4 s"})
    with live.slow("gcs", "20 s"):
        answers = uploads(replica.url, size + overflow + 2)
    assert causes(answers) == {"ok": size + overflow, "pool_timeout": 2}
    readings = live.readings()
    assert max(line["checked_out"] for line in readings) == size + overflow
    assert max(line["overflow"] for line in readings) == overflow
    assert max(line["waiting"] for line in readings) == 1  # the loop stands still, so only one
    assert live.health()["database"]["pool_size"] == size
    monitor = live.stack.postgres.monitor
    wait_until(lambda: monitor.app_connections() == size)  # overflow is not kept


@pytest.mark.knob("max_overflow", "pool_class")
@pytest.mark.parametrize(
    ("pool", "size", "kept"),
    [({"pool_size": 1, "max_overflow": "unlimited"}, 1, 1), ({"pool_class": "NullPool"}, 0, 0)],
)
def test_a_pool_without_a_limit_opens_a_connection_for_every_upload(
    live: Live, pool: dict[str, Any], size: int, kept: int
) -> None:
    replica = live({**HOLD, **pool, "pool_timeout": "1 s"})
    with live.slow("gcs", "20 s"):
        answers = uploads(replica.url, 8)
    assert causes(answers) == {"ok": 8}
    readings = live.readings()
    assert max(line["checked_out"] for line in readings) == 8
    assert max(line["overflow"] for line in readings) == 8 - size
    assert {line["pool_size"] for line in readings} == {size}
    wait_until(lambda: live.stack.postgres.monitor.app_connections() == kept)
    figures = live.health()["database"]
    assert figures == {
        "pool_size": size,
        "checked_out": 0,
        "overflow": 0,
        "waiting": 0,
        "abandoned": 0,
    }


@pytest.mark.knob("pool_class")
def test_a_null_pool_is_refused_by_the_database_and_counts_right_after_that(live: Live) -> None:
    replica = live({**HOLD, "pool_class": "NullPool", "db_cap": 3})
    with live.slow("gcs", "16 s"):
        assert causes(uploads(replica.url, 6)) == {"ok": 3, "db_refused": 3}
    assert max(line["checked_out"] for line in live.readings()) == 3
    assert live.health()["database"]["checked_out"] == 0


@pytest.mark.knob("pool_pre_ping", "pool_class")
@pytest.mark.parametrize(
    "settings",
    [{}, {"pool_pre_ping": "on"}, {"pool_class": "NullPool"}],
    ids=["as found", "pre-ping", "null"],
)
def test_a_checkout_makes_as_many_round_trips_as_physics_says(
    live: Live, settings: dict[str, Any]
) -> None:
    replica = live({**settings, "speed": 1})
    upload(replica.url)  # a queue's first connection is opened
    with live.slow("db", "100 ms"):
        took = timing(upload(replica.url))
    for wait in ("pool_wait", "pool_wait2"):
        assert took[wait] / 0.1 == pytest.approx(checkout_trips(live.knobs), abs=0.5)


@pytest.mark.knob("pool_pre_ping")
@pytest.mark.parametrize(("ping", "cause"), [("off", "db_error"), ("on", "ok")])
def test_a_connection_that_died_in_the_pool_is_replaced_only_where_it_is_tried(
    live: Live, ping: str, cause: str
) -> None:
    replica = live({"pool_pre_ping": ping})
    assert upload(replica.url).status_code == 200
    replica.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    wait_until(lambda: live.stack.postgres.monitor.app_connections() == 0)
    assert causes([upload(replica.url)]) == {cause: 1}
    assert causes([upload(replica.url)]) == {"ok": 1}


@pytest.mark.knob("pool_timeout")
@pytest.mark.parametrize("seconds", [4, 12])
def test_a_checkout_waits_for_pool_timeout(live: Live, seconds: int) -> None:
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": f"{seconds} s"}
    replica = live({**HOLD, **pool})
    with live.slow("gcs", "20 s"):
        answers = uploads(replica.url, 2)
    assert causes(answers) == {"ok": 1, "pool_timeout": 1}
    [failed] = [answer for answer in answers if answer.status_code != 200]
    assert failed.status_code == 503
    assert set(timing(failed)) == {"pool_wait"}
    waited = timing(failed)["pool_wait"]
    assert waited >= seconds / live.knobs.speed
    assert f"timed out, timeout {seconds / live.knobs.speed:.2f}" in failed.json()["detail"]


@pytest.mark.knob("pool_recycle")
@pytest.mark.parametrize(("age", "replaced"), [("1 s", True), ("3600 s", False)])
def test_a_connection_past_its_age_is_replaced(live: Live, age: str, replaced: bool) -> None:
    replica = live({"pool_recycle": age})

    def backends() -> list[tuple[Any, ...]]:
        return replica.query("SELECT pid FROM pg_stat_activity WHERE usename = 'app'")

    assert upload(replica.url).status_code == 200
    before = backends()
    assert len(before) == 1
    old = "SELECT now() - backend_start > '0.1 s' FROM pg_stat_activity WHERE pid = %s"
    wait_until(lambda: replica.query(old, before[0][0])[0][0])
    assert upload(replica.url).status_code == 200
    assert (backends() != before) == replaced


def test_the_first_dead_connection_takes_the_whole_pool_with_it(live: Live) -> None:
    """What `db-down` and `db-restart` say: six are pooled and dead, and one upload finds out."""
    replica = live({**HOLD, "pool_size": 6})
    with live.slow("gcs", "10 s"):
        assert causes(uploads(replica.url, 6)) == {"ok": 6}
    monitor = live.stack.postgres.monitor
    assert monitor.app_connections() == 6
    replica.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    wait_until(lambda: monitor.app_connections() == 0)
    assert [causes([upload(replica.url)]) for _ in range(6)] == [{"db_error": 1}] + [{"ok": 1}] * 5


@pytest.mark.knob("db_cap")
@pytest.mark.parametrize("cap", [3, 5])
def test_the_application_gets_exactly_db_cap_connections(live: Live, cap: int) -> None:
    replica = live({"db_cap": cap})
    replica.query("SELECT 1")  # the monitor is there, and takes none of them
    with ExitStack() as opened:
        for _ in range(cap):
            opened.enter_context(closing(psycopg2.connect(replica.app_dsn, connect_timeout=5)))
        with pytest.raises(psycopg2.OperationalError, match="remaining connection slots"):
            psycopg2.connect(replica.app_dsn, connect_timeout=5)


@pytest.mark.knob("db_cap")
def test_uploads_past_the_cap_are_refused_by_the_database_not_by_the_pool(live: Live) -> None:
    replica = live({**HOLD, "db_cap": 3, "pool_timeout": "60 s"})
    with live.slow("gcs", "16 s"):
        answers = uploads(replica.url, 6)
    assert causes(answers) == {"ok": 3, "db_refused": 3}
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {503}
    assert all("pool_wait" in timing(answer) for answer in refused)
    assert replica.refused() == 3


@pytest.mark.knob("db_rtt")
@pytest.mark.parametrize("rtt_ms", [100, 400])
def test_the_database_is_round_trips_away(live: Live, rtt_ms: int) -> None:
    replica = live({"db_rtt": f"{rtt_ms} ms"})
    upload(replica.url)  # a new connection makes round trips of its own
    with live.injected(read_faults(ROOT / "faults")["db-distance"]):
        took = timing(upload(replica.url))
    trip = rtt_ms / 1000 / live.knobs.speed
    trips = {"auth": 2, "release": 1, "write": 4}
    assert {name for name, count in trips.items() if took[name] < count * trip} == set()


@pytest.mark.knob("gcs_latency")
@pytest.mark.parametrize("seconds", [4, 10])
def test_storage_is_gcs_latency_away(live: Live, seconds: int) -> None:
    replica = live({"gcs_latency": f"{seconds} s"})
    with live.injected(read_faults(ROOT / "faults")["gcs-latency"]):
        took = timing(upload(replica.url))
    assert took["gcs"] >= seconds / live.knobs.speed


@pytest.mark.knob("workers", "pool_size")
def test_the_pool_of_each_worker_is_its_own(live: Live) -> None:
    replica = live({"workers": 2, "pool_size": 1, "max_overflow": 0, "gcs_call": "blocking"})

    def both_have_one() -> bool:
        """Which worker takes an upload is chance: one that is quick may take all of a few."""
        assert causes(uploads(replica.url, 6)) == {"ok": 6}
        connections = live.stack.postgres.monitor.app_connections()
        assert connections in {1, 2}
        return connections == 2

    with live.slow("gcs", "4 s"):
        wait_until(both_have_one)
