"""Knob names and values, each checked where it stands: in ``knobs:``, ``matrix:`` and ``--set``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Any

from pydantic import ValidationError

from lab.config.document import Document, Loc, one_line, scalar
from lab.config.explain import value_problem
from lab.errors import SpecError
from lab.model.diagnosis import RELAXED, STEP, WITHOUT
from lab.model.knobs import Knobs
from lab.model.replica import TARGETS
from lab.model.speed import AUTO, MAX_SPEED
from lab.model.suggest import suggest

SPEED = "speed"

_SWEPT = (
    f"'{SPEED}: {AUTO}' is no value of an axis, for it is chosen cell by cell",
    "write numbers, or set it in `knobs:`",
)

RESERVED = frozenset({"repeat", RELAXED, STEP, WITHOUT})
"""The axes that a cell's repeats and the trials of a diagnosis add to its own."""

MAX_CELLS = 1000
"""More is a slip of the pen: at a minute each it is a night and a day."""


def parse_settings(settings: Sequence[str], speed: float | str | None = None) -> dict[str, Any]:
    """Knob settings as the command line gives them: ``["pool_size=5", "gcs_latency=2-5 s"]``.

    Args:
        settings: those of ``--set``.
        speed: that of ``--speed``, perhaps `AUTO`; None where it is not given.

    Returns:
        Values as a spec would write them, by knob.

    Raises:
        SpecError: not ``knob=value``, an unknown knob, a value that it cannot have, or a
            knob set twice.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        where = f"--set {one_line(setting, 80)}"
        if not equals:
            raise SpecError("not a setting", "write it as pool_size=5", where)
        if name in values:
            raise SpecError(f"'{name}' is set twice", "keep one of the two", where)
        value = scalar(text)
        if problem := knob_problem(name, value):
            raise SpecError(*problem, where)
        values[name] = value
    if speed is None:
        return values
    if "speed" in values:
        raise SpecError("speed is given both as --speed and as --set speed", "keep one of them")
    return {**values, "speed": speed}


def knob_problem(name: str, value: Any) -> tuple[str, str | None] | None:
    """What is wrong with a knob's name or value, and the remedy; None if nothing is."""
    if name not in Knobs.model_fields:
        remedy = suggest(name, Knobs.model_fields, "`lab knobs` lists them")
        return f"'{one_line(name, 60)}' is not a knob", remedy
    if value is None:
        return f"'{name}' has no value", "give one"
    if name == SPEED and isinstance(value, str):
        return None if value == AUTO else _no_speed(value)
    if isinstance(value, dict | list):
        return f"'{name}' is not one value", "to sweep it, make it an axis of `matrix:`"
    try:
        Knobs.model_validate_json(json.dumps({name: value}), strict=True)
    except ValidationError as error:
        return value_problem(error.errors(include_url=False)[0], f"'{name}'")
    return None


def _no_speed(text: str) -> tuple[str, str | None]:
    what = f"'{SPEED}': '{one_line(text, 40)}' is no speed"
    return what, f"write {AUTO}, or a number from 1 to {MAX_SPEED:g}"


def check_knobs(document: Document) -> None:
    """Check every knob that a spec sets, and the shape of its matrix.

    Raises:
        SpecError: at the first knob, axis or label that cannot be.
    """
    shared = _check_set(document, ("knobs",))
    if "matrix" not in document.value:
        return
    matrix = document.value["matrix"]
    if not isinstance(matrix, dict) or not matrix:
        raise document.error(
            ("matrix",), "'matrix' has no axes", "give one, as `workers: [1, 2]`", at_key=True
        )
    _check_size(document, matrix)
    setters = dict.fromkeys(shared, "'knobs'")
    for axis in matrix:
        for knob in sorted(_check_axis(document, axis)):
            if knob in setters:
                what = f"axis '{axis}' sets '{knob}', and so does {setters[knob]}"
                path = ("matrix", axis)
                raise document.error(path, what, "set it in one of them", at_key=True)
            setters[knob] = f"axis '{axis}'"


def _check_set(document: Document, path: Loc) -> dict[str, Any]:
    """A mapping of knobs to values; returns the values as typed, by knob."""
    settings = document.at(path) if path[0] in document.value else {}
    if not isinstance(settings, dict):
        raise document.error(path, f"'{path[-1]}' is not a mapping", "write knobs with values")
    for name, value in settings.items():
        _check_one(document, (*path, name), name, value)
    if path[0] == "matrix" and settings.get(SPEED) == AUTO:
        raise document.error((*path, SPEED), *_SWEPT)
    typed = _typed({name: value for name, value in settings.items() if value != AUTO})
    return {name: getattr(typed, name) for name in settings}


