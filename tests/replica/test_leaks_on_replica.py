"""Leaks on the running replica: each that is put in is found, and none where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.leaks import QUANTITIES, leaks
from lab.judge.trial import Trial
from tests.live import Live
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

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
        ({"gcs_call": "blocking", "leak": "threads"}, {"threads_slope"}),
    ],
    ids=["none", "memory", "connections", "threads"],
)
def test_a_leak_that_was_put_in_is_found(
    live: Live, settings: dict[str, Any], leaking: set[str]
) -> None:
    cell, seen = trial(live, settings, LOAD)
    found = leaks(Trial(cell, seen))
    assert {one.metric for one in found} == set(QUANTITIES)
    assert {one.metric for one in found if one.outcome == "leak"} == leaking, found
