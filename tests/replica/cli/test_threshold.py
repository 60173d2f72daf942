"""``lab threshold`` on the real replica, interrupted and continued."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lab.model.capacity import Thresholds
from lab.store import find
from tests import command
from validation.oracle import System, threshold

REAL = """\
experiment: search
knobs: {speed: 15, gcs_call: blocking}
load: {users: 4, ramp: 0 s, warmup: 10 s, window: 40 s, audio: 20 KB}
criteria: [p50 < 10 s]
"""
"""A median takes few uploads to tell: five trials or so, of a few wall seconds each."""


@pytest.mark.replica
@pytest.mark.long
def test_a_search_on_the_real_replica_ends_and_never_contradicts_the_oracle(
    tmp_path: Path,
) -> None:
    """At this speed, and on a busy machine, trials may be invalid: then nothing is claimed."""
    options = ("--most-users", "4", "--json")
    with command.started(
        "threshold", command.spec(tmp_path, REAL), *options, cwd=tmp_path
    ) as process:
        command.wait_for_line(process, "search-u4-1: 4 users")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=command.LIMIT_S)
    assert process.returncode == 130, err
    assert Thresholds.model_validate_json(out).missing == ("search",)
    run = find(tmp_path / "results", "latest")
    ended = command.lab("threshold", "--resume", run.path, "--json", cwd=tmp_path)
    assert ended.returncode in (0, 4), ended.stderr
    assert ended.stdout == (run.path / "threshold.json").read_text()
    [answer] = Thresholds.model_validate_json(ended.stdout).cells
    assert (ended.returncode == 0) == (answer.outcome == "found")
    assert len({trial.id for trial in answer.trials}) == len(answer.trials) >= 1
    assert answer.trials[-1].users <= 4
    if answer.holds_at and answer.breaks_at:
        assert answer.holds_at < answer.breaks_at
    valid = [trial for trial in answer.trials if trial.outcome != "invalid"]
    if answer.outcome == "found" and len(valid) == len(answer.trials):
        # What speed does not divide makes an upload longer: it may break before, never hold beyond.
        assert (answer.holds_at or 0) <= threshold(System("blocking"), tail=0.5)
