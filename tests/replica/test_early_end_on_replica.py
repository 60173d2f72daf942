"""A cell that ends when it is decided, on the running replica."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from tests.live import Live
from tests.replica.trial import trial

pytestmark = pytest.mark.replica

LOAD: dict[str, Any] = {"ramp": "1 s", "warmup": "1 s", "window": "300 s"}
QUICK = {"gcs_call": "executor", "gcs_threads": 30, "gcs_latency": "1-2 s", "speed": 10}
"""Each of few users has a thread at once, so all are quick."""


@pytest.mark.parametrize(
    ("settings", "users", "outcomes"),
    [({}, 10, ["met", "met"]), ({"gcs_threads": 2}, 30, ["missed", "met"])],
    ids=["held", "broke"],
)
def test_what_is_clear_is_decided_long_before_the_end(
    live: Live, settings: dict[str, Any], users: int, outcomes: list[str]
) -> None:
    load = {**LOAD, "users": users, "timeout": "30 s"}
    cell, seen = trial(live, {**QUICK, **settings}, load, stop_when_decided=True)
    verdict = judge(cell, seen)  # valid or not: this machine may be too busy
    assert [finding.outcome for finding in verdict.findings] == outcomes
    assert verdict.decided
    assert 29 <= verdict.decided.after_s <= verdict.decided.window_s < 150
    assert verdict.decided.planned_s == 300
    assert str(verdict.decided) in verdict.reasons
    assert all(s.sent_at < 2 + verdict.decided.window_s + 1e-3 for s in seen.samples)
