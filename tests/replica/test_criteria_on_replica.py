"""Claims about a cause inside the service, where nobody waited for its answer, on the replica.

Each trial is a few wall-clock seconds. A pool that ran dry behind a gateway's time-out is among the
incidents (`tests.replica.test_incidents_on_replica`).
"""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from lab.model.evidence import Cause
from lab.model.verdict import Finding, Outcome, Verdict
from tests.live import Live
from tests.replica.trial import failures, trial
from validation.idle import on_idle_machine

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
