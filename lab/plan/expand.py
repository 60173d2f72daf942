"""An experiment to its cells: every combination of its axes, a trial each.

    preset < knobs: and matrix:, which set no knob twice < --set and --speed

Where none of them gives a speed, or one gives `auto`, it is chosen later, cell by cell.
The cells of one repeat share a seed, so that they meet the same users, sizes and arrivals
and differ only in what the axes say. A repeat is a whole pass over the matrix: a drift of
the machine then falls on all cells alike. The baseline comes first in its pass, because the others
are held against it. A cell's id says its axes: what a reader
recognises, and what any file system takes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, product
from typing import Any

from pydantic import ValidationError

from lab.errors import SpecError, UsageError
from lab.model.criterion import Criterion
from lab.model.experiment import Cell, Experiment
from lab.model.fault import Fault
from lab.model.knobs import Knobs, Preset
from lab.model.load import BurstLoad, ClosedLoad, Load, OpenLoad, varied
from lab.model.metrics import BY_NAME, OF_POOLER, nearest_elsewhere, only_on
from lab.model.replica import POOLER, TARGETS, Target, contradiction, parts_of, pooled
from lab.model.speed import AUTO
from lab.model.suggest import suggest
from lab.plan.effect import refuse_equal

TARGET = "target"
"""The axis that sets no knob: where a cell runs."""

LOAD = "load"
"""The axis that sets keys of the load, and no knob."""

MAX_ID_LENGTH = 120
"""Below the 255 bytes that file systems allow, with room for a suffix."""

_UNSAFE = re.compile(r"[^A-Za-z0-9=,.+_-]")

Point = tuple[dict[str, str], dict[str, Any]]
"""One combination: its labels by axis, and the knobs that they set."""


def expand(
    experiment: Experiment,
    faults: Mapping[str, Fault],
    settings: Mapping[str, Any] | None = None,
    preset: Preset | None = None,
    users: int | None = None,
    target: Target | None = None,
) -> tuple[Cell, ...]:
    """The cells of an experiment, in the order they are run: the last axis turns fastest.

    Args:
        experiment: what the spec says; its faults are known ones.
        faults: the faults there are, by name.
        settings: knobs from the command line, as a spec would write their values.
        preset: in place of the spec's.
        users: in place of the load's; for loads with ``users`` or ``burst``.
        target: in place of the spec's.

    Raises:
        SpecError: a knob's value that cannot be, a fault of a part or a criterion on a figure
            that a cell's target does not have, or cells that differ in nothing that they feel.
        UsageError: a setting or target that an axis sweeps, or users for a load that has none.
    """
    given = dict(settings or {})
    points = [_joined(combination) for combination in product(*_axes(experiment))]
    _refuse_swept(given, points, target)
    base = Knobs.preset(preset or experiment.preset)
    cells = []
    for labels, chosen in points:
        by_axis = (known for known in TARGETS if known == labels.get(TARGET))
        where = next(by_axis, target or experiment.target)
        settings = experiment.knobs | chosen | given
        auto_speed = settings.get("speed", AUTO) == AUTO
        knobs = _settled(base, settings | ({"speed": 1} if auto_speed else {}))
        if problem := contradiction(where, knobs):
            raise SpecError(*problem)
        cell = Cell(
            id="",
            axes=labels,
            target=where,
            knobs=knobs,
            load=_load(experiment, labels, users),
            faults=tuple(faults[name] for name in experiment.faults),
            criteria=tuple(c for c in experiment.criteria if not c.relative),
            stop_when_decided=experiment.stop_when_decided,
            seed=experiment.seed,
            auto_speed=auto_speed,
        )
        cells.append(cell)
    _refuse_missing_parts(cells)
    check_measurable(cells, experiment.criteria)
    refuse_equal(cells)
    if experiment.baseline:
        cells.insert(0, cells.pop(_baseline_of(cells, experiment, experiment.baseline)))
    return _repeated(cells, experiment)


def no_faster(cells: Sequence[Cell], max_speed: float) -> tuple[Cell, ...]:
    """The cells at their speed or at ``max_speed``, whichever is lower.

    Those whose speed is chosen stay as they are: who chooses it has the same limit.

    Raises:
        UsageError: the cells are to differ in their speed.
    """
    speeds = {cell.knobs.speed for cell in cells if not cell.auto_speed}
    if len(speeds) > 1:
        different = " and ".join(f"{speed:g}" for speed in sorted(speeds))
        what = f"--most-speed {max_speed:g} with cells at speeds {different}"
        raise UsageError(what, "leave it out")
    slower = min([max_speed, *speeds])
    return tuple(cell if cell.auto_speed else cell.at_speed(slower) for cell in cells)


def seed_of(seed: int, repeat: int) -> int:
    """The seed of a repeat (from 1): 31 bits of SHA-256, the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def cell_ids(axes: Sequence[Mapping[str, str]], alone: str) -> list[str]:
    """An id for each cell: ``workers=2,pool=5+5``; unique, also where case is ignored.

    A label that reads like another one once it is safe (``a b`` and ``ab``) gets a digest of
    what it says, so that its id does not depend on which of the two comes first.

    Args:
        axes: label by axis, of each cell; the same axes, and no two cells with the same labels.
        alone: the id where there are no axes.
    """
    named = _distinct({axis for labels in axes for axis in labels})
    labelled = {
        axis: _distinct({labels[axis] for labels in axes if axis in labels}) for axis in named
    }
    return [
        _short(",".join(f"{named[axis]}={labelled[axis][label]}" for axis, label in labels.items()))
        or _safe(alone)
        for labels in axes
    ]


