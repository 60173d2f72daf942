"""Runs of lessons, as they are kept in ``tests/fixtures/lessons.json.xz``; and as run folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from lab.cli.lessons import course
from lab.cli.session import Planned
from lab.model.evidence import Audit, LoadDone
from lab.model.experiment import Cell, Experiment
from lab.model.knobs import Knobs
from lab.model.lessons import LessonFolder
from lab.model.relaxation import differing
from lab.model.run import CellResult, RunRequest
from lab.model.verdict import Outcome, Verdict
from lab.store import RunFolder
from tests.fakes import sample_run
from validation.lesson_runs import Results, read


@cache
def lessons() -> tuple[LessonFolder, ...]:
    """The course."""
    return tuple(course())


@cache
def kept() -> Results:
    """What is kept of every lesson and variant."""
    return read()


def lesson(name: str) -> LessonFolder:
    """A lesson by its name."""
    return next(one for one in lessons() if one.name == name)


def verdict_of(result: CellResult) -> Verdict:
    """The verdict that a kept result came from."""
    return Verdict(
        cell=result.id,
        outcome=result.verdict,
        reasons=result.reasons,
        metrics=result.metrics,
        findings=result.findings,
        injected=(),
        invalid=result.invalid,
        spreads=result.spreads,
    )


def stored(results: Path, cell: Cell, result: CellResult, stack: str = "embedded") -> RunFolder:
    """A run folder with this result of a cell in it, as the lab leaves one."""
    experiment = {"experiment": "lesson", "load": result.load}
    request = RunRequest(
        started=sample_run.STARTED,
        spec_file="spec.yaml",
        experiment=Experiment.model_validate(experiment),
        stack=stack,
        stack_reason="asked for",
        speed="auto",
        machine={"cpus": "2"},
    )
    run = RunFolder.create(results, [cell], request)
    made = run.begin(cell)
    made.samples.write_text("")
    done = LoadDone(t=1.0, window=cell.load.measured, generator_exit=0)
    audit = Audit(t=2.0, rows=0, objects=0, lost=[], orphans=[], refused=0)
    made.write_evidence([done, audit])
    (made.logs / "nginx.log").write_text("2026/01/01 [error] upstream timed out\n")
    made.finish(verdict_of(result))
    return run


class KeptRuns:
    """Stands in for `lab.cli.run.measure`: gives the kept run of the cell that is asked for.

    Attributes:
        asked: the knobs of each cell that was measured, over those as found.
        next: what the next runs become, in order: ``invalid``, ``undecided``, ``interrupt``.
        stack: on which they were made.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []
        self.next: list[str] = []
        self.stack = "embedded"

    def __call__(
        self,
        planned: Sequence[Planned],
        _choice: object,
        _proxy: str,
        results: Path,
        *_more: object,
    ) -> Iterator[SimpleNamespace]:
        [spec] = planned
        [cell] = spec.cells
        self.asked.append(differing(Knobs(), cell.knobs.as_text()))
        what = self.next.pop(0) if self.next else ""
        if what == "interrupt":
            raise KeyboardInterrupt
        result = self._result(cell)
        if what:
            told = {"verdict": Outcome(what), "reasons": ("the generator was late",)}
            open_ones = [one.model_copy(update={"outcome": "undecided"}) for one in result.findings]
            result = result.model_copy(update={**told, "findings": tuple(open_ones)})
        yield SimpleNamespace(run=stored(results, cell, result, self.stack))

    def _result(self, cell: Cell) -> CellResult:
        """The kept run of such a cell, with any seed."""
        for results in kept().values():
            for result in results.values():
                same = cell.knobs.with_settings(result.knobs) == cell.knobs
                if same and result.load == cell.load.model_dump(mode="json"):
                    return result
        raise AssertionError(f"no such run is kept: {self.asked[-1]}")
