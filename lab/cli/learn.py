"""``lab learn``: lessons on the running replica, and an examination."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lab.cli.exams import examine
from lab.cli.lessons import (
    Bench,
    checked_settings,
    comparable,
    course,
    learner,
    now,
    one_at_a_time,
    stored_before,
)
from lab.cli.options import (
    PathName,
    Whole,
    json_option,
    print_json,
    print_message,
    print_text,
    refuse_together,
    results_option,
    retries_option,
    stack_options,
    style,
)
from lab.errors import StoreError, UsageError
from lab.lessons import views
from lab.lessons.classes import class_csv, class_json
from lab.lessons.course import find_lesson
from lab.lessons.grade import grade
from lab.lessons.notebook import lesson_notebook
from lab.lessons.page import course_page
from lab.lessons.predict import held_against, read_answer
from lab.lessons.progress import ProgressFile, default_learner, learners_folder, read_all
from lab.model.lessons import CheckAttempt, Grade, LearnerProgress, LessonFolder, LessonProgress
from lab.model.load import MAX_USERS
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.report.terminal import blocks_text
from lab.store import RunFolder

EXAM = "exam"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, beside how and where it is measured."""

    lesson: str | None
    answer: str | None
    settings: tuple[str, ...]
    users: int | None
    seed: int | None
    measure: bool
    check: bool
    hint: bool
    solution: bool
    give_up: bool
    again: bool
    reset: bool
    as_json: bool


@click.command()
@click.argument("lesson", required=False, metavar="[LESSON]")
@click.option(
    "--answer", metavar="TEXT", help="Your prediction; of an exam, the limit that you name."
)
@click.option("--check", is_flag=True, help="Measure with your change, and grade it.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KNOB=VALUE",
    help="Your change, with --check, or in an exam; repeatable.",
)
@click.option("--hint", is_flag=True, help="The next hint, one step each.")
@click.option("--solution", is_flag=True, help="A solution, once you have tried one yourself.")
@click.option("--give-up", is_flag=True, help="With --solution: without having tried.")
@click.option("--again", is_flag=True, help="Answer and measure a lesson anew.")
@click.option("--reset", is_flag=True, help="Begin anew; what there was is kept aside.")
@click.option("--seed", type=Whole(0, 10**9), help="Of an exam: the same gives the same.")
@click.option("--measure", is_flag=True, help="Of an exam: measure, as it is or with --set.")
@click.option(
    "--users", type=Whole(1, MAX_USERS), help="Of an exam, with --measure: so many users."
)
@click.option(
    "--learner",
    "name",
    metavar="NAME",
    envvar="REPLICA_LAB_LEARNER",
    show_envvar=True,
    help="Whose progress it is; this machine's user, if nobody is named.",
)
@click.option(
    "--export",
    type=PathName(dir_okay=False),
    metavar="FILE",
    help="Every learner's results, as .csv or .json.",
)
@click.option(
    "--from",
    "folders",
    multiple=True,
    type=PathName(file_okay=False, exists=True),
    metavar="DIR",
    help="With --export: progress files of others, collected there; repeatable.",
)
@click.option(
    "--page", type=PathName(dir_okay=False), metavar="FILE", help="All lessons, to print: HTML."
)
@click.option(
    "--notebook",
    type=PathName(dir_okay=False),
    metavar="FILE",
    help="The lesson as a notebook, which measures and explains.",
)
@stack_options
@retries_option
@results_option
@json_option
def command(
    lesson: str | None,
    name: str | None,
    export: Path | None,
    folders: tuple[Path, ...],
    page: Path | None,
    notebook: Path | None,
    stack: str,
    toxiproxy: str,
    retries: int,
    results: Path,
    **asked: Any,
) -> int | None:
    """Learn the bottlenecks on the running replica.

    Without a LESSON the list is shown, with how far you are. A LESSON is a number, a name, or
    `exam`. It is read, asks what you expect, is measured in about a minute and explained with
    the figures of your own run. Then it is your turn:

    \b
      lab learn 3                            read, answer, measure, explain
      lab learn 3 --check --set workers=2    measure your change, and grade it
      lab learn 3 --hint                     one step of help
      lab learn exam --seed 7                a hidden fault: see its symptoms
      lab learn exam --answer pool --set pool_size=20

    Where there is no terminal to ask on, --answer has the answer. What is graded is the shape
    (counts, causes, ratios), never milliseconds; a run that was invalid is measured again and
    not graded.

    Exit code: 0 done, or the check is passed; 1 it is not; 4 too little was seen to tell.
    """
    wanted = Asked(lesson=lesson, **asked)
    _refuse(wanted, export, page, notebook)
    who = name or default_learner()
    if export:
        return _export(export, folders)
    if folders:
        raise UsageError("--from goes with --export", "name the file with --export")
    if page:
        return _write(page, course_page(course()))
    bench = Bench(stack, toxiproxy, retries, results)
    if wanted.reset:
        return _reset(who, wanted)
    if lesson is None:
        return _list(who, wanted)
    if lesson == EXAM:
        with learner(who) as (file, progress):
            return examine(wanted, bench, file, progress)
    found = course()
    folder = find_lesson(found, lesson)
    if notebook:
        return _write(notebook, lesson_notebook(folder))
    with learner(who) as (file, progress):
        return _Visit(found, folder, wanted, bench, file, progress).go()


