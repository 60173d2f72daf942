"""What is stored, read back: checked, within bounds, and every damage named with its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lab.errors import LabError, StoreError, UsageError
from lab.files import Folder
from lab.model.run import SCHEMA_VERSION

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

HOSTILE = (ValueError, ArithmeticError, RecursionError)
"""What Python raises of values that nobody foresaw: 400 digits, a thousand brackets."""

_REMEDY = "restore the file from a copy, or run the experiment again"
_LINE_REMEDY = "remove the cell's evidence.jsonl and verdict.json and run it again with --resume"


def problem_of(error: Exception) -> str:
    """A problem with a stored value, on one line: ``metrics.p95: Input should be ...``.

    The first value that is wrong, else the first that is missing.
    """
    if not isinstance(error, ValidationError):
        nested = isinstance(error, RecursionError)
        return "it is nested too deeply" if nested else "a number in it is beyond all measure"
    first = min(error.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def read_document(folder: Folder, name: str, model: type[M]) -> M:
    """A stored document, checked.

    Raises:
        UsageError: a later lab wrote it.
        StoreError: it cannot be read or is damaged; names the file and the line.
    """
    raw, path = folder.read(name), folder.path / name
    try:
        document = model.model_validate_json(raw)
    except HOSTILE as error:
        raise _damage(path, raw, model, error) from error
    if later := _later(path, getattr(document, "schema_version", 0), model):
        raise later
    return document


def _damage(path: Path, raw: bytes, model: type[BaseModel], error: Exception) -> LabError:
    """Why a document cannot be read: its JSON, with the line; its version; or a value."""
    try:
        data: Any = json.loads(raw)
    except json.JSONDecodeError as wrong:
        return StoreError(f"{path}:{wrong.lineno}: the file is damaged: {wrong.msg}", _REMEDY)
    except UnicodeDecodeError as wrong:
        line = raw.count(b"\n", 0, wrong.start) + 1
        return StoreError(f"{path}:{line}: the file is damaged: not UTF-8", _REMEDY)
    except HOSTILE as wrong:
        return StoreError(f"{path}: the file is damaged: {problem_of(wrong)}", _REMEDY)
    version = data.get("schema_version") if isinstance(data, dict) else None
    what = f"{path}: the file is not a {model.__name__}: {problem_of(error)}"
    return _later(path, version, model) or StoreError(what, _REMEDY)


def _later(path: Path, version: object, model: type[BaseModel]) -> UsageError | None:
    """The error about a document that a later lab wrote; None: it was not."""
    field = model.model_fields.get("schema_version")
    latest = field.default if field else SCHEMA_VERSION
    if not isinstance(version, int) or version <= latest:
        return None
    return UsageError(
        f"{path}: written by a later lab (schema_version {version}; this lab reads up to {latest})",
        "use the version of the lab that wrote it, or a later one",
    )


def read_lines(
    folder: Folder,
    name: str,
    read: Callable[[bytes], T],
    impossible: Callable[[int, T], str],
    *,
    may_be_cut: bool = False,
) -> Iterator[T]:
    """The values of a file that has one a line.

    Args:
        folder: whose file.
        name: the file's.
        read: makes a value of a line.
        impossible: why the n-th value, from 1, cannot have been written; empty: it can.
        may_be_cut: whether the half line of a killed writer may be at its end.

    Raises:
        StoreError: it cannot be read or is damaged; names the file and the line.
    """
    for number, raw in enumerate(folder.lines(name), start=1):
        try:
            value = read(raw.removesuffix(b"\n"))
            problem = impossible(number, value)
        except HOSTILE as error:
            if may_be_cut and not raw.endswith(b"\n"):
                return
            problem = problem_of(error)
        if problem:
            raise StoreError(
                f"{folder.path / name}:{number}: the line is damaged: {problem}", _LINE_REMEDY
            )
        yield value