def _check_one(document: Document, path: Loc, name: str, value: Any) -> None:
    if problem := knob_problem(name, value):
        raise document.error(path, *problem, at_key=name not in Knobs.model_fields)


def _typed(settings: Mapping[str, Any]) -> Knobs:
    return Knobs.model_validate_json(json.dumps(settings), strict=True)


def _check_axis(document: Document, axis: str) -> set[str]:
    """Check one axis; returns the knobs that it sets."""
    path: Loc = ("matrix", axis)
    values = document.at(path)
    if axis in RESERVED:
        what = f"axis '{axis}' has the name by which the trials of a cell are told apart"
        raise document.error(path, what, "give it another name", at_key=True)
    if axis == "target":
        _check_targets(document, path, values)
        return set()
    if axis == "load":
        _check_loads(document, path, values)
        return set()
    if not isinstance(values, dict | list):
        remedy = "write a list of values, or labels with sets of knobs"
        raise document.error(path, f"axis '{axis}' is one value", remedy)
    if not values:
        raise document.error(path, f"axis '{axis}' is empty", "give it values, or leave it out")
    if isinstance(values, list):
        _check_list(document, path, axis, values)
        return {axis}
    return _check_labels(document, path, values)


def _check_targets(document: Document, path: Loc, values: Any) -> None:
    """The axis that says where a cell runs, and sets no knob."""
    known = ", ".join(TARGETS)
    if not isinstance(values, list) or not values:
        raise document.error(path, "axis 'target' is not a list of targets", f"write [{known}]")
    if "target" in document.value:
        what = "'target' is given, and the axis 'target' sweeps it"
        raise document.error(path, what, "keep one of them", at_key=True)
    for index, value in enumerate(values):
        given = one_line(value, 40)
        if value not in TARGETS:
            what = f"axis 'target': '{given}' is not one of {known}"
            raise document.error((*path, index), what, suggest(str(value), TARGETS))
        if value in values[:index]:
            what = f"axis 'target' has {given} twice"
            raise document.error((*path, index), what, "remove one")


def _check_loads(document: Document, path: Loc, values: Any) -> None:
    """The axis that changes the load; whether such a load can be, `read_experiment` says."""
    if not isinstance(values, dict) or not values:
        remedy = "write labels with keys of the load, as `20-users: {users: 20}`"
        raise document.error(path, "axis 'load' has no labels", remedy)
    for label, keys in values.items():
        if not isinstance(keys, dict) or not keys:
            raise document.error((*path, label), f"'{label}' sets no key of the load", "set one")
    _refuse_equal(document, path, values)


def _check_list(document: Document, path: Loc, axis: str, values: list[Any]) -> None:
    """The axis of one knob's values."""
    if axis not in Knobs.model_fields:
        remedy = suggest(axis, Knobs.model_fields, "to set several knobs, write labels with sets")
        raise document.error(path, f"axis '{axis}' is not a knob", remedy, at_key=True)
    seen: list[Any] = []
    for index, value in enumerate(values):
        _check_one(document, (*path, index), axis, value)
        if axis == SPEED and value == AUTO:
            raise document.error((*path, index), *_SWEPT)
        typed = getattr(_typed({axis: value}), axis)
        if typed in seen:
            what = f"axis '{axis}' has {one_line(value, 40)} twice"
            raise document.error((*path, index), what, "remove one")
        seen.append(typed)


def _check_labels(document: Document, path: Loc, values: dict[str, Any]) -> set[str]:
    """The axis whose labels set several knobs together; returns all that any of them sets."""
    typed = {}
    for label in values:
        typed[label] = _check_set(document, (*path, label))
        if not typed[label]:
            what = f"'{label}' sets no knob"
            raise document.error((*path, label), what, "set one, or remove it")
    _refuse_equal(document, path, typed)
    return {knob for settings in typed.values() for knob in settings}


def _refuse_equal(document: Document, path: Loc, settings: Mapping[str, Any]) -> None:
    """Refuse a label that sets the same as one before it: their cells would be equal."""
    for first, second in combinations(settings, 2):
        if settings[first] == settings[second]:
            what = f"'{second}' sets the same as '{first}'"
            raise document.error((*path, second), what, "remove one of the two", at_key=True)


def _check_size(document: Document, matrix: Mapping[str, Any]) -> None:
    """Refuse what would take long only to be looked at, before its values are."""
    sizes = [len(axis) for axis in matrix.values() if isinstance(axis, dict | list) and axis]
    repeat = document.value.get("repeat", 1)
    count = prod(sizes) * (repeat if isinstance(repeat, int) else 1)
    if count > MAX_CELLS:
        what = f"the matrix makes {count} cells; a run has {MAX_CELLS} at most"
        raise document.error(("matrix",), what, "split it", at_key=True)
