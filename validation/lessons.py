"""Does the course grade rightly? Lessons and examinations by their solutions, on a replica.

    python -m validation.lessons                          ten lessons, once, and five examinations
    python -m validation.lessons --repeat 20 --only '0[1-3]-*'
    python -m validation.lessons --stack compose --json
    python -m validation.lessons --dry-run                what there is, and how long it takes

Of a lesson is measured, on one replica: the cell as it is, and then again unchanged, with the
solution, and with each wrong cure. Right is that the check fails on the unchanged replica, passes
with the solution, and that each wrong cure misses the check that the lesson names. Of an
examination: as it is drawn it must break, and its cure must hold. What could not be measured, or
was too little to tell, is not graded, and counted apart. A lesson whose run took more than `MOST_S`
is told.

A line a grading is printed as it ends, and the counts at the end. Runs go to ``--results``.

Exit code: 0 all are graded as is right, 1 one is not, or could not be measured, or took too long,
2 what is asked for is no lesson, or there can be no replica.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from lab.cli import session
from lab.cli.lessons import course, judged_by, only_cell
from lab.cli.run import measure
from lab.cli.session import Overrides, Planned
from lab.errors import Interrupted, LabError, UsageError
from lab.lessons.exam import criteria, draw, graded
from lab.lessons.grade import grade
from lab.lessons.predict import held_against
from lab.model.criterion import Criterion
from lab.model.lessons import LessonFolder
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.plan import estimate
from lab.plan.attempts import RETRIES
from validation.command import exit_code, parser, positive, whole
from validation.lesson_runs import BEFORE, SOLUTION, UNCHANGED, variants

MOST_S = 90.0
"""Wall-clock seconds that a lesson's first run may take, the replica's start included."""

START_S = 10.0
"""What a replica takes to start and end, for an estimate."""

EXAMS = (1, 2, 3, 4, 5)

Sign = Literal["right", "WRONG", "open"]


@dataclass(frozen=True)
class Grading:
    """What came of one change to one lesson.

    Args:
        of: the lesson, or the examination.
        variant: ``unchanged``, ``solution``, ``wrong 1`` …
        sign: graded as is right, or not, or not graded.
        outcome: what it was graded.
        why: the findings, or why it was not graded.
        run: the folder's name.
        seconds: of wall-clock time.
    """

    of: str
    variant: str
    sign: Sign
    outcome: str
    why: str
    run: str
    seconds: float

    @property
    def line(self) -> str:
        """As it is printed."""
        detail = "" if self.sign == "right" else f"\n       {self.why}"
        return (
            f"{self.sign}  {self.of} {self.variant}: {self.outcome}, {self.seconds:.0f} s{detail}"
        )


@dataclass(frozen=True)
class Case:
    """A lesson, or an examination, with what is measured of it.

    Args:
        name: as it is told.
        spec: a file.
        criteria: by which each cell is judged.
        changes: by variant, the knobs that are set.
        folder: the lesson; None of an examination.
        seed: of an examination.
    """

    name: str
    spec: Path
    criteria: tuple[Criterion, ...]
    changes: Mapping[str, Mapping[str, Any]]
    folder: LessonFolder | None = None
    seed: int = 0

    def planned(self) -> list[Planned]:
        """A run for each variant."""
        plans = []
        for settings in self.changes.values():
            words = tuple(f"{name}={value}" for name, value in settings.items())
            [one] = session.plan("run", [self.spec], Overrides(settings=words), None)
            cells = tuple(judged_by(cell, self.criteria) for cell in one.cells)
            plans.append(replace(one, cells=cells, idle=()))
        return plans

    def graded(self, variant: str, before: CellResult, after: CellResult) -> tuple[Sign, str, str]:
        """Whether a variant came out as it must: the sign, what it was graded, and why."""
        if after.verdict is Outcome.INVALID or before.verdict is Outcome.INVALID:
            return "open", "invalid", "; ".join((*after.reasons[:1], *before.reasons[:1]))
        if self.folder is None:
            return self._exam(variant, after)
        return _lesson(self.folder, variant, before, after)

    def _exam(self, variant: str, after: CellResult) -> tuple[Sign, str, str]:
        row = draw(self.seed)
        told = graded(row, row.limit, after)
        why = f"{row.name}: {'; '.join(after.reasons[:2])}"
        if told.held is None:
            return "open", "undecided", why
        right = told.held is (variant == SOLUTION) and told.name_right
        limit = f", the lab names {after.limit.resource}" if after.limit else ""
        return "right" if right else "WRONG", f"{after.verdict}{limit}", why


def _lesson(
    folder: LessonFolder, variant: str, before: CellResult, after: CellResult
) -> tuple[Sign, str, str]:
    if variant == BEFORE:
        first = next(iter(folder.lesson.prediction.choices or {}), "1")
        told = held_against(folder, first, before)
        clear = told.right is not None
        return (
            "right" if clear else "WRONG",
            f"right is {told.truth or 'no answer'}",
            "the question",
        )
    found = grade(folder.lesson, before, after)
    why = "; ".join(f"{one.outcome} {one.reason}" for one in found.findings) or found.why
    if variant in (UNCHANGED, SOLUTION):
        wanted = "failed" if variant == UNCHANGED else "passed"
        if found.outcome == "undecided":
            return "open", "undecided", why
        return "right" if found.outcome == wanted else "WRONG", found.outcome, why
    cure = folder.lesson.wrong[int(variant.partition(" ")[2]) - 1]
    check = str(cure.misses).replace("x baseline", "x before")
    [finding] = [one for one in found.findings if one.check == check]
    if found.outcome == "failed" and finding.outcome == "missed":
        return "right", f"failed by {check}", why
    if found.outcome == "undecided":
        return "open", "undecided", why
    return "WRONG", found.outcome, why


def cases(flags: Namespace, folder: Path) -> list[Case]:
    """What is asked for.

    Raises:
        UsageError: nothing is.
    """
    found = []
    for one in course():
        changes = {
            name: settings
            for name, settings in variants(one).items()
            if flags.wrong or not name.startswith("wrong")
        }
        name = f"{one.number:02}-{one.name}"
        found.append(Case(name, one.spec, one.lesson.absolute, changes, one))
    for seed in flags.exams:
        row, spec = draw(seed), folder / f"exam-{seed}.yaml"
        spec.write_text(json.dumps(row.spec(f"exam-{seed}")))  # JSON is YAML
        changes = {UNCHANGED: {}, SOLUTION: row.cure}
        found.append(Case(f"exam-{seed}", spec, criteria(row), changes, seed=seed))
    taken = [case for case in found if fnmatchcase(case.name, flags.only)]
    if not taken:
        raise UsageError(f"'{flags.only}' takes nothing", "they are 01-one-upload … and exam-1 …")
    return taken


def gradings(case: Case, flags: Namespace) -> Iterator[Grading]:
    """Measure a case's variants on one replica, a grading each as it ends.

    Raises:
        Interrupted: by Ctrl-C.
        LabError: there can be no replica.
    """
    plans = case.planned()
    choice = session.which_stack(plans, flags.stack, "auto", None)
    before: CellResult | None = None
    began = time.monotonic()
    with closing(measure(plans, choice, "auto", flags.results, (), flags.retries)) as reports:
        for variant, report in zip(case.changes, reports, strict=True):
            result = only_cell(report.run)
            before = before or result
            sign, outcome, why = case.graded(variant, before, result)
            now = time.monotonic()
            yield Grading(case.name, variant, sign, outcome, why, report.run.path.name, now - began)
            began = now


def measured(found: Sequence[Case], flags: Namespace) -> Iterator[Grading]:
    """Every case as often as is asked; after one that cannot be measured the next goes on."""
    for _ in range(flags.repeat):
        for case in found:
            began = time.monotonic()
            try:
                yield from gradings(case, flags)
            except Interrupted:
                raise
            except LabError as error:
                took = time.monotonic() - began
                yield Grading(case.name, "-", "open", "not measured", str(error), "", took)


def too_long(rows: Sequence[Grading]) -> list[str]:
    """The lessons' first runs that took longer than they may, a sentence each."""
    return [
        f"{row.of}: its run took {row.seconds:.0f} s, and may take {MOST_S:.0f} s"
        for row in rows
        if row.variant == BEFORE and row.seconds > MOST_S
    ]


