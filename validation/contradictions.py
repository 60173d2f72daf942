"""Is anything met that the stored lines contradict? Criteria drawn at random, over every metric.

    python -m validation.contradictions                      the runs stored with the tests
    python -m validation.contradictions RUN... --cells 200   any others

For each cell of each RUN, a run's folder or an archive of one, a criterion is drawn for every
metric of the table: any comparison, with a bound at what the cell's verdict says, near it, or at
0. The lab judges the cell by them, as a black box. Then what it calls met is held against
samples.jsonl and evidence.jsonl, by the formulas of `validation.raw_metrics`, which know nothing
of the judge. Contradicted is a criterion that is met though

    the lines say otherwise, beyond the formula's tolerance;
    there is nothing in the lines to say it by;
    it says how few uploads failed for a cause inside the service, and so many were cut off before
    the service answered that it may be wrong, and the service itself has not counted; or it has,
    and counted more, those that were still inside at the end included.

No outcome may be held that has a contradicted criterion, or one that is not met. Where there are
fewer stored cells than --cells asks for, they are judged again by other criteria.

Exit code: 0 no contradiction, 1 there is one, 2 not such runs, or a metric has no formula.
"""

from __future__ import annotations

import random
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.archives import unpack
from lab.errors import UsageError
from lab.judge import judge
from lab.model.criterion import Criterion
from lab.model.metrics import BY_NAME
from lab.model.verdict import Finding, Outcome, Verdict
from lab.store import CellFolder, RunFolder
from validation.command import exit_code, parser, positive, run_of
from validation.raw_metrics import CUT_OFF, FORMULAS, RawCell
from validation.server_counts import INSIDE, server_count, still_inside

STORED = Path(__file__).parent.parent / "tests" / "fixtures" / "stored_runs"
FACTORS = (0.0, 0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0)
"""A bound is the metric's value times one of these,"""
STEPS = (-1.0, 0.0, 0.0, 1.0)
"""and, of a count, one of these more."""
ROUNDING = 1e-5
"""Verdicts keep so many digits: a share of the value, and of the unit."""

UPPER = {"<", "<=", "=="}
"""Comparisons that say how few there are."""


OF_FAMILIES = ("status.200", "status.413", "status.429", "status.503")
NAMES = tuple(name for name, row in BY_NAME.items() if not row.members or name in OF_FAMILIES)
"""The metrics that criteria are drawn for: all, and of a family some."""


@dataclass(frozen=True)
class Contradiction:
    """A criterion that was met, or an outcome that was held, and what the lines say of it."""

    cell: str
    outcome: Outcome
    criterion: str
    judged: float | None
    why: str


@dataclass(frozen=True)
class Result:
    """What came of it."""

    cells: int
    criteria: int
    met: int
    contradictions: Sequence[Contradiction]


def check_formulas(formulas: Mapping[str, object] = FORMULAS) -> None:
    """Hold the formulas against the table of metrics.

    Raises:
        UsageError: a metric has none; the message names them.
    """
    missing = sorted(BY_NAME.keys() - formulas.keys())
    if missing:
        raise UsageError(
            f"no formula for {', '.join(missing)}", "add one to validation/raw_metrics.py"
        )


def contradictions(folders: Sequence[Path], cells: int, seed: int) -> Result:
    """Judge so many cells by criteria drawn at random; each folder at least once.

    Raises:
        LabError: a cell cannot be read, or a metric has no formula.
    """
    check_formulas()
    criteria = met = 0
    found: list[Contradiction] = []
    number = max(cells, len(folders))
    for turn, folder in enumerate(islice(cycle(folders), number)):
        trial = Trial.of(folder, random.Random(f"{seed}/{turn}"))
        criteria, met = criteria + len(trial.verdict.findings), met + len(trial.met)
        found += trial.contradictions()
    return Result(number, criteria, met, found)


@dataclass(frozen=True)
class Trial:
    """A stored cell, judged by criteria drawn at random."""

    name: str
    raw: RawCell
    verdict: Verdict
    judged: Callable[[Sequence[Criterion]], Verdict]
    rng: random.Random

    @classmethod
    def of(cls, path: Path, rng: random.Random) -> Trial:
        """Draw, and have it judged.

        Raises:
            LabError: the cell cannot be read.
        """
        folder = CellFolder(path)
        cell, observation = folder.read_cell(), folder.read_observation()

        def judged(criteria: Sequence[Criterion]) -> Verdict:
            return judge(cell.model_copy(update={"criteria": tuple(criteria)}), observation)

        values = folder.read_verdict().metrics
        verdict = judged([criterion_at_random(name, values, rng) for name in NAMES])
        name = f"{path.parent.parent.name.split('-', 1)[-1]} {cell.id}"
        return cls(name, RawCell.read(path, cell), verdict, judged, rng)

    @property
    def met(self) -> list[Finding]:
        """What the judge calls met."""
        return [finding for finding in self.verdict.findings if finding.outcome == "met"]

    def contradictions(self) -> list[Contradiction]:
        """What is met, or held, and contradicted."""
        why = {finding.criterion: self._why(finding) for finding in self.met}
        found = [
            self._contradiction(finding, reason)
            for finding in self.met
            if (reason := why[finding.criterion])
        ]
        chosen = self.rng.sample(self.met, min(3, len(self.met)))
        held = self.judged([Criterion.parse(finding.criterion) for finding in chosen])
        return found + [
            self._contradiction(finding, "the outcome is held, and it is not met", held.outcome)
            for finding in held.findings
            if held.outcome == Outcome.HELD and finding.outcome != "met"
        ]

    def _why(self, finding: Finding) -> str | None:
        return why_contradicted(Criterion.parse(finding.criterion), self.raw)

    def _contradiction(
        self, finding: Finding, why: str, outcome: Outcome | None = None
    ) -> Contradiction:
        return Contradiction(
            self.name, outcome or self.verdict.outcome, finding.criterion, finding.value, why
        )


