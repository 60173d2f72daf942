"""A run as it is stored: what was asked, on which machine, and what came of each cell."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lab.model.answer import Answer
from lab.model.course import Course
from lab.model.experiment import Experiment
from lab.model.leak import Leak
from lab.model.limit import Limit
from lab.model.target import Target
from lab.model.verdict import Check, Finding, Outcome

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
    limit: Limit | None = None
    course: Course | None = None
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
