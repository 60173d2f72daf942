"""A stored run, replayed from its files: at any pace it comes to the same end."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from lab.archives import unpack
from lab.errors import UsageError
from lab.paths import ROOT
from lab.store import RunFolder
from lab.web.follow import RunFollower
from lab.web.render import regions
from lab.web.replay import Replay
from tests.fakes import sample_run

REPLAYS = 60
STORED = ROOT / "tests" / "fixtures" / "stored_runs"


def real_run(folder: Path, name: str) -> RunFolder:
    """A run as a lab stored it."""
    with tarfile.open(STORED / f"{name}.tar.xz") as archive:
        unpack(archive, folder)
    [path] = [file.parent for file in folder.glob("**/run.json")]
    return RunFolder.open(path)


def test_sixty_replays_come_to_the_same_page(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results")
    as_stored = regions(RunFollower(run).look())
    replay, ends = Replay(run), set()
    for number in range(REPLAYS):
        pace = 7.0 + 13 * number  # some jump over whole cells
        fresh = replay if number % 6 else Replay(run)
        *_, last = fresh.views(pace)
        ends.add(json.dumps(regions(last)))
    assert ends == {json.dumps(as_stored)}


def test_a_moment_is_the_same_however_it_is_come_to(tmp_path: Path) -> None:
    run = real_run(tmp_path, "workers-x-pool")
    moment = Replay(run).length * 0.6
    jumped, walked = Replay(run), Replay(run)
    for step in range(1, 8):
        walked.at(moment * step / 8)
    walked.at(moment * 1.5)
    assert regions(walked.at(moment)) == regions(jumped.at(moment))


@pytest.mark.parametrize(
    "name", ["workers-x-pool", "phase-5-stress", "scenario-3-cold-start", "threshold"]
)
def test_a_run_of_an_earlier_lab_is_replayed_from_its_beginning_to_its_end(
    tmp_path: Path, name: str
) -> None:
    run = real_run(tmp_path, name)
    replay = Replay(run)
    seen = [replay.at(replay.length * share) for share in (0.0, 0.3, 0.99, 1.0)]
    finished = [view.finished for view in seen]
    assert finished == sorted(finished)
    assert seen[0].shown
    assert seen[0].shown.frame
    assert seen[0].shown.frame.answered == 0
    assert regions(seen[-1]) == regions(RunFollower(run).look())
    assert not any(view.shown and view.shown.unread for view in seen)


def test_what_is_measured_and_what_is_to_come_is_told_apart(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results", finished=3)
    replay = Replay(run)
    view = replay.at(replay.length / 2)  # in the second of three
    states = [cell.state for cell in view.cells]
    assert states[1:] == ["measuring", *["to come"] * 10]
    assert states[0] == str(sample_run.verdict(sample_run.cells()[0]).outcome)


def test_a_run_of_which_nothing_was_measured_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing of .* was measured"):
        Replay(sample_run.create(tmp_path / "results"))
