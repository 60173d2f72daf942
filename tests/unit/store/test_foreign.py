"""What the lab did not write, below a run folder: refused where it is in the way, never touched."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from lab.errors import StoreError, UsageError
from lab.files import Folder
from lab.store import CellFolder, RunFolder, find, runs
from tests.fakes import sample_run as sample


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of somebody else's, with a file in it."""
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "thesis.txt").write_text("three years of work")
    return folder


@pytest.fixture
def run(tmp_path: Path, others: Path) -> RunFolder:
    """A run whose first two cells are finished, and whose third was begun."""
    assert others
    made = sample.stored(tmp_path / "results", finished=2)
    folder = made.begin(made.cells()[2])
    (folder.logs / "nginx.log").write_text("a line")
    return made


Kind = Callable[[Path, Path], object]


def _link(path: Path, others: Path) -> None:
    path.symlink_to(others / "thesis.txt")


def _link_to_folder(path: Path, others: Path) -> None:
    path.symlink_to(others)


def _pipe(path: Path, _others: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _others: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _folder(path: Path, _others: Path) -> None:
    path.mkdir()
    (path / "a").write_text("somebody else's")


def _endless(path: Path, _others: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILE: dict[str, Kind] = {
    "a link": _link,
    "a named pipe": _pipe,
    "a socket": _socket,
    "a folder": _folder,
}


def _replace(path: Path, kind: Kind, others: Path) -> None:
    if path.is_dir():
        path.rename(path.with_name("moved"))
    else:
        path.unlink(missing_ok=True)
    kind(path, others)


def _untouched(path: Path, others: Path) -> tuple[os.stat_result, str, list[str]]:
    folders = [others, *([path] if stat.S_ISDIR(path.lstat().st_mode) else [])]
    names = sorted(entry.name for folder in folders for entry in folder.iterdir())
    return path.lstat(), (others / "thesis.txt").read_text(), names


def _judged(run: RunFolder) -> None:
    with run.lock():
        for cell_id in run.info.cells:
            folder = run.cell(cell_id)
            if folder.observed():
                folder.finish(sample.verdict(folder.read_cell()))
                folder.read_observation()
        run.write_summary()


def _resumed(run: RunFolder) -> None:
    with run.lock():
        run.begin(sample.cells()[2])


def _opened(run: RunFolder) -> None:
    RunFolder.open(run.path)


FIRST, THIRD = (sample.cells()[index].id for index in (0, 2))
PLACES: dict[str, Callable[[RunFolder], object]] = {
    ".lock": _judged,
    "run.json": _opened,
    "summary.json": _judged,
    f"cells/{FIRST}/verdict.json": lambda run: run.cell(FIRST).finished(),
    f"cells/{FIRST}/cell.json": lambda run: run.cell(FIRST).read_cell(),
    f"cells/{FIRST}/evidence.jsonl": lambda run: run.cell(FIRST).observed(),
    f"cells/{FIRST}/samples.jsonl": lambda run: run.cell(FIRST).read_observation(),
    f"cells/{THIRD}/samples.jsonl": _resumed,
    f"cells/{THIRD}/logs/nginx.log": _resumed,
    f"cells/{THIRD}/logs/generator.status.json": _resumed,
}


@pytest.mark.parametrize("kind", NO_FILE)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_of_the_labs_is_named_and_left(
    run: RunFolder, others: Path, place: str, kind: str
) -> None:
    path = run.path / place
    _replace(path, NO_FILE[kind], others)
    before = _untouched(path, others)
    with pytest.raises(StoreError) as caught:
        PLACES[place](run)
    assert str(caught.value) == (
        f"{path}: is {kind} in place of a file of the lab's, and is left as it is - move it away"
    )
    assert caught.value.exit_code == 3
    assert _untouched(path, others) == before


@pytest.mark.parametrize("kind", [_link_to_folder, _link, _pipe, _socket, _endless])
@pytest.mark.parametrize("place", ["cells", f"cells/{THIRD}", f"cells/{THIRD}/logs"])
def test_what_is_no_folder_of_the_labs_is_named_and_left(
    run: RunFolder, others: Path, place: str, kind: Kind
) -> None:
    path = run.path / place
    _replace(path, kind, others)
    before = _untouched(path, others)
    with pytest.raises(StoreError, match="in place of a folder of the lab's, and is left as it is"):
        _resumed(run)
    assert _untouched(path, others) == before


def test_a_link_to_an_endless_device_is_not_read(run: RunFolder, others: Path) -> None:
    path = run.cell(FIRST).samples
    _replace(path, _endless, others)
    with pytest.raises(StoreError, match="is a link in place of a file"):
        run.cell(FIRST).read_observation()


def test_a_foreign_link_where_a_trial_begins_is_named_and_left(
    run: RunFolder, others: Path
) -> None:
    path = run.cell(THIRD).logs / "mine"
    path.symlink_to(others)
    with pytest.raises(StoreError, match="mine: is a link in place of a file or folder of the lab"):
        _resumed(run)
    assert path.is_symlink()
    assert (run.cell(THIRD).logs / "nginx.log").exists(), "refused before anything was cleared"


def test_files_and_folders_of_others_stay_and_are_told(run: RunFolder) -> None:
    third, cells = run.cell(THIRD), run.path / "cells"
    mine = [
        run.path / "notes.txt",
        cells / "list.txt",
        third.path / ".samples.jsonl.swp",
        third.path / "pictures",
        third.logs / "nginx.log.bak",
    ]
    for path in mine:
        path.mkdir() if path.name == "pictures" else path.write_text("mine")
    (third.path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    _resumed(run)
    assert all(path.exists() for path in mine)
    assert (third.path / "pictures" / "a.png").read_bytes() == b"\x89PNG"
    assert sorted(run.foreign()) == sorted(mine)
    assert not (third.logs / "nginx.log").exists()
    _judged(run)
    assert sorted(run.foreign()) == sorted(mine)


def test_only_temporary_files_of_the_labs_are_cleared(run: RunFolder, others: Path) -> None:
    left = [
        run.path / ".notes.txt.1.tmp",
        run.path / ".summary.json.tmp",
        run.path / "summary.json.1.tmp",
        run.cell(FIRST).path / ".thesis.1.tmp",
    ]
    for path in left:
        path.write_text("mine")
    link = run.path / ".report.md.7.tmp"
    link.symlink_to(others / "thesis.txt")
    folder = run.path / ".run.json.8.tmp"
    folder.mkdir()
    with run.lock():
        pass
    assert all(path.read_text() == "mine" for path in left)
    assert link.is_symlink()
    assert folder.is_dir()


@pytest.mark.parametrize("content", ["a long list of things to do", "12 and more", "x"])
def test_a_lock_with_something_in_it_is_not_the_labs(run: RunFolder, content: str) -> None:
    (run.path / ".lock").write_text(content)
    with pytest.raises(StoreError, match=r"\.lock: is not the lab's lock, and is left as it is"):
        _judged(run)
    assert (run.path / ".lock").read_text() == content


def test_a_lock_that_is_another_file_too_is_left(run: RunFolder, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("12345\n")
    (run.path / ".lock").unlink(missing_ok=True)
    (run.path / ".lock").hardlink_to(number)
    with pytest.raises(StoreError, match=r"\.lock: is not the lab's lock"):
        _judged(run)
    assert number.read_text() == "12345\n"


def test_a_file_that_has_a_second_name_keeps_what_it_holds(run: RunFolder, tmp_path: Path) -> None:
    third = run.cell(THIRD)
    names = [tmp_path / "samples", tmp_path / "log", tmp_path / "cell"]
    places = [third.samples, third.logs / "nginx.log", third.path / "cell.json"]
    third.samples.write_text("{}")
    for name, place in zip(names, places, strict=True):
        name.hardlink_to(place)
    before = [name.read_text() for name in names]
    _resumed(run)
    third.samples.write_text("a new sample")
    assert [name.read_text() for name in names] == before


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (_pipe, "latest: is a named pipe in place of a link of the lab's, and is left as it is"),
        (_folder, "latest: is a folder in place of a link"),
        (lambda path, _: path.write_text("mine"), "latest: is a file in place of a link"),
        (_link_to_folder, "which the lab did not make, and is left as it is - move it away"),
    ],
)
def test_a_latest_of_somebody_elses_is_left_and_no_run_is_begun(
    tmp_path: Path, others: Path, kind: Kind, says: str
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    kind(results / "latest", others)
    before = _untouched(results / "latest", others)
    with pytest.raises(StoreError) as caught:
        sample.create(results)
    assert says in str(caught.value)
    assert _untouched(results / "latest", others) == before
    assert [entry.name for entry in results.iterdir()] == ["latest"]


@pytest.mark.parametrize("target", ["../elsewhere", "/", ".", "..", "linked"])
def test_latest_leads_nowhere_but_to_a_run_beside_it(
    run: RunFolder, others: Path, target: str
) -> None:
    results = run.path.parent
    (results / "linked").symlink_to(others)
    (results / "latest").unlink()
    (results / "latest").symlink_to(target)
    with pytest.raises(UsageError, match=f"leads to {target}, which is no run in {results}"):
        find(results, "latest")


def test_the_results_folder_may_be_a_link(tmp_path: Path, run: RunFolder) -> None:
    link = tmp_path / "link"
    link.symlink_to(run.path.parent)
    found = find(link, "latest")
    _judged(found)
    _resumed(found)
    assert [listed.problem for listed in runs(link)] == [None]
    assert sample.create(link).path.parent == link


def test_a_run_whose_information_is_a_link_is_listed_with_that(
    run: RunFolder, others: Path
) -> None:
    _replace(run.path / "run.json", _link, others)
    [listed] = runs(run.path.parent)
    assert "run.json: is a link in place of a file of the lab's" in (listed.problem or "")


def test_a_link_among_the_cells_is_no_cell(run: RunFolder, others: Path) -> None:
    (run.path / "cells" / "more").symlink_to(others)
    with run.lock():
        assert [folder.path.name for folder in run.cell_folders()] == sorted(run.info.cells)
    assert run.foreign() == [run.path / "cells" / "more"]


def test_a_file_that_is_exchanged_between_look_and_opening_is_not_followed(
    run: RunFolder, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.cell(FIRST).samples
    look = Folder._is_file

    def exchange(folder: Folder, handle: int, name: str) -> bool:
        there = look(folder, handle, name)
        if name == path.name:
            _replace(path, _link, others)
        return there

    monkeypatch.setattr(Folder, "_is_file", exchange)
    with pytest.raises(StoreError, match=r"cannot read samples\.jsonl"):
        run.cell(FIRST).read_observation()


def test_a_cell_of_another_is_not_taken_for_this_one(run: RunFolder) -> None:
    other = run.cell(THIRD).path / "cell.json"
    (run.cell(FIRST).path / "cell.json").write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match="the file is damaged: it is of the cell workers"):
        CellFolder(run.cell(FIRST).path).read_cell()


USES: dict[str, Callable[[Folder], object]] = {
    "keep": lambda folder: folder.keep("a.log", BytesIO(b"new")),
    "added": lambda folder: folder.added("a.log", 0),
    "appending": lambda folder: folder.appending("a.log"),
    "rename": lambda folder: folder.rename("draft", "a.log"),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", [_link, _link_to_folder, _pipe, _socket, _folder])
def test_what_is_written_as_a_trial_goes_refuses_what_is_no_file(
    tmp_path: Path, others: Path, kind: Kind, use: str
) -> None:
    (tmp_path / "draft").write_text("a draft")
    kind(tmp_path / "a.log", others)
    with pytest.raises(StoreError, match=r"a\.log: is (a|a named) \w+ in place of a file of the"):
        USES[use](Folder(tmp_path))
    assert (others / "thesis.txt").read_text() == "three years of work"


def test_a_log_that_is_kept_is_a_new_file_whoever_else_has_the_old(
    tmp_path: Path, others: Path
) -> None:
    (tmp_path / "a.log").hardlink_to(others / "thesis.txt")
    Folder(tmp_path).keep("a.log", BytesIO(b"new"))
    assert (tmp_path / "a.log").read_bytes() == b"new"
    assert (others / "thesis.txt").read_text() == "three years of work"


@pytest.mark.parametrize("level", ["cell", "cells", "run"])
def test_a_folder_of_a_run_that_becomes_a_link_is_refused(
    run: RunFolder, others: Path, level: str
) -> None:
    cell = run.begin(run.cells()[2])
    place = {"cell": cell.path, "cells": run.path / "cells", "run": run.path}[level]
    place.rename(others / "moved")
    place.symlink_to(others / "moved")
    before = (others / "moved").stat().st_mtime_ns, cell.samples.stat().st_mtime_ns
    with pytest.raises(StoreError, match="is a link in place of a folder of the lab's"):
        cell.folder.appending("samples.jsonl")
    with pytest.raises(StoreError, match="is a link in place of a folder of the lab's"):
        cell.write_evidence(sample.evidence())
    if level == "run":
        with pytest.raises(StoreError, match="is a link in place of a folder of the lab's"):
            run.write_summary()
    assert ((others / "moved").stat().st_mtime_ns, cell.samples.stat().st_mtime_ns) == before


def test_a_run_may_be_named_by_a_link_or_from_inside(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").symlink_to(run.path)
    assert find(tmp_path / "results", str(tmp_path / "mine")).cells() == run.cells()
    monkeypatch.chdir(run.path / "cells")
    for name in ("..", "../", f"../../{run.path.name}"):
        assert find(tmp_path / "results", name).cells() == run.cells()


def test_a_name_that_no_folder_may_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot look at it: File name too long - give a shorter"):
        find(tmp_path, "a" * 300)


def test_a_run_at_which_the_user_may_not_look_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    for ref in ("latest", "closed/run"):
        with pytest.raises(StoreError, match="cannot look at it: Permission denied - give this"):
            find(tmp_path, ref)
    with pytest.raises(StoreError, match="cannot look at it: Permission denied - give this"):
        runs(tmp_path)
