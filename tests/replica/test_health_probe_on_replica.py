"""A health probe on the running replica: whoever blocks its event loop is ended, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.decision import bottleneck
from lab.judge.trial import Trial
from lab.model.evidence import PartDown
from lab.model.probe import ProbeRecord
from lab.model.replica import Target
from lab.model.verdict import Verdict
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import Live
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

PROBED = {"health_probe": "3 s", "health_timeout": "2 s", "health_failures": 2}
WITH_ROOM = {
    "cloudrun_cpus": 1,
    "cloudrun_memory": "512 MiB",
    "cloudrun_concurrency": 20,
    "cloudrun_min_instances": 1,
}


def measured(
    live: Live, settings: Mapping[str, Any], load: Mapping[str, Any], target: Target = "vm"
) -> tuple[Verdict, Trial]:
    cell, seen = trial(
        live, {**PROBED, **settings}, load, criteria=["error_rate < 5 %"], target=target
    )
    return judge(cell, seen), Trial(cell, seen)


def was_ended_for_its_silence(verdict: Verdict, of: Trial) -> None:
    """Assert that it was, that uploads were lost with it, and that nothing else is said of it."""
    assert verdict.metrics["probe_restarts"] >= 1
    assert verdict.metrics["probe_failures"] >= 2
    assert of.evidence(PartDown) == []
    assert of.uncovered == []
    assert not [one for one in verdict.invalid if one.kind in ("part", "standstill", "evidence")]
    found = bottleneck(of, verdict.findings)
    assert found.resource == "health_probe"
    assert "2 of 2 in a row at most (no answer within 2 s)" in found.evidence


@pytest.mark.knob("health_probe")
def test_a_backend_that_blocks_its_loop_is_ended_and_comes_back(live: Live) -> None:
    load = {"users": 10, "ramp": "0 s", "warmup": "0 s", "window": "60 s", "audio": "50 KB"}
    verdict, of = measured(live, {"gcs_call": "blocking", "speed": 5}, load)
    was_ended_for_its_silence(verdict, of)
    assert verdict.metrics["errors.bad_gateway"] + verdict.metrics["errors.connection"] > 0
    back = [record.t for record in of.evidence(ProbeRecord) if record.event == "back"]
    assert back
    assert any(sample.sent_at + sample.latency_s > back[0] for sample in of.succeeded)


def test_one_whose_loop_is_free_is_left_alone(live: Live) -> None:
    load = {"users": 10, "ramp": "0 s", "warmup": "0 s", "window": "30 s", "audio": "50 KB"}
    verdict, _ = measured(live, {"gcs_call": "to_thread", "speed": 5}, load)
    assert (verdict.metrics["probe_restarts"], verdict.metrics["probe_failures"]) == (0, 0)


@needs_cgroups
def test_an_instance_that_blocks_its_loop_is_ended_with_all_in_it(live: Live) -> None:
    settings = {**WITH_ROOM, "gcs_call": "blocking", "speed": 1}
    load = {"burst": 8, "timeout": "20 s", "audio": "50 KB"}
    verdict, of = measured(live, settings, load, target="cloudrun")
    was_ended_for_its_silence(verdict, of)
    assert verdict.metrics["errors.instance_died"] > 0
