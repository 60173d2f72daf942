"""A run: how far it is, as it is stored, and what it answers.

    RunRequest ─> RunInfo (run.json) ─> Progress … ─> Summary (summary.json), with its Answer

What a run answers is a paragraph in which every claim stands on figures that are stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from lab.model.base import Count, Number, Plain, Stored
from lab.model.distribution import Latencies, SizeClass, TimeSpent
from lab.model.evidence import Sample
from lab.model.experiment import Cell, Experiment, Question
from lab.model.journeys import Journey
from lab.model.load import AnyLoad, end_of
from lab.model.replica import STUDENTS, Target
from lab.model.split import Split
from lab.model.verdict import (
    Bottleneck,
    Check,
    Comparison,
    EarlyEnd,
    Finding,
    Invalidity,
    Leak,
    Outcome,
    Spread,
    Stood,
    Timeline,
    Verdict,
    WorkerShare,
)

SCHEMA_VERSION = 1
"""The version of the files in a run folder, but for ``run.json``."""

RUN_SCHEMA_VERSION = 2
"""The version of ``run.json``: since 2 it says what the run is (``kind``)."""

Phase = Literal[
    "applying",
    "arming",
    "ramp",
    "warm-up",
    "window",
    "drain",
    "auditing",
    "judging",
    "waiting",
]


def phase_at(load: AnyLoad, t: float) -> Phase:
    """The phase of a load ``t`` real-world seconds after it started."""
    if t >= end_of(load):
        return "drain"
    if t >= load.measured[0]:
        return "window"
    return "ramp" if t < getattr(load, "ramp", 0.0) else "warm-up"


RunKind = Literal["run", "threshold", "why"]
"""What a run measures: every cell once, as it is; of each cell the users at which it breaks; or
what its limit is."""


MAX_CELLS = 100_000
"""That a run has: to look for each takes time, whatever is stored of it."""

CellId = Annotated[str, Field(min_length=1)]
Speed = Annotated[float, Field(gt=0, le=1000)] | Literal["auto"]
"""What a run was started with; where it is ``auto``, each cell has its own."""
MaxUsers = Annotated[int, Field(ge=1, le=STUDENTS)]
MaxLoad = Annotated[float, Field(gt=0, le=1e9)]
SearchMethod = Literal["aimed", "certain"]
"""How a threshold is searched: aimed by a model of the cell, or by e-values, which rest on none."""

Within = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class LoadTick:
    """The load, seen from its driver while it runs; times in real-world seconds.

    ``users`` are those active now; ``sent``, ``answered`` and ``failed`` are running totals;
    ``rate`` is successes a second over the last few seconds; ``ended_at`` is when the window ended,
    if it did so before its time.
    """

    t: float
    users: int
    sent: int
    answered: int
    failed: int
    rate: float
    ended_at: float | None = None


@dataclass(frozen=True)
class LoadSoFar:
    """The uploads of a load that still goes on, as they stood at a moment; real-world seconds.

    Args:
        at: the moment, after the load started.
        samples: every upload that had ended, and what else was asked for; later ones are of no
            account.
        under_way: when the other uploads were sent.
        others_under_way: the same of other journeys.
    """

    at: float
    samples: Sequence[Sample]
    under_way: Sequence[float]
    others_under_way: Mapping[Journey, Sequence[float]] = field(default_factory=dict)

    def of(self, journey: Journey) -> LoadSoFar:
        """What there was of one journey, in the place of uploads."""
        samples = [sample for sample in self.samples if sample.journey is journey]
        others = self.others_under_way.get(journey, ())
        return LoadSoFar(self.at, samples, self.under_way if journey is Journey.UPLOAD else others)


@dataclass(frozen=True)
class Progress:
    """One moment of a run; ``left_s`` is an estimate of the wall-clock seconds still to go.

    ``attempt`` counts the measurements of this cell, from 1; ``busy`` says what keeps this machine
    busy while that is waited for.
    """

    cell: str
    index: int
    cells: int
    phase: Phase
    left_s: float
    tick: LoadTick | None = None
    attempt: int = 1
    busy: str = ""


def as_json(model: BaseModel) -> str:
    """The one form in which the lab writes a document: indented JSON that ends in a newline.

    Raises:
        ValueError: a number is not finite; JSON has none such, so it would not read back.
    """
    data = model.model_dump(mode="json", by_alias=True)
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _utc(time: Any) -> Any:
    """An aware time as text: UTC, ISO 8601, to the second; text as it is."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if isinstance(time, datetime) else time


