"""Which knobs a cell feels, so that none is set, or swept, in vain unnoticed.

A knob that belongs to nginx or to Cloud Run is felt on the target that has it; of the others,
those with a condition are rows of a table. A knob without a row is felt by every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lab.errors import SpecError
from lab.model.experiment import Cell, Experiment
from lab.model.fault import KnobRef, Latency
from lab.model.knobs import TABLE

MAX_NAMED = 3
"""A note names no more cells than this; of more it says how many they are."""


@dataclass(frozen=True)
class Effect:
    """When a knob is felt.

    Args:
        on: whether a cell feels it.
        why_not: completes "it has no effect: …".
    """

    on: Callable[[Cell], bool]
    why_not: str


def _on_vm(cell: Cell) -> bool:
    return cell.target == "vm"


def _counts_by_address(cell: Cell) -> bool:
    """Whether the global limit sees an address in X-Forwarded-For; nginx as found sends none."""
    is_sent = cell.target == "cloudrun" or cell.knobs.nginx == "recommended"
    return cell.knobs.global_rate_limit is not None and is_sent


def _injected(knob: str) -> Callable[[Cell], bool]:
    """Whether one of a cell's faults takes its delay from a knob."""
    return lambda cell: any(
        isinstance(toxic, Latency) and isinstance(toxic.delay, KnobRef) and toxic.delay.knob == knob
        for fault in cell.faults
        for toxic in fault.toxics
    )


OF_THE_VM = Effect(_on_vm, "target cloudrun has no VM and no nginx")
OF_CLOUDRUN = Effect(lambda cell: not _on_vm(cell), "target vm has no instances")

EFFECTS: Mapping[str, Effect] = {
    "workers": OF_THE_VM,
    "vm_cpus": OF_THE_VM,
    "vm_memory": OF_THE_VM,
    "gcs_threads": Effect(
        lambda cell: cell.knobs.gcs_call == "executor",
        "its threads are those of gcs_call: executor",
    ),
    "audio_threads": Effect(
        lambda cell: cell.knobs.gcs_call == "audio_pool",
        "an upload uses its threads with gcs_call: audio_pool alone",
    ),
    "speech_threads": Effect(lambda _: False, "an upload never uses its threads"),
    "rate_limit_key": Effect(
        _counts_by_address,
        "it takes a global_rate_limit, and an address that is passed on: nginx as found does not",
    ),
    "leak_every": Effect(lambda cell: cell.knobs.leak != "off", "leak is off"),
    "gcs_latency": Effect(_injected("gcs_latency"), "no fault of the spec injects it"),
    "db_rtt": Effect(_injected("db_rtt"), "no fault of the spec injects it"),
}
"""By knob, when it is felt. A new knob that only some cells feel is one row."""

_BY_PART = {"nginx": OF_THE_VM, "cloudrun": OF_CLOUDRUN}

ALL: Mapping[str, Effect] = {
    row.name: effect for row in TABLE if (effect := EFFECTS.get(row.name) or _BY_PART.get(row.part))
}
"""The table, and what follows from the part that a knob belongs to."""


def felt(cell: Cell) -> dict[str, Any]:
    """The knobs that a cell feels, with their values."""
    values = dict(cell.knobs)
    return {name: values[name] for name in values if name not in ALL or ALL[name].on(cell)}


def without_effect(
    experiment: Experiment, settings: Mapping[str, Any], cells: Sequence[Cell]
) -> list[str]:
    """A sentence for each knob that was set and that some cells do not feel.

    Args:
        experiment: whose spec sets knobs for all cells, or by its axes.
        settings: knobs from the command line.
        cells: what they became.
    """
    return [
        f"{name} has no effect{_where(unfelt, cells)}: {effect.why_not}"
        for name, effect in ALL.items()
        if (unfelt := [c for c in cells if name in _set(experiment, settings, c) - felt(c).keys()])
    ]


def _where(unfelt: Sequence[Cell], cells: Sequence[Cell]) -> str:
    if len(unfelt) == len(cells):
        return ""
    if len(unfelt) > MAX_NAMED:
        return f" on {len(unfelt)} of {len(cells)} cells"
    return f" on {' and '.join(cell.id for cell in unfelt)}"


def _set(experiment: Experiment, settings: Mapping[str, Any], cell: Cell) -> set[str]:
    """The knobs that a cell has from a spec or the command line, and not from the preset."""
    return {*experiment.knobs, *settings, *_by_axes(experiment, cell)}


def _by_axes(experiment: Experiment, cell: Cell) -> Iterator[str]:
    for axis, values in experiment.matrix.items():
        if isinstance(values, dict):
            yield from values[cell.axes[axis]]
        else:
            yield axis


def refuse_equal(cells: Sequence[Cell]) -> None:
    """Refuse cells that differ in nothing that they feel: their figures would differ by chance.

    Args:
        cells: those of one repeat.

    Raises:
        SpecError: names two of them, and the knobs in which they seem to differ.
    """
    for _, group in groupby(sorted(cells, key=_what_is_felt), key=_what_is_felt):
        first, *others = group
        if others:
            raise _equal(first, others[0])


def _what_is_felt(cell: Cell) -> str:
    return f"{cell.target} {cell.load.model_dump_json()} {felt(cell)}"


def _equal(first: Cell, second: Cell) -> SpecError:
    one, other = dict(first.knobs), dict(second.knobs)
    idle = [name for name in one if one[name] != other[name]]
    what = f"cells '{_label(first)}' and '{_label(second)}' are equal"
    if not idle:
        return SpecError(f"{what}: they set the same", "remove one of the two")
    what += f": {idle[0]} has no effect on them, {ALL[idle[0]].why_not}"
    return SpecError(what, "leave it out of the axes, or give each cell a label of one axis")


def _label(cell: Cell) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in cell.axes.items())