def summary(rows: Sequence[Grading]) -> str:
    """How many were graded rightly, of which kind."""
    kinds = {row.variant.partition(" ")[0] for row in rows}
    lines = []
    for kind in sorted(kinds):
        signs = Counter(row.sign for row in rows if row.variant.partition(" ")[0] == kind)
        told = ", ".join(f"{count} {sign}" for sign, count in sorted(signs.items()))
        lines.append(f"{kind}: {told}")
    graded_rows = [row for row in rows if row.sign != "open"]
    wrong = sum(row.sign == "WRONG" for row in graded_rows)
    first = sum(row.seconds for row in rows if row.variant == BEFORE)
    lines.append(f"{wrong} of {len(graded_rows)} gradings are wrong")
    lines.append(f"the lessons' first runs took {first / 60:.1f} min together")
    return "\n".join([*lines, *too_long(rows)])


def plan_text(found: Sequence[Case], repeat: int) -> str:
    """What there is to measure, and about how long it takes on a usual machine."""
    lines, whole_s = list[str](), 0.0
    for case in found:
        each = [estimate(plan.cells) for plan in case.planned()]
        whole_s += START_S + sum(each)
        name, runs = case.name, len(each)
        lines.append(f"{name}: {runs} runs, the first about {START_S + each[0]:.0f} s")
    return "\n".join([*lines, f"in all: about {repeat * whole_s / 60:.0f} min"])


def options() -> ArgumentParser:
    """The command's parser."""
    made = parser("validation.lessons", __doc__ or "")
    made.add_argument("--stack", choices=("auto", "compose", "embedded"), default="embedded")
    made.add_argument("--repeat", type=positive, default=1, metavar="N", help="how often each")
    made.add_argument("--only", default="*", metavar="GLOB", help="as '03-*', or 'exam-*'")
    made.add_argument(
        "--exams", type=whole, nargs="*", default=EXAMS, metavar="SEED", help="seeds (1 to 5)"
    )
    made.add_argument("--retries", type=whole, default=RETRIES, metavar="N", help="as of `lab run`")
    made.add_argument(
        "--no-wrong", dest="wrong", action="store_false", help="leave the wrong cures out"
    )
    made.add_argument("--json", action="store_true", help="print all gradings as JSON at the end")
    made.add_argument("--dry-run", action="store_true", help="print what there is; start nothing")
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure and grade what is asked for; the exit code."""
    flags = options().parse_args(arguments)

    def work() -> int:
        with TemporaryDirectory() as folder:
            found = cases(flags, Path(folder))
            if flags.dry_run:
                print(plan_text(found, flags.repeat))
                return 0
            rows = list[Grading]()
            to = sys.stderr if flags.json else sys.stdout
            try:
                for row in measured(found, flags):
                    print(row.line, file=to, flush=True)
                    rows.append(row)
            finally:  # also of those that were measured before it was interrupted
                print(summary(rows), file=to)
                if flags.json:
                    print(json.dumps([asdict(row) for row in rows], indent=2))
        bad = any(row.sign != "right" for row in rows) or bool(too_long(rows))
        return 1 if bad else 0

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
