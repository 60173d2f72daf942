"""A part of the real replica dies in a load: the cell is measured again, on a whole one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from lab.cli.wiring import ToxiproxyInjector
from lab.model.experiment import Experiment
from lab.model.run import Progress, RunRequest
from lab.runner import Lab, run_experiment
from lab.stack.embedded import EmbeddedStack
from lab.store import RunFolder
from tests.fakes import LOAD, InstantLoad, make_cell
from tests.live import wait_until

pytestmark = pytest.mark.replica

CELL = make_cell({"speed": 20, "global_rate_limit": "off"}, cell_id="struck")
UPLOADS = 20


def kill(name: str) -> None:
    """Kill a part of the replica that this process keeps."""
    killed = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if name in " ".join(process.cmdline()):
                process.kill()
                killed.append(process)
    assert killed
    wait_until(lambda: not any(psutil.pid_exists(p.pid) and p.is_running() for p in killed))


def test_the_attempt_with_a_dead_part_is_kept_and_the_next_is_whole(
    stack: EmbeddedStack, tmp_path: Path
) -> None:
    waits: list[Progress] = []
    shown: list[Progress] = []

    def show(progress: Progress) -> None:
        shown.append(progress)
        tick = progress.tick
        if progress.attempt == 1 and tick and tick.answered == UPLOADS // 2:
            kill("nginx")
            wait_until(stack.down_parts)

    def wait(busy: Callable[[str], None]) -> bool:
        busy("3 % of its CPU is in use")
        waits.append(shown[-1])
        return True

    load = InstantLoad(uploads=UPLOADS)
    lab = Lab(stack, ToxiproxyInjector(), load, show, retries=1, wait_quiet=wait)
    run = RunFolder.create(tmp_path, (CELL,), request())
    [cell] = run_experiment(lab, run, (CELL,)).cells
    [first] = cell.attempts
    assert any(reason.startswith("nginx was down at ") for reason in first.reasons)
    assert [(wait.phase, wait.attempt) for wait in waits] == [("waiting", 2)]
    assert not any("was down" in reason for reason in cell.reasons), cell.reasons
    assert cell.metrics["succeeded"] == UPLOADS
    kept = run.cell("struck").path / "attempts" / "1"
    assert {file.name for file in kept.iterdir()} == {
        *("cell.json", "samples.jsonl", "evidence.jsonl", "verdict.json", "logs")
    }
    assert (kept / "logs" / "nginx.log").exists()
    assert stack.down_parts() == {}


def request() -> RunRequest:
    return RunRequest(
        started=datetime(2026, 1, 1, tzinfo=UTC),
        spec_file="retry.yaml",
        experiment=Experiment.model_validate({"experiment": "retry", "load": dict(LOAD)}),
        stack="embedded",
        stack_reason="a test",
        speed=CELL.knobs.speed,
    )
