"""A cell: one combination of an experiment's matrix, ready to be measured."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from lab.model.criterion import Criterion
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.load import Load
from lab.model.strike import PlannedStrike
from lab.model.target import Target


class Cell(BaseModel):
    """One trial: settings, load, faults and what it is judged by.

    ``id`` names its folder: ``workers=2,pool=5+5`` and, in a repeat, ``…,repeat=2``;
    ``axes`` is the same as a mapping, for tables.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    axes: dict[str, str]
    target: Target = "vm"
    knobs: Knobs
    load: Load
    faults: tuple[Fault, ...]
    criteria: tuple[Criterion, ...]
    seed: int

    @property
    def storage_slots(self) -> int:
        """How many storage calls can run at once, all workers or all instances together."""
        on_vm = self.target == "vm"
        return self.knobs.storage_slots if on_vm else self.knobs.instance_slots

    @property
    def strikes(self) -> tuple[PlannedStrike, ...]:
        """What is to befall the parts themselves."""
        return tuple(planned for fault in self.faults if (planned := fault.planned))
