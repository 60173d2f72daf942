"""What ``lab learn exam`` does: measures a hidden fault, shows its symptoms, grades an answer.

Each run is made in a folder that is nobody's, and stored sealed until the examination is graded:
results/exam-<seed>-<learner>/run-1.sealed, with its symptoms beside it in symptoms-1.md.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from typing import Any, Protocol

from lab.cli.lessons import Bench, now, one_at_a_time
from lab.cli.options import check_writable, print_json, print_message, print_text, style
from lab.config import parse_settings
from lab.errors import UsageError
from lab.files import storing
from lab.lessons.exam import (
    ExamGrade,
    check_real,
    criteria,
    draw,
    graded,
    instructions,
    read_name,
    symptoms,
    verdict_part,
    words,
)
from lab.lessons.progress import ProgressFile
from lab.lessons.sealed import END, seal, unseal
from lab.lessons.views import LessonPart, terminal
from lab.model.lessons import ExamProgress, LearnerProgress
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.store import RunFolder

MAX_LOG = 200_000
"""Bytes that are read from the end of each log."""

SEEDS = 10**6


class Wanted(Protocol):
    """What the command line asks of an examination."""

    @property
    def answer(self) -> str | None:
        """The limit that is named; None where nothing is answered."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Of the learner's."""

    @property
    def users(self) -> int | None:
        """In place of the load's."""

    @property
    def seed(self) -> int | None:
        """Which examination; None: the one that is open, or a new one."""

    @property
    def measure(self) -> bool:
        """Whether to measure once more."""

    @property
    def as_json(self) -> bool:
        """Whether JSON is printed."""


def examine(wanted: Wanted, bench: Bench, file: ProgressFile, progress: LearnerProgress) -> int:
    """Do what is asked of an examination; the exit code.

    Raises:
        UsageError: it is graded already, or the answer is none.
        Interrupted: by Ctrl-C.
    """
    return _Exam(wanted, bench, file, progress).go()


