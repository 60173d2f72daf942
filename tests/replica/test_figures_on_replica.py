"""Figures of a trial on the running replica, held against what others counted of it."""

from __future__ import annotations

import json
from collections import Counter
from math import ceil
from statistics import fmean
from typing import Any

import pytest

from lab.judge.metrics import measure
from lab.judge.timeline import series
from lab.judge.trial import Trial
from lab.model.physics import DB_TRIPS
from lab.model.readings import DatabaseStatements, MachineReading
from tests.live import Live
from tests.replica.trial import trial

pytestmark = pytest.mark.replica

LOAD: dict[str, Any] = {"users": 6, "ramp": "0 s", "warmup": "2 s", "window": "40 s"}
QUICK = {"gcs_latency": "1 s", "gcs_call": "to_thread"}
SMALLEST = 50_000


def answered_by_nginx(live: Live) -> Counter[int]:
    """How many uploads of the last cell nginx answered with each status, by its access log.

    A request that it refuses by its length alone is not read, and counts no bytes.
    """
    logs = live.folder.glob("*/cells/*/logs/nginx-access.log")
    last = max(logs, key=lambda log: log.stat().st_mtime)
    lines = [json.loads(line) for line in last.read_text().splitlines()]
    uploads = (line for line in lines if line["status"] == 413 or line["bytes"] > SMALLEST)
    return Counter(line["status"] for line in uploads)


def test_figures_are_what_nginx_postgres_and_storage_counted(live: Live) -> None:
    cell, seen = trial(live, QUICK, {**LOAD, "audio": "50 KB - 2 MB"}, criteria=["p95 < 10 s"])
    of = Trial(cell, seen)
    found = measure(of)

    assert Counter(sample.status for sample in seen.samples) == answered_by_nginx(live)
    for code in (200, 413):
        assert found[f"status.{code}"] == sum(sample.status == code for sample in of.sent) > 0
    assert found["status.200"] + found["status.413"] == found["attempts"]
    assert found["attempt_rate"] == pytest.approx(found["attempts"] / 40)

    # Statements are round trips, beside those few that SQLAlchemy makes of a new database.
    good = [sample for sample in seen.samples if sample.error is None]
    [counted] = of.evidence(DatabaseStatements)
    assert 0 <= counted.calls - sum(DB_TRIPS.values()) * len(good) < 20
    assert 0 < found["db_query"] < found["db_query_max"]
    last = max(sample.sent_at + sample.latency_s for sample in seen.samples)
    assert found["db_query_rate"] == pytest.approx(counted.calls / max(last, 42.0))

    # Storage was asked once an upload, and acknowledged each file with a few headers.
    assert (found["gcs_failures"], found["gcs_retries"]) == (0, 0)
    assert found["gcs_acknowledged"] == pytest.approx(found["net_to_gcs"], rel=0.2)
    stored = sum(sample.bytes for sample in of.succeeded) / 40
    assert found["gcs_acknowledged"] == pytest.approx(stored, rel=0.3)

    calls = sorted(sample.stages["gcs"] for sample in of.succeeded)
    assert found["gcs_latency"] == pytest.approx(fmean(calls), abs=1e-5)
    assert found["gcs_latency_p95"] == pytest.approx(calls[ceil(0.95 * len(calls)) - 1], abs=1e-5)

    assert found["pg_lock_waiting"] >= 0
    drawn = series(of)
    assert max(filter(None, drawn.threads_busy)) >= found["threads_busy"]
    assert max(filter(None, drawn.pg_idle)) >= 1
    assert max(filter(None, drawn.cpu_backend)) >= found["cpu_backend"]
    # Linux counts bytes by network namespace, and a process here has none of its own.
    assert not any(line.received or line.sent for line in of.evidence(MachineReading))
    assert not any(name.startswith(("net_in_", "net_out_")) for name in found)


def test_attempts_that_fail_are_counted_with_their_retries(live: Live) -> None:
    load = {"users": 3, "ramp": "0 s", "warmup": "2 s", "window": "60 s"}
    faults = ["gcs-down", "db-distance"]
    cell, seen = trial(live, QUICK, load, criteria=["p95 < 10 s"], faults=faults)
    found = measure(Trial(cell, seen))
    assert "status.200" not in found
    assert found["gcs_failures"] == pytest.approx(found["gcs_attempts"], abs=3)
    assert 0 < found["gcs_retries"] <= found["gcs_attempts"]
    assert found["gcs_acknowledged"] == 0
