"""A cell made by hand, where no spec is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.load import Load
from lab.model.replica import Target

LOAD = {"users": 10, "ramp": "0 s", "warmup": "10 s", "window": "60 s"}
"""A load as a spec writes it.

`InstantLoad` is over before its window begins, so what else this machine does meanwhile is
in no reading of the window and decides no verdict.
"""

AUDIO = "200 KB"
"""Files of a load that names none: small ones, of which nginx as found refuses none."""

_LOAD: TypeAdapter[Any] = TypeAdapter(Load)


def make_cell(
    settings: Mapping[str, Any] | None = None,
    *,
    cell_id: str = "cell",
    load: Mapping[str, Any] = LOAD,
    faults: Sequence[Fault] = (),
    criteria: Sequence[str] = ("error_rate < 5 %",),
    seed: int = 1,
    target: Target = "vm",
) -> Cell:
    """A cell with these knobs and this load, as a spec writes them; everything else as found."""
    return Cell(
        id=cell_id,
        axes={},
        target=target,
        knobs=Knobs().with_settings(settings or {}),
        load=_LOAD.validate_python({"audio": AUDIO, **load}),
        faults=tuple(faults),
        criteria=tuple(Criterion.parse(text) for text in criteria),
        seed=seed,
    )
