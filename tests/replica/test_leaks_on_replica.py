"""Leaks on the running replica: each that is put in is found, and none where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.criteria import decide
from lab.judge.decision import bottleneck
from lab.judge.leaks import QUANTITIES, leaks
from lab.judge.trial import Trial
from tests.live import Live
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

WHAT = {
    ("memory", "rss_slope"): "memory, 1",  # and two digits more of KB
    ("connections", "connections_slope"): "connections beside the pool",
    ("connections", "fds_slope"): "the sockets of database connections",
    ("pool", "pool_slope"): "connections of the pool that were checked out and never returned",
    ("pool", "connections_slope"): "connections of the pool that were checked out",
    ("pool", "fds_slope"): "the sockets of database connections",
    ("threads", "threads_slope"): "threads named 'leak' that never ended",
}
"""What is said to leak, by what was put in and what grew."""

LOAD = {"users": 4, "ramp": "0 s", "warmup": "100 s", "window": "300 s"}


@pytest.mark.knob("leak")
@pytest.mark.parametrize(
    ("settings", "leaking"),
    [
        ({"gcs_call": "to_thread"}, set()),
        ({"gcs_call": "to_thread", "leak": "memory"}, {"rss_slope"}),
        (
            {"gcs_call": "blocking", "leak": "connections", "db_cap": 300},
            {"connections_slope", "fds_slope"},
        ),
        (
            {"gcs_call": "blocking", "leak": "pool", "pool_size": 200, "db_cap": 300},
            {"pool_slope", "connections_slope", "fds_slope"},
        ),
        ({"gcs_call": "blocking", "leak": "threads"}, {"threads_slope"}),
    ],
    ids=["none", "memory", "connections", "pool", "threads"],
)
def test_a_leak_that_was_put_in_is_found(
    live: Live, settings: dict[str, Any], leaking: set[str]
) -> None:
    cell, seen = trial(live, settings, LOAD)
    found = leaks(Trial(cell, seen))
    assert {one.metric for one in found} == set(QUANTITIES)
    assert {one.metric for one in found if one.outcome == "leak"} == leaking, found
    what = {one.metric: one.what for one in found}
    for metric in leaking:
        assert WHAT[settings["leak"], metric] in what[metric]


@pytest.mark.knob("leak")
def test_a_pool_that_a_leak_has_used_up_is_told_as_a_leak(live: Live) -> None:
    settings = {"leak": "pool", "pool_size": 4, "max_overflow": 2, "pool_timeout": "3 s"}
    cell, seen = trial(
        live,
        {"gcs_call": "executor", "db_call": "threadpool", **settings},
        {"users": 4, "ramp": "0 s", "warmup": "10 s", "window": "30 s"},
        criteria=["error_rate < 5 %"],
    )
    of = Trial(cell, seen)
    [finding] = [decide(criterion, of) for criterion in cell.criteria]
    assert finding.outcome == "missed"
    limit = bottleneck(of, [finding])
    assert limit.resource == "pool_leak", limit
    assert "6 of the pool's 6 connections were checked out and never returned" in limit.evidence
