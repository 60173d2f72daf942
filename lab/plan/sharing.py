"""What the choice of a speed asks of a model that says how workers of one socket share uploads.

The model stands in `lab.capacity`, which knows this room; the command line hands it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lab.model.experiment import Cell
from lab.model.split import Split


@dataclass(frozen=True)
class LoopWork:
    """What an upload costs its worker, of a usual machine or of this one.

    Args:
        cpu_s: seconds for which it has the event loop, beside its calls to the database.
        trip_s: seconds that each round trip to the database takes beyond its delay.
    """

    cpu_s: float
    trip_s: float


class SplitModel(Protocol):
    """What says how workers of one socket share: a model of the cell, which another room has."""

    def split(self, cell: Cell, work: LoopWork, up_to: float) -> Split | None:
        """How they share at speeds up to twice one; None where it knows nothing of such a cell.

        Args:
            cell: with several of them; its own speed is not looked at.
            work: what its event loops do.
            up_to: the speed.
        """
        ...
