"""The simulated replica against what is known in closed form, or was measured on the real one."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.metrics import measure_all
from lab.judge.trial import Trial
from lab.model.evidence import Cause
from tests.fakes import make_cell
from validation.simulated_replica import SimulatedReplica

FREE = {"global_rate_limit": "off", "db_call": "threadpool"}
LOAD = {"users": 12, "ramp": "0 s", "warmup": "40 s", "window": "400 s", "audio": "50 KB"}


def seen(
    settings: dict[str, Any], load: dict[str, Any] | None = None, **more: Any
) -> dict[str, float]:
    cell = make_cell({**FREE, **settings}, load={**LOAD, **(load or {})}, **more)
    return measure_all(Trial(cell, SimulatedReplica(cell, 1).run()))


@pytest.mark.parametrize("threads", [1, 3, 6])
def test_slots_carry_what_slots_carry(threads: int) -> None:
    """Slots divided by the 3.5 s for which each is held; Little's law gives the latency."""
    found = seen({"gcs_call": "executor", "gcs_threads": threads})
    assert found["throughput"] == pytest.approx(threads / 3.5, rel=0.05)
    assert found["p50"] == pytest.approx(12 * 3.5 / threads, rel=0.12)
    assert found["threads_busy"] == threads
    assert found["threads_queued"] >= 12 - threads - 2


def test_a_blocking_call_serves_one_at_a_time() -> None:
    """0.27 uploads a second, as it was measured with one worker."""
    found = seen({"gcs_call": "blocking", "db_call": "blocking", "nginx_read_timeout": "off"})
    assert found["throughput"] == pytest.approx(0.27, rel=0.05)
    assert found["loop_stood"] > 0.97
    assert found["threads_busy"] == 1


def test_the_default_executor_has_six_threads_on_two_cores() -> None:
    """1.62 a second was measured."""
    found = seen({"gcs_call": "to_thread"}, {"users": 30})
    assert found["throughput"] == pytest.approx(1.68, rel=0.06)
    assert found["threads_busy"] == 6


def test_workers_of_one_socket_do_not_share_evenly() -> None:
    """Two of six threads and 45 users made 2.74 a second, where 12 threads allow 3.45."""
    settings = {"workers": 2, "gcs_call": "executor", "gcs_threads": 6, "db_call": "blocking"}
    uneven = seen(settings, {"users": 45})
    even = seen({**settings, "balance": "least_conn"}, {"users": 45})
    assert uneven["throughput"] == pytest.approx(2.74, rel=0.1)
    assert uneven["worker_share_max"] > 0.57
    assert even["throughput"] == pytest.approx(3.4, rel=0.06)
    assert even["worker_share_max"] < 0.53


def test_an_empty_pool_in_the_loop_is_a_standstill_and_in_threads_a_queue() -> None:
    held = {"gcs_call": "executor", "gcs_threads": 40, "db_session": "hold", "pool_size": 4}
    held |= {"max_overflow": 0}
    frozen = seen({**held, "db_call": "blocking"})
    queue = seen({**held, "pool_timeout": "120 s"})
    assert frozen["throughput"] < 0.3
    assert frozen["loop_stood"] > 0.9
    assert frozen[f"errors.{Cause.POOL_TIMEOUT}"] > 0
    assert queue["throughput"] == pytest.approx(4 / 3.65, rel=0.06)
    assert queue["pool_checked_out"] == 4


def test_the_database_refuses_what_pools_promise_beyond_it() -> None:
    held = {"gcs_call": "executor", "gcs_threads": 40, "db_session": "hold", "db_cap": 5}
    found = seen(held)
    assert found[f"errors.{Cause.DB_REFUSED}"] > 0
    assert found["pg_connections"] == 5


def test_nginx_refuses_the_share_of_files_that_is_too_large() -> None:
    """Of 50 KB to 2 MB, log-uniform, 17 to 18 % are above 1 MiB."""
    found = seen({"gcs_call": "executor"}, {"audio": "50 KB - 2 MB"})
    share = found[f"errors.{Cause.BODY_TOO_LARGE}"] / found["attempts"]
    assert share == pytest.approx(found["oversize"], abs=1e-6)
    assert 0.12 < share < 0.24


def test_of_a_burst_a_few_get_through_a_single_place() -> None:
    """About three before the queue's limit of 10 s answers 429."""
    load = {"burst": 50, "audio": "50 KB", "timeout": "45 s"}
    cell = make_cell({}, load=load, target="cloudrun")
    found = measure_all(Trial(cell, SimulatedReplica(cell, 2).run()))
    assert 2 <= found["succeeded"] <= 5
    assert found["succeeded"] + found[f"errors.{Cause.NO_INSTANCE}"] == 50
    assert found["cold_starts"] == 1


def test_the_same_seed_gives_the_same() -> None:
    cell = make_cell({**FREE, "gcs_call": "executor"}, load=LOAD)
    one, other = (SimulatedReplica(cell, 7).run() for _ in range(2))
    assert one == other
    assert one != SimulatedReplica(cell, 8).run()
