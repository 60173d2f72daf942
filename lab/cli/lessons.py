"""What ``lab learn`` does with a replica and files: read the course, measure, keep progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import lab
from lab.cli import session
from lab.cli.options import known_faults, print_message
from lab.cli.run import measure
from lab.config import lesson_folders, parse_settings, read_experiment, read_lesson
from lab.errors import Interrupted, LabError, UsageError
from lab.lessons.figures import problem
from lab.lessons.progress import ProgressFile, learners_folder, measuring
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.lessons import LearnerProgress, LessonFolder, LessonProgress
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.plan import expand
from lab.store import RunFolder

PACKAGE = Path(lab.__file__).parent
FOLDER = PACKAGE / "lessons"
"""Where the lessons are, a folder each."""

AGAIN = 2
"""How often a lesson whose run was invalid is measured again, beside the lab's own retries."""


def course(folder: Path = FOLDER) -> list[LessonFolder]:
    """The lessons, in order.

    Raises:
        SpecError: one of them is wrong.
    """
    faults = known_faults()
    cells = partial(cells_of, faults=faults)
    return [read_one(path, cells) for path in lesson_folders(folder)]


def read_one(path: Path, cells: Callable[[Path], Sequence[Cell]]) -> LessonFolder:
    """A lesson, whose cell is judged by the checks that have bounds of their own."""
    found = read_lesson(path, PACKAGE.parent, cells, problem)
    return replace(found, cell=judged_by(found.cell, found.lesson.absolute))


def judged_by(cell: Cell, criteria: Sequence[Criterion]) -> Cell:
    """The same cell with these criteria."""
    return cell.model_copy(update={"criteria": tuple(criteria)})


def cells_of(spec: Path, faults: Mapping[str, Any] | None = None) -> tuple[Cell, ...]:
    """The cells of a spec.

    Raises:
        SpecError: it is wrong.
    """
    known = known_faults() if faults is None else faults
    return expand(read_experiment(spec, known), known)


def now() -> str:
    """This moment, in UTC, to the second."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Bench:
    """Where and how lessons are measured, as the command line says it.

    ``quiet`` says nothing of the spec's settings, which an examination hides.
    """

    stack: str
    toxiproxy: str
    retries: int
    results: Path
    quiet: bool = False

    def measure(
        self,
        spec: Path,
        criteria: Sequence[Criterion],
        settings: Sequence[str] = (),
        users: int | None = None,
    ) -> tuple[RunFolder, CellResult]:
        """Measure a spec of one cell; again where it was invalid, which is said.

        Returns:
            The last run and its cell, which is invalid where nothing else was to be had.

        Raises:
            Interrupted: by Ctrl-C.
            LabError: the spec is wrong, or this machine lacks something.
        """
        overrides = session.Overrides(settings=tuple(settings), users=users)
        [planned] = session.plan("run", [spec], overrides, None)
        cells = tuple(judged_by(cell, criteria) for cell in planned.cells)
        idle = () if self.quiet else planned.idle
        planned = replace(planned, cells=cells, idle=idle)
        choice = session.which_stack([planned], self.stack, self.toxiproxy, None)
        for number in range(AGAIN + 1):
            runs = measure([planned], choice, self.toxiproxy, self.results, (), self.retries)
            with closing(runs) as ended:
                [report] = ended
            run = report.run
            result = only_cell(run)
            if result.verdict is not Outcome.INVALID:
                break
            why = result.reasons[0] if result.reasons else "it shows nothing"
            after = "it is measured again" if number < AGAIN else "it is not graded"
            print_message(f"the run was invalid ({why}): {after}")
        return run, result


def only_cell(run: RunFolder) -> CellResult:
    """The one cell of a lesson's run.

    Raises:
        UsageError: it is not finished, or damaged.
    """
    cells = run.summary().cells
    if len(cells) != 1:
        raise UsageError(f"{run.path} holds no finished cell of a lesson", "measure it again")
    return cells[0]


def stored_before(progress: LessonProgress) -> tuple[RunFolder, CellResult] | None:
    """The run that checks compare with; None where its folder is gone, or damaged."""
    if not progress.run:
        return None
    try:
        run = RunFolder.open(Path(progress.run))
        return run, only_cell(run)
    except LabError:
        return None


def comparable(run: RunFolder, other: RunFolder) -> bool:
    """Whether two runs were made on one stack and machine."""
    return (run.info.stack, run.info.machine) == (other.info.stack, other.info.machine)


def checked_settings(given: Sequence[str], may_change: Sequence[str]) -> dict[str, Any]:
    """The learner's settings, which the task leaves open.

    Raises:
        UsageError: one is not.
        SpecError: one is no setting.
    """
    settings = parse_settings(tuple(given), None)
    for name in settings:
        if name not in may_change:
            what = f"'{name}' is not for you to change here"
            raise UsageError(what, f"open are {', '.join(may_change)}")
    return dict(settings)


@contextmanager
def learner(name: str) -> Iterator[tuple[ProgressFile, LearnerProgress]]:
    """A learner's file, held, and what it says; what was kept aside is said."""
    file = ProgressFile(learners_folder(), name)
    with file.held():
        progress = file.read()
        for note in file.notes:
            print_message(note)
        yield file, progress


@contextmanager
def one_at_a_time(go_on: str) -> Iterator[None]:
    """Measure while no other lesson is; an interruption says that nothing is lost."""
    with measuring(learners_folder()):
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            raise Interrupted("interrupted: what you answered is kept", go_on) from None
