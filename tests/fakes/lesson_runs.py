"""Runs of lessons, as they are kept in ``tests/fixtures/lessons.json.xz``; and as run folders."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from lab.cli.lessons import course
from lab.model.evidence import Audit, LoadDone
from lab.model.experiment import Experiment
from lab.model.lessons import LessonFolder
from lab.model.run import CellResult, RunRequest
from lab.model.verdict import Verdict
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


def stored(results: Path, folder: LessonFolder, result: CellResult) -> RunFolder:
    """A run folder of a lesson with this result in it, as the lab leaves one."""
    knobs = folder.cell.knobs.with_settings(result.knobs)
    cell = folder.cell.model_copy(update={"knobs": knobs})
    experiment = {"experiment": f"lesson-{folder.number:02}", "load": result.load}
    request = RunRequest(
        started=sample_run.STARTED,
        spec_file=str(folder.spec),
        experiment=Experiment.model_validate(experiment),
        stack="embedded",
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
    made.finish(verdict_of(result))
    return run
