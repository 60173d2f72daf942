"""The leak that is put in on purpose: what each kind leaves behind on a running backend."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from tests.live import Live, causes, upload, wait_until

pytestmark = pytest.mark.replica


def newest(live: Live) -> dict[str, Any]:
    """The latest reading of the one worker."""
    return max(live.readings(), key=lambda line: float(line["at"]))


def settled(live: Live) -> dict[str, Any]:
    """A reading that was taken after now."""
    now = time.monotonic()
    wait_until(lambda: newest(live)["at"] > now)
    return newest(live)


def grown(live: Live, settings: dict[str, Any], uploads: int, name: str) -> int:
    """By how much a gauge of the worker grows over so many uploads, once it is warm."""
    replica = live({"gcs_call": "blocking", **settings})
    assert causes([upload(replica.url) for _ in range(3)]) == {"ok": 3}
    before = settled(live)
    assert causes([upload(replica.url) for _ in range(uploads)]) == {"ok": uploads}
    return int(settled(live)[name]) - int(before[name])


@pytest.mark.knob("leak", "leak_every")
@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"leak": "threads"}, 10),
        ({"leak": "threads", "leak_every": 5}, 2),
        ({"leak": "off"}, 0),
        ({"leak": "memory"}, 0),
    ],
)
def test_threads_are_left_behind(live: Live, settings: dict[str, Any], more: int) -> None:
    assert grown(live, settings, 10, "threads") == more


@pytest.mark.knob("leak")
@pytest.mark.parametrize(("leak", "more"), [("connections", 6), ("off", 0)])
def test_connections_are_left_behind_beside_the_pool(live: Live, leak: str, more: int) -> None:
    live({"leak": leak})
    assert live.health()["database"]["checked_out"] == 0
    assert grown(live, {"leak": leak}, 6, "fds") == more
    kept = 3 if more else 0  # of the uploads that warmed it up
    assert live.stack.postgres.monitor.app_connections() == 1 + kept + more
    assert live.health()["database"]["checked_out"] == 0  # the pool misses none


@pytest.mark.knob("leak")
@pytest.mark.parametrize("db_call", ["blocking", "threadpool"])
def test_connections_of_the_pool_are_never_returned(live: Live, db_call: str) -> None:
    live({"leak": "pool", "db_call": db_call})
    assert grown(live, {"leak": "pool", "db_call": db_call}, 6, "abandoned") == 6
    figures = live.health()["database"]
    assert figures["checked_out"] == figures["abandoned"] == 3 + 6  # three that warmed it up
    assert live.stack.postgres.monitor.app_connections() == 9 + 1


@pytest.mark.knob("leak")
def test_a_pool_that_leaks_ends_in_a_time_out_and_not_in_a_refusal(live: Live) -> None:
    small = {"pool_size": 2, "max_overflow": 1, "pool_timeout": "2 s"}
    replica = live({"leak": "pool", "gcs_call": "blocking", **small})
    answers = [upload(replica.url) for _ in range(5)]
    assert causes(answers) == {"ok": 2, "pool_timeout": 3}
    assert settled(live)["abandoned"] == 3


@pytest.mark.knob("leak")
def test_connections_that_leak_end_in_a_refusal_and_not_in_a_time_out(live: Live) -> None:
    replica = live({"leak": "connections", "db_cap": 4, "gcs_call": "blocking"})
    answers = [upload(replica.url) for _ in range(8)]
    assert causes(answers)["db_refused"] >= 4


@pytest.mark.knob("leak")
def test_memory_is_left_behind(live: Live) -> None:
    leaked = grown(live, {"leak": "memory"}, 60, "rss")
    assert leaked >= 0.7 * 60 * 100_000


def test_a_worker_counts_all_its_threads_and_open_files(live: Live) -> None:
    live({})
    [pid] = live.stack.workers.alive()
    process = psutil.Process(pid)
    # It opens one more for a moment, ten times a second, to count them.
    wait_until(lambda: settled(live)["fds"] == process.num_fds())
    assert settled(live)["threads"] == process.num_threads()
