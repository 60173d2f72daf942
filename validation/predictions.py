"""The model's predictions against measurements on a replica, of cells drawn by a seed.

    python -m validation.predictions --dry-run             the cells, and what is predicted of each
    python -m validation.predictions --seed 1              measured as well

A cell is drawn of workers and how uploads are shared among them, where storage calls and queries
run, threads, pool, session, thought and sizes, with 0.6 to 1.6 times as many users as it carries
within 10 s by the model. Left out are cells in which more than 5 % fail, whose p95 is of those that
were lucky, and calls that block several workers of one socket, whose split lasts longer than a
window. Each is measured once, as a run of its own in --results; the model takes the stage times,
and the share of the busiest worker, that were measured in it (``--from knobs``: nothing but knobs,
constants and what work costs a usual machine), and nothing else of it.

A line a cell is printed as it ends: about 40 s of wall time each; a table at the end lists the
misses. A cell that came out invalid is none that agrees.

Exit code: 0 where throughput is within 3 % and p95 within 9 % in 22 of 24 cells, or as large a
part of another number; 1 where in fewer; 2 what is asked for cannot be.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.capacity.curve import threshold
from lab.capacity.measured import MeasuredCell, measured_of
from lab.capacity.network import network_of
from lab.capacity.predict import beside, figures_of_load
from lab.cli import session
from lab.cli.session import Overrides, Planned
from lab.errors import UsageError
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.prediction import PredictedFigures, Prediction
from lab.model.verdict import Outcome
from lab.runner import Lab, run_experiment
from lab.store import RunFolder
from validation.command import exit_code, parser, positive, whole

CELLS, NEEDED = 24, 22
MAX_DRAWS = 40
"""Draws for each cell that is wanted: of the others more than 5 % fail."""

BOUND = Criterion.parse("p95 < 10 s")
MAX_USERS = 150
"""More the generator does not carry beside the replica on two cores."""


@dataclass(frozen=True)
class Drawn:
    """A cell that was drawn: its name and its spec."""

    name: str
    spec: dict[str, Any]

    def planned(self) -> Planned:
        """The spec, read and expanded."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{self.name}.yaml"
            file.write_text(json.dumps(self.spec))
            [planned] = session.plan("run", [file], Overrides(), None)
        return planned


@dataclass(frozen=True)
class Row:
    """A cell, what was predicted and what was measured; why it is none that agrees, if so."""

    name: str
    prediction: Prediction
    measured: PredictedFigures | None
    why: str

    @property
    def agrees(self) -> bool:
        """Whether both figures are within their bounds."""
        return not self.why

    def text(self) -> str:
        """On a line."""
        here, there = self.measured, self.prediction.figures
        pairs = (
            ((here.throughput, there.throughput), (here.p95, there.p95)) if here and there else ()
        )
        figures = "".join(_beside(*pair) for pair in pairs)
        return f"{self.name:<70}{figures}  {self.why or 'agrees'}"


def _beside(measured: float | None, predicted: float | None) -> str:
    off = f"{100 * (measured / predicted - 1):+5.1f} %" if measured and predicted else "      -"
    return f"{measured or 0:>8.2f}{predicted or 0:>8.2f} {off}"


def draw(count: int, seed: int) -> list[Drawn]:
    """So many cells; the same seed draws the same.

    Raises:
        UsageError: too few of those that were drawn are carried.
    """
    rng, found = random.Random(f"{seed}/predictions"), dict[str, Drawn]()
    for _ in range(MAX_DRAWS * count):
        if len(found) == count:
            return list(found.values())
        if drawn := _one(rng, seed):
            found.setdefault(drawn.name, drawn)
    raise UsageError(
        f"seed {seed} draws fewer than {count} cells", "ask for fewer, or another seed"
    )


def _one(rng: random.Random, seed: int) -> Drawn | None:
    """A cell with as many users as it may carry; None where more than 5 % would fail."""
    workers, threads = rng.choice((1, 1, 2, 2, 4)), rng.choice((0, 3, 6, 8, 11))
    balance = rng.choice(("shared_socket", "least_conn", "round_robin"))
    kept, database = (
        rng.choice(("release", "release", "hold")),
        rng.choice(("blocking", "threadpool")),
    )
    pool, think = rng.choice((5, 10, 20)), rng.choice((0, 2, 4))
    audio, factor = rng.choice(("50 KB", "50 KB - 2 MB")), rng.uniform(0.6, 1.6)
    if workers == 1 or (not threads and balance == "shared_socket"):
        balance = "shared_socket" if workers == 1 else "least_conn"
    call = {"gcs_call": "executor", "gcs_threads": threads} if threads else {"gcs_call": "blocking"}
    knobs = {
        **call,
        "workers": workers,
        "balance": balance,
        "db_call": database,
        "db_session": kept,
        "pool_size": pool,
        "max_overflow": 0,
        "pool_timeout": "60 s",
        "db_cap": 100,
        "nginx_body": "3 MiB",
        "global_rate_limit": "off",
        "speed": "auto",
    }
    name = f"{workers}w-{threads or 'blocking'}-{balance}-{database}-{kept}-pool{pool}"
    name = f"{name}-think{think}-{'small' if audio == '50 KB' else 'files'}".replace("_", "-")
    load = {"users": 1, "ramp": "5 s", "warmup": "40 s", "window": "180 s", "think": f"{think} s"}
    spec: dict[str, Any] = {
        "experiment": "predicted",
        "about": name,
        "knobs": knobs,
        "load": {**load, "audio": audio},
        "criteria": ["p95 < 10 s", "error_rate < 5 %"],
        "seed": seed,
    }
    [cell] = Drawn(name, spec).planned().cells
    users = max(1, round(factor * threshold(network_of(cell), BOUND, MAX_USERS)))
    users = min(users, MAX_USERS)
    spec["load"]["users"] = users
    drawn = Drawn(f"{name}-{users}u", spec)
    figures = figures_of_load(_cell(drawn), None).figures
    failing = figures is None or figures.p95 is None or (figures.error_rate or 0.0) > 0.05
    return None if failing else drawn


