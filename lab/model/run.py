"""The answer of a run: a paragraph in which every claim stands on figures that are stored.

How far a run is: what the runner tells whoever shows it.

A run as it is stored: what was asked, on which machine, and what came of each cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lab.model.experiment import Experiment, Question
from lab.model.replica import Target
from lab.model.verdict import Bottleneck, Check, Finding, Leak, Outcome, Timeline


class _AnswerPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_AnswerPart):
    """What a claim stands on: a figure of a cell, in the unit of its metric.

    ``name`` is a metric's, or says what else is stored of the cell: ``verdict``,
    ``finding p95 < 10 s``, ``crossing p95 < 10 s``, ``failure pool_timeout``, ``leak rss_slope``,
    ``limit event_loop``, ``stage 2 p95``. ``value`` is None where that has no number.
    """

    cell: str
    name: str
    value: float | None = None


class Claim(_AnswerPart):
    """A sentence or two, and the figures that they stand on; none where nothing is claimed."""

    text: str
    figures: tuple[Figure, ...] = ()


class Answer(_AnswerPart):
    """What a run answers: its claims, in the order in which they are read."""

    kind: Question
    claims: tuple[Claim, ...]

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(claim.text for claim in self.claims)


Phase = Literal["applying", "arming", "ramp", "warm-up", "window", "drain", "auditing", "judging"]


@dataclass(frozen=True)
class LoadTick:
    """The load, seen from its driver while it runs; times in real-world seconds.

    ``users`` are those active now; ``sent``, ``answered`` and ``failed`` are running totals;
    ``rate`` is successes a second over the last few seconds.
    """

    t: float
    users: int
    sent: int
    answered: int
    failed: int
    rate: float


@dataclass(frozen=True)
class Progress:
    """One moment of a run; ``left_s`` is an estimate of the wall-clock seconds still to go."""

    cell: str
    index: int
    cells: int
    phase: Phase
    left_s: float
    tick: LoadTick | None = None


SCHEMA_VERSION = 1
"""The version of the files in a run folder."""


def as_json(model: BaseModel) -> str:
    """The one form in which the lab writes a document: indented JSON that ends in a newline.

    Raises:
        ValueError: a number is not finite; JSON has none such, so it would not read back.
    """
    data = model.model_dump(mode="json", by_alias=True)
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunInfo(_Stored):
    """``run.json``: everything that was decided before the first cell.

    Args:
        name: the folder's name.
        started: UTC, ISO 8601, to the second.
        spec_file: where the spec was read from, as given on the command line.
        digest: SHA-256 of the cells to be measured; a resumed run must have the same.
        stack: ``embedded`` or ``compose``.
        stack_reason: one line that says why it was chosen.
        speed: what the run was started with; each cell's own is among its knobs.
        cells: ids of all cells, in order.
        versions: of the lab and of every part.
        machine: CPUs, memory, kernel, Python.
        git: revision of the lab's checkout, with ``+`` where it had changes.
        arguments: the command line.
        most_users: of a search for thresholds: it goes no higher. None: every cell of the
            run is measured once, as it is.
        most_load: of a search: real-world seconds of load for each cell. None: no limit.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    started: str
    spec_file: str
    digest: str
    experiment: Experiment
    stack: str
    stack_reason: str
    speed: float
    cells: tuple[str, ...]
    versions: dict[str, str]
    machine: dict[str, str]
    git: str
    arguments: tuple[str, ...]
    most_users: int | None = None
    most_load: float | None = None


class CellResult(_Stored):
    """One finished cell in ``summary.json``; ``knobs`` and ``load`` are as a spec writes them."""

    id: str
    axes: dict[str, str]
    target: Target = "vm"
    knobs: dict[str, Any]
    load: dict[str, Any]
    verdict: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    findings: tuple[Finding, ...]
    injected: tuple[Check, ...]
    limit: Bottleneck | None = None
    course: Timeline | None = None
    leaks: tuple[Leak, ...] = ()


class Summary(_Stored):
    """``summary.json``: every finished cell; ``missing`` names those that are not.

    ``answer`` is what they answer together: None until the run has ended.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    experiment: str
    about: str
    stack: str
    speed: float
    cells: tuple[CellResult, ...]
    missing: tuple[str, ...]
    answer: Answer | None = None


class StoredRun(_Stored):
    """One line of ``lab runs``: a run folder at a glance.

    ``outcomes`` counts the finished cells by verdict, or, of a search for thresholds, by what
    came of it. ``problem`` is what is wrong with a folder that cannot be read, whose other
    fields are then empty.
    """

    name: str
    kind: Literal["run", "threshold"] = "run"
    experiment: str = ""
    started: str = ""
    stack: str = ""
    finished: int = 0
    cells: int = 0
    outcomes: dict[str, int] = {}
    problem: str | None = None
