"""What late uploads waited for: the lab's answer against a simulation's, on cells drawn at random.

    python -m validation.waiting --draw 40 --seed 14 --out DIR     specs, and what is expected
    lab run DIR/*.yaml                                             measure them
    python -m validation.waiting --check RUN...                    compare

--draw writes a spec a cell (DIR/waiting-01.yaml ...) and DIR/expected.json. A cell is drawn over
knobs and loads (closed, burst, stages) and kept where the simulation (`validation.oracle_waits`)
is certain of its answer; every resource has its turn.

--check simulates each finished cell of the runs again, from its stored settings and load, and
prints a row for each: the simulation's answer with its shares, the lab's, and

    agree      the lab names the same resource
    unclear    it names none for certain
    invalid    the lab has no answer, for the cell is invalid
    other      it names another resource for certain, or says that nothing was a limit

Exit code: 0 at least 95 % agree and none is other, 1 fewer or one is, 2 not such runs.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any, Literal

from lab.errors import StoreError, UsageError
from lab.model.experiment import Cell
from lab.model.units import percent
from lab.model.verdict import Verdict
from lab.store import RunFolder
from validation.command import exit_code, parser, positive, run_of
from validation.drawn_waits import Drawn, draw, spec_text, tops
from validation.expected_waits import Expected, expected

AGREE = 0.95
"""The share of cells on which the lab and the simulation have to agree."""

Comparison = Literal["agree", "unclear", "invalid", "other"]


@dataclass(frozen=True)
class Row:
    """A cell: what the simulation expects, and the lab's answer; None where there is none."""

    cell: str
    expected: Expected
    named: str | None

    @property
    def comparison(self) -> Comparison:
        """How the lab's answer compares."""
        if self.named is None:
            return "invalid"
        if self.named == self.expected.top:
            return "agree"
        return "unclear" if self.named == "unclear" else "other"


def compare(run: RunFolder) -> list[Row]:
    """A row for each finished cell of a run.

    Raises:
        LabError: a file cannot be read, no cell is finished, or one is none that the simulation
            knows, or has no bound for p95.
    """
    names = [result.id for result in run.summary().cells]
    if not names:
        raise UsageError(f"{run.path}: no cell is finished there", "let it end with --resume")
    rows = []
    for name in names:
        folder = run.cell(name)
        cell, verdict = folder.read_cell(), folder.read_verdict()
        label = run.info.experiment.experiment + ("" if len(names) == 1 else f" {name}")
        rows.append(Row(label, expected(cell, bound_of(cell)), named_by(verdict)))
    return rows


def bound_of(cell: Cell) -> float:
    """The bound of the cell's criterion on p95, in seconds.

    Raises:
        UsageError: it has none.
    """
    for criterion in cell.criteria:
        if criterion.metric == "p95" and criterion.op in {"<", "<="}:
            return criterion.bound
    raise UsageError(
        f"cell {cell.id}: no criterion holds p95 below a bound",
        "give runs of specs with one, as 'p95 < 10 s'",
    )


def named_by(verdict: Verdict) -> str | None:
    """The resource that a verdict names as the limit; None where it has no answer."""
    return verdict.limit.resource.value if verdict.limit else None


def enough_agree(rows: Sequence[Row]) -> bool:
    """Whether so many agree, and none is named otherwise with certainty."""
    found = [row.comparison for row in rows]
    return found.count("agree") >= ceil(AGREE * len(rows)) and "other" not in found


def table(rows: Sequence[Row]) -> str:
    """The comparison as text."""
    width = max([12, *(len(row.cell) for row in rows)]) + 2
    form = f"{{:<{width}}}{{:<60}}{{:<18}}{{}}"
    lines = [form.format("cell", "simulation", "lab", "")]
    for row in rows:
        answer = shares_text(row.expected) + (", ambiguous" if row.expected.ambiguous else "")
        lines.append(form.format(row.cell, answer, row.named or "-", row.comparison))
    found = [row.comparison for row in rows]
    agree, other = found.count("agree"), found.count("other")
    last = f"{agree} of {len(rows)} agree, {other} named otherwise with certainty"
    return "\n".join([*lines, last])


def shares_text(answer: Expected) -> str:
    """The largest shares, as ``pool 80 %, event_loop 15 %``."""
    largest = [(name, share) for name, share in answer.shares.items() if share >= 0.01][:3]
    return ", ".join(f"{name} {percent(share)}" for name, share in largest) or "none"


def write(drawn: Sequence[Drawn], out: Path) -> None:
    """Write a spec for each cell, and ``expected.json``.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for each in drawn:
            path = out / f"{each.experiment.experiment}.yaml"
            path.write_text(spec_text(each.experiment), encoding="utf-8")
        text = json.dumps([as_data(each) for each in drawn], indent=2)
        (out / "expected.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{out}: cannot be written: {error.strerror}") from error


def as_data(drawn: Drawn) -> dict[str, Any]:
    """What is expected of a cell, as ``expected.json`` has it; ``p95`` null: none succeeds."""
    answer = drawn.expected
    return {
        "cell": drawn.experiment.experiment,
        "bound": drawn.bound,
        "top": answer.top,
        "shares": {name: round(share, 3) for name, share in answer.shares.items()},
        "seconds": {name: round(seconds, 1) for name, seconds in answer.seconds.items()},
        "attempts": answer.attempts,
        "late": answer.late,
        "cut_off": answer.cut_off,
        "causes": dict(answer.causes),
        "p95": round(answer.p95, 2) if isfinite(answer.p95) else None,
    }


def options() -> ArgumentParser:
    """The command's parser."""
    command = parser("validation.waiting", __doc__)
    todo = command.add_mutually_exclusive_group(required=True)
    todo.add_argument(
        "--draw", type=positive, metavar="N", help="draw N cells and write their specs"
    )
    todo.add_argument("--check", nargs="+", metavar="RUN", help="compare runs of these specs")
    command.add_argument("--seed", type=int, default=14, metavar="S", help="of --draw (default 14)")
    command.add_argument("--out", type=Path, metavar="DIR", help="where --draw writes")
    return command


def main(arguments: Sequence[str]) -> int:
    """Draw cells, or print the comparison; the exit code."""
    command = options()
    flags = command.parse_args(arguments)
    if flags.draw is not None and (flags.out is None or flags.draw < 1):
        command.error("--draw takes a number of cells, 1 or more, and --out")

    def write_drawn() -> int:
        drawn = draw(flags.draw, flags.seed)
        write(drawn, flags.out)
        counts = ", ".join(f"{name} {number}" for name, number in tops(drawn).items())
        print(f"{len(drawn)} cells in {flags.out}: {counts}")
        return 0

    def check() -> int:
        rows = [row for ref in flags.check for row in compare(run_of(flags, ref))]
        print(table(rows))
        return 0 if enough_agree(rows) else 1

    return exit_code(check if flags.draw is None else write_drawn)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
