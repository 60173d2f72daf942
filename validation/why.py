"""Is `lab why` right? Cells whose limit is known, diagnosed on a replica, one after the other.

    python -m validation.why [--part constructed ambiguous drawn] [--only GLOB] [--seed 1]
    python -m validation.why --matrix --stack embedded      and again with --stack compose
    python -m validation.why --dry-run                      what there is, and how long it takes

    constructed   14 cells made to have one limit each: it is proven, and nothing else moves them
    ambiguous     2 with two resources that are equally tight in series: the limit is shared
    drawn         6 combinations of workers, threads, pool, session and users, drawn by --seed: what
                  is proven is what a simulation of the closed network names, which knows nothing of
                  the lab (`validation.drawn_limits`)
    matrix        the twelve cells of workers-x-pool: the limit of each that breaks is proven,
                  withdrawn or shared: what is right is not known, so none may stay open

A worker's uneven share is no limit of one kind: more of whatever the busy worker lacks helps, too.

A line a cell is printed as it ends, and a table of all at the end. A cell that cannot be measured
is told, and the next goes on, on a replica of its own. A trial takes its ramp, warm-up and window,
divided by its speed, and 2 to 5 s more; ``--dry-run`` adds them up. The runs go to ``--results``,
each a run of `lab why`.

Exit code: 0 each is as is right, 1 one is not or could not be measured, 2 what is asked for is no
cell, or there can be no replica.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.cli import session
from lab.cli.session import Overrides, Planned
from lab.diagnosis.runner import explain
from lab.diagnosis.trials import as_it_is
from lab.errors import Interrupted, LabError, UsageError
from lab.model.diagnosis import Diagnosis
from lab.model.verdict import Resource
from lab.plan import estimate
from lab.stack.base import Stack
from validation.command import exit_code, parser
from validation.drawn_limits import draw

CONSTRUCTED, AMBIGUOUS, DRAWN, MATRIX = PARTS = ("constructed", "ambiguous", "drawn", "matrix")
USUAL = PARTS[:-1]
OF_DRAWN = 6
TRIALS = {CONSTRUCTED: 2.5, AMBIGUOUS: 4.0, DRAWN: 2.5, MATRIX: 3.0}
"""How many trials a diagnosis takes, in the mean; the cell as it is among them."""

FREE: Mapping[str, Any] = {
    "global_rate_limit": "off",
    "gcs_call": "executor",
    "gcs_threads": 40,
    "db_call": "threadpool",
}
"""Nothing of it is a limit for twenty users."""

HELD: Mapping[str, Any] = {
    "db_session": "hold",
    "pool_size": 2,
    "max_overflow": 0,
    "pool_timeout": "120 s",
}
"""Two connections, each kept across the upload, for which uploads wait and do not give up."""

LOAD: Mapping[str, Any] = {
    "users": 8,
    "ramp": "2 s",
    "warmup": "15 s",
    "window": "60 s",
    "audio": "50 KB",
}
FAULTS = ("gcs-latency", "db-distance")
FAILS = ("error_rate < 5 %",)

SETTLED = ("proven", "withdrawn", "shared", "unbroken")
"""What an answer may be where it is not known which is right."""


@dataclass(frozen=True)
class Case:
    """A cell of which it is known what is right to say.

    Args:
        part: one of `PARTS`.
        name: as a spec writes an experiment's name; of the matrix, the cell's id.
        limit: what limits it: one resource, or the two that share it; empty where it is not known.
        knobs: over *as found*.
        criteria: as a spec writes them.
        load: over `LOAD`.
        faults: by name.
    """

    part: str
    name: str
    limit: tuple[Resource, ...] = ()
    knobs: Mapping[str, Any] = field(default_factory=dict)
    criteria: Sequence[str] = ()
    load: Mapping[str, Any] = field(default_factory=dict)
    faults: Sequence[str] = FAULTS

    @property
    def outcome(self) -> str:
        """The right one, of a known limit."""
        return "proven" if len(self.limit) == 1 else "shared"

    @property
    def right(self) -> str:
        """What is right, in words: ``proven pool``."""
        return f"{self.outcome} {' + '.join(self.limit)}" if self.limit else "settled"

    def wrong(self, diagnosis: Diagnosis) -> str:
        """Why a diagnosis is not right; empty where it is."""
        if not self.limit:
            settled = diagnosis.outcome in SETTLED
        else:
            settled = {diagnosis.outcome, *diagnosis.limit} == {self.outcome, *self.limit}
        return "" if settled else diagnosis.text

    def spec(self) -> dict[str, Any]:
        """The whole spec of a cell that stands alone."""
        return {
            "experiment": self.name,
            "preset": "as-found",
            "knobs": {"speed": "auto", **self.knobs},
            "load": {**LOAD, **self.load},
            "faults": list(self.faults),
            "criteria": list(self.criteria),
        }


def _alone(
    name: str,
    limit: str,
    knobs: Mapping[str, Any],
    *criteria: str,
    load: Mapping[str, Any] | None = None,
    faults: Sequence[str] = FAULTS,
) -> Case:
    """A cell with one limit; `FREE` but for these knobs."""
    settings = {**FREE, **knobs}
    return Case(CONSTRUCTED, name, (Resource(limit),), settings, criteria, load or {}, faults)


CALM = {"backoff": "5 s"}
"""Who is refused at once does not come back at once."""

CASES = (
    # 8 users on two threads: each waits for three rounds, 13 s and more.
    _alone("own-threads", "own_threads", {"gcs_threads": 2}, "p95 < 12 s"),
    _alone(
        "default-executor",
        "default_executor",
        {"gcs_call": "to_thread"},
        "p95 < 8 s",
        load={"users": 16},
    ),
    _alone(
        "blocking-call",
        "event_loop",
        {"gcs_call": "blocking"},
        "p95 < 12 s",
        load={"window": "90 s"},
    ),
    # Seven round trips of 100 ms hold the loop: 1.4 uploads a second.
    _alone(
        "blocking-queries",
        "event_loop",
        {"db_call": "blocking", "db_rtt": "100 ms"},
        "p95 < 9 s",
        load={"users": 16},
    ),
    _alone(
        "anyio-threads",
        "anyio_threads",
        {
            "anyio_threads": 2,
            "db_rtt": "200 ms",
            "gcs_latency": "1 s",
            "pool_size": 20,
            "max_overflow": 20,
            "db_cap": 100,
        },
        "p95 < 8 s",
        load={"users": 16},
    ),
    _alone("pool", "pool", HELD, "p95 < 12 s"),
    # 8 users, each with a connection, of which Postgres grants 5.
    _alone(
        "database-slots", "database_slots", {"db_session": "hold", "db_cap": 5}, *FAILS, load=CALM
    ),
    _alone("body-limit", "body_limit", {}, *FAILS, load={"audio": "1.5 MB", **CALM}),
    _alone("rate-limit", "rate_limit", {"upload_rate_limit": "3/min"}, *FAILS, load=CALM),
    _alone(
        "proxy-timeout",
        "proxy_timeout",
        {"nginx_read_timeout": "5 s", "gcs_latency": "6 s - 8 s"},
        *FAILS,
    ),
    _alone("backpressure", "backpressure", {"max_inflight_uploads": 3}, *FAILS, load=CALM),
    _alone(
        "speech-threads",
        "speech_threads",
        {"speech_threads": 2},
        "p95(assess) < 8 s",
        load={"users": 10, "mix": {"assess": "100 %"}},
        faults=(*FAULTS, "speech-latency"),
    ),
    _alone("storage", "storage", {"gcs_latency": "6 s"}, "p95 < 5 s"),
    _alone("database", "database", {"db_rtt": "500 ms", "gcs_latency": "200 ms"}, "p95 < 3 s"),
    # An upload holds a connection and a thread at once, and there are two of each.
    Case(
        AMBIGUOUS,
        "pool-and-threads",
        (Resource.POOL, Resource.OWN_THREADS),
        {**FREE, **HELD, "gcs_threads": 2},
        ("p95 < 12 s",),
    ),
    # The pool has two connections, and Postgres grants two.
    Case(
        AMBIGUOUS,
        "pool-and-slots",
        (Resource.POOL, Resource.DATABASE_SLOTS),
        {**FREE, **HELD, "db_cap": 2},
        ("p95 < 12 s",),
        CALM,
    ),
)


def drawn_cases(seed: int) -> list[Case]:
    """Combinations of knobs, each with what the simulation says of it."""
    return [
        Case(
            DRAWN,
            f"drawn-{number}-{one.combination}",
            (Resource(one.limit),),
            one.combination.knobs,
            (f"p95 < {one.bound:g} s",),
            {"users": one.combination.users, "warmup": "20 s", "window": "90 s"},
        )
        for number, one in enumerate(draw(OF_DRAWN, seed), start=1)
    ]


def planned_of(case: Case) -> Planned:
    """A case of its own spec, read and expanded as `lab why` does it.

    Raises:
        LabError: it is no spec.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{case.name}.yaml"
        file.write_text(json.dumps(case.spec()))  # JSON is YAML
        [planned] = session.plan("why", [file], Overrides(), None)
    return _as_trials(planned)