class RunRequest(Stored):
    """Everything that is decided before the first cell, but for what the store makes of it.

    Args:
        kind: what the run measures.
        started: an aware time; kept as UTC, ISO 8601, to the second.
        spec_file: where the spec was read from, as given on the command line.
        experiment: the spec.
        stack: ``embedded`` or ``compose``.
        stack_reason: one line that says why it was chosen.
        speed: what the run was started with; each cell's own is among its knobs.
        max_speed: none is chosen higher; None: no limit.
        versions: of the lab and of every part.
        machine: CPUs, memory, kernel, Python.
        git: revision of the lab's checkout, with ``+`` where it had changes.
        arguments: the command line.
        only: ids or patterns of those of the spec's cells that were asked for; none: all.
        max_users: of a search for thresholds: it goes no higher.
        max_load: of a search: real-world seconds of load for each cell. None: no limit.
        method: of a search; None in one that an earlier lab began, which knew ``certain`` alone.
        within: of a search: how wide an answer may be, as a share of the users. None: 2 users or
            a tenth, whichever is more.
        until_held: of a diagnosis: whether it goes on to what makes each cell hold.
    """

    kind: RunKind = "run"
    started: Annotated[str, BeforeValidator(_utc)]
    spec_file: str
    experiment: Experiment
    stack: str
    stack_reason: str
    speed: Speed
    max_speed: Annotated[float, Field(ge=1, le=1000)] | None = None
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}
    git: str = ""
    arguments: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    max_users: Annotated[MaxUsers | None, Field(alias="most_users")] = None
    max_load: Annotated[MaxLoad | None, Field(alias="most_load")] = None
    method: SearchMethod | None = None
    within: Within | None = None
    until_held: bool = False


class RunInfo(RunRequest):
    """``run.json``: what was requested, and what the store made of it.

    Args:
        name: the folder's name.
        digest: SHA-256 of the cells to be measured; a resumed run must have the same.
        cells: ids of all cells, in order.
    """

    schema_version: int = RUN_SCHEMA_VERSION
    name: str
    digest: str
    cells: Annotated[tuple[CellId, ...], Field(max_length=MAX_CELLS)]

    @property
    def header(self) -> dict[str, Any]:
        """What each file of answers begins with: the keys of `RunHeader`."""
        spec = self.experiment
        told = {"run": self.name, "experiment": spec.experiment, "about": spec.about}
        return {**told, "stack": self.stack, "speed": self.speed}

    @model_validator(mode="before")
    @classmethod
    def _with_kind(cls, data: Any) -> Any:
        """Version 1 does not say what a run is: a search alone has a limit of users."""
        if not isinstance(data, dict) or "kind" in data:
            return data
        kind = "run" if data.get("most_users") is None else "threshold"
        return {**data, "kind": kind, "schema_version": RUN_SCHEMA_VERSION}


class AttemptResult(Stored):
    """An attempt at a cell that was invalid, and so was followed by another."""

    speed: Number
    verdict: Outcome
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, cell: Cell, verdict: Verdict) -> Self:
        """Of a cell as it was measured then; its reasons are those for which it was invalid."""
        reasons = tuple(found.reason for found in verdict.invalid) or verdict.reasons
        return cls(speed=cell.knobs.speed, verdict=verdict.outcome, reasons=reasons)


