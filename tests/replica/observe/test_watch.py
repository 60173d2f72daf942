"""The watch: connections, CPU of processes that end too, parts that are down."""

from __future__ import annotations

import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psutil
import psycopg2
import pytest

from lab.observe.statements import COUNTS
from lab.observe.watch import CONNECTIONS, Watch
from tests.live import Live, upload, wait_until


class Database:
    """Answers the watch, or fails as a database that is gone does."""

    def __init__(self) -> None:
        self.gone = False
        self.asked: list[tuple[object, ...]] = []

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        self.asked.append((sql, *values))
        if self.gone:
            raise psycopg2.OperationalError("gone")
        return [("idle", False, len(self.asked))] if sql == CONNECTIONS else []


def test_it_counts_connections_while_it_watches_and_not_afterwards() -> None:
    database = Database()
    with Watch(database.query, dict, dict) as watch:
        wait_until(lambda: len(watch.seen.connections) >= 3)
    while_it_watched = [asked for asked in database.asked if asked[0] != COUNTS]
    assert set(while_it_watched) == {(CONNECTIONS, "app")}
    counts = [seen.states["idle"] for seen in watch.seen.connections]
    assert counts == list(range(2, len(counts) + 2))  # the first question was about statements
    times = [seen.at for seen in watch.seen.connections]
    assert times == sorted(times)
    assert len(while_it_watched) == len(counts)


def test_nothing_is_asked_of_statements_while_it_watches() -> None:
    database = Database()
    with Watch(database.query, dict, dict) as watch:
        wait_until(lambda: len(watch.seen.connections) >= 3)
        asked = [sql for sql, *_ in database.asked]
        assert asked[0] == COUNTS
        assert set(asked[1:]) == {CONNECTIONS}
    assert database.asked[-1][0] == COUNTS


def test_a_database_that_is_gone_leaves_a_gap_and_no_error() -> None:
    database = Database()
    with Watch(database.query, dict, dict) as watch:
        wait_until(lambda: watch.seen.connections)
        database.gone = True
        wait_until(lambda: database.asked[-1] and len(database.asked) > 5)
        seen = len(watch.seen.connections)
        database.gone = False
        wait_until(lambda: len(watch.seen.connections) > seen)


def test_a_part_that_goes_down_is_kept_as_it_was_seen_first() -> None:
    down: dict[str, str] = {}
    with Watch(Database().query, dict, lambda: dict(down)) as watch:
        down["nginx"] = "killed by SIGKILL"
        wait_until(lambda: watch.seen.down)
        first = watch.seen.down["nginx"]
        down["nginx"] = "exited with code 1"
        down["backend"] = "stopped (SIGSTOP)"
        wait_until(lambda: "backend" in watch.seen.down)
        watch.note_down("generator", "did not end")
        watch.note_down("nginx", "later")
    assert watch.seen.down["nginx"] == first
    assert first[1] == "killed by SIGKILL"
    assert watch.seen.down["generator"][1] == "did not end"


def test_a_database_that_does_not_answer_hides_nothing_else() -> None:
    answers = threading.Event()

    def frozen(_sql: str, *_values: object) -> list[tuple[Any, ...]]:
        answers.wait()
        raise psycopg2.OperationalError("no answer")

    with Watch(frozen, dict, lambda: {"postgres": "is paused"}) as watch:
        wait_until(lambda: watch.seen.down)
        wait_until(lambda: len(watch.seen.machine) > 1)
        answers.set()
    assert set(watch.seen.down) == {"postgres"}
    assert watch.seen.connections == []


def test_a_part_that_goes_down_at_the_very_end_is_seen() -> None:
    down: dict[str, str] = {}
    with Watch(Database().query, dict, lambda: dict(down)) as watch:
        wait_until(lambda: watch.seen.connections)
        down["nginx"] = "killed by SIGKILL"
    assert set(watch.seen.down) == {"nginx"}


def test_the_generators_cpu_counts_from_when_it_is_known() -> None:
    with Watch(Database().query, dict, dict) as watch:
        assert "generator" not in watch.seen.machine[0].usage
        watch.generator(psutil.Process().pid)
    assert watch.seen.machine[-1].usage["generator"].cpu_s > 0
    assert 0 <= watch.seen.machine[-1].cpu_share <= 1


@pytest.mark.replica
def test_only_the_applications_connections_count(live: Live) -> None:
    replica = live({})
    upload(replica.url)
    assert replica.query(CONNECTIONS, "app") == [("idle", False, 1)]  # of the backend's pool
    with (
        closing(psycopg2.connect(replica.monitor_dsn)),
        closing(psycopg2.connect(replica.app_dsn)),
    ):
        assert replica.query(CONNECTIONS, "app") == [("idle", False, 2)]


@pytest.mark.replica
def test_who_waits_for_a_lock_is_counted_beside_its_state(live: Live) -> None:
    replica = live({})
    bump = "UPDATE progress SET recordings = recordings + 1 WHERE student_id = 1"
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE pg_blocking_pids(pid) <> '{}'"
    [(before,)] = replica.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'")
    with (
        closing(psycopg2.connect(replica.app_dsn)) as second,
        ThreadPoolExecutor(1) as thread,
        closing(psycopg2.connect(replica.app_dsn)) as first,  # whose end lets the second go on
    ):
        first.cursor().execute(bump)
        thread.submit(second.cursor().execute, bump)
        with Watch(replica.query, dict, dict) as watch:
            wait_until(lambda: any(seen.lock_waiting for seen in watch.seen.connections))
            assert replica.query(blocked) == [(1,)]  # the same by who blocks whom
    seen = watch.seen.connections[-1]
    assert seen.lock_waiting == 1
    both = {"active": 1, "idle in transaction": 1}
    assert seen.states == both | ({"idle": before} if before else {})


def test_a_generator_that_is_stopped_is_down_and_one_that_has_ended_is_not() -> None:
    generator = subprocess.Popen(["sleep", "60"])
    try:
        with Watch(Database().query, dict, dict) as watch:
            watch.generator(generator.pid)
            generator.send_signal(signal.SIGSTOP)
            wait_until(lambda: watch.seen.down)
        assert watch.seen.down["generator"][1] == "it was stopped (SIGSTOP)"
    finally:
        generator.kill()
    with Watch(Database().query, dict, dict) as watch:
        watch.generator(generator.pid)
        generator.wait()
        wait_until(lambda: watch.seen.connections)
    assert watch.seen.down == {}
