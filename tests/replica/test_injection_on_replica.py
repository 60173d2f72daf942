"""Checks of delays on the running replica: true ones are told so, and others.

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
from tests.replica.trial import every_true_delay_is_told_so, trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

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


def test_true_delays_are_told_so_where_connections_are_as_many_as_uploads(live: Live) -> None:
    """Those where clients or nginx leave, or calls wait for threads, are among the incidents."""
    settings = {**TAKEN_IN_TURN, "gcs_threads": 40, "pool_size": 40, "db_cap": 100}
    load = {"audio": "50 KB", "burst": 60}
    verdict = judge(*trial(live, settings, load, criteria=["error_rate < 5 %"]))
    every_true_delay_is_told_so(verdict)
    [finding] = verdict.findings
    assert finding.outcome == "met"


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
