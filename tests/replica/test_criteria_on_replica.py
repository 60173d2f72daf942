"""Claims about a cause inside the service, where nobody waited for its answer, on the replica.

Each trial is a few wall-clock seconds. What clients saw of the first two hardly contradicts
their criterion; what the service did does.
"""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from lab.model.evidence import Cause
from lab.model.verdict import Finding, Outcome, Verdict
from tests.live import Live
from tests.replica.trial import on_idle_machine, trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

TRIALS = 3
MANY_THREADS = {"gcs_call": "executor", "gcs_threads": 100}


def verdict(
    live: Live,
    settings: dict[str, Any],
    load: dict[str, Any],
    *criteria: str,
    faults: tuple[str, ...] = ("gcs-latency", "db-distance"),
) -> Verdict:
    """The verdict of a trial on a machine that was idle enough: its reasons say what follows.

    One whose generator was late all the same is made again.
    """
    for _ in range(TRIALS):
        cell, seen = trial(live, settings, load, criteria=criteria, faults=faults)
        found = judge(cell, on_idle_machine(seen))
        if found.outcome != Outcome.INVALID:
            break
    return found


def failures(of: Verdict) -> dict[str, float]:
    """What clients saw, by cause."""
    found = {name: value for name, value in of.metrics.items() if name.startswith("errors.")}
    return {name.removeprefix("errors."): value for name, value in found.items() if value}


def test_a_pool_that_ran_dry_behind_a_gateway_timeout_is_not_held(live: Live) -> None:
    """15 connections for a burst of 100, held; each wait for one blocks the event loop for 30 s."""
    pool = {"pool_size": 5, "max_overflow": 10, "pool_timeout": "30 s", "db_session": "hold"}
    settings = {**MANY_THREADS, **pool, "db_cap": 100, "gcs_latency": "1 s", "speed": 5}
    found = verdict(live, settings, {"burst": 100}, "errors.pool_timeout == 0")
    [finding] = found.findings
    seen = failures(found)
    assert max(seen, key=lambda cause: seen[cause]) == "gateway_timeout"
    assert found.outcome == Outcome.BROKE
    assert (finding.outcome, finding.value) == ("missed", finding.low)
    assert finding.low is not None
    assert finding.high is not None
    told = seen.get("pool_timeout", 0)
    assert told < finding.low < finding.high <= 100
    assert f"(users saw {told:.0f}) against == 0" in finding.reason
    assert any("(the service itself: pool_timeout " in reason for reason in found.reasons)
    assert found.course
    assert [crossing.criterion for crossing in found.course.crossings] == [finding.criterion]


def test_a_storage_outage_behind_a_client_timeout_is_not_held(live: Live) -> None:
    """The client library gives up after 120 s; users have left after 30 s, and sent anew."""
    load = {"users": 3, "ramp": "1 s", "warmup": "0 s", "window": "70 s", "timeout": "30 s"}
    faults = ("gcs-down", "db-distance")
    criteria = ("errors.gcs_error == 0", "errors.pool_timeout == 0")
    found = verdict(live, MANY_THREADS, load, *criteria, faults=faults)
    storage, pool = found.findings
    assert set(failures(found)) == {"client_timeout"}
    assert storage.outcome == "missed"
    assert storage.value
    assert found.metrics["unseen_failures"] == storage.value
    assert (pool.value, pool.outcome) == (0, "undecided")  # some were inside to the end


@pytest.mark.parametrize("cause", [Cause.POOL_TIMEOUT, Cause.GCS_ERROR])
def test_uploads_that_the_service_served_unheard_failed_of_nothing(
    live: Live, cause: Cause
) -> None:
    """Users leave after 20 s of the 35 s that storage takes; the service stores their uploads."""
    settings = {**MANY_THREADS, "gcs_latency": "35 s"}
    load = {"burst": 8, "timeout": "20 s"}
    found = verdict(live, settings, load, f"errors.{cause} == 0", "unheard == 0")
    inside, unheard = found.findings
    assert failures(found) == {"client_timeout": 8}
    assert bounds(inside) == ("met", 0, None, None)
    assert bounds(unheard) == ("missed", 8, None, None)
    assert "uploads stored whose users were never told: 8" in found.reasons
    assert "uploads failed: client_timeout 8" in found.reasons


def bounds(finding: Finding) -> tuple[str, float | None, float | None, float | None]:
    return finding.outcome, finding.value, finding.low, finding.high
