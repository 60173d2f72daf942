"""The watch: connections, CPU of processes that end too, parts that are down."""

from __future__ import annotations

import signal
import subprocess
import threading
from contextlib import closing
from typing import Any

import psutil
import psycopg2
import pytest

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
        return [(len(self.asked),)]


def test_it_counts_connections_while_it_watches_and_not_afterwards() -> None:
    database = Database()
    with Watch(database.query, dict, dict) as watch:
        wait_until(lambda: len(watch.seen.connections) >= 3)
    assert set(database.asked) == {(CONNECTIONS, "app")}
    counts = [count for _, count in watch.seen.connections]
    assert counts == list(range(1, len(counts) + 1))
    times = [at for at, _ in watch.seen.connections]
    assert times == sorted(times)
    assert len(database.asked) == len(counts)


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
    [(before,)] = replica.query(CONNECTIONS, "app")
    assert before == 1  # of the backend's pool
    with (
        closing(psycopg2.connect(replica.monitor_dsn)),
        closing(psycopg2.connect(replica.app_dsn)),
    ):
        assert replica.query(CONNECTIONS, "app") == [(2,)]


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
