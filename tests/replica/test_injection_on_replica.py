"""Checks of delays on the running replica: true ones are told so, however uploads end, and others.

A proxy that does not keep to its delay is made by a change of its toxic after it was read back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from lab.cli.wiring import ToxiproxyInjector
from lab.judge import judge
from lab.model.evidence import Injected
from lab.model.experiment import Cell
from lab.model.verdict import Outcome
from lab.stack.base import Replica
from tests.live import Live
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

DELAYS = {"gcs latency", "auth", "release", "write"}
LEFT = {"gcs_call": "executor", "gcs_threads": 128, "gcs_latency": "10 s - 50 s", "speed": 2}
TAKEN_IN_TURN = {"gcs_call": "executor", "gcs_threads": 20, "db_call": "threadpool", "speed": 1}


class Changed(ToxiproxyInjector):
    """An injector after which somebody else sets a toxic's delay, in wall-clock milliseconds."""

    def __init__(self, proxy: str, toxic: str, latency: int, jitter: int) -> None:
        self._path = f"/proxies/{proxy}/toxics/{toxic}"
        self._attributes = {"latency": latency, "jitter": jitter}

    @contextmanager
    def injected(self, replica: Replica, cell: Cell) -> Iterator[list[Injected]]:
        """As injected, and read back; then it is changed."""
        with super().injected(replica, cell) as evidence:
            url = replica.toxiproxy + self._path
            requests.post(url, json={"attributes": self._attributes}, timeout=5).raise_for_status()
            yield evidence


@pytest.mark.parametrize(
    ("settings", "load", "criterion", "missed"),
    [
        (LEFT, {"burst": 70, "timeout": "30 s"}, "error_rate < 5 %", True),
        ({**LEFT, "nginx": "recommended"}, {"burst": 70}, "error_rate < 5 %", True),
        (TAKEN_IN_TURN, {"burst": 50}, "p95 < 10 s", None),  # near it, and 50 uploads are few
        (
            {**TAKEN_IN_TURN, "gcs_threads": 40, "pool_size": 40, "db_cap": 100},
            {"burst": 60},
            "error_rate < 5 %",
            False,
        ),
    ],
    ids=["clients leave", "nginx leaves", "calls wait for threads", "forty threads at once"],
)
def test_a_true_delay_is_told_so_however_uploads_end(
    live: Live, settings: dict[str, Any], load: dict[str, Any], criterion: str, missed: bool | None
) -> None:
    """The machine may be too busy for a valid cell; then that is why, and no delay."""
    verdict = judge(*trial(live, settings, {"audio": "50 KB", **load}, criteria=[criterion]))
    checked = {check.name: check for check in verdict.injected if check.name in DELAYS}
    assert checked.keys() == DELAYS
    assert [check.reason for check in checked.values() if not check.ok] == []
    [finding] = verdict.findings
    assert missed is None or finding.outcome == ("missed" if missed else "met")
    assert not any("injected and measured differ" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("check", "settings", "load", "changed", "says"),
    [
        (  # 5 to 25 s
            "gcs latency",
            {**LEFT, "speed": 10},
            {"burst": 40, "timeout": "30 s"},
            Changed("gcs", "gcs-latency-1", 1500, 1000),
            "; the fastest took ",
        ),
        (  # 40 to 80 s: most are under way when the evidence ends
            "gcs latency",
            {**LEFT, "speed": 5},
            {"burst": 40, "timeout": "45 s"},
            Changed("gcs", "gcs-latency-1", 12_000, 4000),
            "; even the fastest tenth took ",
        ),
        (  # half as far, and twice
            "release",
            {"gcs_call": "executor", "gcs_threads": 40, "speed": 2},
            {"burst": 40},
            Changed("db", "db-distance-1", 6, 0),
            "release took ",
        ),
        (
            "release",
            {**TAKEN_IN_TURN, "gcs_threads": 40},
            {"burst": 40},
            Changed("db", "db-distance-1", 50, 0),
            "; even the fastest tenth took ",
        ),
    ],
    ids=["storage, half", "storage, twice", "database, half", "database, twice"],
)
def test_a_delay_that_is_not_what_was_read_back_makes_a_cell_invalid(
    live: Live,
    check: str,
    settings: dict[str, Any],
    load: dict[str, Any],
    changed: Changed,
    says: str,
) -> None:
    cell, seen = trial(live, settings, {"audio": "50 KB", **load}, injector=changed)
    verdict = judge(cell, seen)
    found = {checked.name: checked for checked in verdict.injected}
    assert {found["armed gcs"].ok, found["armed db"].ok} == {True}
    assert found[check].ok is False, found[check].reason
    assert says in found[check].reason
    assert verdict.outcome == Outcome.INVALID