def _refuse(asked: Asked, export: Path | None, page: Path | None, notebook: Path | None) -> None:
    """Refuse what would be ignored."""
    refuse_together(
        {
            "--check": asked.check,
            "--hint": asked.hint,
            "--solution": asked.solution,
            "--reset": asked.reset,
            "--again": asked.again,
            "--measure": asked.measure,
            "--export": export is not None,
            "--page": page is not None,
            "--notebook": notebook is not None,
        }
    )
    exam = asked.lesson == EXAM
    needs_lesson = asked.check or asked.hint or asked.solution or asked.again or notebook
    if needs_lesson and (asked.lesson is None or exam):
        raise UsageError("which lesson is not said", "write its number, as `lab learn 3 --check`")
    if asked.give_up and not asked.solution:
        raise UsageError("--give-up goes with --solution", "write both")
    if not exam and (asked.measure or asked.seed is not None or asked.users is not None):
        raise UsageError("--seed, --measure and --users are an exam's", "write `lab learn exam …`")
    if asked.settings and not (asked.check or exam):
        raise UsageError("--set changes nothing without --check", "write both")
    if asked.answer is not None and asked.lesson is None:
        raise UsageError("which lesson is answered is not said", "write its number")


class _Visit:
    """One call of ``lab learn`` for one lesson."""

    def __init__(
        self,
        course: Sequence[LessonFolder],
        folder: LessonFolder,
        asked: Asked,
        bench: Bench,
        file: ProgressFile,
        progress: LearnerProgress,
    ) -> None:
        self._course, self._folder, self._asked = course, folder, asked
        self._bench, self._file, self._progress = bench, file, progress

    @property
    def _mine(self) -> LessonProgress:
        return self._progress.of(self._folder.name)

    def _keep(self, **changes: Any) -> None:
        """Write down what has changed, at once."""
        mine = self._mine.model_copy(update=changes)
        self._progress = self._progress.with_lesson(self._folder.name, mine)
        self._file.write(self._progress)

    def go(self) -> int:
        """Do what is asked; the exit code."""
        if self._asked.hint:
            return self._hint()
        if self._asked.solution:
            return self._solution()
        return self._check() if self._asked.check else self._learn()

    def _show(self, parts: Sequence[views.LessonPart], **more: Any) -> None:
        if self._asked.as_json:
            folder = self._folder
            told = {"lesson": folder.number, "name": folder.name, "learner": self._file.learner}
            print_json({**told, **more, "parts": [part.as_json() for part in parts]})
        else:
            print_text(views.terminal(parts, style()))

    def _learn(self) -> int:
        """Read, ask, run, explain; a lesson that was measured is explained again."""
        if note := views.needed(self._course, self._folder, self._progress):
            print_message(note)
        before = stored_before(self._mine)
        if self._mine.prediction and not self._asked.again:
            if self._asked.answer is not None:
                what = f"lesson {self._folder.number} is answered already: {self._mine.answer}"
                raise UsageError(what, "answer and measure anew with --again")
            if before:
                return self._explain(*before)
            print_message("the run of this lesson is not there any more: it is measured again")
        parts = views.before_run(self._folder)
        if not self._asked.as_json:
            print_text(views.terminal(parts, style()))
        answer = self._answer()
        if not self._mine.prediction:  # an earlier one stays until there is another
            self._keep(answer=answer)
        again = " --again" if self._asked.again else ""
        run, result = self._measure((), f"lab learn {self._folder.number}{again}")
        if result.verdict is Outcome.INVALID:
            self._show([views.invalid(self._folder, result)], run=str(run.path))
            return 4
        told = held_against(self._folder, answer, result)
        self._keep(answer=answer, prediction=told, run=str(run.path.resolve()))
        return self._explain(run, result, parts if self._asked.as_json else ())

    def _answer(self) -> str:
        """The prediction: given, kept from a visit that was interrupted, or asked for.

        Raises:
            UsageError: it is none, or there is nobody to ask.
        """
        asked = self._folder.lesson.prediction
        if self._asked.answer is not None:
            return read_answer(asked, self._asked.answer)
        if self._mine.answer and not self._asked.again:
            print_message(f"your answer is kept: {self._mine.answer}")
            return self._mine.answer
        if self._asked.as_json or not sys.stdin.isatty():
            example = next(iter(asked.choices)) if asked.choices else "2.5"
            what = "there is no terminal to ask on, or --json is given"
            raise UsageError(what, f"answer with --answer, as --answer {example}")
        while True:
            text = click.prompt("Your answer", err=True)
            try:
                return read_answer(asked, text)
            except UsageError as error:
                print_message(str(error))

    def _measure(self, settings: Sequence[str], go_on: str) -> tuple[RunFolder, CellResult]:
        folder = self._folder
        with one_at_a_time(f"go on with `{go_on}`"):
            return self._bench.measure(folder.spec, folder.lesson.absolute, settings)

    def _explain(
        self, run: RunFolder, result: CellResult, first: Sequence[views.LessonPart] = ()
    ) -> int:
        parts = views.after_run(self._folder, result, self._mine.prediction)
        told = self._mine.prediction
        self._show(
            (*first, *parts),
            run=str(run.path),
            prediction=told.model_dump(mode="json") if told else None,
        )
        return 0

    def _check(self) -> int:
        """Measure with the learner's change, and grade it."""
        folder, number = self._folder, self._folder.number
        if not self._mine.prediction:
            what = f"lesson {number} has not been measured yet, so there is nothing to compare with"
            raise UsageError(what, f"begin with `lab learn {number}`")
        settings = checked_settings(self._asked.settings, folder.lesson.may_change)
        flags = " ".join(f"--set {shlex.quote(text)}" for text in self._asked.settings)
        go_on = f"lab learn {number} --check {flags}".rstrip()
        before = stored_before(self._mine)
        if before is None:
            print_message("the run before your change is not there any more: it is measured again")
            before = self._before(go_on)
        run, after = self._measure(self._asked.settings, go_on)
        if not comparable(run, before[0]):
            print_message("the run before your change was made elsewhere: it is measured again")
            before = self._before(go_on)
        told = grade(folder.lesson, before[1], after)
        if not told.why:
            self._add(told, settings, run)
        outcome = told.model_dump(mode="json")
        self._show(views.graded(folder, told, before[1], after), run=str(run.path), grade=outcome)
        return {"passed": 0, "failed": 1, "undecided": 4}[told.outcome]

    def _before(self, go_on: str) -> tuple[RunFolder, CellResult]:
        run, result = self._measure((), go_on)
        if result.verdict is not Outcome.INVALID:
            self._keep(run=str(run.path.resolve()))
        return run, result

    def _add(self, told: Grade, settings: dict[str, Any], run: RunFolder) -> None:
        missed = tuple(one.check for one in told.findings if one.outcome == "missed")
        attempt = CheckAttempt(
            when=now(), settings=settings, run=run.path.name, outcome=told.outcome, missed=missed
        )
        passed = self._mine.passed or (now() if told.outcome == "passed" else "")
        self._keep(attempts=(*self._mine.attempts, attempt), passed=passed)

    def _hint(self) -> int:
        read = min(self._mine.hints + 1, len(self._folder.lesson.hints))
        self._keep(hints=read)
        self._show([views.hint(self._folder, read)])
        return 0

    def _solution(self) -> int:
        if not (self._mine.attempts or self._asked.give_up):
            number = self._folder.number
            raise UsageError(
                f"you have not tried lesson {number} yet",
                f"try with `lab learn {number} --check --set …`, or add --give-up",
            )
        self._keep(solution=self._mine.solution or not self._mine.passed)
        self._show([views.solution(self._folder)])
        return 0


