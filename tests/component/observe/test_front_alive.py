"""From a front that runs, before instances that the kernel limits, to metrics and verdicts."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import requests

from lab.judge.injection import quota_checks
from lab.judge.metrics import measure
from lab.judge.trial import Trial as Judged
from lab.judge.validity import instances
from lab.load.upload import outcome, stages
from lab.model.evidence import Observation, Sample
from lab.model.experiment import Cell
from lab.observe.readings import GATEWAY_LOG, Clock, from_gateway
from tests.component.cloudrun.permitted import needs_cgroups
from tests.component.cloudrun.test_main import Running, running
from tests.component.cloudrun.test_process import APP
from tests.live import wait_until
from tests.unit.judge.observations import on_cloudrun

MIB = 1024**2
pytestmark = needs_cgroups


class Trial:
    """Requests to a front, kept as samples; all in a burst's window."""

    def __init__(self, front: Running) -> None:
        self.front = front
        self.t0 = time.monotonic()
        self.samples: list[Sample] = []

    def send(self, path: str) -> dict[str, float]:
        """The stages that its answer told."""
        sent = time.monotonic()
        answer = self.front.get(path)
        told = stages(answer.headers.get("Server-Timing", ""), 1)
        self.samples.append(self._sample(sent, answer, told))
        return told

    def _sample(self, sent: float, answer: requests.Response, told: dict[str, float]) -> Sample:
        kind = answer.headers.get("Content-Type", "")
        cause = None if answer.ok else outcome(answer.status_code, kind, answer.content)[0]
        return Sample(
            planned_at=sent - self.t0,
            sent_at=sent - self.t0,
            latency_s=time.monotonic() - sent,
            status=answer.status_code,
            error=cause,
            bytes=0,
            user=0,
            stages=told,
        )

    def observation(self) -> Observation:
        shutil.copy(self.front.folder / "events", self.front.folder / GATEWAY_LOG)
        lines = from_gateway(self.front.folder, Clock(self.t0, 1), self.t0)
        return Observation(samples=tuple(self.samples), evidence=tuple(lines))


def sound(of: Cell, seen: Observation) -> bool:
    """Whether every limit was kept, and nothing but memory ended an instance."""
    judged = Judged(of, seen)
    checks = quota_checks(judged)
    return all(check.ok is not False for check in checks) and not list(instances(judged))


def test_one_cold_start_lies_with_the_first_request_and_the_second_is_warm(
    tmp_path: Path,
) -> None:
    of = on_cloudrun()
    with running(tmp_path, APP) as front:
        trial = Trial(front)
        first, second = trial.send("/take?n=100"), trial.send("/pid")
        wait_until(lambda: any(line.get("peak_bytes", 0) > 100 * MIB for line in front.events))
        seen = trial.observation()
        front.process.terminate()
        assert front.process.wait(30) == 0
    found = measure(Judged(of, seen))
    assert (found["cold_starts"], found["cold_uploads"], found["instances"]) == (1, 1, 1)
    assert 0 < first["cold"] <= first["queue"]
    assert "cold" not in second
    assert found["cold_start_s"] == found["cold_start_max"] >= first["cold"]
    assert 100 * MIB < found["memory_instance"] < 256 * MIB
    assert (found["oom_kills"], found["errors.instance_died"]) == (0, 0)
    assert sound(of, seen)


def test_a_kill_for_memory_is_counted_and_what_comes_after_it_is_a_cold_start(
    tmp_path: Path,
) -> None:
    of = on_cloudrun()
    with running(tmp_path, APP) as front:
        trial = Trial(front)
        trial.send("/pid")
        trial.send("/take?n=300")
        after = trial.send("/pid")
        seen = trial.observation()
        front.process.terminate()
        assert front.process.wait(30) == 0
    found = measure(Judged(of, seen))
    assert (found["succeeded"], found["errors.instance_died"], found["oom_kills"]) == (2, 1, 1)
    assert (found["cold_starts"], found["cold_uploads"]) == (2, 2)
    assert after["cold"] > 0
    assert found["memory_instance"] >= 255 * MIB
    assert sound(of, seen)


def test_a_program_that_exits_at_its_start_makes_the_cell_invalid(tmp_path: Path) -> None:
    of = on_cloudrun()
    with running(tmp_path, ["/bin/false"], cloudrun_pending="1 s") as front:
        trial = Trial(front)
        trial.send("/pid")
        seen = trial.observation()
        front.process.terminate()
        assert front.process.wait(30) == 0
    (reason,) = instances(Judged(of, seen))
    assert "did not start: it ended before it listened: exit code 1" in reason
    assert measure(Judged(of, seen))["errors.instance_died"] == 1


def test_a_program_without_room_to_start_is_a_result(tmp_path: Path) -> None:
    of = on_cloudrun(cloudrun_memory="128 MiB")
    greedy = [APP[0], "-c", "x = bytearray(200 << 20); x[::4096] = b'x' * len(x[::4096])"]
    settings = {"cloudrun_pending": "1 s", "cloudrun_memory": "128 MiB"}
    with running(tmp_path, greedy, **settings) as front:
        trial = Trial(front)
        trial.send("/pid")
        seen = trial.observation()
        front.process.terminate()
        assert front.process.wait(30) == 0
    assert list(instances(Judged(of, seen))) == []
    assert measure(Judged(of, seen))["oom_kills"] >= 1
