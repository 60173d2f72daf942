"""What a load may ask for, seen on the running replica: slow lines, pauses, a cap."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import pytest

from lab.judge.metrics import measure
from lab.judge.trial import Trial
from tests.live import Live
from tests.replica.trial import trial

pytestmark = pytest.mark.replica

QUICK: dict[str, Any] = {"gcs_latency": "1 s", "gcs_call": "executor"}


def test_a_slow_line_is_slow_before_nginx_and_holds_nothing_behind_it(live: Live) -> None:
    """nginx reads a body to its end before it asks the backend: 500 KB at 100 KB/s are 5 s."""
    load = {"burst": 3, "audio": "500 KB", "uplink": "100 KB/s"}
    cell, seen = trial(live, QUICK, load, criteria=["p95 < 10 s"])
    assert [sample.error for sample in seen.samples] == [None] * 3
    for sample in seen.samples:
        assert sample.uplink_s == pytest.approx(5.0, rel=0.1)
        assert sample.latency_s > sample.uplink_s + sample.stages["gcs"]
    assert measure(Trial(cell, seen))["wait"] < 2.0


def test_users_pause_as_their_ranges_say(live: Live) -> None:
    load = {"users": 3, "ramp": "0 s", "warmup": "0 s", "window": "40 s", "think": "2-5 s"}
    _, seen = trial(live, QUICK, load, criteria=["p95 < 10 s"])
    by_user = groupby(sorted(seen.samples, key=lambda s: (s.user, s.sent_at)), lambda s: s.user)
    pauses = [
        after.planned_at - before.sent_at - before.latency_s
        for _, samples in by_user
        for before, after in pairwise(samples)
    ]
    assert len(pauses) > 9
    assert 2.0 - 1e-5 <= min(pauses) < 3.0 < 4.0 < max(pauses) <= 5.0 + 1e-5


def test_what_a_cap_keeps_back_is_counted(live: Live) -> None:
    load = {"rate": "5/s", "warmup": "2 s", "window": "30 s", "max_in_flight": 4}
    cell, seen = trial(live, QUICK, load, criteria=["dropped == 0"])
    of = Trial(cell, seen)
    figures = measure(of)
    assert figures["dropped"] > 20
    assert figures["dropped"] + figures["attempts"] == pytest.approx(5 * 30, rel=0.3)
    assert max(of.inflight(sample.sent_at) for sample in seen.samples) <= 4
    assert figures["uploads_inflight"] <= 4
