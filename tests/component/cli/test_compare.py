"""``lab compare``: every form of it, its exit codes, and what it does not take."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.model.run_comparison import RunComparison
from lab.store import RunFolder
from tests.cli_fixture import Command, the_line
from tests.fakes import sample_run as sample

KNOWN = {
    "throughput": {"error": 0.02, "batches": 10},
    "p95": {"error": 0.02, "batches": 10},
    "error_rate": {"error": 0.01, "batches": 10, "effective": 400},
}
CELLS = sample.cells()[:6]
WORSE = CELLS[4].id
OTHER = "p95 < 10 s"


def edit(run: RunFolder, cell_id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a stored verdict."""
    file = run.cell(cell_id).path / "verdict.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


def knows(told: dict[str, Any]) -> None:
    told["spreads"] = KNOWN


def slower(told: dict[str, Any]) -> None:
    told["metrics"]["throughput"] *= 0.7
    told["metrics"]["p95"] *= 1.4


def stored(results: Path, *, worse: bool = False) -> RunFolder:
    """Six cells of which every figure is known to 2 %; one of them slower."""
    run = sample.create(results, CELLS)
    for cell in CELLS:
        sample.measure(run, cell)
        edit(run, cell.id, knows)
    if worse:
        edit(run, WORSE, slower)
    return run


@pytest.fixture
def before(tmp_path: Path) -> RunFolder:
    return stored(tmp_path / "before")


@pytest.fixture
def after(tmp_path: Path) -> RunFolder:
    return stored(tmp_path / "after", worse=True)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def test_the_gate_ends_with_1_where_something_got_worse_and_only_then(
    lab: Command, before: RunFolder, after: RunFolder, tmp_path: Path
) -> None:
    assert lab("compare", before.path, after.path).code == 0
    assert lab("compare", before.path, after.path, "--gate").code == 1
    assert lab("compare", after.path, before.path, "--gate").code == 0  # it got better
    same = stored(tmp_path / "same")
    assert lab("compare", before.path, same.path, "--gate").code == 0


def test_the_terminal_says_first_what_got_worse(
    lab: Command, before: RunFolder, after: RunFolder
) -> None:
    ended = lab("compare", before.path, after.path)
    assert ended.err == ""
    title, tally, first, *_ = ended.out.splitlines()
    assert title == f"{after.info.name} beside {before.info.name}"
    assert tally == "6 pairs of cells: 1 got worse, 5 without a certain difference"
    assert first.strip().startswith(f"{WORSE}: worse: throughput 0.700 x (0.6")
    assert "all 18 intervals hold together at 95 %" in in_one_line(ended.out)
    assert "changed between all cells: nothing" in ended.out
    assert re.search(
        rf"{re.escape(WORSE)}\s+worse\s+x broke\s+0\.700 x\s+1\.40 x\s+\+0 points", ended.out
    )
    assert ended.out.isascii()
    assert max(map(len, ended.out.splitlines())) <= 100


