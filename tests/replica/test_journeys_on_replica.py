"""All journeys at once on the running replica: each is answered, recorded, and has its figures."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import Trial
from lab.judge.agreement import disagreements
from lab.judge.metrics import measure_all
from lab.model.evidence import UploadRecord
from lab.model.journeys import OF_USERS, Journey
from tests.live import Live
from tests.replica.trial import trial

pytestmark = pytest.mark.replica

LOAD: dict[str, Any] = {
    "users": 6,
    "ramp": "0 s",
    "warmup": "0 s",
    "window": "40 s",
    "audio": "50 KB",
    "mix": {"upload": "25 %", "assess": "25 %", "convert": "25 %", "progress": "25 %"},
    "health_every": "2 s",
    "think": "500 ms",
}
SETTINGS: dict[str, Any] = {"gcs_call": "executor", "db_call": "threadpool", "speed": 5}
"""Nothing blocks the loop, so an assessment's threads are its bound; a health probe has its time on
a busy machine too."""
FAULTS = ("gcs-latency", "db-distance", "speech-latency")


def test_each_journey_is_answered_200_recorded_and_measured(live: Live) -> None:
    cell, seen = trial(
        live,
        SETTINGS,
        LOAD,
        criteria=["p95(progress) < 5 s"],
        faults=FAULTS,
    )
    of = Trial(cell, seen)
    answers = {journey: {s.status for s in of.of(journey).samples} for journey in Journey}
    assert answers == {journey: {200} for journey in Journey}
    assert {s.error for s in seen.samples} == {None}
    assert {line.journey for line in of.evidence(UploadRecord)} >= set(OF_USERS)
    assert list(disagreements(of)) == []
    figures = measure_all(of)
    assert figures["attempts(health)"] == 20
    assert figures["capacity(assess)"] == pytest.approx(cell.knobs.speech_threads / 2, rel=0.4)
    assert figures["p50(progress)"] < figures["p50(assess)"] < figures["p50"]
    waited = [s.stages["speech"] for s in of.of(Journey.ASSESS).samples]
    assert min(waited) >= 1.0