def criterion_at_random(name: str, values: Mapping[str, float], rng: random.Random) -> Criterion:
    """A criterion on a metric, with a bound near its value among these; near 1 without one."""
    bound = values.get(name, 1.0) * rng.choice(FACTORS)
    if BY_NAME[name].unit == "count":
        bound = round(bound) + rng.choice(STEPS)
    op = rng.choice(sorted(Criterion.OPERATORS))
    written = str(Criterion(metric=name, op=op, bound=max(0.0, bound)))
    return Criterion.parse(written)


def why_contradicted(criterion: Criterion, raw: RawCell) -> str | None:
    """Why a criterion that is met should not be; None where the lines bear it out."""
    raw = replace(raw, journey=str(criterion.journey))
    cause = criterion.metric.removeprefix("errors.")
    if cause in INSIDE and criterion.metric != cause:
        return _why_of_cause(cause, criterion, raw)
    formula = FORMULAS[criterion.metric]
    value = formula.value(raw)
    if value is None:
        return "the lines have no evidence of it"
    doubt = formula.tolerance * abs(value)
    return None if _may_be(criterion, value, doubt) else f"it is {value:.6g} by the lines"


def _may_be(criterion: Criterion, value: float, doubt: float) -> bool:
    """Whether a value that is known but for a doubt may satisfy a criterion."""
    doubt += ROUNDING * (1 + abs(value))
    low, high = value - doubt, value + doubt
    if criterion.op == "==":
        return low <= criterion.bound <= high
    return any(map(criterion.satisfied_by, (low, high)))


def _why_of_cause(cause: str, criterion: Criterion, raw: RawCell) -> str | None:
    """Of a claim about how many uploads failed for a cause inside the service.

    So many did of whom one knows; how many more there may be matters to claims of few.
    """
    seen = sum(sample["error"] == cause for sample in raw.sent)
    cut_off = sum(sample["error"] in CUT_OFF for sample in raw.sent)
    counted = server_count(cause, raw)
    if counted is None:
        known, more = seen, cut_off
        who = f"{seen} failed so, and {cut_off} were cut off before the service answered"
    else:
        known, more = max(seen, counted), still_inside(raw)
        who = f"the service counted {counted}, and {more} were still inside"
    number = known + more if criterion.op in UPPER else known
    return None if criterion.satisfied_by(number) else who


def table(result: Result) -> str:
    """The contradictions as text, and how many there are."""
    form = "{:<46}{:<11}{:<34}{:<12}{}"
    lines = [form.format("cell", "outcome", "met", "judged", "contradicted, for")]
    for each in result.contradictions:
        judged = "-" if each.judged is None else f"{each.judged:.6g}"
        lines.append(form.format(each.cell, each.outcome, each.criterion, judged, each.why))
    last = (
        f"{result.cells} cells, {result.criteria} criteria, {result.met} of them met, "
        f"{len(result.contradictions)} contradictions"
    )
    return "\n".join([*(lines if result.contradictions else []), last])


@contextmanager
def unpacked(archives: Sequence[Path]) -> Iterator[list[RunFolder]]:
    """The runs in archives, in a folder that is gone afterwards.

    Raises:
        LabError: one is no archive of a run.
    """
    with TemporaryDirectory() as folder:
        for archive in archives:
            try:
                with tarfile.open(archive) as tar:
                    unpack(tar, Path(folder))
            except (OSError, tarfile.TarError) as error:
                raise UsageError(f"{archive}: cannot be unpacked: {error}") from error
        yield [RunFolder.open(path) for path in sorted(Path(folder).iterdir())]


def finished(runs: Sequence[RunFolder]) -> list[Path]:
    """The folders of all finished cells, the trials of searches as well.

    Raises:
        UsageError: there are none.
    """
    paths = [file.parent for run in runs for file in sorted(run.path.glob("cells/*/verdict.json"))]
    if not paths:
        raise UsageError("no cell is finished in these runs", "give others, or let them end")
    return paths


def main(arguments: Sequence[str]) -> int:
    """Print the contradictions; the exit code."""
    command = parser("validation.contradictions", __doc__)
    command.add_argument("runs", nargs="*", metavar="RUN", help="runs, or archives of runs")
    command.add_argument("--cells", type=positive, default=200, metavar="N", help="default: 200")
    command.add_argument("--seed", type=int, default=1, metavar="S", help="default: 1")
    flags = command.parse_args(arguments)

    def work() -> int:
        given = flags.runs or sorted(map(str, STORED.glob("*.tar.xz")))
        archives = [Path(ref) for ref in given if ref.endswith(".tar.xz")]
        runs = [run_of(flags, ref) for ref in given if not ref.endswith(".tar.xz")]
        with unpacked(archives) as stored:
            result = contradictions(finished([*stored, *runs]), flags.cells, flags.seed)
        print(table(result))
        return 1 if result.contradictions else 0

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
