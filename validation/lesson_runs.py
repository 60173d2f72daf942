"""A run of each lesson, and of each change to it, as the simulated replica gives it: small enough
to be kept, so that every check is tried at each test without a replica.

    python -m validation.lesson_runs                 writes tests/fixtures/lessons.json.xz anew
    python -m validation.lesson_runs --only limits   that lesson's part of it
    python -m validation.lesson_runs --show          prints what came of each; writes nothing

    before       the cell as the lesson has it
    unchanged    the same with another seed: a check must fail on it
    solution     passes every check
    wrong 1 …    each misses the check that the lesson names

The evidence is of `validation.simulated_replica`; the judge decides the criteria and works out the
figures, as of any run. What is kept are the results. Every row of an examination is simulated as it
is drawn, where it must break, and with its cure, with which it must hold.

Exit code: 0 each came out as it must, 1 one did not, 2 a lesson cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.cli.lessons import cells_of, course, judged_by
from lab.judge.criteria import decide, outcome_of
from lab.judge.metrics import measure_all
from lab.judge.spread import spreads
from lab.judge.trial import Trial
from lab.lessons.exam import criteria
from lab.lessons.exam_table import HIDDEN_FAULTS, HiddenFault
from lab.lessons.grade import grade
from lab.lessons.predict import held_against
from lab.model.experiment import Cell
from lab.model.lessons import Grade, LessonFolder
from lab.model.run import CellResult
from lab.model.verdict import Outcome, Verdict
from lab.paths import ROOT
from validation.command import exit_code
from validation.simulated_replica import SimulatedReplica

FILE = ROOT / "tests" / "fixtures" / "lessons.json.xz"
BEFORE, UNCHANGED, SOLUTION = "before", "unchanged", "solution"

Results = dict[str, dict[str, CellResult]]
"""By lesson and variant, what was measured."""


def simulated(cell: Cell, settings: Mapping[str, Any], seed: int) -> CellResult:
    """A cell with a change, as the simulated replica gives it, judged."""
    knobs = cell.knobs.with_settings(settings)
    changed = cell.model_copy(update={"knobs": knobs})
    trial = Trial(changed, SimulatedReplica(changed, seed).run())
    findings = tuple(decide(criterion, trial) for criterion in changed.criteria)
    verdict = Verdict(
        cell=cell.id,
        outcome=outcome_of(findings, attempts=len(trial.main.sent)),
        reasons=tuple(finding.reason for finding in findings),
        metrics=measure_all(trial),
        findings=findings,
        injected=(),
        spreads=spreads(trial),
    )
    return CellResult.of(changed, verdict)


def variants(folder: LessonFolder) -> dict[str, Mapping[str, Any]]:
    """The changes of a lesson, by the name of the variant."""
    lesson = folder.lesson
    wrong = {f"wrong {number}": one.set for number, one in enumerate(lesson.wrong, start=1)}
    return {BEFORE: {}, UNCHANGED: {}, SOLUTION: lesson.solution, **wrong}


def seed_of(name: str, variant: str, repeat: int = 0) -> int:
    """Of what is drawn in a variant, the same each time."""
    text = f"{name}/{variant}/{repeat}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big")


def results_of(folder: LessonFolder, repeat: int = 0) -> dict[str, CellResult]:
    """Every variant of a lesson."""
    return {
        name: simulated(folder.cell, settings, seed_of(folder.name, name, repeat))
        for name, settings in variants(folder).items()
    }


def problems(folder: LessonFolder, results: Mapping[str, CellResult]) -> Iterator[str]:
    """What did not come out as it must."""
    before = results[BEFORE]
    first = next(iter(folder.lesson.prediction.choices or {}), "1")
    if held_against(folder, first, before).right is None:
        yield "the run does not say which prediction is right"
    for name in variants(folder):
        if name != BEFORE:
            told = grade(folder.lesson, before, results[name])
            if why := _wrong(folder, name, told):
                yield f"{name}: {why}"


def _wrong(folder: LessonFolder, name: str, told: Grade) -> str:
    said = "; ".join(f"{one.outcome} {one.reason}" for one in told.findings) or told.why
    if name in (UNCHANGED, SOLUTION):
        right = "failed" if name == UNCHANGED else "passed"
        return "" if told.outcome == right else f"{told.outcome} in place of {right}: {said}"
    cure = folder.lesson.wrong[int(name.partition(" ")[2]) - 1]
    check = str(cure.misses).replace("x baseline", "x before")
    missed = any(one.check == check and one.outcome == "missed" for one in told.findings)
    return "" if missed else f"{check} is not missed by {cure.set}: {said}"


def exam_cell(row: HiddenFault) -> Cell:
    """The cell of an examination's row."""
    with TemporaryDirectory() as folder:
        spec = Path(folder) / "exam.yaml"
        spec.write_text(json.dumps(row.spec("exam")))  # JSON is YAML
        [cell] = cells_of(spec)
    return judged_by(cell, criteria(row))