class _Exam:
    def __init__(
        self, wanted: Wanted, bench: Bench, file: ProgressFile, progress: LearnerProgress
    ) -> None:
        self._wanted, self._bench, self._file, self._progress = wanted, bench, file, progress
        self._mine = self._open()
        self._row = draw(self._mine.seed)
        name = f"exam-{self._mine.seed}-{file.learner}"
        self._folder = bench.results / name

    def _open(self) -> ExamProgress:
        """The examination that is meant: by its seed, else the one that is open, else a new one."""
        asked = self._wanted.seed
        open_ones = [one for one in self._progress.exams.values() if not one.graded]
        if asked is None and open_ones:
            return open_ones[-1]
        if asked is None and self._wanted.answer is not None:
            raise UsageError("no examination is open", "begin one with `lab learn exam`")
        seed = SystemRandom().randrange(SEEDS) if asked is None else asked
        return self._progress.exams.get(str(seed)) or ExamProgress(seed=seed, began=now())

    def _keep(self, **changes: Any) -> None:
        self._mine = self._mine.model_copy(update=changes)
        self._progress = self._progress.with_exam(self._mine)
        self._file.write(self._progress)

    def go(self) -> int:
        """Show, measure or grade."""
        if self._wanted.answer is not None:
            return self._grade(read_name(self._wanted.answer))
        if self._mine.graded and not self._wanted.measure:
            return self._again()
        if (self._wanted.settings or self._wanted.users) and not self._wanted.measure:
            raise UsageError(
                "--set and --users measure nothing alone", "add --measure, or --answer"
            )
        stored = self._symptoms()
        if stored and not self._wanted.measure:
            self._show([LessonPart("symptoms", stored), instructions(self._mine.seed)])
            return 0
        return self._measured()

    def _again(self) -> int:
        told = ExamGrade(bool(self._mine.name_right), self._mine.held)
        self._show([verdict_part(self._row, self._mine.named, told)])
        return 0

    def _symptoms(self) -> str:
        """Those of the first run, as they are stored; empty where none are."""
        path = self._folder / "symptoms-1.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def _measured(self) -> int:
        """Measure, store it sealed, and show what is seen."""
        result, part = self._run(self._wanted.settings, self._wanted.users)
        if result.verdict is Outcome.INVALID:
            return 4
        self._show([part, instructions(self._mine.seed)])
        return 0

    def _run(self, settings: Sequence[str], users: int | None) -> tuple[CellResult, LessonPart]:
        """A run of the hidden cell with a change, sealed once it has ended."""
        check_real(parse_settings(tuple(settings), None))
        check_writable(self._folder)
        seed = self._mine.seed
        flags = " ".join(f"--set {shlex.quote(text)}" for text in settings)
        go_on = f"lab learn exam --seed {seed} {'--measure ' if flags else ''}{flags}".rstrip()
        with (
            tempfile.TemporaryDirectory(prefix="replica-lab-") as hidden,
            one_at_a_time(f"go on with `{go_on}`"),
        ):
            folder = Path(hidden)
            spec = folder / f"exam-{seed}.yaml"
            spec.write_text(json.dumps(self._row.spec(f"exam-{seed}")))  # JSON is YAML
            bench = replace(self._bench, results=folder / "runs", quiet=True)
            run, result = bench.measure(spec, criteria(self._row), settings, users)
            part = symptoms(self._row, result, list(_logs(run)))
            if result.verdict is not Outcome.INVALID:
                self._store(run, part)
        return result, part

    def _store(self, run: RunFolder, part: LessonPart) -> None:
        number = self._mine.measured + 1
        with storing(self._folder, "write an examination's run"):
            sealed = self._folder / f"run-{number}{END}"
            sealed.write_bytes(seal(run.path, words(self._mine.seed)))
            (self._folder / f"symptoms-{number}.md").write_text(part.text, encoding="utf-8")
        self._keep(measured=number)

    def _grade(self, name: str) -> int:
        """Measure with the proposed change, and grade both; then everything is opened."""
        if self._mine.graded:
            what = f"examination {self._mine.seed} is graded already"
            raise UsageError(what, "see it with `lab learn exam --seed …`, or begin another")
        settings = parse_settings(self._wanted.settings, None)
        if not settings:
            raise UsageError("no change is proposed", "add it, as --set pool_size=20")
        result, _ = self._run(self._wanted.settings, None)
        told = graded(self._row, name, result)
        if told.held is None:
            why = result.reasons[0] if result.reasons else "too little was seen"
            print_message(f"not graded, because the run with your change decides nothing: {why}")
            return 4
        self._keep(
            named=name, settings=settings, name_right=told.name_right, held=told.held, graded=now()
        )
        self._reveal()
        self._show(
            [verdict_part(self._row, name, told)], grade={**vars(told), "points": told.points}
        )
        return 0 if told.points == 2 else 1

    def _reveal(self) -> None:
        """Open every run of it beside its seal."""
        for sealed in sorted(self._folder.glob(f"*{END}")):
            unseal(sealed.read_bytes(), words(self._mine.seed), self._folder)
        print_message(f"its runs are open now: lab runs --results {self._folder}")

    def _show(self, parts: Sequence[LessonPart], **more: Any) -> None:
        if self._wanted.as_json:
            told = {"exam": self._mine.seed, "learner": self._file.learner}
            print_json({**told, **more, "parts": [part.as_json() for part in parts]})
        else:
            print_text(terminal(parts, style()))


def _logs(run: RunFolder) -> Iterator[tuple[str, str]]:
    """The last lines of every part's log, each with its part."""
    [cell_id] = run.info.cells
    for path in sorted(run.cell(cell_id).logs.glob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_LOG))
            for line in file.read().decode("utf-8", "replace").splitlines():
                yield path.stem, line
