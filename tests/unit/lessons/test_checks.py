"""Every check against stored runs: unchanged, with the solution, and with each wrong cure."""

from __future__ import annotations

import pytest

from lab.lessons.exam_table import FIXED, HIDDEN_FAULTS, HiddenFault
from lab.lessons.grade import grade
from lab.lessons.predict import held_against
from lab.model.lessons import LessonFolder
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from tests.fakes.lesson_runs import kept, lessons
from validation.lesson_runs import (
    BEFORE,
    SOLUTION,
    UNCHANGED,
    exam_cell,
    problems,
    results_of,
    variants,
)

NAMES = [one.name for one in lessons()]
CURES = [(one, number) for one in lessons() for number in range(len(one.lesson.wrong))]


def of(folder: LessonFolder) -> dict[str, CellResult]:
    return kept()[folder.name]


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_every_variant_is_kept_as_the_lesson_has_it_now(folder: LessonFolder) -> None:
    stored = of(folder)
    assert list(stored)
    assert set(stored) == set(variants(folder))
    for name, settings in variants(folder).items():
        wanted = folder.cell.knobs.with_settings(settings)
        assert folder.cell.knobs.with_settings(stored[name].knobs) == wanted
        assert stored[name].load == folder.cell.load.model_dump(mode="json")
        asked = [str(criterion) for criterion in folder.lesson.absolute]
        assert [finding.criterion for finding in stored[name].findings] == asked


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_the_check_fails_on_the_unchanged_replica(folder: LessonFolder) -> None:
    runs = of(folder)
    for name in (UNCHANGED, BEFORE):
        told = grade(folder.lesson, runs[BEFORE], runs[name])
        assert told.outcome == "failed"
        missed = [one for one in told.findings if one.outcome == "missed"]
        assert missed
        assert all(one.because and one.reason for one in missed)


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_the_check_passes_with_the_solution(folder: LessonFolder) -> None:
    runs = of(folder)
    told = grade(folder.lesson, runs[BEFORE], runs[SOLUTION])
    assert told.outcome == "passed", told.findings
    assert not any(one.because for one in told.findings)


@pytest.mark.parametrize(
    ("folder", "number"), CURES, ids=[f"{one.name}-{n + 1}" for one, n in CURES]
)
def test_a_wrong_cure_fails_for_the_reason_that_the_lesson_names(
    folder: LessonFolder, number: int
) -> None:
    cure, runs = folder.lesson.wrong[number], of(folder)
    told = grade(folder.lesson, runs[BEFORE], runs[f"wrong {number + 1}"])
    assert told.outcome == "failed"
    check = str(cure.misses).replace("x baseline", "x before")
    [finding] = [one for one in told.findings if one.check == check]
    assert finding.outcome == "missed", finding.reason


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_exactly_one_prediction_is_right(folder: LessonFolder) -> None:
    for name in (BEFORE, UNCHANGED):
        choices = list(folder.lesson.prediction.choices or {})
        told = {one: held_against(folder, one, of(folder)[name]) for one in choices}
        assert [one.right for one in told.values()].count(True) == 1
        assert {one.truth for one in told.values()} == {one for one in told if told[one].right}


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_a_run_that_is_invalid_is_not_graded(folder: LessonFolder) -> None:
    runs = of(folder)
    spoilt = {"verdict": Outcome.INVALID, "reasons": ("the generator was late",)}
    for before, after in (
        (runs[BEFORE], runs[SOLUTION].model_copy(update=spoilt)),
        (runs[BEFORE].model_copy(update=spoilt), runs[SOLUTION]),
    ):
        told = grade(folder.lesson, before, after)
        assert (told.outcome, told.findings) == ("undecided", ())
        assert told.why.endswith("is invalid: the generator was late")


def test_what_is_kept_is_what_the_simulation_gives() -> None:
    [folder] = [one for one in lessons() if one.name == "limits"]
    made = results_of(folder)
    assert list(problems(folder, made)) == []
    assert {n: one.metrics for n, one in made.items()} == {
        n: one.metrics for n, one in of(folder).items()
    }


# The examination's rows.


@pytest.mark.parametrize("row", HIDDEN_FAULTS, ids=lambda row: str(row.name))
def test_a_row_breaks_as_it_is_drawn_and_holds_with_its_cure(row: HiddenFault) -> None:
    stored = kept()[f"exam {row.name}"]
    cell = exam_cell(row)
    for name, settings in ((BEFORE, {}), (SOLUTION, row.cure)):
        wanted = cell.knobs.with_settings(settings)
        assert cell.knobs.with_settings(stored[name].knobs) == wanted
        assert stored[name].load == cell.load.model_dump(mode="json")
    assert stored[BEFORE].verdict is Outcome.BROKE
    assert stored[SOLUTION].verdict is Outcome.HELD
    assert not set(row.cure) & set(FIXED)