def _as_trials(planned: Planned) -> Planned:
    return replace(planned, cells=tuple(map(as_it_is, planned.cells)))


def matrix() -> list[tuple[Case, Planned]]:
    """The cells of workers-x-pool, a plan each."""
    [spec] = session.plan("why", [Path("workers-x-pool")], Overrides(), None)
    return [
        (Case(MATRIX, cell.id), replace(spec, cells=(cell,))) for cell in _as_trials(spec).cells
    ]


def asked(parts: Sequence[str], only: str, seed: int) -> list[tuple[Case, Planned]]:
    """What is to be diagnosed.

    Args:
        parts: of `PARTS`.
        only: a pattern of names, or of parts and names: ``constructed/pool*``.
        seed: of the combinations that are drawn.

    Raises:
        UsageError: the pattern takes nothing.
    """
    alone = [*CASES, *(drawn_cases(seed) if DRAWN in parts else ())]
    found = [(case, planned_of(case)) for case in alone if case.part in parts]
    found += matrix() if MATRIX in parts else []
    taken = [one for one in found if _takes(only, one[0])]
    if not taken:
        names = ", ".join(case.name for case, _ in found[:4])
        raise UsageError(f"'{only}' takes no cell of {' '.join(parts)}", f"they are {names} ...")
    return taken


