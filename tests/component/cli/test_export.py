"""``lab export``: where it writes, what it leaves out and says so, and what it does not take."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.report.exports import NAMES, format_named
from lab.report.exports.formats import csv as csv_format
from lab.store import RunFolder
from tests.cli_fixture import Command, the_line
from tests.fakes import sample_run as sample
from validation.fresh_run import make_fresh


def listed() -> list[str]:
    """What is in this folder."""
    return sorted(path.name for path in Path().iterdir())


def table(file: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with Path(file).open(newline="") as lines:
        return list(csv.DictReader(lines))


SINGLE = [name for name in NAMES if not format_named(name).is_folder]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two cells as today's lab stores them, with the workers' records."""
    return make_fresh(tmp_path / "results")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)


def test_the_help_lists_every_format(lab: Command) -> None:
    assert {"csv", "junit", "openmetrics", "otlp", "parquet", "perfetto"} <= set(NAMES)
    told = " ".join(lab("export", "--help").out.split())
    for name in NAMES:
        assert f"{name} {format_named(name).about}" in told


@pytest.mark.parametrize("name", SINGLE)
def test_a_format_of_one_file_is_written_here_to_a_place_or_to_standard_output(
    lab: Command, run: RunFolder, name: str
) -> None:
    [file] = format_named(name).files
    default = f"{run.path.name}-{file}"
    ended = lab("export", run.path, "--to", name)
    assert (ended.code, ended.out, ended.err) == (0, f"{default}\n", "")
    again = lab("export", run.path, "--to", name, "-o", "place.out")
    assert (again.code, again.out) == (0, "place.out\n")
    printed = lab("export", run.path, "--to", name, "-o", "-")
    assert printed.code == 0
    assert printed.out == Path(default).read_text() == Path("place.out").read_text()
    assert listed() == sorted([default, "place.out"])


def test_several_files_are_written_into_a_folder(lab: Command, run: RunFolder) -> None:
    ended = lab("export", run.path, "--to", "csv", "-o", "deep/er")
    assert (ended.code, ended.out) == (0, "deep/er/samples.csv\ndeep/er/cells.csv\n")
    assert lab("export", run.path, "--to", "csv").code == 0
    assert {path.name for path in Path(f"{run.path.name}-csv").iterdir()} == {
        "samples.csv",
        "cells.csv",
    }


