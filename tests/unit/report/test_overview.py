"""The page of many answers: every question is on it, those without an answer too."""

from __future__ import annotations

import re

import pytest

from lab.model.capacity import Thresholds
from lab.model.run import RunInfo
from lab.report import Entry, answered, overview
from tests.fakes import sample_run
from tests.unit.report.results import result, summary
from tests.unit.report.test_documents import HOSTILE
from tests.unit.report.test_thresholds import answer as threshold


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    return sample_run.create(tmp_path_factory.mktemp("results")).info


def test_every_question_is_in_the_table_and_has_its_answer(info: RunInfo) -> None:
    run = answered(summary(result(metrics={"p95": 4.0})), "general")
    assert run.answer
    page = overview([Entry("a", "does it hold?", (run, info)), Entry("b", "and this?")])
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        f"| does it hold? | 1 cell: 1 held | a | {info.name} |",
        "| and this? | not measured | b | - |",
    ]
    assert f"## does it hold?\n\n{run.answer.text}\n\n*1 cell: 1 held; " in page
    assert info.started in page
    assert "## and this?\n\nNot measured: no run of it is stored.\n" in page


def test_a_search_tells_its_thresholds(info: RunInfo) -> None:
    found = Thresholds(
        run="r",
        experiment="t",
        about="",
        stack="embedded",
        speed=5,
        cells=(threshold(),),
        missing=(),
    )
    page = overview([Entry("t", "at how many users?", (found, info))])
    assert "- workers=1: holds at 34 users, breaks at 37 (95 % confidence)" in page


def test_a_run_that_cannot_be_read_says_why() -> None:
    assert "Not measured: the file is damaged." in overview(
        [Entry("a", "", None, "the file is damaged")]
    )


def test_text_from_outside_is_escaped(info: RunInfo) -> None:
    run = answered(summary(result(HOSTILE)), "general")
    page = overview([Entry(HOSTILE, HOSTILE, (run, info)), Entry("b", HOSTILE, None, HOSTILE)])
    assert "<script" not in page.replace("\\<", "")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