def _distinct(texts: Iterable[str]) -> dict[str, str]:
    """Each text made safe, and with a digest where it would not be the only one of its name."""
    safe = {text: _safe(text) for text in texts}
    alike = Counter(name.casefold() for name in safe.values())
    return {
        text: f"{name}-{_digest(text)}" if alike[name.casefold()] > 1 else name
        for text, name in safe.items()
    }


def _short(name: str) -> str:
    """A name, its end replaced by a digest where it is too long."""
    if len(name) <= MAX_ID_LENGTH:
        return name
    return f"{name[: MAX_ID_LENGTH - 9]}-{_digest(name)}"


def _digest(text: str) -> str:
    """Eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _repeated(cells: Sequence[Cell], experiment: Experiment) -> tuple[Cell, ...]:
    """A pass over the cells for each repeat, each with its id and the seed of its pass."""
    passes = []
    for repeat in range(1, experiment.repeat + 1):
        suffix = {"repeat": str(repeat)} if experiment.repeat > 1 else {}
        seed = seed_of(experiment.seed, repeat)
        passes += [
            cell.model_copy(update={"axes": cell.axes | suffix, "seed": seed}) for cell in cells
        ]
    ids = cell_ids([cell.axes for cell in passes], experiment.experiment)
    named = [cell.model_copy(update={"id": name}) for cell, name in zip(passes, ids, strict=True)]
    if not experiment.baseline:
        return tuple(named)
    each = len(cells)
    of_passes = (named[start : start + each] for start in range(0, len(named), each))
    return tuple(chain.from_iterable(_compared(cells, experiment) for cells in of_passes))


def _compared(cells: Sequence[Cell], experiment: Experiment) -> list[Cell]:
    """The cells of a pass, of which all but the first are held against it."""
    baseline, *others = cells
    relative = tuple(criterion for criterion in experiment.criteria if criterion.relative)
    against = {"baseline": baseline.id, "relative": relative}
    return [baseline, *(cell.model_copy(update=against) for cell in others)]


def _baseline_of(cells: Sequence[Cell], experiment: Experiment, baseline: Mapping[str, Any]) -> int:
    """Which cell of a pass is the baseline.

    Raises:
        SpecError: it is no cell, or several.
    """
    wanted = {axis: _label(experiment, axis, value) for axis, value in baseline.items()}
    matching = [n for n, cell in enumerate(cells) if wanted.items() <= cell.axes.items()]
    if len(matching) == 1:
        return matching[0]
    said = ", ".join(f"{axis}: {label}" for axis, label in wanted.items())
    if matching:
        others = ", ".join(axis for axis in experiment.matrix if axis not in baseline)
        what = f"baseline '{said}' is {len(matching)} cells"
        raise SpecError(what, f"give it a value of {others} too")
    raise SpecError(f"baseline '{said}' is no cell", "give it a value of each axis of the matrix")


def _label(experiment: Experiment, axis: str, value: Any) -> str:
    """How a cell's ``axes`` say a value of an axis.

    Raises:
        SpecError: there is no such axis, or no such value on it.
    """
    if axis not in experiment.matrix:
        axes = ", ".join(experiment.matrix) or "none"
        raise SpecError(f"baseline: '{axis}' is no axis of the matrix", f"its axes are {axes}")
    points = next(points for points in _axes(experiment) if axis in points[0][0])
    labels = [label[axis] for label, _ in points]
    truth = isinstance(value, bool)  # no knob is one, and a whole number would take it for 1
    label = str(value).lower() if truth else str(value)
    if not truth and axis not in (TARGET, LOAD) and not isinstance(experiment.matrix[axis], dict):
        label = str(_settled(Knobs(), {axis: value}).as_text()[axis])
    if label not in labels:
        what = f"baseline: {axis} is never '{label}' in the matrix"
        raise SpecError(what, suggest(label, labels))
    return label


def _axes(experiment: Experiment) -> list[list[Point]]:
    """Each axis as its points: a label, and the knobs that it sets."""
    axes: list[list[Point]] = []
    for name, values in experiment.matrix.items():
        if name in (TARGET, LOAD):
            axes.append([({name: str(value)}, {}) for value in values])
        elif isinstance(values, dict):
            axes.append([({name: label}, dict(chosen)) for label, chosen in values.items()])
        else:
            typed = [(value, _settled(Knobs(), {name: value})) for value in values]
            axes.append([({name: str(k.as_text()[name])}, {name: v}) for v, k in typed])
    return axes


def _joined(combination: tuple[Point, ...]) -> Point:
    labels: dict[str, str] = {}
    chosen: dict[str, Any] = {}
    for label, knobs in combination:
        labels |= label
        chosen |= knobs
    return labels, chosen


def _refuse_swept(given: Mapping[str, Any], points: list[Point], target: Target | None) -> None:
    if target and any(TARGET in labels for labels, _ in points):
        what = "the spec's matrix sweeps the target, and --target would make cells equal"
        raise UsageError(what, "leave the option out, or take the axis out of the spec")
    for name in given:
        if any(name in chosen for _, chosen in points):
            what = f"'{name}' is swept by the spec's matrix, so setting it would make cells equal"
            raise UsageError(what, "leave the setting out, or take the axis out of the spec")


def _settled(base: Knobs, settings: Mapping[str, Any]) -> Knobs:
    try:
        return base.with_settings(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise SpecError(f"'{name}' is not a knob", suggest(name, Knobs.model_fields)) from None
        what = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"'{name}': {what}", "`lab knobs` lists units and bounds") from None


def _refuse_missing_parts(cells: Iterable[Cell]) -> None:
    """Refuse a process fault of a part that some cell does not have."""
    kinds = {(cell.target, pooled(cell.knobs)): cell.process_faults for cell in cells}
    for (target, with_pooler), planned in sorted(kinds.items()):
        parts = parts_of(target, with_pooler)
        for fault in planned:
            if fault.part not in parts:
                of = " with pooler: off" if fault.part == POOLER else ""
                what = f"{fault.fault} hits {fault.part}, and target {target}{of} has none"
                raise SpecError(what, f"its parts are {', '.join(parts)}")


def check_measurable(cells: Sequence[Cell], criteria: Sequence[Criterion]) -> None:
    """Refuse a criterion on a figure that none of the cells has.

    Raises:
        SpecError: what it is, and what to write instead; without a place.
    """
    _refuse_missing_metrics(cells, criteria)
    _refuse_never_dropped(cells, criteria)
    _refuse_unpooled(cells, criteria)


def _refuse_missing_metrics(cells: Sequence[Cell], criteria: Iterable[Criterion]) -> None:
    """Refuse a criterion on a figure that no target of the cells has.

    One of several targets may lack it where it is a count: there it is known to be 0.
    """
    targets = sorted({cell.target for cell in cells})
    for criterion in criteria:
        only = only_on(criterion.metric)
        lacking = [target for target in targets if only not in (None, target)]
        if not lacking or (only in targets and BY_NAME[criterion.metric].unit == "count"):
            continue
        what = f"criterion '{criterion}': there is no {criterion.metric} on target {lacking[0]}"
        instead = nearest_elsewhere(criterion.metric)
        write = f"write {instead}" if instead else "leave it out"
        raise SpecError(what, f"{write}, or judge it on target {only} alone")


def _refuse_unpooled(cells: Sequence[Cell], criteria: Iterable[Criterion]) -> None:
    """Refuse a criterion on a figure of PgBouncer's, where no cell has it."""
    if any(pooled(cell.knobs) for cell in cells):
        return
    for criterion in criteria:
        if BY_NAME[criterion.metric].source == OF_POOLER:
            what = f"criterion '{criterion}': pooler is off, so there is no {criterion.metric}"
            raise SpecError(what, "leave it out, or set pooler: session or transaction")


