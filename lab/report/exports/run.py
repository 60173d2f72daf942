"""What is exported: a run's finished cells, whose samples are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.run import CellResult, DamagedCell, RunInfo


@dataclass(frozen=True)
class ExportedCell:
    """A finished cell, or a trial of a search or a diagnosis.

    Args:
        cell: what was measured.
        result: what came of it.
        observe: reads its samples and its evidence; none where they cannot be read.
    """

    cell: Cell
    result: CellResult
    observe: Callable[[], Observation]


@dataclass(frozen=True)
class ExportedRun:
    """A stored run.

    Args:
        info: what was decided before its first cell.
        cells: the finished ones, in the run's order.
        missing: ids of those that are not finished.
        damaged: those that cannot be read.
    """

    info: RunInfo
    cells: Sequence[ExportedCell]
    missing: tuple[str, ...] = ()
    damaged: tuple[DamagedCell, ...] = ()


Writer = Callable[[ExportedRun], Iterable[bytes]]
"""Makes a file's content, piece by piece.

Raises:
    MissingComponent: a package that it takes is not installed.
"""


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        about: what it is, in a phrase.
        files: the files that a run becomes, by name; several are written into a folder.
        batches: the bodies of the requests by which a server takes a run, each with how many things
            are in it; None of a format that none takes.
    """

    about: str
    files: Mapping[str, Writer]
    batches: Callable[[ExportedRun], Iterable[tuple[bytes, int]]] | None = None

    @property
    def is_folder(self) -> bool:
        """Whether a run becomes several files."""
        return len(self.files) > 1