def _takes(only: str, case: Case) -> bool:
    return fnmatchcase(case.name, only) or fnmatchcase(f"{case.part}/{case.name}", only)


@dataclass(frozen=True)
class Row:
    """What came of a case.

    Args:
        case: which.
        diagnosis: of it; None where it could not be measured.
        problem: why it could not be, or is not right; empty where it is.
        seconds: of wall-clock time that it took.
    """

    case: Case
    diagnosis: Diagnosis | None
    problem: str
    seconds: float

    @property
    def fields(self) -> tuple[str, ...]:
        """As they stand in a line: sign, part, name, what is right, what came, trials, seconds."""
        told = self.diagnosis
        found = "not measured" if told is None else " ".join([told.outcome, " + ".join(told.limit)])
        trials = str(1 + len(told.trials)) if told else "-"
        sign = "WRONG" if self.problem else "right"
        right, took = self.case.right, f"{self.seconds:.0f} s"
        return sign, self.case.part, self.case.name, right, found.strip(), trials, took


HEADS = ("", "part", "cell", "right is", "so it is", "trials", "took")


def told(case: Case, diagnosis: Diagnosis, seconds: float) -> Row:
    """A diagnosis, held against what is right."""
    return Row(case, diagnosis, case.wrong(diagnosis), seconds)


