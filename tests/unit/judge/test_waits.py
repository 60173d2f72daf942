"""How long an upload only waited, wherever that was."""

from __future__ import annotations

import pytest

from lab.judge.metrics import sample_metrics
from lab.model.evidence import Cause
from tests.unit.judge.observations import cell, observation, sample


def test_what_an_upload_waited_is_what_its_stages_do_not_explain() -> None:
    working = {"auth": 0.05, "release": 0.025, "gcs": 3.5, "write": 0.1}
    waits = [0.0, 1.0, 5.0]
    sent = [sample(20 + n, 3.675 + wait, stages=working) for n, wait in enumerate(waits)]
    failed = sample(30.0, 60.0, Cause.GATEWAY_TIMEOUT, stages={})
    found = sample_metrics(cell(), observation([*sent, failed]))
    assert found["wait"] == pytest.approx(2.0)
    assert found["wait_p95"] == pytest.approx(5.0)


def test_without_stages_nothing_is_said_of_waiting() -> None:
    found = sample_metrics(cell(), observation([sample(stages={})]))
    assert not {"wait", "wait_p95"} & set(found)
