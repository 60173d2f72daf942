"""Where calls run: the knobs of workers, threads and cores, seen on a running backend."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import requests

from tests.live import Live, causes, timing, upload, uploads, wait_until

pytestmark = pytest.mark.replica

BURSTS = 10
"""Uploads sent at once arrive together only where the machine has time for all of them."""


@pytest.mark.knob("workers")
@pytest.mark.parametrize("workers", [1, 3])
def test_there_are_as_many_worker_processes(live: Live, workers: int) -> None:
    live({"workers": workers})
    alive = live.stack.workers.alive()
    assert len(alive) == workers
    assert set(alive) <= set(live.stack.backend.pids())
    assert {line["pid"] for line in live.readings()} == set(alive)


@pytest.mark.knob("gcs_call", "gcs_threads", "audio_threads", "vm_cpus")
@pytest.mark.parametrize(
    ("settings", "at_once"),
    [
        ({"gcs_call": "blocking"}, 1),
        ({"gcs_call": "to_thread", "vm_cpus": 2}, 6),
        ({"gcs_call": "to_thread", "vm_cpus": 1}, 5),
        ({"gcs_call": "executor", "gcs_threads": 2}, 2),
        ({"gcs_call": "executor", "gcs_threads": 4}, 4),
        ({"gcs_call": "audio_pool", "audio_threads": 3}, 3),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else str(value),
)
def test_so_many_storage_calls_run_at_once(
    live: Live, settings: dict[str, Any], at_once: int
) -> None:
    replica = live(settings)
    for _ in range(BURSTS):
        with live.slow("gcs", "6 s"):
            answers = uploads(replica.url, at_once + 2)
        assert causes(answers) == {"ok": at_once + 2}
        if (busiest := max(line["threads_busy"] for line in live.readings())) >= at_once:
            break
    assert busiest == at_once
    assert live.knobs.storage_slots == at_once


@pytest.mark.knob("gcs_call")
@pytest.mark.parametrize("call", ["blocking", "to_thread", "executor", "audio_pool"])
def test_only_a_blocking_storage_call_stops_the_event_loop(live: Live, call: str) -> None:
    replica = live({"gcs_call": call})
    with live.slow("gcs", "8 s"), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(upload, replica.url)
        busy = []
        while not sent.done():
            busy.append(live.health()["threads"]["busy"])
    assert sent.result().status_code == 200
    answered_meanwhile = 1 in busy
    assert answered_meanwhile == (call != "blocking")


def test_a_blocked_event_loop_cannot_stop_the_evidence_of_it(live: Live) -> None:
    replica = live({"gcs_call": "blocking"})
    with live.slow("gcs", "16 s"):
        upload(replica.url)
    lags = [line["loop_lag"] for line in live.readings() if line["threads_busy"] == 1]
    assert len(lags) >= 3
    assert lags == sorted(lags)
    assert lags[-1] >= 16 / live.knobs.speed / 4


@pytest.mark.knob("gcs_threads")
def test_an_upload_past_the_threads_waits_in_the_queue(live: Live) -> None:
    replica = live({"gcs_call": "executor", "gcs_threads": 2})
    with live.slow("gcs", "20 s"):
        answers = uploads(replica.url, 3)
    *first, last = sorted(timing(answer)["gcs_queue"] for answer in answers)
    least = 20 / live.knobs.speed / 2  # at least half of a call: the others had begun before
    assert last >= least
    assert all(wait < least for wait in first)


@pytest.mark.knob("db_call")
@pytest.mark.parametrize(("call", "frees_the_loop"), [("blocking", False), ("threadpool", True)])
def test_where_database_calls_run(live: Live, call: str, frees_the_loop: bool) -> None:
    replica = live({"db_call": call, "gcs_call": "executor"})
    upload(replica.url)  # a new connection makes round trips of its own
    with live.slow("db", "1 s"), ThreadPoolExecutor(1) as pool:
        sent = pool.submit(upload, replica.url)
        checked_out = []
        while not sent.done():
            checked_out.append(live.health()["database"]["checked_out"])
    assert sent.result().status_code == 200
    assert (1 in checked_out) == frees_the_loop


@pytest.mark.knob("anyio_threads")
@pytest.mark.parametrize("threads", [2, 5])
def test_so_many_database_calls_run_at_once_in_anyios_threads(live: Live, threads: int) -> None:
    calls = {"db_call": "threadpool", "anyio_threads": threads, "gcs_call": "executor"}
    replica = live({**calls, "nginx_read_timeout": "off", "pool_timeout": "600 s"})
    with live.slow("db", "2 s"):
        answers = uploads(replica.url, threads + 3)
    assert causes(answers) == {"ok": threads + 3}
    assert max(line["checked_out"] for line in live.readings()) == threads
    assert live.health()["threads"]["anyio"] == threads


@pytest.mark.knob("speech_threads", "audio_threads", "gcs_threads", "vm_cpus")
def test_health_tells_the_sizes_of_the_pools(live: Live) -> None:
    live({"speech_threads": 7, "audio_threads": 8, "gcs_threads": 9, "vm_cpus": 4})
    threads = live.health()["threads"]
    assert {name: threads[name] for name in ("speech", "audio", "gcs", "default")} == {
        "speech": 7,
        "audio": 8,
        "gcs": 9,
        "default": 8,
    }


@pytest.mark.knob("vm_cpus")
@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="cores are bound on Linux, with two or more",
)
def test_the_backend_uses_no_more_cores_than_the_vm_has(live: Live) -> None:
    live({"vm_cpus": 1, "workers": 2})
    assert [len(psutil.Process(pid).cpu_affinity()) for pid in live.stack.backend.pids()] == [
        1 for _ in live.stack.backend.pids()
    ]
    live({"vm_cpus": 64})
    pids = live.stack.backend.pids()
    assert all(len(psutil.Process(pid).cpu_affinity()) > 1 for pid in pids)


@pytest.mark.knob("vm_memory")
def test_a_single_worker_past_the_memory_is_killed_and_comes_back(live: Live) -> None:
    calls = {"gcs_call": "executor", "gcs_threads": 40}
    live(calls)
    upload(live.stack.backend.url)
    [first] = live.stack.backend.pids()
    limit = psutil.Process(first).memory_info().rss + 40 * 1024**2
    replica = live({**calls, "vm_memory": f"{limit} B"})
    [before] = live.stack.workers.alive()
    kills = replica.evidence / "oom.jsonl"
    assert not kills.exists()
    with live.slow("gcs", "20 s"), ThreadPoolExecutor(30) as pool:
        sent = [pool.submit(upload, replica.backend, size=3 * 1024**2) for _ in range(30)]
        wait_until(kills.exists)
    assert any(isinstance(one.exception(), requests.ConnectionError) for one in sent)
    wait_until(lambda: _answers(live))
    assert before not in live.stack.workers.alive()
    assert live.stack.down_parts() == {}  # a result, not a part that died


def _answers(live: Live) -> bool:
    try:
        return bool(live.health()["status"] == "ok")
    except requests.RequestException:
        return False
