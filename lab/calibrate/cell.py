"""The settings that are calibrated: as found, but for what a measurement needs."""

from __future__ import annotations

from collections.abc import Mapping

from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.load import BurstLoad
from lab.model.replica import Target


def make_cell(settings: Mapping[str, object], *faults: Fault, target: Target = "vm") -> Cell:
    """A cell with these settings and faults; its load is never run."""
    return Cell(
        id="calibration",
        axes={},
        target=target,
        knobs=Knobs().with_settings(settings),
        load=BurstLoad(burst=1),
        faults=faults,
        criteria=(),
        seed=1,
    )
