"""What pydantic finds wrong, as one line for people: where, what, and how to mend it.

A spec is checked in JSON's strict mode, where ``true`` is not the number 1 and ``"5"`` is
not the number 5. Of several errors the first in the file is reported, and a misspelt key
before the missing one that it stands for.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lab.config.document import Document, Loc, entry, one_line
from lab.model import fault, load, units
from lab.model.bounds import SIGNS
from lab.model.claims import ClaimCell, Condition, ReportClaim
from lab.model.experiment import Experiment
from lab.model.lessons import (
    Choice,
    CodePlace,
    Given,
    Lesson,
    LessonCheck,
    LessonQuestion,
    NumberAnswer,
    WrongCure,
)
from lab.model.suggest import nearest, suggest

M = TypeVar("M", bound=BaseModel)

LOADS = {form.kind: form for form in load.FORMS.values()}
TOXICS: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model
    for model in get_args(get_args(fault.Toxic)[0])
}
KINDS: dict[type[BaseModel], str] = {
    Experiment: "an experiment",
    fault.Fault: "a fault",
    ReportClaim: "a claim",
    Lesson: "a lesson",
}
"""What a file of each model is called."""

PARTS_OF_LESSON: dict[str, tuple[str, type[BaseModel]]] = {
    "given": ("a number that is given", Given),
    "checks": ("a check", LessonCheck),
    "wrong": ("a wrong cure", WrongCure),
    "code": ("a place in the code", CodePlace),
    "choices": ("a choice", Choice),
    "number": ("a number to be predicted", NumberAnswer),
    "prediction": ("a prediction", LessonQuestion),
}
"""What has keys within a lesson, by the key that it stands under; the innermost comes first."""

_BUILT = ({"low", "high"}, {"count", "per"}, {"metric", "op", "bound"})
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_CHOICE = re.compile(r"'([^']*)'")


def validated(model: type[M], document: Document) -> M:
    """The document as a model.

    Raises:
        SpecError: what is wrong first in the file, at its line and column.
    """
    _refuse_built(document)
    try:
        return model.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        details = [d for d in error.errors(include_url=False) if _meant(document, d)]
    detail = min(details, key=lambda d: _rank(document, d))
    path = _path(document, detail["loc"])
    what, remedy = _problem(model, detail, path)
    at_key = detail["type"] == "extra_forbidden"
    raise document.error(path, what, remedy, at_key=at_key)


def value_problem(detail: ErrorDetails, name: str) -> tuple[str, str | None]:
    """What is wrong with one value, and the remedy, without its place."""
    value, kind, context = detail["input"], detail["type"], detail.get("ctx", {})
    given = one_line(value if isinstance(value, str) else json.dumps(value, default=str), 60)
    if kind == "value_error":
        what, _, remedy = str(context["error"]).partition("; ")
        return f"{name}: {what}", remedy or None
    if kind in ("literal_error", "enum"):
        choices = _CHOICE.findall(context["expected"])
        return f"{name}: '{given}' is not one of {', '.join(choices)}", suggest(given, choices)
    if kind in _KINDS:
        example = ", as {workers: 1}" if name == "'baseline'" else ""
        return f"{name}: {given} is not {_KINDS[kind]}", f"write {_KINDS[kind]}{example}"
    if kind == "too_short":
        return f"{name} is empty", "write at least one entry, or leave it out"
    if kind in ("too_long", "string_too_long"):
        things = "characters" if kind == "string_too_long" else "entries"
        return f"{name} has too many {things}", f"it may have {context['max_length']} at most"
    if kind == "string_pattern_mismatch":
        return f"{name}: '{given}' is not kebab-case", "use a-z, 0-9 and single dashes"
    limits = [f"{sign} {_bound(context[k], given)}" for k, sign in SIGNS.items() if k in context]
    if limits:
        return f"{name}: {given} is out of bounds", f"it must be {limits[0]}"
    return f"{name}: {detail['msg']}", None


def _bound(limit: Any, given: str) -> str:
    """A bound in the unit of the value that passed it: seconds, bytes and shares are text."""
    for read, form in (
        (units.parse_duration, units.format_duration),
        (units.parse_size, lambda size: units.format_size(int(size))),
        (units.parse_share, units.format_share),
        (units.parse_rate, units.format_rate),
        (units.parse_byte_rate, units.format_byte_rate),
    ):
        with suppress(ValueError):
            read(given)
            return form(limit)
    return f"{limit:g}"


def _refuse_built(document: Document) -> None:
    """Refuse ``{low: 1, high: 2}``: so a model is built, but a spec writes ``1-2 s``."""
    for path in document.values:
        value = document.at(path)
        if path and path[0] != "matrix" and isinstance(value, dict) and set(value) in _BUILT:
            raise document.error(path, f"'{path[-1]}' is a mapping", "write it as one text")


def _path(document: Document, loc: Loc) -> Loc:
    """The part of an error's location that stands in the file: without the tags of unions."""
    path: Loc = ()
    for index, part in enumerate(loc):
        if _is_tag(loc, index):
            continue
        try:
            document.at((*path, part))
        except (LookupError, TypeError):
            break
        path = (*path, part)
    return path


