"""Lessons: what one asks, what is measured for it, and by what a learner's change is judged.

    lesson.yaml ─parse─> Lesson
    a run as the lesson asks for it     ─> is the prediction right?
    the same with the learner's change  ─> Grade: each check is met, missed or undecided

What a lesson asserts is a shape: a count, a cause, a rate beside the rate before. No check is about
milliseconds, and no text holds a measured number: figures come from the run just made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Count, Frozen, Number, Plain, Stored
from lab.model.criterion import Criterion
from lab.model.experiment import Cell

MAX_LESSONS = 99
MAX_TEXT = 2000
"""Characters of a text in a lesson's file; longer ones are its Markdown."""

COMPARED = ("throughput", "p50", "p95", "error_rate")
"""The metrics that a check may be relative in: how well they are known is known of every run."""

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Label = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
Letter = Literal["A", "B", "C", "D", "E"]
Settings = Annotated[dict[str, Plain], Field(min_length=1, max_length=20)]
"""Knobs, as a spec writes them."""

LessonOutcome = Literal["passed", "failed", "undecided"]


class Given(Frozen):
    """A number that was not measured here, and who says it."""

    value: Annotated[str, Field(min_length=1, max_length=40)]
    source: Text


class Choice(Frozen):
    """An answer to choose.

    Args:
        says: what it asserts.
        when: an expression over the run's figures that is true where this is the right answer.
    """

    says: Text
    when: Text


class NumberAnswer(Frozen):
    """A number to be predicted.

    Args:
        of: an expression over the run's figures: the right answer.
        unit: in which it is to be given, in a word.
        within: the factor by which a prediction may be off: 1.5 lets 2 to 4.5 pass for 3.
    """

    of: Text
    unit: Annotated[str, Field(min_length=1, max_length=40)]
    within: Annotated[float, Field(gt=1, le=10)]


class LessonQuestion(Frozen):
    """What a learner is asked before anything is measured: choices, or a number."""

    question: Text
    choices: Annotated[dict[Letter, Choice], Field(min_length=2, max_length=5)] | None = None
    number: NumberAnswer | None = None


class LessonCheck(Frozen):
    """What has to be seen after the learner's change; ``x baseline`` is the run before it.

    Args:
        criterion: as a spec writes it.
        because: why it is asked for, to whom it fails.
    """

    criterion: Criterion
    because: Text


class WrongCure(Frozen):
    """A plausible mistake.

    Args:
        set: the knobs that it changes.
        misses: the check that must be missed.
        because: why it does not help.
    """

    set: Settings
    misses: Criterion
    because: Text


class CodePlace(Frozen):
    """Where in the service something is decided.

    Args:
        file: from the top of the project, as ``lab/services/backend/database.py``.
        find: a function or method, as ``Database.session``, or, in what is no Python, a text that
            stands in one line of it.
        about: what happens there.
    """

    file: Annotated[str, Field(pattern=r"^[a-z_]+(/[\w.-]+)+$", max_length=200)]
    find: Annotated[str, Field(min_length=1, max_length=200)]
    about: Text


class Lesson(Frozen):
    """A lesson's file: all of it but the texts beside it."""

    lesson: Annotated[Label, Field(description="its name; its folder is called NN-name")]
    title: Text
    about: Annotated[Text, Field(description="one sentence, for the list")]
    needs: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_LESSONS)], ...],
        Field(max_length=MAX_LESSONS, description="the lessons that it builds on, by number"),
    ] = ()
    given: Annotated[
        dict[Name, Given],
        Field(max_length=50, description="numbers that were not measured here, and their sources"),
    ] = {}
    prediction: Annotated[LessonQuestion, Field(description="what is asked before the run")]
    task: Annotated[Text, Field(description="what is to be changed, and what is to come of it")]
    may_change: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=50, description="the knobs that the task leaves open"),
    ]
    checks: Annotated[
        tuple[LessonCheck, ...],
        Field(min_length=1, max_length=10, description="met, all of them, once it is done"),
    ]
    hints: Annotated[
        tuple[Text, ...], Field(min_length=2, max_length=10, description="one step each")
    ]
    solution: Annotated[Settings, Field(description="knobs that pass the checks")]
    wrong: Annotated[
        tuple[WrongCure, ...],
        Field(min_length=3, max_length=12, description="plausible mistakes, which must not pass"),
    ]
    code: Annotated[
        tuple[CodePlace, ...],
        Field(min_length=1, max_length=8, description="where in the service it is decided"),
    ]

    @property
    def absolute(self) -> tuple[Criterion, ...]:
        """The checks with bounds of their own: by them the cell is judged as it is measured."""
        return tuple(one.criterion for one in self.checks if not one.criterion.relative)


