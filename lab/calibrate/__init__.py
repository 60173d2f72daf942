"""Is what is injected what arrives, and do the replica's limits hold?

Measured on a replica, at speed 1, part by part (`injection`, `limits`):

    storage      draws through the gcs proxy, against uniform 2-5 s
    database     the backend's own stages, against 50 ms and 100 ms
    connections  opened as the application's role until refused, against db_cap
    body limit   1 MiB and one byte more, as found and as recommended
    confinement  vm_cpus, vm_memory, and whether a part reaches outside its networks;
                 only if the parts are containers
    instances    cloudrun_cpus and cloudrun_memory, where the target is Cloud Run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.load import BurstLoad
from lab.model.replica import Target
from lab.stack.base import Replica

Inject = Callable[[Replica, Cell], AbstractContextManager[object]]
"""Exactly a cell's network faults inside the block, and none after."""


@dataclass(frozen=True)
class Measurement:
    """A measured value and what it should be; ``value`` is in the unit of ``bound``."""

    name: str
    ok: bool
    value: float
    bound: str


@dataclass
class Calibration:
    """What was measured with a Toxiproxy, and what could not be, with the reason."""

    stack: str
    toxiproxy: str
    measured: list[Measurement] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be; False if nothing was measured."""
        return bool(self.measured) and all(measurement.ok for measurement in self.measured)

    def add(self, name: str, value: float, bound: str, ok: bool) -> None:
        """Add a measurement."""
        self.measured.append(Measurement(name, ok, round(value, 6), bound))

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "stack": self.stack,
            "toxiproxy": self.toxiproxy,
            "ok": self.ok,
            "measured": [asdict(measurement) for measurement in self.measured],
            "not_measured": self.not_measured,
        }


def calibration_cell(settings: Mapping[str, object], *faults: Fault, target: Target = "vm") -> Cell:
    """A cell with the preset as-found, these settings and these faults; its load is never run."""
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
