"""Two runs beside each other: ``lab compare`` as data.

ComparedRun      one of the two, and its cells that have no partner
CellPair         a cell of each with the same settings: what changed, and what is certain of it
RunComparison    all of them
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lab.model.base import Count, Number, Plain, Stored
from lab.model.run import DamagedCell, RunInfo
from lab.model.verdict import Comparison, Outcome

COMPARISON_SCHEMA_VERSION = 1
"""The version of what ``lab compare --json`` prints."""


class ComparedRun(Stored):
    """One of the two runs.

    Args:
        name: of its folder.
        experiment: its spec's name.
        started: UTC, ISO 8601.
        stack: ``embedded`` or ``compose``.
        git: revision of the lab's checkout, with ``+`` where it had changes.
        alone: ids of the finished cells that have no partner in the other run.
        missing: ids of those that are not finished.
        damaged: those of which something stored cannot be read.
    """

    name: str
    experiment: str
    started: str
    stack: str
    git: str
    alone: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    damaged: tuple[DamagedCell, ...] = ()

    @classmethod
    def of(cls, info: RunInfo, **apart: tuple[str, ...] | tuple[DamagedCell, ...]) -> ComparedRun:
        """A run by what was decided before its first cell, and its cells that are not compared."""
        told = {"name": info.name, "started": info.started, "stack": info.stack, "git": info.git}
        return cls.model_validate({**told, "experiment": info.experiment.experiment, **apart})


class CellPair(Stored):
    """A cell of each run, with the same settings but for what changed between all cells.

    Args:
        before: id of the first run's.
        after: id of the second run's.
        verdicts: of both, in this order.
        beside: the later one beside the earlier one; the intervals of its figures hold together,
            at the level that the comparison of the runs names.
        worse: what got certainly worse: metrics, and criteria that were met and are missed.
        better: the other way round.
    """

    before: str
    after: str
    verdicts: tuple[Outcome, Outcome]
    beside: Comparison
    worse: tuple[str, ...] = ()
    better: tuple[str, ...] = ()

    @property
    def unclear(self) -> bool:
        """Whether nothing is known of how well any of its figures is known, and nothing flipped."""
        known = any(change.low is not None for change in self.beside.changes)
        return not (known or self.beside.why_not or self.worse or self.better)


class RunComparison(Stored):
    """A run beside an earlier one.

    Args:
        before: the earlier one.
        after: the later one.
        changed: the settings that are the same in all cells of each run, and differ between the
            two: before and after, by ``target``, ``faults``, a knob's name, or ``load.`` and a key
            of the load.
        why_not: why the runs are not to be compared; none where they are.
        anyway: whether they are compared in spite of that, because it was asked for.
        confidence: with which all intervals hold together, from 0 to 1.
        figures: how many intervals these are.
        cells: the pairs, in the order of the later run.
    """

    schema_version: int = COMPARISON_SCHEMA_VERSION
    before: ComparedRun
    after: ComparedRun
    changed: dict[str, tuple[Plain, Plain]] = {}
    why_not: tuple[str, ...] = ()
    anyway: bool = False
    confidence: Annotated[Number, Field(gt=0, lt=1)]
    figures: Count
    cells: tuple[CellPair, ...]

    @property
    def worse(self) -> bool:
        """Whether anything got certainly worse."""
        return any(pair.worse for pair in self.cells)

    @property
    def open(self) -> bool:
        """Whether something was not compared: a pair, or a cell of one run."""
        sides = (self.before, self.after)
        left = any(side.alone or side.missing or side.damaged for side in sides)
        return left or any(pair.beside.why_not or pair.unclear for pair in self.cells)