@pytest.mark.parametrize("columns", ["40", "80", "160"])
def test_a_narrow_terminal_gets_lines_in_place_of_columns_of_letters(
    lab: Command,
    before: RunFolder,
    after: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    columns: str,
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    out = lab("compare", before.path, after.path).out
    assert max(map(len, out.splitlines())) <= int(columns)
    told = in_one_line(out)
    if columns == "80":
        assert f"{WORSE}; worse; x broke; uploads/s 0.700 x; p95 1.40 x; failed +0 points" in told
    if columns == "160":
        assert f"{WORSE} worse x broke 0.700 x 1.40 x +0 points" in told


def test_json_is_the_comparison_itself(lab: Command, before: RunFolder, after: RunFolder) -> None:
    out = lab("compare", before.path, after.path, "--json").out
    told = RunComparison.model_validate_json(out)
    assert told.worse
    assert not told.open
    assert (told.before.name, told.after.name) == (before.info.name, after.info.name)
    [pair] = [pair for pair in told.cells if pair.worse]
    assert (pair.after, pair.worse, pair.better) == (WORSE, ("throughput",), ())


@pytest.mark.parametrize("form", ["--markdown", "--html"])
def test_the_documents_have_every_figure_of_each_pair(
    lab: Command, before: RunFolder, after: RunFolder, form: str
) -> None:
    told = RunComparison.model_validate_json(lab("compare", before.path, after.path, "--json").out)
    out = lab("compare", before.path, after.path, form).out
    plain = in_one_line(out.replace("\\", "").replace("&lt;", "<"))
    for pair in told.cells:
        assert pair.after in plain
    assert "0.700 x" in plain
    assert plain.count("throughput") >= len(told.cells)
    if form == "--html":
        assert out.startswith("<!doctype html>")
        assert "http" not in out
        assert out.count('<svg class="pair"') >= 2 * len(told.cells)


def test_a_criterion_that_turned_and_a_limit_that_moved_are_told(
    lab: Command, before: RunFolder, after: RunFolder
) -> None:
    def turned(told: dict[str, Any]) -> None:
        for run_finding in told["findings"]:
            if run_finding["criterion"] == OTHER:
                run_finding.update(outcome="met", samples=400, beyond=0, allowed=0.05)
        told["limit"] = {"resource": "own_threads", "evidence": "x"}

    def pool(told: dict[str, Any]) -> None:
        told["limit"] = {"resource": "pool", "evidence": "x"}
        told["findings"][0].update(samples=400, beyond=90, allowed=0.05, outcome="missed")

    cell = CELLS[1].id
    edit(before, cell, pool)
    edit(after, cell, turned)
    out = in_one_line(lab("compare", before.path, after.path).out)
    assert f"{cell}: better: {OTHER} was missed, is met" in out
    assert f"{cell}: now met: {OTHER}; the limit moved from pool to own_threads" in out


def test_what_only_one_of_them_has_is_told_and_ends_with_4(
    lab: Command, before: RunFolder, tmp_path: Path
) -> None:
    fewer = sample.create(tmp_path / "fewer", CELLS[:3])
    for cell in CELLS[:2]:
        sample.measure(fewer, cell)
        edit(fewer, cell.id, knows)
    ended = lab("compare", before.path, fewer.path, "--gate")
    assert ended.code == 4
    told = in_one_line(ended.out)
    assert "2 pairs of cells" in told
    alone = "; ".join(cell.id for cell in CELLS[2:])
    assert f"in {before.info.name} alone: {alone}" in told
    assert f"{CELLS[2].id}: not finished in {fewer.info.name}" in told


def test_a_damaged_cell_is_told_and_the_others_are_compared(
    lab: Command, before: RunFolder, after: RunFolder
) -> None:
    (after.cell(CELLS[0].id).path / "verdict.json").write_text("{")
    ended = lab("compare", before.path, after.path)
    assert ended.code == 4
    assert f"{CELLS[0].id}: damaged in {after.info.name}" in in_one_line(ended.out)
    assert "5 pairs of cells" in ended.out
    assert lab("compare", before.path, after.path, "--gate").code == 1


def test_another_machine_is_not_compared_unless_asked(
    lab: Command, before: RunFolder, after: RunFolder
) -> None:
    file = after.path / "run.json"
    told = json.loads(file.read_text())
    told["machine"]["cpus"] = "64"
    file.write_text(json.dumps(told))
    ended = lab("compare", before.path, after.path, "--gate")
    assert ended.code == 4
    assert "not comparable: their machines differ: cpus 2 and 64; --anyway" in in_one_line(
        ended.out
    )
    anyway = lab("compare", before.path, after.path, "--gate", "--anyway")
    assert anyway.code == 1
    assert "compared anyway, and not comparable: their machines differ" in in_one_line(anyway.out)


def test_figures_of_an_earlier_lab_pass_nothing(
    lab: Command, before: RunFolder, tmp_path: Path
) -> None:
    earlier = sample.create(tmp_path / "earlier", CELLS)
    for cell in CELLS:
        sample.measure(earlier, cell)
    ended = lab("compare", before.path, earlier.path, "--gate")
    assert ended.code == 4
    assert "it is not known how well its figures are known" in in_one_line(ended.out)
    assert "`lab judge` does anew" in in_one_line(ended.out)


def test_the_answer_goes_to_the_summary_of_a_step(
    lab: Command,
    before: RunFolder,
    after: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    assert lab("compare", before.path, after.path).err == ""
    written = file.read_text()
    assert written.startswith("before\n\n# ")
    assert "1 got worse" in written
    assert "| metric |" not in written


# What it does not take.


def _twice(before: RunFolder, _results: Path) -> tuple[Path, Path]:
    return before.path, before.path / ".." / before.path.name


def _nothing_common(before: RunFolder, results: Path) -> tuple[Path, Path]:
    other = sample.create(results, sample.cells()[6:8])
    for cell in sample.cells()[6:8]:
        sample.measure(other, cell)
    return before.path, other.path


def _nothing_finished(before: RunFolder, results: Path) -> tuple[Path, Path]:
    return before.path, sample.create(results, CELLS).path


def _all_damaged(before: RunFolder, results: Path) -> tuple[Path, Path]:
    other = stored(results)
    for cell in CELLS:
        (other.cell(cell.id).path / "verdict.json").write_text("{")
    return before.path, other.path


def _search(before: RunFolder, results: Path) -> tuple[Path, Path]:
    return before.path, sample.create(results, CELLS, max_users=100).path


def _later(before: RunFolder, results: Path) -> tuple[Path, Path]:
    other = Path(shutil.copytree(before.path, results / "later"))
    file = other / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99, "new": 1}))
    return before.path, other