def _list(who: str, asked: Asked) -> int:
    found = course()
    with learner(who) as (_, progress):
        if asked.as_json:
            rows = [
                {
                    "lesson": one.number,
                    "name": one.name,
                    "title": one.lesson.title,
                    "about": one.lesson.about,
                    "needs": list(one.lesson.needs),
                    "progress": progress.of(one.name).model_dump(mode="json"),
                }
                for one in found
            ]
            exams = [exam.model_dump(mode="json") for exam in progress.exams.values()]
            print_json({"learner": who, "lessons": rows, "exams": exams})
        else:
            print_text(blocks_text(views.overview(found, progress), style()))
    return 0


def _reset(who: str, asked: Asked) -> int:
    """Begin anew: of one lesson, or of everything."""
    lesson = None
    if asked.lesson is not None and asked.lesson != EXAM:
        lesson = find_lesson(course(), asked.lesson).name
    with learner(who) as (file, progress):
        kept = file.reset()
        if asked.lesson == EXAM:
            file.write(progress.model_copy(update={"exams": {}}))
        elif lesson is not None:
            rest = {name: one for name, one in progress.lessons.items() if name != lesson}
            file.write(progress.model_copy(update={"lessons": rest}))
    said = f"what there was is kept in {kept}" if kept else "there was nothing"
    if asked.as_json:
        print_json({"learner": who, "kept": str(kept) if kept else None})
    else:
        print_message(f"{who} begins anew: {said}")
    return 0


def _export(target: Path, folders: Sequence[Path]) -> int:
    """A class's results: of the learners here, and of collected folders."""
    forms = {".csv": class_csv, ".json": class_json}
    if target.suffix not in forms:
        raise UsageError(f"{target} is neither .csv nor .json", "end its name with one of them")
    everybody = list[LearnerProgress]()
    for folder in (learners_folder(), *folders):
        found, problems = read_all(folder)
        for text in problems:
            print_message(text)
        everybody += found
    return _write(target, forms[target.suffix](course(), everybody))


def _write(target: Path, text: str) -> int:
    """A file of the user's, which was not there, or is replaced.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}", "name a file that can be written") from None
    print_message(f"written: {target}")
    return 0
