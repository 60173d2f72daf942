"""A class's results: a row for each learner and lesson, and for each examination."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from lab.model.lessons import LearnerProgress, LessonFolder

COLUMNS = (
    *("learner", "lesson", "name", "answer", "truth", "right", "attempts", "hints"),
    *("solution_read", "passed", "points"),
)
"""Of an examination, ``lesson`` is ``exam``, ``name`` its seed, and ``answer`` what was named."""


def class_rows(
    course: Sequence[LessonFolder], everybody: Sequence[LearnerProgress]
) -> Iterator[dict[str, Any]]:
    """The rows, learner by learner."""
    for progress in sorted(everybody, key=lambda one: one.learner):
        for folder in course:
            yield _lesson_row(folder, progress)
        for exam in progress.exams.values():
            yield {
                **dict.fromkeys(COLUMNS, ""),
                "learner": progress.learner,
                "lesson": "exam",
                "name": str(exam.seed),
                "answer": exam.named,
                "right": exam.name_right,
                "attempts": exam.measured,
                "passed": exam.graded,
                "points": exam.points if exam.graded else "",
            }


def _lesson_row(folder: LessonFolder, progress: LearnerProgress) -> dict[str, Any]:
    mine = progress.of(folder.name)
    told = mine.prediction
    return {
        "learner": progress.learner,
        "lesson": folder.number,
        "name": folder.name,
        "answer": mine.answer,
        "truth": told.truth if told else "",
        "right": told.right if told else None,
        "attempts": len(mine.attempts),
        "hints": mine.hints,
        "solution_read": mine.solution,
        "passed": mine.passed,
        "points": "",
    }


def class_json(course: Sequence[LessonFolder], everybody: Sequence[LearnerProgress]) -> str:
    """All rows as one JSON document."""
    rows = list(class_rows(course, everybody))
    return json.dumps({"schema_version": 1, "rows": rows}, indent=2) + "\n"


def class_csv(course: Sequence[LessonFolder], everybody: Sequence[LearnerProgress]) -> str:
    """The same as CSV with a header; what a spreadsheet would compute has a mark before it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in class_rows(course, everybody):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" and value else value