def diagnosed(cases: Sequence[tuple[Case, Planned]], flags: Namespace) -> Iterator[Row]:
    """A row for each, as it ends; after one that could not be measured the others go on.

    Raises:
        Interrupted: by Ctrl-C.
        LabError: there can be no replica.
    """
    left = list(cases)
    choice = session.which_stack([planned for _, planned in left], flags.stack, "auto", None)
    while left:
        plans = [planned for _, planned in left]
        with session.replica(plans, choice, "auto", flags.results) as (stack, reason):
            row = None
            while left and (row is None or row.diagnosis):
                row = diagnose(*left.pop(0), stack, reason, flags.results)
                yield row


def diagnose(case: Case, planned: Planned, stack: Stack, reason: str, results: Path) -> Row:
    """One case, diagnosed as `lab why SPEC` does it.

    Raises:
        Interrupted: by Ctrl-C.
    """
    began = time.monotonic()
    try:
        run = session.new_run(planned, stack, reason, results, "why")
        with session.measuring("why", run, stack, lambda _run: "trials are kept") as (lab, _):
            found = explain(lab, run, planned.cells)
    except Interrupted:
        raise
    except LabError as error:
        return Row(case, None, str(error), time.monotonic() - began)
    seconds = time.monotonic() - began
    if not found.cells:
        why = "; ".join(cell.problem for cell in found.damaged) or "it has no verdict"
        return Row(case, None, why, seconds)
    return told(case, found.cells[0], seconds)


def line(row: Row) -> str:
    """A row as it ends, with why it is not right under it."""
    sign, part, name, right, found, trials, took = row.fields
    said = f"{sign}  {part}/{name}: {found} ({right} is right), {trials} trials, {took}"
    return f"{said}\n       {row.problem}" if row.problem else said


def table(rows: Sequence[Row]) -> str:
    """All rows, and how many of each part are as is right."""
    lines = [HEADS, *(row.fields for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)).rstrip()
        for one in lines
    ]
    for part in dict.fromkeys(row.case.part for row in rows):
        mine = [row for row in rows if row.case.part == part]
        good = sum(not row.problem for row in mine)
        took = sum(row.seconds for row in mine) / 60
        texts.append(f"{part}: {good} of {len(mine)} are as is right, in {took:.1f} min")
    return "\n".join(texts)


def plan_text(cases: Sequence[tuple[Case, Planned]]) -> str:
    """What there is to diagnose, and about how long each part takes on a usual machine."""
    lines, seconds = list[str](), dict[str, float]()
    for case, planned in cases:
        took = TRIALS[case.part] * estimate(planned.cells)
        seconds[case.part] = seconds.get(case.part, 0.0) + took
        lines.append(f"{case.part}/{case.name}: {case.right}, about {took:.0f} s")
    return "\n".join([*lines, *(f"{part}: about {s / 60:.0f} min" for part, s in seconds.items())])


def options() -> ArgumentParser:
    """The command's parser."""
    made = parser("validation.why", __doc__ or "")
    made.add_argument("--stack", choices=("auto", "compose", "embedded"), default="embedded")
    chosen = made.add_mutually_exclusive_group()
    chosen.add_argument("--part", nargs="+", choices=PARTS, default=USUAL, dest="parts")
    chosen.add_argument(
        "--matrix", action="store_const", const=(MATRIX,), dest="parts", help="part matrix alone"
    )
    made.add_argument("--only", default="*", metavar="GLOB", help="cells, as 'pool*'")
    made.add_argument("--seed", type=int, default=1, help="of what is drawn (default 1)")
    made.add_argument("--dry-run", action="store_true", help="print what there is; start nothing")
    return made


def main(arguments: Sequence[str]) -> int:
    """Diagnose what is asked for, and print a line for each and a table; the exit code."""
    flags = options().parse_args(arguments)

    def work() -> int:
        cases = asked(flags.parts, flags.only, flags.seed)
        if flags.dry_run:
            print(plan_text(cases))
            return 0
        rows = list[Row]()
        try:
            for row in diagnosed(cases, flags):
                print(line(row), flush=True)
                rows.append(row)
        finally:  # also of those that were diagnosed before it was interrupted
            print(table(rows))
        right = sum(not row.problem for row in rows)
        print(f"{right} of {len(cases)} cells are as is right")
        return 0 if right == len(cases) else 1

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
