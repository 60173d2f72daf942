"""The limiting factor of cells whose limit is known by construction, on the running replica.

Each is a few wall-clock seconds of load. Not here: CPU, because a machine that others use
cannot promise a core to one worker, and the instance queue, which is Cloud Run's.
"""

from __future__ import annotations

import re
from typing import Any

import psutil
import pytest
import requests

from lab.judge import judge
from lab.judge.decision import bottleneck
from lab.judge.trial import Trial
from lab.model.verdict import Bottleneck, Outcome, Resource
from tests.live import Live, upload, wait_until
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

MANY_THREADS = {"gcs_call": "executor", "gcs_threads": 40}
HOLD = {**MANY_THREADS, "db_session": "hold"}
CALMER = {"speed": 8}
"""Where several uploads a second pass one event loop: at a higher speed it is the limit, and on
a slow machine so it is."""

TRIALS = 3
EITHER_SIDE_OF_1_MIB = "550 KB - 2000 KB"


def load(users: int, window: str = "60 s", **more: Any) -> dict[str, Any]:
    """A closed load as a spec writes it."""
    return {"users": users, "ramp": "1 s", "warmup": "10 s", "window": window, **more}


def limit(
    live: Live, settings: dict[str, Any], of: dict[str, Any], expected: Resource
) -> Bottleneck:
    """The limit of a trial.

    A trial that the lab calls invalid shows nothing, and on a machine that is too busy for it
    another limit may be the true one; it is made again. What a valid one says is said.
    """
    for _ in range(TRIALS):
        cell, seen = trial(live, settings, of)
        verdict = judge(cell, seen)
        found = bottleneck(Trial(cell, seen), verdict.findings)
        if found.resource == expected or verdict.outcome != Outcome.INVALID:
            break
    return found


@pytest.mark.parametrize(
    ("settings", "offered", "resource", "words"),
    [
        ({"gcs_call": "blocking"}, load(10), "event_loop", "event loop busy"),
        (
            {"gcs_call": "to_thread", **CALMER},
            load(30),
            "default_executor",
            "default executor",
        ),
        (
            {"gcs_call": "executor", "gcs_threads": 3},
            load(15),
            "own_threads",
            "storage threads",
        ),
        (
            {"gcs_call": "audio_pool", "audio_threads": 3},
            load(15),
            "own_threads",
            "audio threads",
        ),
        (
            {**HOLD, "pool_size": 5, "max_overflow": 5},
            load(30),
            "pool",
            "pool",
        ),
        (
            {
                **HOLD,
                "pool_size": 2,
                "max_overflow": 2,
                "db_call": "threadpool",
                "pool_timeout": "120 s",
            },
            load(20),
            "pool",
            "pool",
        ),
        ({**HOLD, **CALMER, "db_cap": 4}, load(12), "database_slots", "Postgres granted"),
        (
            {"gcs_call": "executor"},
            load(4, audio="2 MB"),
            "body_limit",
            "",
        ),
        (
            {**MANY_THREADS, "nginx": "recommended", "gcs_latency": "40 s"},
            load(10, "90 s"),
            "proxy_timeout",
            "nginx cut off",
        ),
        (
            {"gcs_call": "executor", "upload_rate_limit": "3/min"},
            load(8),
            "rate_limit",
            "",
        ),
        (
            {"gcs_call": "executor", "max_inflight_uploads": 3},
            load(10),
            "backpressure",
            "",
        ),
        (
            {**MANY_THREADS, "nginx_connections": 64, **CALMER},
            {"burst": 60, "audio": "50 KB"},
            "nginx_connections",
            "nginx's 64 connections, enough for 31 uploads at once, were used up",
        ),
        ({"gcs_call": "executor"}, load(2), "none", "nothing was at its limit"),
        (
            {"gcs_call": "executor", "upload_rate_limit": "1/min"},
            load(8, audio=EITHER_SIDE_OF_1_MIB),
            "unclear",
            "2 compete",
        ),
        (
            {"gcs_call": "blocking"},
            load(12, audio=EITHER_SIDE_OF_1_MIB),
            "unclear",
            "2 compete",
        ),
    ],
    ids=[
        "event loop",
        "default executor",
        "own threads",
        "audio threads",
        "pool that stops the loop",
        "pool off the loop",
        "database slots",
        "body limit",
        "proxy time-out",
        "rate limit",
        "backpressure",
        "nginx's connections",
        "nothing",
        "two refusals",
        "refusal and loop",
    ],
)
def test_a_limit_made_by_construction_is_found(
    live: Live, settings: dict[str, Any], offered: dict[str, Any], resource: str, words: str
) -> None:
    found = limit(live, settings, offered, Resource(resource))
    assert found.resource == resource, found.model_dump_json(indent=2)
    assert found.evidence.startswith(words)


def test_a_worker_killed_for_its_memory_is_the_limit(live: Live) -> None:
    live({**MANY_THREADS, "nginx": "recommended"})
    upload(live.stack.backend.url)
    [pid] = live.stack.backend.pids()
    room = psutil.Process(pid).memory_info().rss + 30 * 1024**2
    settings = {**MANY_THREADS, "nginx": "recommended", "gcs_latency": "20 s"}
    found = limit(
        live,
        {**settings, "vm_memory": f"{room} B"},
        load(30, audio="2.5 MB", timeout="40 s"),
        Resource.MEMORY,
    )
    assert found.resource == "memory", found.model_dump_json(indent=2)
    assert re.search(r"\b[1-9]\d* kills?,", found.evidence), found.evidence
    wait_until(lambda: answers(live))  # what was killed last is back before the replica goes


def answers(live: Live) -> bool:
    """Whether the backend is up."""
    try:
        return bool(live.health()["status"] == "ok")
    except requests.RequestException:
        return False
