"""Which knobs a cell feels, so that none is set, or swept, in vain unnoticed.

A knob that belongs to nginx or to Cloud Run is felt on the target that has it; of the others,
those with a condition are rows of a table. A knob without a row is felt by every cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lab.errors import SpecError
from lab.model.experiment import Cell, Experiment
from lab.model.fault import KnobRef, Latency
from lab.model.journeys import Journey
from lab.model.knobs import TABLE
from lab.model.load import AnyLoad
from lab.model.replica import nginx_limits, pooled

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


def _lends(cell: Cell) -> bool:
    """Whether connections are kept and lent; NullPool opens one each time."""
    return cell.knobs.pool_class == "QueuePool"


def _kept_by_nginx(cell: Cell) -> bool:
    """Whether uvicorn has idle connections; the gateway uses each of its own once."""
    return _on_vm(cell) and cell.knobs.nginx_keepalive is not None


def _injected(knob: str) -> Callable[[Cell], bool]:
    """Whether one of a cell's faults takes its delay from a knob."""
    return lambda cell: any(
        isinstance(toxic, Latency) and isinstance(toxic.delay, KnobRef) and toxic.delay.knob == knob
        for fault in cell.faults
        for toxic in fault.toxics
    )


def _has(journey: Journey) -> Callable[[Cell], bool]:
    """Whether a cell's users do this."""
    return lambda cell: journey in cell.load.shares


def _converts_in_threads(cell: Cell) -> bool:
    return Journey.CONVERT in cell.load.shares and cell.knobs.convert_call == "audio_pool"


OF_THE_VM = Effect(_on_vm, "target cloudrun has no VM and no nginx")
OF_CLOUDRUN = Effect(lambda cell: not _on_vm(cell), "target vm has no instances")
OF_QUEUE_POOL = Effect(_lends, "pool_class: NullPool keeps no connections and sets no limit")

OF_PROBE = Effect(lambda cell: cell.knobs.health_probe is not None, "health_probe is off")

EFFECTS: Mapping[str, Effect] = {
    "workers": OF_THE_VM,
    "balance": Effect(
        lambda cell: _on_vm(cell) and cell.knobs.workers > 1, "a single worker has every upload"
    ),
    "vm_cpus": OF_THE_VM,
    "vm_memory": OF_THE_VM,
    "gcs_threads": Effect(
        lambda cell: cell.knobs.gcs_call == "executor",
        "its threads are those of gcs_call: executor",
    ),
    "pool_size": OF_QUEUE_POOL,
    "max_overflow": OF_QUEUE_POOL,
    "pool_timeout": Effect(
        lambda cell: _lends(cell) and cell.knobs.max_overflow is not None,
        "a checkout never waits in a pool without a limit",
    ),
    "pool_recycle": OF_QUEUE_POOL,
    "pool_pre_ping": OF_QUEUE_POOL,
    "keep_alive": Effect(
        _kept_by_nginx, "only nginx keeps idle connections to uvicorn, under nginx_keepalive"
    ),
    "audio_threads": Effect(
        lambda cell: cell.knobs.gcs_call == "audio_pool" or _converts_in_threads(cell),
        "an upload uses its threads with gcs_call: audio_pool alone",
    ),
    "speech_threads": Effect(_has(Journey.ASSESS), "an upload never uses its threads"),
    "convert_call": Effect(_has(Journey.CONVERT), "the load's mix converts nothing"),
    "rate_limit_key": Effect(
        _counts_by_address,
        "it takes a global_rate_limit, and an address that is passed on: nginx as found does not",
    ),
    "health_timeout": OF_PROBE,
    "health_failures": OF_PROBE,
    "pooler_size": Effect(lambda cell: pooled(cell.knobs), "pooler is off"),
    "leak_every": Effect(lambda cell: cell.knobs.leak != "off", "leak is off"),
    "gcs_latency": Effect(_injected("gcs_latency"), "none of the faults injects it"),
    "db_rtt": Effect(_injected("db_rtt"), "none of the faults injects it"),
    "speech_latency": Effect(_injected("speech_latency"), "none of the faults injects it"),
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
    in_vain = _in_vain([(cell, _set(experiment, settings, cell)) for cell in cells])
    return [*in_vain, *_pauses_in_vain(cells)]


_NO_PAUSE = {
    "burst": "a user of a burst uploads once",
    "open": "an open load's arrivals wait for nobody's answer",
}
"""By form of load, why nobody pauses."""


def _pauses_in_vain(cells: Sequence[Cell]) -> list[str]:
    """A sentence for each pause that was set for a load without any."""
    return [
        f"{key} has no effect{_where(unfelt, cells)}: {_NO_PAUSE[unfelt[0].load.kind]}"
        for key in ("think", "backoff")
        if (unfelt := [cell for cell in cells if _pauses_for_nothing(cell.load, key)])
    ]


def _pauses_for_nothing(load: AnyLoad, key: str) -> bool:
    usual = type(load).model_fields[key].default
    return load.kind in _NO_PAUSE and getattr(load, key) != usual


def settings_without_effect(settings: Iterable[str], cell: Cell) -> list[str]:
    """The same of one cell that no spec is behind, and of the knobs that were set for it."""
    return _in_vain([(cell, set(settings))])


def _in_vain(pairs: Sequence[tuple[Cell, set[str]]]) -> list[str]:
    """Sentences, from each cell and the names of the knobs that were set for it."""
    cells = [cell for cell, _ in pairs]
    return [
        f"{name} has no effect{_where(unfelt, cells)}: {effect.why_not}"
        for name, effect in ALL.items()
        if (unfelt := [cell for cell, names in pairs if name in names - felt(cell).keys()])
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
            yield from values.get(cell.axes.get(axis, ""), ())
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
    values = felt(cell)
    if cell.target == "vm":
        limits = nginx_limits(cell.knobs)  # what is left to the preset may be said as well
        values |= {"nginx_body": limits.body, "nginx_read_timeout": limits.read_s}
    return f"{cell.target} {cell.load.model_dump_json()} {values}"


def _equal(first: Cell, second: Cell) -> SpecError:
    one, other = dict(first.knobs), dict(second.knobs)
    idle = [name for name in one if one[name] != other[name]]
    what = f"cells '{_label(first)}' and '{_label(second)}' are equal"
    if not idle:
        return SpecError(f"{what}: they set the same", "remove one of the two")
    if first.target == "vm" and idle[0] in ("nginx_body", "nginx_read_timeout"):
        what += f": what {idle[0]} says is what the preset of nginx says"
        return SpecError(what, "leave one of the two out")
    what += f": {idle[0]} has no effect on them, {ALL[idle[0]].why_not}"
    return SpecError(what, "leave it out of the axes, or give each cell a label of one axis")


def _label(cell: Cell) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in cell.axes.items())