class CellResult(Stored):
    """One finished cell in ``summary.json``; ``knobs`` and ``load`` are as a spec writes them.

    ``speed_reason`` says why the speed among its knobs was chosen; empty where one was given.
    ``split`` is what a model had said of how its workers share uploads; None where none had.
    ``attempts`` are those before the one that counts, in order. ``baseline`` is the id of the cell
    that it is ``against``, empty where there is none.
    """

    id: str
    axes: dict[str, str]
    target: Target = "vm"
    knobs: dict[str, Plain]
    load: dict[str, Plain]
    verdict: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, Number]
    findings: tuple[Finding, ...]
    injected: tuple[Check, ...]
    limit: Bottleneck | None = None
    course: Timeline | None = None
    leaks: tuple[Leak, ...] = ()
    decided: EarlyEnd | None = None
    speed_reason: str = ""
    split: Split | None = None
    invalid: tuple[Invalidity, ...] = ()
    attempts: tuple[AttemptResult, ...] = ()
    stood: tuple[Stood, ...] = ()
    workers: tuple[WorkerShare, ...] = ()
    sizes: tuple[SizeClass, ...] = ()
    spreads: dict[str, Spread] = {}
    time_spent: tuple[TimeSpent, ...] = ()
    latencies: Latencies | None = None
    baseline: str = ""
    against: Comparison | None = None

    @classmethod
    def of(cls, cell: Cell, verdict: Verdict, attempts: tuple[AttemptResult, ...] = ()) -> Self:
        """A cell as it was measured, what is said of it, and its earlier attempts."""
        return cls(
            id=cell.id,
            axes=cell.axes,
            target=cell.target,
            knobs=cell.knobs.as_text(),
            load=cell.load.model_dump(mode="json"),
            verdict=verdict.outcome,
            reasons=verdict.reasons,
            metrics=verdict.metrics,
            findings=verdict.findings,
            injected=verdict.injected,
            limit=verdict.limit,
            course=verdict.course,
            leaks=verdict.leaks,
            workers=verdict.workers,
            decided=verdict.decided,
            speed_reason=cell.speed_reason,
            split=cell.split,
            invalid=verdict.invalid,
            stood=verdict.stood,
            sizes=verdict.sizes,
            spreads=verdict.spreads,
            time_spent=verdict.time_spent,
            latencies=verdict.latencies,
            baseline=cell.baseline,
            attempts=attempts,
        )


class Figure(Stored):
    """What a claim stands on: a figure of a cell, in the unit of its metric.

    ``name`` is a metric's, or says what else is stored of the cell: ``verdict``,
    ``finding p95 < 10 s``, ``crossing p95 < 10 s``, ``failure pool_timeout``, ``leak rss_slope``,
    ``limit event_loop``, ``stage 2 p95``, ``change p95`` against the baseline, and ``flip`` of a
    criterion. ``value`` is None where that has no number.
    """

    cell: str
    name: str
    value: Number | None = None


class Claim(Stored):
    """A sentence or two, and the figures that they stand on; none where nothing is claimed."""

    text: str
    figures: tuple[Figure, ...] = ()


class Answer(Stored):
    """What a run answers: its claims, in the order in which they are read."""

    kind: Question
    claims: tuple[Claim, ...]

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(claim.text for claim in self.claims)


class RunHeader(Stored):
    """What a file of answers begins with: the run that it is of."""

    schema_version: int = SCHEMA_VERSION
    run: str
    experiment: str
    about: str
    stack: str
    speed: Speed


class DamagedCell(Stored):
    """A cell of which something stored cannot be read, and why: file, line and remedy."""

    id: str
    problem: str


class Summary(RunHeader):
    """``summary.json``: every finished cell; ``missing`` names those that are not.

    Those of which something stored is ``damaged`` are in neither.

    ``answer`` is what they answer together: None until the run has ended.
    """

    cells: tuple[CellResult, ...]
    missing: tuple[str, ...]
    damaged: tuple[DamagedCell, ...] = ()
    answer: Answer | None = None


class StoredRun(Stored):
    """One line of ``lab runs``: a run folder at a glance.

    ``outcomes`` counts the finished cells by verdict, or, of a search for thresholds, by what
    came of it. ``problem`` is what is wrong with a folder that cannot be read, whose other
    fields are then empty.
    """

    name: str
    kind: RunKind = "run"
    experiment: str = ""
    started: str = ""
    stack: str = ""
    finished: Count = 0
    cells: Count = 0
    outcomes: dict[str, int] = {}
    problem: str | None = None