SPEC = "spec.yaml"
READ, EXPLAIN, SOLVED = TEXTS = ("read.md", "explain.md", "solved.md")
"""The files beside a lesson's: what is measured, and what is read before the run, after it, and
once the checks are met."""

BEFORE = ("given", "knob", "load")
AFTER = (*BEFORE, "run")
SOLVING = (*BEFORE, "before", "after")
"""Whose figures each of these texts may have."""


@dataclass(frozen=True)
class LessonFolder:
    """A lesson with its texts and what it measures.

    Args:
        number: its place in the course.
        path: the folder.
        lesson: what its file says.
        texts: its Markdown, by file name.
        cell: what is measured; its criteria are the checks that have bounds of their own.
        lines: in which each place of the code begins; None where it is not there.
    """

    number: int
    path: Path
    lesson: Lesson
    texts: Mapping[str, str]
    cell: Cell
    lines: tuple[int | None, ...] = ()

    @property
    def name(self) -> str:
        """By which progress is kept."""
        return self.lesson.lesson

    @property
    def spec(self) -> Path:
        """The spec's file."""
        return self.path / SPEC


class CheckFinding(Stored):
    """A check against the two runs; ``because`` is what is told to whom it fails."""

    check: str
    outcome: Literal["met", "missed", "undecided"]
    reason: str
    because: str = ""


class Grade(Stored):
    """What came of a learner's change.

    Args:
        outcome: passed where every check is met, failed where one is missed, undecided otherwise.
        findings: the checks, in the order of the lesson.
        why: why nothing could be graded; empty where it could.
    """

    outcome: LessonOutcome
    findings: tuple[CheckFinding, ...] = ()
    why: str = ""


class PredictionResult(Stored):
    """An answer beside the run; ``right`` is None where the run fits no choice, or more than one.

    ``answer`` and ``truth`` are letters, or numbers as text.
    """

    answer: str
    truth: str = ""
    right: bool | None = None


class CheckAttempt(Stored):
    """One check of a learner's change: when, what was set, in which run, and what came of it."""

    when: str
    settings: dict[str, Plain] = {}
    run: str = ""
    outcome: LessonOutcome
    missed: tuple[str, ...] = ()


class LessonProgress(Stored):
    """How far somebody is with a lesson.

    Args:
        answer: the prediction, kept from before the run.
        prediction: what came of it; None until the run was made.
        run: the folder of the run that the answer was held against, which checks compare with.
        attempts: every check.
        hints: how many were read.
        solution: whether the solution was read.
        passed: when every check was met first; empty before.
    """

    answer: str = ""
    prediction: PredictionResult | None = None
    run: str = ""
    attempts: tuple[CheckAttempt, ...] = ()
    hints: Count = 0
    solution: bool = False
    passed: str = ""

    @property
    def status(self) -> str:
        """In a word or two, for the list."""
        if self.passed:
            return "passed, solution read" if self.solution else "passed"
        if self.attempts:
            return f"{len(self.attempts)} tried"
        if self.prediction:
            return "measured"
        return "answered" if self.answer else ""


class ExamProgress(Stored):
    """One examination.

    Args:
        seed: by which the fault is drawn.
        began: when.
        measured: how often the learner has measured it.
        named: the resource that was named; empty until then.
        settings: the change that was proposed.
        name_right: whether the name is right; None until it is graded.
        held: whether the proposed change held; None where that was not decided.
        graded: when; empty before.
    """

    seed: Count
    began: str
    measured: Count = 0
    named: str = ""
    settings: dict[str, Plain] = {}
    name_right: bool | None = None
    held: bool | None = None
    graded: str = ""

    @property
    def points(self) -> Number:
        """1 for the name, 1 for a change that holds."""
        return float(bool(self.name_right)) + float(bool(self.held))


PROGRESS_SCHEMA = 1
"""The version of a progress file."""


class LearnerProgress(Stored):
    """A learner's file: the lessons by name, and the examinations by seed."""

    schema_version: int = PROGRESS_SCHEMA
    learner: str
    lessons: dict[str, LessonProgress] = {}
    exams: dict[str, ExamProgress] = {}

    def of(self, lesson: str) -> LessonProgress:
        """How far it is with a lesson."""
        return self.lessons.get(lesson) or LessonProgress()

    def with_lesson(self, lesson: str, progress: LessonProgress) -> LearnerProgress:
        """The same with one lesson anew."""
        return self.model_copy(update={"lessons": {**self.lessons, lesson: progress}})

    def with_exam(self, exam: ExamProgress) -> LearnerProgress:
        """The same with one examination anew."""
        return self.model_copy(update={"exams": {**self.exams, str(exam.seed): exam}})