def exam_results(row: HiddenFault, repeat: int = 0) -> dict[str, CellResult]:
    """A row as it is drawn, and with its cure."""
    cell = exam_cell(row)
    return {
        name: simulated(cell, settings, seed_of(row.name, name, repeat))
        for name, settings in ((BEFORE, {}), (SOLUTION, row.cure))
    }


def exam_problems(results: Mapping[str, CellResult]) -> Iterator[str]:
    """What did not come out as it must."""
    for name, right in ((BEFORE, Outcome.BROKE), (SOLUTION, Outcome.HELD)):
        if results[name].verdict is not right:
            reasons = "; ".join(results[name].reasons)
            yield f"{name}: {results[name].verdict} in place of {right}: {reasons}"


def write(results: Results, file: Path = FILE) -> None:
    """Keep results; the same give the same bytes."""
    data = {
        lesson: {name: _small(one) for name, one in of.items()} for lesson, of in results.items()
    }
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    file.write_bytes(lzma.compress(text.encode(), preset=9))


def _small(result: CellResult) -> dict[str, Any]:
    kept = result.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {key: value for key, value in kept.items() if key not in ("course", "sizes")}


def read(file: Path = FILE) -> Results:
    """What is kept."""
    data = json.loads(lzma.decompress(file.read_bytes()))
    return {
        lesson: {name: CellResult.model_validate(one) for name, one in of.items()}
        for lesson, of in data.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Simulate every lesson; the exit code."""
    parser = ArgumentParser("python -m validation.lesson_runs")
    parser.add_argument(
        "--show", action="store_true", help="print what came of each; write nothing"
    )
    parser.add_argument("--only", default="", metavar="NAME", help="a lesson, by its name, or exam")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="other draws")
    flags = parser.parse_args(arguments)

    def work() -> int:
        found, results, bad = course(), Results(), 0
        for row in HIDDEN_FAULTS if flags.only in ("", "exam") else ():
            made = exam_results(row, flags.repeat)
            wrong = list(exam_problems(made))
            bad += len(wrong)
            results[f"exam {row.name}"] = made
            print("\n".join([f"exam {row.name}", *(f"  {one}" for one in wrong)]))
        for folder in found:
            if flags.only in ("", folder.name):
                results[folder.name] = results_of(folder, flags.repeat)
                wrong = list(problems(folder, results[folder.name]))
                bad += len(wrong)
                print("\n".join([f"{folder.number} {folder.name}", *(f"  {one}" for one in wrong)]))
                if flags.show:
                    show(folder, results[folder.name])
        if not (flags.show or flags.repeat):
            write({**(read() if flags.only else {}), **results})
        return 1 if bad else 0

    return exit_code(work)


def show(folder: LessonFolder, results: Mapping[str, CellResult]) -> None:
    """Print what each variant came to."""
    for name, settings in variants(folder).items():
        told = grade(folder.lesson, results[BEFORE], results[name])
        print(f"  {name} {dict(settings)}: {told.outcome}")
        for one in told.findings:
            print(f"      {one.outcome}: {one.reason}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
