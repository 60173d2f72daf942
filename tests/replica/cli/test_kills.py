"""A few of the kills of `validation.kills`, and that it would tell what it looks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from validation import kills
from validation.look_alikes import LookAlikes

pytestmark = [pytest.mark.replica, pytest.mark.long]


def test_nothing_is_lost_or_left_or_touched_where_the_lab_is_killed(reachable: Path) -> None:
    done = kills.validate(count=2, seed=1, targets=["vm"], folder=reachable)
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
