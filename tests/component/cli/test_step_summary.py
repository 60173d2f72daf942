"""The summary of a step in CI: what commands append to it, and that it stops none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.cli.step import MAX_BYTES, append_summary
from lab.store import RunFolder
from tests.cli_fixture import Command
from tests.fakes import sample_run as sample


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return sample.stored(tmp_path / "results")


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: Command) -> Path:  # noqa: ARG001
    """Where the runner wants it; ``lab`` is asked for first, because it takes that away."""
    file = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    return file


@pytest.mark.parametrize("form", [[], ["--json"], ["--html"]], ids=str)
def test_a_report_appends_its_answer_in_markdown(
    lab: Command, run: RunFolder, summary: Path, form: list[str]
) -> None:
    ended = lab("report", run.path, *form)
    assert (ended.code, ended.err) == (0, "")
    once = summary.read_text()
    assert once.startswith("\n## workers-x-pool\n")
    assert "**12 cells: " in once
    assert "**Answer.** " in once
    assert once.count("\n| ") == 14  # a row a cell, the head and the rule under it
    assert f"- Run: {run.info.name}".replace("_", "\\_") in once
    lab("report", run.path)
    assert summary.read_text() == 2 * once


def test_a_cell_by_itself_is_no_answer(lab: Command, run: RunFolder, summary: Path) -> None:
    assert lab("report", run.path, "--cell", run.info.cells[0]).code == 0
    assert not summary.exists()


def test_without_a_step_nothing_is_written(lab: Command, run: RunFolder, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert lab("report", run.path).err == ""
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_not_measured_is_told_there_too(
    lab: Command, tmp_path: Path, summary: Path
) -> None:
    run = sample.stored(tmp_path / "unfinished", finished=2)
    lab("report", run.path)
    assert f"Not finished: {run.info.cells[2]}".replace("_", "\\_") in summary.read_text()


def test_a_summary_that_cannot_be_written_stops_no_command(
    lab: Command, run: RunFolder, summary: Path
) -> None:
    summary.mkdir()
    ended = lab("report", run.path)
    assert ended.code == 0
    assert ended.err == f"GITHUB_STEP_SUMMARY: {summary} is not written: Is a directory\n"


def test_a_pipe_that_nobody_reads_stops_none_either(
    lab: Command, run: RunFolder, summary: Path
) -> None:
    os.mkfifo(summary)
    ended = lab("report", run.path)
    assert ended.code == 0
    assert ended.err.startswith(f"GITHUB_STEP_SUMMARY: {summary} is not written: ")


def test_none_becomes_larger_than_is_shown(
    summary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary.write_bytes(b"x" * (MAX_BYTES - 10))
    append_summary("0123456789")
    assert summary.stat().st_size == MAX_BYTES - 10
    assert "larger than 1 MiB" in capsys.readouterr().err
    append_summary("012345678")
    assert summary.stat().st_size == MAX_BYTES