def _half_written(before: RunFolder, results: Path) -> tuple[Path, Path]:
    other = Path(shutil.copytree(before.path, results / "half"))
    text = (other / "run.json").read_text()
    (other / "run.json").write_text(text[: len(text) // 2])
    return before.path, other


def _no_run(before: RunFolder, results: Path) -> tuple[Path, Path]:
    (results / "empty").mkdir(parents=True)
    return before.path, results / "empty"


Case = tuple[Callable[[RunFolder, Path], tuple[Path, Path]], int, str]
BAD: dict[str, Case] = {
    "the same run twice": (_twice, 2, "is given twice - `lab runs` lists the others"),
    "no common cell": (
        _nothing_common,
        2,
        "have no cell in common: the cells of the one differ by workers, pool, db_session, of the"
        " other by workers, pool, db_session - compare two runs of one spec",
    ),
    "nothing finished": (_nothing_finished, 2, "is finished - `lab run --resume"),
    "all damaged": (_all_damaged, 2, "is finished, and 6 cells damaged - `lab run --resume"),
    "a search": (_search, 2, "is a search for thresholds, whose trials have no partners - compare"),
    "a later schema": (
        _later,
        2,
        "written by a later lab (schema_version 99; this lab reads up to",
    ),
    "half written": (_half_written, 3, "run.json:"),
    "no run": (
        _no_run,
        2,
        "is not a run folder (it holds no run.json) - `lab runs` lists the runs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_its_remedy(
    lab: Command, before: RunFolder, tmp_path: Path, case: str
) -> None:
    make, code, says = BAD[case]
    ended = lab("compare", *make(before, tmp_path / "other"), "--gate")
    assert (ended.code, ended.out) == (code, "")
    line = the_line(ended.err)
    assert says in line
    assert " - " in line


def test_two_forms_exclude_each_other(lab: Command, before: RunFolder, after: RunFolder) -> None:
    ended = lab("compare", before.path, after.path, "--html", "--json")
    assert (ended.code, the_line(ended.err)) == (
        2,
        "--html and --json exclude each other - leave one out",
    )