def test_nothing_of_the_run_is_touched(lab: Command, run: RunFolder) -> None:
    def state() -> dict[str, tuple[int, int]]:
        files = (path for path in run.path.rglob("*") if path.is_file())
        return {str(f): (f.stat().st_mtime_ns, f.stat().st_size) for f in files}

    before = state()
    for name in SINGLE:
        assert lab("export", run.path, "--to", name, "-o", "out").code == 0
    assert state() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_that_may_only_be_read_is_exported(lab: Command, run: RunFolder) -> None:
    folders = [path for path in [run.path, *run.path.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert lab("export", run.path, "--to", "junit", "-o", "out.xml").code == 0
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_an_unfinished_run_is_exported_as_far_as_it_is(lab: Command, tmp_path: Path) -> None:
    run = sample.stored(tmp_path / "results", finished=3)
    ended = lab("export", run.path, "--to", "junit", "-o", "out.xml")
    assert (ended.code, ended.out) == (4, "out.xml\n")
    left = "; ".join(run.info.cells[3:7])
    assert ended.err == f"not finished, and left out: {left}; ... - `lab run --resume` goes on\n"
    assert Path("out.xml").read_text().count("<testcase") == 12


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_cell_without_samples_is_left_out_and_told(
    lab: Command, run: RunFolder, damage: str
) -> None:
    good, bad = run.info.cells
    samples = run.cell(bad).samples
    samples.unlink() if damage == "missing" else samples.write_text("garbage\n")
    ended = lab("export", run.path, "--to", "csv", "-o", "out")
    assert ended.code == 4
    assert ended.err.startswith(f"damaged, and left out: {run.cell(bad).path}")
    assert " - " in ended.err
    assert ended.err.count("\n") == 1
    rows = table("out/samples.csv")
    assert {row["cell"] for row in rows} == {good}
    cells = table("out/cells.csv")
    assert [row["cell"] for row in cells] == [good, bad]  # its verdict can be read


def test_a_trial_of_a_search_is_a_cell(lab: Command, tmp_path: Path) -> None:
    cells = sample.cells()
    search = sample.create(tmp_path / "results", cells[:1], max_users=100)
    trial = cells[0].model_copy(update={"id": f"{cells[0].id},users=20"})
    sample.measure(search, trial)
    ended = lab("export", search.path, "--to", "junit", "-o", "-")
    assert ended.code == 0
    assert ended.out.count("<testcase") == 1
    assert f'name="{trial.id}"' in ended.out


# What others wrote.

HOSTILE = {
    "a formula": ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
    "a sum": ("+1+1", "'+1+1"),
    "a minus": ("-2+3", "'-2+3"),
    "an address": ("@SUM(A1)", "'@SUM(A1)"),
    "behind a blank": ("  =1+1", "'  =1+1"),
    "behind a tab": ("\t=1+1", "' =1+1"),
    "in full width": ("\uff1d1+1", "'\uff1d1+1"),
    "an escape": ("\x1b[31mred", "\\x1b[31mred"),
    "markup": ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    "a path": ("../../etc/passwd", "../../etc/passwd"),
    "quotes": ('a","b\nc', 'a","b c'),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_no_spreadsheet_takes_a_text_for_a_formula(case: str) -> None:
    text, shown = HOSTILE[case]
    assert csv_format.safe(text) == shown
    assert csv_format.safe(shown) == shown or shown.startswith("'")


@pytest.mark.parametrize("number", [-1.5, -3, 0, 2.5])
def test_a_number_below_nothing_stays_a_number(number: float) -> None:
    assert csv_format.safe(number) == number


@pytest.fixture
def hostile(tmp_path: Path) -> RunFolder:
    """A run of which names are formulas, markup, escapes and paths; in a folder of such a name."""
    run = sample.create(tmp_path / "results", [])
    cells = []
    for text, _ in HOSTILE.values():
        named = {"id": text, "axes": {text: text}}
        cells.append(sample.cells()[0].model_copy(update=named))
    run = sample.create(tmp_path / "results", cells)
    for cell in cells:
        said = sample.verdict(cell).model_copy(update={"reasons": (f"=1+1 {cell.id}",)})
        sample.measure(run, cell, said)
    file = run.path / "run.json"
    told = json.loads(file.read_text())
    told["name"], told["git"] = "../../../tmp/\x1b]0;x\x07", "<b>=1+1"
    file.write_text(json.dumps(told))
    return RunFolder.open(run.path.rename(run.path.with_name("=x\x1b[31m<b>")))


@pytest.mark.parametrize("name", ["csv", *SINGLE])
def test_a_hostile_run_is_written_where_it_belongs_and_obeyed_by_nothing(
    lab: Command, hostile: RunFolder, name: str
) -> None:
    ended = lab("export", hostile.path, "--to", name)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    [made] = listed()
    assert made.startswith("=x%1B%5B31m%3Cb%3E-")
    place = Path(made)
    files = [place] if place.is_file() else sorted(place.iterdir())
    for file in files:
        text = file.read_text()
        assert not {c for c in text if ord(c) < 32} - {"\n"}
        if name == "csv":
            values = {value for row in table(str(file)) for value in (*row, *row.values())}
            values = {value for value in values if not _is_number(value)}
            assert not [value for value in values if value.startswith(csv_format.FORMULA)]
        if name == "junit":
            assert "<script>" not in text
            assert "<b>" not in text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# What it does not take.


@pytest.fixture
def held(run: RunFolder) -> Iterator[None]:
    """Somebody is measuring the run."""
    with (run.path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("held")
def test_a_run_that_is_being_measured_is_refused(lab: Command, run: RunFolder) -> None:
    ended = lab("export", run.path, "--to", "junit")
    assert (ended.code, listed()) == (3, [])
    says = f"{run.path}: another process is writing this run - wait until it ends, or stop it"
    assert the_line(ended.err) == says


def test_a_run_that_was_measured_is_not_held(lab: Command, run: RunFolder) -> None:
    (run.path / ".lock").write_text("12345\n")
    assert lab("export", run.path, "--to", "junit").code == 0


def test_a_missing_extra_is_one_line_and_leaves_nothing(
    lab: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    ended = lab("export", run.path, "--to", "parquet")
    assert (ended.code, ended.out, listed()) == (3, "", [])
    line = the_line(ended.err)
    assert line.startswith("Parquet takes pyarrow, which is not installed (")
    assert line.endswith(") - install it, as `pip install replica-lab[parquet]`, or write --to csv")


Setup = Callable[[RunFolder, pytest.MonkeyPatch], list[str | Path]]


def _read_only(_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    opened = os.open

    def refuses(path: str, flags: int, *more: int, **by_name: int) -> int:
        if str(path).endswith(".tmp"):
            raise OSError(30, "Read-only file system", path)
        return opened(path, flags, *more, **by_name)

    monkeypatch.setattr(os, "open", refuses)
    return ["-o", "out.xml"]


def _full(_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    return ["-o", "out.xml"]


def _no_folder(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    return ["-o", "nowhere/out.xml"]


def _a_folder(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    Path("out.xml").mkdir()
    return ["-o", "out.xml"]


def _a_link(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    Path("out.xml").symlink_to("thesis.txt")
    return ["-o", "out.xml"]


def _a_pipe(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    os.mkfifo("out.xml")
    return ["-o", "out.xml"]


def _a_file_above(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    Path("file").write_text("mine")
    return ["-o", "file/out.xml"]


def _within(run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    return ["-o", run.path / "cells" / "out.xml"]


def _both(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    return ["-o", "out.xml", "--endpoint", "http://127.0.0.1:1"]


def _endpoint(_run: RunFolder, _patch: pytest.MonkeyPatch) -> list[str | Path]:
    return ["--endpoint", "http://127.0.0.1:1"]


NOT_WRITTEN: dict[str, tuple[Setup, int, str]] = {
    "a read-only place": (_read_only, 3, "Read-only file system - name another place with -o"),
    "a full disk": (_full, 3, "No space left on device - free some space on its disk, or name"),
    "no such folder": (_no_folder, 3, "No such file or directory - make its folder, or name"),
    "a folder": (_a_folder, 2, "out.xml is a folder, and the export is one file - name a file"),
    "a link": (_a_link, 3, "out.xml: is a link in place of a file of the lab's, and is left"),
    "a pipe": (_a_pipe, 3, "out.xml: is a named pipe in place of a file of the lab's, and is left"),
    "a file above it": (_a_file_above, 3, "Not a directory - name another place with -o"),
    "within the run": (_within, 2, "is within the run itself - choose another place with -o"),
    "two places": (_both, 2, "--output and --endpoint exclude each other - leave one out"),
    "no such server": (_endpoint, 2, "no server takes junit from the lab - leave --endpoint out"),
}


@pytest.mark.parametrize("case", NOT_WRITTEN)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(
    lab: Command, run: RunFolder, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    setup, code, says = NOT_WRITTEN[case]
    with monkeypatch.context() as patch:
        options = setup(run, patch)
        before = listed()
        ended = lab("export", run.path, "--to", "junit", *options)
    assert (ended.code, ended.out) == (code, "")
    assert says in the_line(ended.err)
    assert listed() == before
    if case == "a pipe":
        assert stat.S_ISFIFO(Path("out.xml").lstat().st_mode)


def test_several_files_have_no_place_on_standard_output(lab: Command, run: RunFolder) -> None:
    ended = lab("export", run.path, "--to", "csv", "-o", "-")
    assert (ended.code, ended.out) == (2, "")
    assert the_line(ended.err) == (
        "csv is several files, which have no place on standard output - name a folder, as"
        " -o exported"
    )


def _later(run: RunFolder) -> None:
    file = run.path / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99, "new": 1}))


def _half(run: RunFolder) -> None:
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text[: len(text) // 2])


def _nothing(run: RunFolder) -> None:
    for cell_id in run.info.cells:
        (run.cell(cell_id).path / "verdict.json").unlink()


def _all_damaged(run: RunFolder) -> None:
    for cell_id in run.info.cells:
        (run.cell(cell_id).path / "cell.json").write_text("{")


NOT_READ: dict[str, tuple[Callable[[RunFolder], None], int, str]] = {
    "a later schema": (_later, 2, "written by a later lab (schema_version 99; this lab reads"),
    "half written": (_half, 3, "the file is damaged: "),
    "nothing finished": (_nothing, 2, "has no cell to export - `lab run --resume` goes on"),
    "all damaged": (_all_damaged, 2, "has no cell to export: "),
}


@pytest.mark.parametrize("case", NOT_READ)
def test_a_run_that_cannot_be_read_is_one_line(lab: Command, run: RunFolder, case: str) -> None:
    damage, code, says = NOT_READ[case]
    damage(run)
    for name in SINGLE:
        ended = lab("export", run.path, "--to", name)
        assert (ended.code, ended.out, listed()) == (code, "", [])
        assert says in the_line(ended.err)


def test_a_format_that_there_is_not_is_told_with_those_there_are(
    lab: Command, run: RunFolder
) -> None:
    ended = lab("export", run.path, "--to", "xlsx")
    assert ended.code == 2
    assert "'parquet'" in the_line(ended.err)
