"""Earlier attempts of a cell: kept whole, once each, and nothing of others touched among them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lab.errors import StoreError
from lab.model.experiment import Cell
from lab.model.verdict import Outcome
from lab.store import CellFolder, RunFolder, digest
from lab.store import attempts as store
from tests.fakes import sample_run as sample


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return sample.create(tmp_path / "results", sample.cells()[:2])


def at_speed(of: Cell, speed: float) -> Cell:
    return of.model_copy(update={"knobs": of.knobs.with_settings({"speed": speed})})


def tried(run: RunFolder, speed: float) -> CellFolder:
    """The first cell, measured at a speed and found disturbed."""
    cell = at_speed(run.cells()[0], speed)
    sample.measure(run, cell, sample.disturbed(cell, f"busy at {speed:g}"))
    return run.cell(cell.id)


def kept(folder: CellFolder) -> list[tuple[float, str]]:
    return [(cell.knobs.speed, verdict.reasons[0]) for cell, verdict in folder.attempts.read()]


def test_each_attempt_is_kept_as_it_was_and_the_last_one_counts(run: RunFolder) -> None:
    folder = tried(run, 8)
    before = {f.name: f.read_bytes() for f in folder.path.iterdir() if f.is_file()}
    slower, slowest = (at_speed(run.cells()[0], speed) for speed in (4, 3))
    sample.measure_again(run, slower, sample.disturbed(slower, "twice"))
    assert kept(folder) == [(8, "busy at 8")]
    sample.measure_again(run, slowest)
    assert kept(folder) == [(8, "busy at 8"), (4, "twice")]
    first = (folder.path / "attempts/1").iterdir()
    assert {f.name: f.read_bytes() for f in first if f.is_file()} == before
    log = folder.path / "attempts/1/logs/nginx.log"
    assert log.read_text() == "log of an attempt at speed 8\n"
    assert folder.read_cell().knobs.speed == 3
    [told, *_] = run.summary().cells
    assert told.verdict is sample.verdict(run.cells()[0]).outcome
    assert [(one.speed, one.verdict, one.reasons) for one in told.attempts] == [
        (8, Outcome.INVALID, ("busy at 8",)),
        (4, Outcome.INVALID, ("twice",)),
    ]


def test_a_valid_cell_is_neither_kept_as_an_attempt_nor_begun_again(run: RunFolder) -> None:
    cell = run.cells()[0]
    sample.measure(run, cell)
    for again in (run.cell(cell.id).keep_attempt, lambda: run.begin(cell)):
        with pytest.raises(StoreError, match="the cell is finished and is not measured again"):
            again()
    assert not (run.cell(cell.id).path / "attempts").exists()


def test_a_cell_without_a_verdict_is_no_attempt(run: RunFolder) -> None:
    folder = tried(run, 8)
    (folder.path / "verdict.json").unlink()
    with pytest.raises(StoreError, match="the cell is finished"):
        folder.keep_attempt()


def test_an_invalid_cell_is_begun_only_once_it_is_kept(run: RunFolder) -> None:
    folder = tried(run, 8)
    with pytest.raises(StoreError, match="the cell is finished"):
        run.begin(run.cells()[0])
    assert folder.read_verdict().outcome is Outcome.INVALID


def test_what_is_kept_and_still_stands_in_the_cell_counts_once(run: RunFolder) -> None:
    folder = tried(run, 8)
    folder.keep_attempt()
    assert kept(folder) == []
    [first, *_] = run.summary().cells
    assert first.attempts == ()
    folder.keep_attempt()  # the lab was killed before the next began, and goes on
    sample.measure(run, run.cells()[0])
    assert kept(folder) == [(8, "busy at 8")]


def test_an_attempt_that_is_judged_anew_in_between_counts_once(run: RunFolder) -> None:
    folder = tried(run, 8)
    folder.keep_attempt()
    folder.finish(sample.disturbed(run.cells()[0], "in other words"))
    folder.keep_attempt()
    sample.measure(run, run.cells()[0])
    assert kept(folder) == [(8, "busy at 8")]


def test_settled_is_a_cell_whose_verdict_counts(run: RunFolder) -> None:
    first, second = run.cells()
    assert not run.cell(first.id).settled()
    assert run.cell(first.id).wants_load()
    tried(run, 8)
    assert not run.cell(first.id).settled()
    assert run.cell(first.id).wants_load()
    sample.measure(run, second)
    assert run.cell(second.id).settled()
    assert not run.cell(second.id).wants_load()
    verdict = run.cell(second.id).path / "verdict.json"
    verdict.write_text("{")  # damaged: that is told where it is read
    assert run.cell(second.id).settled()
    verdict.unlink()
    assert not run.cell(second.id).settled()
    assert not run.cell(second.id).wants_load(), "it is to be judged, and no more"


def test_what_a_kill_left_half_made_is_made_anew(run: RunFolder) -> None:
    folder = tried(run, 8)
    half = folder.path / "attempts" / "1.new"
    (half / "logs").mkdir(parents=True)
    (half / "cell.json").hardlink_to(folder.path / "cell.json")
    (half / "logs" / "nginx.log").write_text("half")
    assert kept(folder) == []
    assert run.foreign() == []
    sample.measure_again(run, run.cells()[0])
    assert kept(folder) == [(8, "busy at 8")]
    assert [entry.name for entry in (folder.path / "attempts").iterdir()] == ["1"]
    assert "speed 8" in (folder.path / "attempts/1/logs/nginx.log").read_text()


def test_what_others_put_there_stays_and_is_told(run: RunFolder) -> None:
    folder = tried(run, 8)
    sample.measure_again(run, run.cells()[0], sample.disturbed(run.cells()[0]))
    attempts = folder.path / "attempts"
    mine = [
        attempts / "notes.txt",
        attempts / "1" / "thesis.txt",
        attempts / "1" / "logs" / "nginx.log.bak",
        attempts / "first",
    ]
    for path in mine:
        path.mkdir() if path.name == "first" else path.write_text("mine")
    sample.measure_again(run, run.cells()[0])
    assert all(path.exists() for path in mine)
    assert sorted(run.foreign()) == sorted(mine)
    assert len(kept(folder)) == 2


@pytest.mark.parametrize("place", ["attempts", "attempts/1.new", "attempts/1.new/logs"])
def test_what_is_no_folder_of_the_labs_is_named_and_the_attempt_stays(
    run: RunFolder, tmp_path: Path, place: str
) -> None:
    folder, others = tried(run, 8), tmp_path / "others"
    others.mkdir()
    path = folder.path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(others)
    with pytest.raises(
        StoreError, match="is a link in place of a folder of the lab's, and is left"
    ):
        folder.keep_attempt()
    assert path.is_symlink()
    assert list(others.iterdir()) == []
    assert folder.read_verdict().outcome is Outcome.INVALID


def test_a_number_that_somebody_took_is_left_out_and_told_when_it_is_read(run: RunFolder) -> None:
    folder = tried(run, 8)
    (folder.path / "attempts").mkdir()
    (folder.path / "attempts" / "1").write_text("mine")
    with pytest.raises(StoreError, match="attempts/1: is a file in place of a folder of the lab's"):
        folder.keep_attempt()
    [damaged] = run.summary().damaged
    assert "attempts/1: is a file in place of a folder" in damaged.problem


def test_a_damaged_attempt_is_told_with_its_file(run: RunFolder) -> None:
    folder = tried(run, 8)
    sample.measure_again(run, run.cells()[0])
    (folder.path / "attempts/1/verdict.json").write_text("{")
    [damaged] = run.summary().damaged
    assert "attempts/1/verdict.json:1: the file is damaged" in damaged.problem


def test_no_more_attempts_are_kept_than_are_read(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_ATTEMPTS", 1)
    folder = tried(run, 8)
    sample.measure_again(run, run.cells()[0], sample.disturbed(run.cells()[0]))
    with pytest.raises(StoreError, match="a cell keeps 1 attempts, and no more - start a new run"):
        folder.keep_attempt()
    (folder.path / "attempts" / "2").mkdir()
    with pytest.raises(StoreError, match="a cell keeps 1 attempts, and no more - start a new run"):
        kept(folder)


def test_a_disk_that_is_full_leaves_the_attempt_where_it_is(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tried(run, 8)

    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        with pytest.raises(StoreError, match="No space left on device - free some space on its"):
            folder.keep_attempt()
    assert (folder.read_verdict().reasons, kept(folder)) == (("busy at 8",), [])
    sample.measure_again(run, run.cells()[0])
    assert kept(folder) == [(8, "busy at 8")]


def test_cells_that_differ_only_in_the_speed_that_the_lab_chose_are_the_same() -> None:
    first, *_ = sample.cells()
    auto = [at_speed(first, s).model_copy(update={"auto_speed": True}) for s in (8, 3)]
    assert digest(auto[:1]) == digest(
        [auto[1].model_copy(update={"speed_reason": "timers keep no less"})]
    )
    assert digest([at_speed(first, 8)]) != digest([at_speed(first, 3)])
    assert digest([at_speed(first, 8)]) != digest(auto[:1])
