"""A cell of which something stored is damaged is told apart; the others are reported as ever."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.store import RunFolder, runs
from tests.cli_fixture import Command, the_line
from validation.fresh_run import SPEC, make_fresh


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two cells that were measured, with their evidence."""
    return make_fresh(tmp_path / "results")


def _garbage(name: str) -> Callable[[Path], None]:
    def write(cell: Path) -> None:
        (cell / name).write_text("garbage\n")

    return write


def _link(cell: Path) -> None:
    (cell / "verdict.json").unlink()
    (cell / "verdict.json").symlink_to("/dev/zero")


def _no_audit(cell: Path) -> None:
    lines = (cell / "evidence.jsonl").read_text().splitlines(keepends=True)
    (cell / "evidence.jsonl").write_text("".join(lines[:-1]))


DAMAGES: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "verdict": (_garbage("verdict.json"), "verdict.json:1: the file is damaged: Expecting", True),
    "cell": (_garbage("cell.json"), "cell.json:1: the file is damaged: Expecting value", True),
    "link": (_link, "verdict.json: is a link in place of a file of the lab's", True),
    "samples": (_garbage("samples.jsonl"), "samples.jsonl:1: the line is damaged", False),
    "evidence": (_garbage("evidence.jsonl"), "does not end with its audit", False),
    "audit": (_no_audit, "evidence.jsonl: the file is damaged: it does not end with", False),
}
"""What is done to a cell's folder, what is said of it, and whether reporting reads it."""


@pytest.mark.parametrize("case", DAMAGES)
def test_one_bad_cell_leaves_the_other_reported(
    lab: Command, run: RunFolder, tmp_path: Path, case: str
) -> None:
    damage, says, read_by_report = DAMAGES[case]
    good, bad = run.info.cells
    damage(run.cell(bad).path)
    if case == "verdict":  # judging makes it anew
        (run.cell(bad).path / "evidence.jsonl").unlink()
    shown = lab("report", run.path)
    assert (shown.code, shown.err) == ((4, "") if read_by_report else (0, ""))
    judged = lab("judge", run.path)
    assert (judged.code, judged.err) == (4, "")
    outputs = [judged.out, *([shown.out] if read_by_report else [])]
    for out in outputs:
        assert re.search(r"2 cells: 1 \w+, 1 damaged", out)
        assert f"- {bad}: damaged" in out
        assert says.split("'")[0][:30] in " ".join(out.split())
    stored = json.loads((run.path / "summary.json").read_text())
    assert [cell["id"] for cell in stored["cells"]] == [good]
    assert stored["missing"] == []
    [apart] = stored["damaged"]
    assert apart["id"] == bad
    assert says in apart["problem"]
    assert f"Damaged, and not read: {bad}." in stored["answer"]["claims"][-1]["text"]
    for page in ("report.md", "report.html"):
        text = (run.path / page).read_text()
        assert "1 damaged" in text
        assert "Damaged: " in text
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(SPEC))
    assert lab("summary", spec, "--results", run.path.parent).code == 4


def test_a_damaged_cell_that_is_asked_for_says_what_is_wrong_with_it(
    lab: Command, run: RunFolder
) -> None:
    good, bad = run.info.cells
    _garbage("verdict.json")(run.cell(bad).path)
    assert lab("report", run.path, "--cell", good).code == 0
    ended = lab("report", run.path, "--cell", bad)
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err).startswith(f"{run.cell(bad).path}/verdict.json:1: the file is dam")


def test_runs_counts_a_damaged_cell(lab: Command, run: RunFolder) -> None:
    good = run.cell(run.info.cells[1]).read_verdict().outcome
    (run.cell(run.info.cells[0]).path / "verdict.json").write_text("{")
    [listed] = runs(run.path.parent)
    assert (listed.problem, listed.outcomes) == (None, {good: 1, "damaged": 1})
    shown = lab("runs", "--results", run.path.parent)
    assert shown.code == 0
    assert f"1 {good}, 1 damaged" in shown.out


@pytest.mark.parametrize("arguments", [["judge"], ["report"], ["run", "--resume"]])
def test_a_run_that_is_nested_without_end(
    lab: Command, run: RunFolder, arguments: list[str]
) -> None:
    (run.path / "run.json").write_text("[" * 10**6)
    ended = lab(*arguments, run.path)
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == (
        f"{run.path}/run.json: the file is damaged: it is nested too deeply - restore the file"
        " from a copy, or run the experiment again"
    )


def test_a_nested_run_breaks_neither_the_list_nor_the_summary(
    lab: Command, run: RunFolder, tmp_path: Path
) -> None:
    other = make_fresh(run.path.parent)
    (other.path / "run.json").write_text('{"experiment": ' * 10**5)
    listed = lab("runs", "--results", run.path.parent)
    assert listed.code == 0
    assert run.info.name in listed.out
    assert "unreadable" in listed.out
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(SPEC))
    summary = lab("summary", spec, "--results", run.path.parent)
    assert summary.code == 4
    assert "nested too deeply" in summary.out


@pytest.mark.parametrize("latest", ["file", "folder", "link"])
def test_a_summary_page_that_is_somebody_elses_link_is_left(
    lab: Command, run: RunFolder, tmp_path: Path, latest: str
) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("three years of work")
    page = run.path.parent / "summary.md"
    if latest == "folder":
        page.mkdir()
    elif latest == "link":
        page.symlink_to(thesis)
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(SPEC))
    ended = lab("summary", spec, "--results", run.path.parent)
    if latest == "file":
        assert ended.out == page.read_text()
        return
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == (
        f"{page}: is a {latest} in place of a file of the lab's, and is left as it is"
        " - move it away"
    )
    assert thesis.read_text() == "three years of work"


def test_what_the_lab_did_not_write_is_told_and_stays(lab: Command, run: RunFolder) -> None:
    mine = [run.path / f"note-{number}.txt" for number in range(6)]
    for path in mine:
        path.write_text("mine")
    ended = lab("judge", run.path)
    assert ended.err == (
        f"left as it is in {run.path}, because the lab did not write it: note-0.txt, note-1.txt,"
        " note-2.txt, note-3.txt and 2 more\n"
    )
    assert all(path.read_text() == "mine" for path in mine)
