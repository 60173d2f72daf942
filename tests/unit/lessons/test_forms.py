"""A lesson's other forms: the list, the page, notebooks, a class's results, the terminal."""

from __future__ import annotations

import ast
import csv
import io
import json
from typing import Any

import pytest

from lab.errors import UsageError
from lab.lessons import views
from lab.lessons.classes import COLUMNS, class_csv, class_json
from lab.lessons.course import find_lesson, next_lesson, open_needs
from lab.lessons.notebook import lesson_notebook
from lab.lessons.page import course_page
from lab.lessons.predict import held_against, read_answer
from lab.model.lessons import (
    CheckAttempt,
    ExamProgress,
    LearnerProgress,
    LessonFolder,
    LessonProgress,
    LessonQuestion,
    NumberAnswer,
    PredictionResult,
)
from lab.report.blocks import Heading, Items, Paragraph
from lab.report.notebooks import run_notebook
from lab.report.terminal import Style, blocks_text
from tests.fakes.lesson_runs import kept, lesson, lessons

NAMES = [one.name for one in lessons()]
COUNT = len(lessons())


def test_there_are_ten_and_each_needs_only_earlier_ones() -> None:
    assert [one.number for one in lessons()] == list(range(1, COUNT + 1))
    assert COUNT >= 10
    for one in lessons():
        assert all(number < one.number for number in one.lesson.needs)
        assert len(one.lesson.wrong) >= 3
        assert len({str(cure.set) for cure in one.lesson.wrong}) == len(one.lesson.wrong)