def _is_tag(loc: Loc, index: int) -> bool:
    """Whether a part of a location is pydantic's word for a union's branch, not the file's.

    It puts the form of load after ``load``, the type after a toxic's number, and a branch of
    `Span | KnobRef` after the delay.
    """
    form = {"load": 1, "toxics": 2}.get(str(loc[0]))
    return index == form or _branch(loc[index]) is not None


def _branch(part: int | str) -> type | None:
    if part == "KnobRef":
        return dict
    return str if str(part).startswith("function-") else None


def _meant(document: Document, detail: ErrorDetails) -> bool:
    """Whether an error is of the union's branch that the writer meant: a mapping, or text."""
    for index, part in enumerate(detail["loc"]):
        if branch := _branch(part):
            given = document.at(_path(document, detail["loc"][:index]))
            return isinstance(given, dict) == (branch is dict)
    return True


def _rank(document: Document, detail: ErrorDetails) -> tuple[bool, bool, tuple[int, int]]:
    """Order of reporting; 'too short' comes last because it also follows from a bad entry."""
    place = document.position(_path(document, detail["loc"]))
    return detail["type"] == "too_short", detail["type"] == "missing", place


def _problem(model: type[BaseModel], detail: ErrorDetails, path: Loc) -> tuple[str, str | None]:
    """What is wrong at ``path``, and the remedy."""
    loc, kind = detail["loc"], detail["type"]
    name = entry(path) if path else "the file"
    if kind == "extra_forbidden":
        owner, keys = _owner(model, loc[:-1])
        return f"{name} is not a key of {owner}", suggest(str(path[-1]), keys)
    if kind == "missing":
        owner, _ = _owner(model, loc[:-1])
        return f"{owner} has no '{loc[-1]}'", "add it"
    if kind == "load_kind":
        return _load_kind(detail["input"])
    if kind.startswith("union_tag"):
        given = detail["input"].get("type") if isinstance(detail["input"], dict) else None
        if given is None:
            return f"{name} has no 'type'", f"write one of {', '.join(TOXICS)}"
        return f"{name}: '{one_line(given, 60)}' is not a type of toxic", suggest(given, TOXICS)
    return value_problem(detail, name)


def _load_kind(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        return "'load' is not a mapping", "write it like {users: 50, window: 60 s}"
    keys = [key for key in load.FORMS if key in value]
    if keys:
        return f"'load' has both {' and '.join(keys)}", "a load is of one kind; keep one"
    misspelt = next((key for key in value if nearest(key, load.FORMS)), "")
    remedy = suggest(misspelt, load.FORMS, "add one of them")
    return f"'load' has none of {', '.join(load.FORMS)}", remedy


def _owner(model: type[BaseModel], loc: Loc) -> tuple[str, list[str]]:
    """Who has the keys at ``loc``: a name for people, and the keys."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return KINDS[model], [field.alias or key for key, field in model.model_fields.items()]
    if model is ReportClaim:
        if names[0] == "cells":
            return "a claim's cell", list(ClaimCell.model_fields)
        return "a condition", list(Condition.model_fields)
    if model is Lesson:
        name, part = next(PARTS_OF_LESSON[key] for key in PARTS_OF_LESSON if key in names)
        return name, list(part.model_fields)
    if "KnobRef" in names:
        return "a delay", list(fault.KnobRef.model_fields)
    if names[0] == "toxics":
        return f"a {names[1]} toxic", list(TOXICS[names[1]].model_fields)
    if isinstance(loc[-1], int):
        return "a stage", list(load.Stage.model_fields)
    return f"a load of kind {names[1]}", list(LOADS[names[1]].model_fields)