def _refuse_never_dropped(cells: Sequence[Cell], criteria: Iterable[Criterion]) -> None:
    """Refuse a criterion on arrivals that are not sent, where every one is."""
    can_drop = any(isinstance(c.load, OpenLoad) and c.load.max_in_flight for c in cells)
    for criterion in criteria:
        if criterion.metric == "dropped" and not can_drop:
            what = f"criterion '{criterion}': only an open load with max_in_flight drops arrivals"
            raise SpecError(what, "leave it out, or give the load a rate and a max_in_flight")


def _load(experiment: Experiment, labels: Mapping[str, str], users: int | None) -> Load:
    """What a cell is offered: the spec's load, as the axis `load` or the command line changes it.

    Raises:
        UsageError: both do.
        SpecError: such a load cannot be.
    """
    if LOAD not in labels:
        return experiment.load if users is None else _with_users(experiment.load, users)
    if users is not None:
        what = "the spec's matrix sweeps the load, and --users would change it"
        raise UsageError(what, "leave the option out, or take the axis out of the spec")
    chosen = experiment.matrix[LOAD]
    keys = chosen[labels[LOAD]] if isinstance(chosen, dict) else {}
    try:
        return varied(experiment.load, keys)
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"]
        raise SpecError(f"load '{labels[LOAD]}': {what}", "keep the form of `load:`") from None


def _with_users(load: Load, users: int) -> Load:
    if not isinstance(load, ClosedLoad | BurstLoad):
        raise UsageError(f"--users says nothing of a load of kind {load.kind}", "leave it out")
    try:
        return varied(load, {"users" if isinstance(load, ClosedLoad) else "burst": users})
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"]
        raise UsageError(f"--users {users}: {what}", "give a number within it") from None


def _safe(text: str) -> str:
    """A text with spaces left out and all else that a file system may refuse made ``_``.

    Commas and equals signs join an id's parts, so within a part they are made ``_`` too.
    """
    part = _UNSAFE.sub("_", "".join(text.split()))
    return part.replace(",", "_").replace("=", "_") or "_"
