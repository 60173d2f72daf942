"""What a live page shows of a run at a moment: its cells, and the trial that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from lab.model.experiment import Cell
from lab.model.run import Phase
from lab.model.verdict import Outcome, Verdict
from lab.web.track import Frame

METRICS = ("throughput", "p95", "error_rate")
"""What is shown of a finished cell beside its verdict."""


@dataclass(frozen=True)
class CellState:
    """A cell as it stands.

    Args:
        id: its id.
        verdict: of what was measured last; None where there is none, or another attempt goes on.
        why: the deciding reason, or what is wrong with what is stored.
        phase: of the attempt that goes on; None where none does.
        damaged: whether something that is stored of it cannot be read.
        figures: of a finished cell, those of `METRICS` that it has.
        limit: the resource that limited it, and by what evidence; empty where none is named.
        trial: whether a search or a diagnosis made it beside the run's own cells.
    """

    id: str
    verdict: Outcome | None = None
    why: str = ""
    phase: Phase | None = None
    damaged: bool = False
    figures: tuple[tuple[str, float], ...] = ()
    limit: str = ""
    trial: bool = False

    @property
    def state(self) -> str:
        """In a word: the verdict, ``measuring``, ``damaged`` or ``to come``."""
        if self.damaged:
            return "damaged"
        if self.phase is not None:
            return "measuring"
        return str(self.verdict) if self.verdict else "to come"

    @classmethod
    def judged(cls, cell_id: str, verdict: Verdict, *, trial: bool = False) -> CellState:
        """Of a finished cell."""
        told = verdict.limit
        return cls(
            id=cell_id,
            verdict=verdict.outcome,
            why=verdict.reasons[0] if verdict.reasons else "",
            figures=tuple((n, verdict.metrics[n]) for n in METRICS if n in verdict.metrics),
            limit=f"{told.resource}: {told.evidence}" if told else "",
            trial=trial,
        )


@dataclass(frozen=True)
class CellView:
    """The cell that is shown at large: the one that is measured, or was last.

    Args:
        cell: as it is measured.
        state: how it stands.
        frame: its trial at this moment; None before its load has begun.
        number: its place among the run's cells, from 1; 0 where it is none of them.
        attempt: which measurement of it this is, from 1.
        unread: lines of its files that could not be read.
    """

    cell: Cell
    state: CellState
    frame: Frame | None
    number: int
    attempt: int = 1
    unread: int = 0


@dataclass(frozen=True)
class View:
    """A run at a moment.

    Args:
        run: its name.
        title: of its experiment.
        about: what it asks.
        cells: all cells in the run's order, and the trials that were made beside them.
        shown: the cell at large; None before the first.
        going_on: whether a lab writes the run.
        problem: why nothing can be told of it, with the remedy; empty where something can.
    """

    run: str
    title: str = ""
    about: str = ""
    cells: tuple[CellState, ...] = ()
    shown: CellView | None = None
    going_on: bool = False
    problem: str = ""

    @property
    def finished(self) -> int:
        """How many of the run's own cells have a verdict."""
        return sum(one.verdict is not None and not one.trial for one in self.cells)

    @property
    def declared(self) -> int:
        """How many cells the run has."""
        return sum(not one.trial for one in self.cells)