def _cell(drawn: Drawn) -> Cell:
    [cell] = drawn.planned().cells
    return cell


def measure(drawn: Sequence[Drawn], stack_asked: str, results: Path, how: str) -> Iterator[Row]:
    """Each cell, measured and beside its prediction.

    Raises:
        LabError: this machine cannot go on; what was measured is stored.
    """
    planned = [one.planned() for one in drawn]
    choice = session.which_stack(planned, stack_asked, "auto", None)
    with session.replica(planned, choice, "auto", results) as (stack, reason):
        for one, spec in zip(drawn, planned, strict=True):
            run = session.new_run(spec, stack, reason, results)
            with session.measuring("run", run, stack, lambda _run: "it is kept") as (lab, _):
                yield _row(one, spec.cells[0], lab, run, how)


def _row(drawn: Drawn, cell: Cell, lab: Lab, run: RunFolder, how: str) -> Row:
    run_experiment(lab, run, (cell,))
    folder = run.cell(cell.id)
    verdict = folder.read_verdict()
    stored = folder.read_cell()
    if verdict.outcome is Outcome.INVALID:
        prediction = figures_of_load(stored, None)
        return Row(drawn.name, prediction, None, f"invalid: {verdict.reasons[0]}")
    known = measured_of(stored, folder.read_observation(), verdict.metrics)
    return compared(drawn.name, stored, known, how)


def compared(name: str, cell: Cell, known: MeasuredCell, how: str) -> Row:
    """A measured cell beside what the model says of it, from its stage times or from its knobs."""
    if how == "knobs":
        prediction = figures_of_load(cell, None)
        prediction = beside(prediction, known.figures) if known.figures else prediction
    else:
        prediction = figures_of_load(cell, known)
    apart = [
        f"{one.metric} {100 * one.share:+.1f} %" if one.predicted else f"{one.metric} unforeseen"
        for one in prediction.differs
    ]
    return Row(name, prediction, known.figures, ", ".join(apart))


def main(argv: Sequence[str] | None = None) -> int:
    """Print what came of it; the exit code."""
    made = parser("validation.predictions", __doc__ or "")
    made.add_argument("--cells", type=positive, default=CELLS, help="draw so many")
    made.add_argument("--seed", type=whole, default=1)
    made.add_argument("--stack", choices=("auto", "compose", "embedded"), default="embedded")
    made.add_argument("--from", dest="how", choices=("stages", "knobs"), default="stages")
    made.add_argument("--dry-run", action="store_true", help="predict, and measure nothing")
    asked = made.parse_args(argv)
    return exit_code(lambda: _work(asked))


def _work(asked: Any) -> int:
    drawn = draw(asked.cells, asked.seed)
    if asked.dry_run:
        for one in drawn:
            prediction = figures_of_load(_cell(one), None)
            figures = prediction.figures
            told = f"{figures.throughput:.2f}/s, p95 {figures.p95:.2f} s" if figures else "unknown"
            print(f"{one.name:<70}{told}, {prediction.limit}", flush=True)
        return 0
    rows: list[Row] = []
    print(f"{'cell':<70}{'up/s':>8}{'model':>8}{'':9}{'p95 s':>7}{'model':>8}", flush=True)
    for row in measure(drawn, asked.stack, asked.results, asked.how):
        rows.append(row)
        print(row.text(), flush=True)
    return summed_up(rows)


def summed_up(rows: Sequence[Row]) -> int:
    """Print the misses, and how many agree; 1 where too few do."""
    needed = ceil(len(rows) * NEEDED / CELLS)
    missed = [row for row in rows if not row.agrees]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} cells agree; {needed} are needed")
    for row in missed:
        limit, cells = row.prediction.limit, row.name
        print(f"  {cells}: {row.why}; by the model uploads wait for {limit}")
    return int(len(rows) - len(missed) < needed)


if __name__ == "__main__":
    sys.exit(main())