@pytest.mark.parametrize("asked", ["3", "03", "async-def", "03-async-def", " ASYNC-DEF "])
def test_a_lesson_is_found(asked: str) -> None:
    assert find_lesson(lessons(), asked).number == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("99", f"there is no lesson 99 - they are 1 to {COUNT}, and exam"),
        ("0", "there is no lesson 0"),
        ("asynk-def", "'asynk-def' is no lesson - did you mean 'async-def'?"),
        ("-1", "'-1' is no lesson"),
        ("٣", "there is no lesson ٣"),
    ],
)
def test_no_lesson_is_told(asked: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        find_lesson(lessons(), asked)
    assert str(error.value).startswith(message)


def passed(*names: str) -> LearnerProgress:
    progress = LearnerProgress(learner="ada")
    for name in names:
        progress = progress.with_lesson(name, LessonProgress(answer="C", passed="2026-01-01"))
    return progress


def test_what_comes_next_and_first() -> None:
    third = lesson("async-def")
    assert [one.number for one in open_needs(lessons(), third, passed())] == [1, 2]
    assert views.needed(lessons(), third, passed("one-upload")) == (
        "lesson 3 builds on lesson 2: not passed yet"
    )
    assert views.needed(lessons(), third, passed("one-upload", "littles-law")) == ""
    assert next_lesson(lessons(), passed()) is lessons()[0]
    assert next_lesson(lessons(), passed(*NAMES)) is None


def test_the_list_shows_how_far_one_is() -> None:
    progress = passed("one-upload").with_lesson(
        "littles-law",
        LessonProgress(
            answer="B",
            prediction=PredictionResult(answer="B", truth="B", right=True),
            attempts=(CheckAttempt(when="x", outcome="failed"),),
        ),
    )
    progress = progress.with_exam(ExamProgress(seed=3, began="x", graded="y", name_right=True))
    text = blocks_text(views.overview(lessons(), progress), Style(width=100))
    assert "1 one-upload" in text
    assert "passed" in text
    assert "1 tried" in text
    assert (
        f"ada: 1 of {COUNT} lessons passed, 1 examined, best 1 of 2; go on with `lab learn 2`"
        in text
    )
    done = blocks_text(views.overview(lessons(), passed(*NAMES)), Style(width=100))
    assert "try `lab learn exam`" in done


@pytest.mark.parametrize(("text", "kept_as"), [("b", "B"), (" C) ", "C"), ("a.", "A")])
def test_a_choice_is_read(text: str, kept_as: str) -> None:
    assert read_answer(lesson("async-def").lesson.prediction, text) == kept_as


@pytest.mark.parametrize("text", ["", "F", "AB", "1", "yes"])
def test_what_is_no_choice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no choice - answer with one of A, B, C"):
        read_answer(lesson("async-def").lesson.prediction, text)


def of_number(of: str) -> LessonFolder:
    from dataclasses import replace

    folder = lesson("littles-law")
    number = NumberAnswer(of=of, unit="uploads a second", within=1.5)
    asked = LessonQuestion(question="How many?", number=number)
    return replace(folder, lesson=folder.lesson.model_copy(update={"prediction": asked}))


@pytest.mark.parametrize(
    ("answer", "right"), [("1.1", True), ("0.8", True), ("1,5", True), ("3", False), ("0", False)]
)
def test_a_number_is_right_within_its_factor(answer: str, right: bool) -> None:
    folder = of_number("run.throughput")
    read = read_answer(folder.lesson.prediction, answer)
    told = held_against(folder, read, kept()["littles-law"]["before"])
    assert told.right is right
    assert float(told.truth) == pytest.approx(1.11, abs=0.1)
    assert "uploads a second" in views.question(folder)


def test_a_number_that_was_not_measured_decides_nothing() -> None:
    folder = of_number("run.cold_start_s")
    assert held_against(folder, "1", kept()["littles-law"]["before"]).right is None
    with pytest.raises(UsageError, match="is no number - answer with one, in uploads a second"):
        read_answer(folder.lesson.prediction, "1e3")


def test_markdown_becomes_blocks() -> None:
    made = views.markdown_blocks(
        "# T\n\nOne *two* `x=1`\nthree.\n\nFour.\n\n- a\n- **b**\n\n```\nc\nd\n```\n"
    )
    assert made == [
        Heading("T"),
        Paragraph("One two `x=1` three."),
        Paragraph(""),
        Paragraph("Four."),
        Items(("a", "b")),
        Items(("c", "d")),
    ]


def test_the_page_has_every_lesson_and_room_for_figures() -> None:
    page = course_page(lessons())
    assert page.count("<article") == COUNT
    assert views.BLANK in page
    assert "<script" not in page
    assert "http" not in page.replace("https://jupyter", "")
    with_run = course_page(lessons(), {name: kept()[name]["before"] for name in NAMES})
    assert with_run.count(views.BLANK) <= 1  # but for what says what it means
    for one in lessons():
        assert one.lesson.hints[0][:40] not in page
        for name, value in one.lesson.solution.items():
            assert f"{name}={value}" not in page


def test_html_in_a_text_is_shown_and_not_done() -> None:
    from dataclasses import replace

    folder = lesson("limits")
    texts = {**folder.texts, "read.md": "# x\n\n<script>alert()</script>\n"}
    page = course_page([replace(folder, texts=texts)])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("folder", lessons(), ids=NAMES)
def test_a_notebook_is_whole_and_the_same_each_time(folder: LessonFolder) -> None:
    text = lesson_notebook(folder)
    assert text == lesson_notebook(folder)
    check_notebook(text)
    for name, value in folder.lesson.solution.items():
        assert f"{name}={value}" not in text


def test_a_run_is_a_notebook_too() -> None:
    check_notebook(run_notebook("/a 'quoted' folder", "a run"))


def check_notebook(text: str) -> None:
    document: dict[str, Any] = json.loads(text)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in document["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            ast.parse(cell["source"])


def test_a_class_is_exported() -> None:
    bob = passed("limits").model_copy(update={"learner": "bob"})
    bob = bob.with_exam(
        ExamProgress(seed=5, began="a", named="=cmd", name_right=False, held=True, graded="b")
    )
    everybody = [bob, passed("one-upload")]
    rows = list(csv.DictReader(io.StringIO(class_csv(lessons(), everybody))))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["learner"] for row in rows] == ["ada"] * COUNT + ["bob"] * (COUNT + 1)
    exam = rows[-1]
    assert (exam["lesson"], exam["name"], exam["points"]) == ("exam", "5", "1.0")
    assert exam["answer"] == "'=cmd"  # no spreadsheet computes it
    told = json.loads(class_json(lessons(), everybody))
    assert [row["passed"] for row in told["rows"]].count("2026-01-01") == 2
    assert class_csv(lessons(), []) == ",".join(COLUMNS) + "\n"
