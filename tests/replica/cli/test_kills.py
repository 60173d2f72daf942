"""A few of the kills of `validation.kills`, and that it would tell what it looks for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fakes import sample_run as sample
from validation import kills
from validation.look_alikes import LookAlikes

pytestmark = [pytest.mark.replica, pytest.mark.long]


def test_nothing_is_lost_or_left_or_touched_where_the_lab_is_killed(reachable: Path) -> None:
    done = kills.validate(count=2, seed=1, targets=["vm"], folder=reachable, disturbed=0.0)
    assert sum(each.killed for each in done) == 2
    assert [line for each in done for line in each.wrong] == []
    assert done[-1].finished == 2


def test_what_is_lost_left_or_touched_is_told(reachable: Path) -> None:
    victim = kills.Victim(reachable, ["vm"])
    cell = victim.results / "20260101T000000Z-kills-01234567" / "cells" / "a"
    cell.mkdir(parents=True)
    for name in ("verdict.json", "evidence.jsonl", "samples.jsonl"):
        (cell / name).write_text("1")
    with LookAlikes(victim.temporary) as kept:
        assert (victim.lost(), victim.left(kept), kept.touched()) == ([], [], [])
        (cell / "samples.jsonl").write_text("1")  # measured again
        (victim.temporary / "replica-lab-qrstuvwx").mkdir()
        (victim.temporary / "replica-lab-ijklmnop").unlink()
        assert [line.rpartition("/")[2] for line in victim.lost()] == ["samples.jsonl is another"]
        assert [line.rpartition("/")[2] for line in victim.left(kept)] == ["replica-lab-qrstuvwx"]
        assert [line.rpartition("/")[2] for line in kept.touched()] == ["replica-lab-ijklmnop"]
        (victim.temporary / "replica-lab-ijklmnop").symlink_to(reachable)
        (cell / "verdict.json").unlink()
        assert [line.rpartition("/")[2] for line in victim.lost()] == [
            *("evidence.jsonl is gone", "samples.jsonl is gone", "verdict.json is gone")
        ]


def test_an_attempt_that_is_gone_or_counted_twice_is_told(reachable: Path) -> None:
    victim = kills.Victim(reachable, ["vm"])
    run = sample.create(victim.results, sample.cells()[:1])
    [cell] = run.cells()
    folder = run.cell(cell.id)
    for number in range(2):
        said = sample.disturbed(cell) if number == 0 else None
        (sample.measure_again if number else sample.measure)(run, cell, said)
        assert victim.lost() == []
    shutil.copytree(folder.path / "attempts" / "1", folder.path / "attempts" / "2")
    [line] = victim.lost()
    assert line.endswith(" is there 2 times")
    shutil.rmtree(folder.path / "attempts")
    [line] = victim.lost()
    assert line.endswith(" is gone")


def test_a_lab_is_killed_in_a_retrys_wait(reachable: Path) -> None:
    victim = kills.Victim(reachable, ["vm"])
    with LookAlikes(victim.temporary) as kept:
        done = kills.kill(victim, kept, 0.0, with_guardian=False, where="wait")
        assert (done.killed, done.finished, done.wrong) == (True, 1, [])
        assert kills.WAITS in done.phase
