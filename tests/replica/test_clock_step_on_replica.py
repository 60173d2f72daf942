"""A wall clock that is set while a window is measured: the cell is invalid for that alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.judge.trial import Trial
from lab.model.evidence import UploadRecord, WorkerReading
from lab.model.readings import MachineReading
from lab.model.run import Summary
from lab.store import RunFolder
from tests import command
from tests.live import wait_until
from validation.clock_step import SteppedClock, compiler

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) to make a settable clock"),
]

STEPS = {2: -2.0, 3: 3600.0, 4: 2.0, 5: -3600.0}
"""By the cell's threads, in seconds; the last cell's clock is left alone."""

SPEC = """\
experiment: clock
about: does a step of the clock slip by?
knobs: {speed: 5, gcs_call: executor, global_rate_limit: "off"}
matrix:
  gcs_threads: [2, 3, 4, 5, 6]
load: {users: 2, ramp: 0 s, warmup: 1 s, window: 10 s, audio: 20 KB}
criteria: [error_rate < 50 %]
"""


def last_beat(folder: Path, threads: int) -> float:
    """The generator's last sign of life in a cell, in real-world seconds; -1 before the first."""
    beats = [
        json.loads(line)["beat"]
        for file in folder.glob(f"results/2*/cells/*gcs_threads={threads}/samples.jsonl")
        for line in file.read_text().split("\n")[:-1]
        if line.startswith('{"beat"')
    ]
    return max(beats, default=-1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose cells but the last each have their clock set in the middle of the window."""
    folder = tmp_path_factory.mktemp("clock")
    with SteppedClock(folder) as clock:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab", "run", str(command.spec(folder, SPEC))],
            cwd=folder,
            env=command.environment(clock.environment),
            stderr=subprocess.PIPE,
            text=True,
        )
        for threads, seconds in STEPS.items():
            wait_until(lambda: last_beat(folder, threads) >= 5, 60)  # noqa: B023 - called at once
            clock.step(seconds)
        _, errors = process.communicate(timeout=command.LIMIT_S)
    assert process.returncode == 4, errors
    return RunFolder.open((folder / "results" / "latest").resolve())


def test_a_step_of_the_clock_is_the_reason_and_the_next_cell_is_sound(run: RunFolder) -> None:
    summary: Summary = run.summary()
    outcomes = [(cell.verdict, cell.reasons) for cell in summary.cells]
    for (verdict, reasons), step in zip(outcomes, STEPS.values(), strict=False):
        assert verdict == "invalid"
        assert reasons[0].startswith(f"this machine's clock was set by {step:+.1f} s at ")
        assert not any("stood still" in reason or "s late" in reason for reason in reasons)
    assert not any("clock" in reason for reason in outcomes[-1][1])


def test_no_other_figure_is_changed_by_it(run: RunFolder) -> None:
    """Readings, samples and records lie where they lie in a cell whose clock was left alone."""
    for cell in run.summary().cells:
        folder = run.cell(cell.id)
        trial = Trial(folder.read_cell(), folder.read_observation())
        end = max(sample.sent_at + sample.latency_s for sample in trial.observation.samples)
        assert trial.uncovered == []
        assert min(line.t for line in trial.evidence(WorkerReading)) > -30
        assert max(line.t for line in trial.evidence(MachineReading)) < end + 60
        records = trial.evidence(UploadRecord)
        assert len(records) == len(trial.observation.samples)
        assert all(-1 < record.arrived < record.t < end + 1 for record in records)
        assert trial.metrics["lateness"] < 0.5
