"""A run's folder, followed while it is written: step by step, damaged, gone, and begun anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.model.verdict import Outcome
from lab.store import RunFolder
from lab.web.follow import INTERRUPTED, RunFollower
from lab.web.view import View
from tests.fakes import sample_run
from tests.fakes.live_run import STOOD, LiveTrial, going_on

FIRST, SECOND = sample_run.cells()[:2]


def states(view: View) -> list[str]:
    return [cell.state for cell in view.cells[:2]]


def phase(view: View) -> str:
    assert view.shown
    return view.shown.state.phase or ""


def test_each_step_of_a_cell_is_seen(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        follower = RunFollower(run)
        first = follower.look()
        assert (first.shown, states(first), first.going_on) == (None, ["to come", "to come"], True)
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        assert phase(follower.look()) == "applying"
        assert states(follower.look()) == ["measuring", "to come"]
        trial.inject()
        assert phase(follower.look()) == "arming"
        for at, expected in ((1.0, "ramp"), (7.0, "warm-up"), (20.0, "window"), (80.0, "drain")):
            trial.start(at)
            assert phase(follower.look()) == expected
        trial.status(done=True)
        assert phase(follower.look()) == "auditing"
        trial.observe()
        assert phase(follower.look()) == "judging"
        trial.judge()
        last = follower.look()
        assert phase(last) == ""
        assert last.cells[0].verdict is sample_run.verdict(FIRST).outcome
        assert last.finished == 1
        LiveTrial(run, SECOND, tmp_path / "replica")
        assert follower.look().cells[1].state == "measuring"


def test_samples_and_readings_are_read_on_and_half_a_line_is_left(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        trial, follower = LiveTrial(run, FIRST, tmp_path / "replica"), RunFollower(run)
        trial.start(30.0)
        trial.status(sent=9)
        trial.answer(20.0)
        whole = json.dumps({"beat": 25.0}) + "\n"
        trial.write(whole + '{"planned_at":21.0,"sent_at":21')
        for t in (27.0, 29.0):
            trial.reading(t, checked_out=4, loop_busy_s=t / 5, stood={STOOD: t / 10})
        shown = follower.look().shown
        assert shown
        assert shown.frame
        assert (shown.frame.answered, shown.frame.sent, shown.unread) == (1, 9, 0)
        assert shown.frame.workers[0].counts["checked_out"] == 4
        assert [line.place for line in shown.frame.standing] == [STOOD]
        trial.write('.0,"latency_s":2.0,"error":"db_refused","worker":7}\n')
        trial.write("no line of the lab's\n[1]\n")
        shown = follower.look().shown
        assert shown
        assert shown.frame
        assert (shown.frame.answered, shown.frame.failed, shown.unread) == (2, 1, 2)


def test_another_attempt_begins_with_nothing(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        trial, follower = LiveTrial(run, FIRST, tmp_path / "replica"), RunFollower(run)
        trial.start(30.0)
        trial.answer(20.0)
        follower.look()
        trial.observe()
        trial.judge(sample_run.disturbed(FIRST))
        assert follower.look().cells[0].state == "invalid"
        run.cell(FIRST.id).keep_attempt()
        again = LiveTrial(run, FIRST, tmp_path / "replica")
        again.start(12.0)
        shown = follower.look().shown
        assert shown
        assert shown.frame
        assert (shown.attempt, shown.frame.answered, shown.state.state) == (2, 0, "measuring")


def test_a_run_that_nobody_writes_is_at_rest(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        trial.start(20.0)
    view = RunFollower(run).look()
    assert (view.going_on, view.cells[0].state, view.cells[0].why) == (
        False,
        "to come",
        INTERRUPTED,
    )


def test_a_finished_run_is_shown_as_it_is_stored(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results")
    view = RunFollower(run).look()
    assert view.finished == view.declared == 12
    assert {cell.state for cell in view.cells} == {str(outcome) for outcome in Outcome}
    assert view.shown
    assert view.shown.frame
    assert view.shown.frame.answered == 20


def test_a_run_that_is_removed_is_told_and_nothing_is_raised(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        follower = RunFollower(run)
        trial = LiveTrial(run, FIRST, tmp_path / "replica")
        trial.start(20.0)
        follower.look()
        shutil.rmtree(run.path)
        assert follower.look().problem == f"{run.path} was removed; `lab runs` lists the runs"


def damaged_verdict(run: RunFolder) -> str:
    (run.cell(FIRST.id).path / "verdict.json").write_text("{")
    return "verdict.json:1: the file is damaged"


def verdict_of_a_later_lab(run: RunFolder) -> str:
    (run.cell(FIRST.id).path / "verdict.json").write_text('{"schema_version": 99}')
    return "written by a later lab (schema_version 99; this lab reads up to 1)"


def verdict_that_is_a_link(run: RunFolder) -> str:
    file = run.cell(FIRST.id).path / "verdict.json"
    file.unlink()
    file.symlink_to("/etc/passwd")
    return "is a link in place of a file of the lab's"


def verdict_that_is_a_folder(run: RunFolder) -> str:
    file = run.cell(FIRST.id).path / "verdict.json"
    file.unlink()
    file.mkdir()
    return "is a folder in place of a file of the lab's"


@pytest.mark.parametrize(
    "damage",
    [damaged_verdict, verdict_of_a_later_lab, verdict_that_is_a_link, verdict_that_is_a_folder],
)
def test_a_cell_that_cannot_be_read_keeps_no_other_from_being_shown(
    tmp_path: Path, damage: object
) -> None:
    run = sample_run.stored(tmp_path / "results", finished=2)
    assert callable(damage)
    expected = damage(run)
    view = RunFollower(run).look()
    assert (view.problem, view.cells[0].state) == ("", "damaged")
    assert expected in view.cells[0].why
    assert view.cells[1].verdict is sample_run.verdict(SECOND).outcome


def test_cells_in_place_of_which_is_a_link_are_a_problem(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results", finished=1)
    cells = run.path / "cells"
    cells.rename(tmp_path / "elsewhere")
    cells.symlink_to(tmp_path / "elsewhere")
    assert "is a link in place of a folder of the lab's" in RunFollower(run).look().problem


def test_a_run_of_a_later_lab_is_told_with_its_remedy(tmp_path: Path) -> None:
    run = sample_run.stored(tmp_path / "results", finished=1)
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "schema_version": 99}))
    with pytest.raises(UsageError, match="use the version of the lab that wrote it"):
        RunFolder.open(run.path)


def test_readings_of_a_replica_that_is_gone_are_none(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        trial, follower = LiveTrial(run, FIRST, tmp_path / "replica"), RunFollower(run)
        trial.start(20.0)
        shutil.rmtree(tmp_path / "replica")
        view = follower.look()
        assert view.problem == ""
        assert view.shown
        assert view.shown.frame
        assert view.shown.frame.workers == ()


def test_of_a_folder_of_readings_nothing_but_files_is_read(tmp_path: Path) -> None:
    with going_on(tmp_path / "results") as run:
        trial, follower = LiveTrial(run, FIRST, tmp_path / "replica"), RunFollower(run)
        trial.start(20.0)
        trial.reading(15.0, 8)
        os.mkfifo(tmp_path / "replica" / "worker-1.jsonl")
        (tmp_path / "replica" / "worker-2.jsonl").symlink_to("/etc/passwd")
        (tmp_path / "replica" / "worker-3.jsonl").mkdir()
        view = follower.look()
        assert view.shown
        assert view.shown.frame
        assert [worker.worker for worker in view.shown.frame.workers] == [8]
        assert view.shown.unread == 0
