"""A cell that was measured several times, in each form of a report; and one that never could be."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lab.model.run import AttemptResult, CellResult, RunInfo, Summary
from lab.model.verdict import Invalidity, InvalidityKind, Outcome
from lab.report import Style, cell_details, end_table, html_report, markdown_report
from lab.report.run import REMEDIES
from tests.fakes import sample_run as sample
from tests.unit.report.results import result, summary

BUSY = "this machine's CPU was 97 % in use, 60 % by other programs"
FAST = "at speed 8 an upload takes 0.30 s longer than it would"


def attempt(speed: float, *reasons: str) -> AttemptResult:
    return AttemptResult(speed=speed, verdict=Outcome.INVALID, reasons=reasons)


HELD = result("held", Outcome.HELD, speed=4.5).model_copy(
    update={"attempts": (attempt(8, FAST, BUSY), attempt(4.5, BUSY))}
)
BROKE = result("broke", Outcome.BROKE).model_copy(update={"attempts": (attempt(8, FAST),)})


def invalid(label: str, *kinds: InvalidityKind) -> CellResult:
    reasons = tuple(Invalidity(kind=kind, reason=BUSY) for kind in kinds)
    told = {"invalid": reasons, "reasons": (BUSY,)}
    return result(label, Outcome.INVALID).model_copy(update=told)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    return sample.create(tmp_path_factory.mktemp("results")).info


def forms(stored: Summary, info: RunInfo) -> list[str]:
    html = html_report(stored, info).replace("&#39;", "'")
    markdown = markdown_report(stored, info).replace("\\", "")
    return [end_table(stored, info, Path("results/r"), Style(200)), markdown, html]


def test_the_row_says_which_attempt_it_is(info: RunInfo) -> None:
    for text in forms(summary(HELD, BROKE, result("once")), info):
        assert "attempt 3; it held" in text
        assert "attempt 2; it broke" in text
        assert text.count("attempt 1") == 0
    narrow = end_table(summary(HELD), info, Path("results/r"), Style(60))
    assert "attempt 3" in narrow


def test_the_section_shows_every_attempt_with_its_speed_and_reasons(info: RunInfo) -> None:
    text = cell_details(HELD, Style(200))
    rows = [line.split() for line in text.splitlines() if line.lstrip()[:1] in ("1", "2", "3")]
    assert [row[:4] for row in rows[:3]] == [
        ["1", "8", "!", "invalid"],
        ["2", "4.5", "!", "invalid"],
        ["3", "4.5", "+", "held"],
    ]
    assert f"{FAST}; {BUSY}" in text
    for form in forms(summary(HELD), info)[1:]:
        assert f"{FAST}; {BUSY}" in form
    assert "why it was repeated" not in cell_details(result("once"), Style(200))


def test_the_end_says_which_cells_could_not_be_measured_and_what_to_do(info: RunInfo) -> None:
    stored = summary(invalid("a", "machine", "generator"), HELD, invalid("b", "part", "machine"))
    told = (
        "Could not be measured: case=a; case=b - stop the programs that keep this machine busy;"
        " see why a part died, in its log under cells/; measure again with lab run --resume"
    )
    terminal, markdown, html = forms(stored, info)
    assert " ".join(terminal.split()).count(f"{told} results/r") == 1
    assert f"{told} RUN" in markdown
    assert f"{told} RUN" in html
    for text in forms(summary(HELD), info):
        assert "Could not be measured" not in text


def test_an_invalid_cell_of_an_earlier_lab_is_measured_again(info: RunInfo) -> None:
    terminal, *_ = forms(summary(invalid("a")), info)
    assert (
        "Could not be measured: case=a - measure again with lab run --resume results/r" in terminal
    )


def test_every_kind_of_reason_has_something_to_do_about_it() -> None:
    assert set(REMEDIES) == set(get_args(InvalidityKind))
