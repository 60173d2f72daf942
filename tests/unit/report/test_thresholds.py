"""What a search for thresholds says to people, in every form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, Thresholds
from lab.model.run import RunInfo
from lab.model.verdict import Outcome
from lab.report import (
    Style,
    cell_details,
    end_table,
    html_report,
    markdown_report,
    news,
)
from lab.report.thresholds import sentence
from tests.fakes import sample_run as sample
from tests.unit.report.test_documents import HOSTILE, Page


def trial(users: int, outcome: Outcome, beyond: int | None = 0) -> CapacityTrial:
    samples = None if beyond is None else 66
    p95 = CriterionCount(
        criterion="p95 < 10 s", outcome=outcome, samples=samples, violations=beyond, allowed=0.05
    )
    oom = CriterionCount(criterion="oom_kills == 0", outcome=Outcome.HELD)
    return CapacityTrial(
        id=f"workers=1-u{users}-1",
        users=users,
        window=60.0,
        spent=100.0,
        sent=66,
        outcome=outcome,
        criteria=(p95, oom),
    )


def answer(**changes: Any) -> Threshold:
    given: dict[str, Any] = {
        "id": "workers=1",
        "holds_at": 34,
        "breaks_at": 37,
        "crossed_first": "p95 < 10 s",
        "confidence": 0.95,
        "outcome": "found",
        "reason": "it holds at 34 users and breaks at 37",
        "trials": (trial(34, Outcome.HELD), trial(37, Outcome.BROKE, 9)),
    }
    return Threshold.model_validate(given | changes)


OPEN_ABOVE = {"breaks_at": None, "crossed_first": None, "holds_at": 200}
FIRST_BREAKS = {"holds_at": None, "breaks_at": 1}
UNSURE = {"outcome": "undecided", "reason": "at 35, 36 users it is too near the threshold to tell"}
SENTENCES: list[tuple[dict[str, Any], str]] = [
    (
        {},
        "holds at 34 users, breaks at 37 (95 % confidence); p95 < 10 s is crossed first;"
        " 2 trials, 3 min 20 s of load",
    ),
    (
        OPEN_ABOVE,
        "holds at 200 users, the most that were to be tried (95 % confidence);"
        " 2 trials, 3 min 20 s of load",
    ),
    (
        FIRST_BREAKS,
        "breaks at 1 user (95 % confidence); p95 < 10 s is crossed first;"
        " 2 trials, 3 min 20 s of load",
    ),
    (
        {**UNSURE, "more": 2400.0, "trials": (trial(34, Outcome.HELD),)},
        "undecided: at 35, 36 users it is too near the threshold to tell; for certain: holds at 34"
        " users, breaks at 37 (95 % confidence); p95 < 10 s is crossed first; about 40 min 00 s"
        " more of load would probably decide it; 1 trial, 1 min 40 s of load",
    ),
    (
        {**UNSURE, **OPEN_ABOVE},
        "undecided: at 35, 36 users it is too near the threshold to tell; for certain: holds at"
        " 200 users (95 % confidence); 2 trials, 3 min 20 s of load",
    ),
    (
        {**OPEN_ABOVE, "holds_at": None, "outcome": "invalid", "reason": "trials tell nothing"},
        "invalid: trials tell nothing; for certain: nothing; 2 trials, 3 min 20 s of load",
    ),
]


@pytest.mark.parametrize(("changes", "says"), SENTENCES)
def test_the_sentence_of_a_cell(changes: dict[str, Any], says: str) -> None:
    assert sentence(answer(**changes)) == says


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (
            trial(37, Outcome.BROKE, 9),
            "workers=1-u37-1: 37 users, broke; p95 < 10 s: 9 of 66 (14 %); oom_kills == 0: held",
        ),
        (
            trial(1, Outcome.INVALID, None),
            "workers=1-u1-1: 1 user, invalid; p95 < 10 s: invalid; oom_kills == 0: held",
        ),
    ],
)
def test_a_trial_is_told_on_one_line(one: CapacityTrial, says: str) -> None:
    assert news(one) == says


@pytest.fixture
def found() -> Thresholds:
    return Thresholds(
        run="20261124T081500Z-threshold-12345678",
        experiment="threshold",
        about="where does it begin to fail?",
        stack="embedded",
        speed=5.0,
        cells=(
            answer(),
            answer(id="workers=2", **OPEN_ABOVE),
            answer(id="workers=4", **FIRST_BREAKS, **UNSURE),
        ),
        missing=("workers=8",),
    )


@pytest.fixture
def info(tmp_path: Path) -> RunInfo:
    return sample.create(tmp_path).info.model_copy(update={"kind": "threshold", "max_users": 200})


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_text_fits_its_width_in_ascii_and_tells_the_whole_story(
    found: Thresholds, info: RunInfo, width: int
) -> None:
    text = end_table(found, info, "results/run", Style(width))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.split())
    assert "threshold: where does it begin to fail?" in told
    assert "a cell holds while p95 < 10 s and error_rate < 5 %" in told
    assert "up to 200 users, closed loop: ramp 5 s, warm-up 10 s, windows of 1 min" in told
    for cell in found.cells:
        assert f"{cell.id} {sentence(cell)}" in told
    assert "+ workers=1 holds" in told
    assert "? workers=4 undecided" in told
    assert "- workers=8 not finished" in told
    assert "4 cells: 2 found, 1 undecided, 1 not finished" in told
    assert "go on: lab threshold --resume results/run" in told


def test_one_cell_is_told_with_its_trials() -> None:
    text = cell_details(answer(), Style(120))
    assert "holds at 34 users, breaks at 37" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("workers=1-")]
    assert [row[1] for row in rows] == ["34", "37"]
    assert "9 of 66 (14 %)" in text


def test_markdown_has_the_sentences_and_every_trial(found: Thresholds, info: RunInfo) -> None:
    text = markdown_report(found, info).replace("\\", "")
    for cell in found.cells:
        assert f"- {cell.id}: {sentence(cell)}" in text
        assert f"## {cell.id}: {cell.outcome}" in text
    assert "Not finished: workers=8" in text
    assert text.count("| workers=1-u37-1 | 37 | 1 min | 66 | broke | p95 < 10 s: 9 of 66") == 3


def test_the_page_is_whole_needs_no_network_and_links_to_every_cell(
    found: Thresholds, info: RunInfo
) -> None:
    text = html_report(found, info)
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert {link.removeprefix("#") for link in page.links} == page.ids
    assert len(page.ids) == 3
    for cell in found.cells:
        assert sentence(cell).replace("<", "&lt;") in text


def test_a_strip_is_to_the_pages_one_scale_of_users(found: Thresholds, info: RunInfo) -> None:
    text = html_report(found, info)
    assert 'class="holds" x="0.0" y="4" width="110.3"' in text  # 34 of the 37 that were tried
    assert 'class="breaks" x="120.0" y="4" width="0.0"' in text


def test_text_from_outside_is_escaped(found: Thresholds, info: RunInfo) -> None:
    hostile = found.model_copy(
        update={"about": HOSTILE, "missing": (HOSTILE,), "cells": (answer(id=HOSTILE),)}
    )
    page = html_report(hostile, info)
    assert "<script" not in page
    assert Page(page).open == []
    assert "<script" not in markdown_report(hostile, info).replace("\\<", "")


def test_the_documents_of_a_search_without_an_answer_yet(found: Thresholds, info: RunInfo) -> None:
    none = found.model_copy(update={"cells": (), "missing": ("a", "b")})
    assert Page(html_report(none, info)).open == []
    for text in (markdown_report(none, info), end_table(none, info, "x", Style())):
        assert "2 cells: 2 not finished" in text


def test_beside_a_baseline_each_threshold_is_told_with_what_it_was_before(
    found: Thresholds, info: RunInfo
) -> None:
    of = info.experiment.model_copy(update={"baseline": {"workers": 1}})
    against = info.model_copy(update={"experiment": of, "cells": ("workers=1", "workers=2")})
    before = "; the baseline, workers=1: holds at 34 users, breaks at 37 (95 % confidence)"
    for text in (markdown_report(found, against), end_table(found, against, "x", Style(300))):
        assert before in text.replace("\\", "")
        assert text.count("the baseline") == len(found.cells) - 1
    twice = of.model_copy(update={"repeat": 2})
    for other in (info, against.model_copy(update={"experiment": twice})):
        assert "the baseline" not in markdown_report(found, other)
