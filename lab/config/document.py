"""A YAML file as plain values, with the line and column of every key and value.

YAML 1.1 reads ``off``, ``on``, ``yes`` and ``no`` as booleans, ``010`` as eight and
``1:30`` as ninety. Here a plain scalar is one of: nothing, ``true``, ``false``, a decimal
number; all else is the text that stands there. Keys are always text. Aliases and tags are
refused: a spec says each thing where a reader looks for it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lab.errors import SpecError

Loc = tuple[str | int, ...]
"""Where a value stands: ``("load", "stages", 0, "users")``."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

_INT = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d{1,3})?")
_TEXT_TAG = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class Document:
    """One YAML file: its plain value and where each key and value stands (line, column from 1)."""

    file: Path
    value: Any
    keys: dict[Loc, tuple[int, int]]
    values: dict[Loc, tuple[int, int]]

    def error(
        self, path: Loc, what: str, remedy: str | None = None, *, at_key: bool = False
    ) -> SpecError:
        """A `SpecError` that points at the value of ``path``, or at its key."""
        line, column = self.position(path, at_key=at_key)
        return _error(self.file, what, remedy, line, column)

    def position(self, path: Loc, *, at_key: bool = False) -> tuple[int, int]:
        """Line and column of the value at ``path`` (or of its key), else of what it is in."""
        if at_key and path in self.keys:
            return self.keys[path]
        while path not in self.values:
            path = path[:-1]
        return self.values[path]

    def at(self, path: Loc) -> Any:
        """The plain value at ``path``.

        Raises:
            LookupError, TypeError: there is none.
        """
        value = self.value
        for part in path:
            value = value[part]
        return value


def read_document(file: Path) -> Document:
    """Read a YAML file that holds one mapping.

    Raises:
        SpecError: no such file, a folder, unreadable, not UTF-8, not YAML, a duplicate key,
            an alias, a tag, a key without a value, or not a mapping.
    """
    text = _decode(file, _read(file))
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        what = f"not YAML: {error.problem}" + (f" {error.context}" if error.context else "")
        remedy = "check brackets, quotes and indentation"
        raise _error(file, what, remedy, line, column) from error
    except yaml.reader.ReaderError as error:
        line, column = _place(text[: error.position])
        what = f"a character YAML does not allow: U+{ord(text[error.position]):04X}"
        raise _error(file, what, "remove it", line, column) from error
    except _Refused as refused:
        raise _error(file, refused.what, refused.remedy, refused.line, refused.column) from None
    if root is None:
        raise _error(file, "the file is empty", "write a mapping of keys to values")
    document = Document(file, None, {}, {})
    value = _plain(root, (), document)
    if not isinstance(value, dict):
        raise document.error((), "not a mapping", "write keys with values, as `experiment: name`")
    return Document(file, value, document.keys, document.values)


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar stands for: nothing, true, false, a decimal number, or text."""
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


def one_line(text: object, limit: int = 200) -> str:
    """Text for a message: on one line, printable, and not too long."""
    line = " ".join(str(text).split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


class _Refused(Exception):
    """YAML that is well-formed, but that a spec may not use."""

    def __init__(self, what: str, remedy: str, mark: Any) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy
        self.line: int = mark.line + 1
        self.column: int = mark.column + 1


class _Loader(yaml.BaseLoader):
    """Composes nodes without resolving scalars; counts depth and refuses aliases."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _Refused("an alias is not read here", "write the value out", event.start_mark)
        if self.depth >= MAX_DEPTH:
            raise _Refused("nested too deeply", "a spec is four levels deep", event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _error(
    file: Path, what: str, remedy: str | None = None, line: int = 0, column: int = 0
) -> SpecError:
    where = f"{file}:{line}:{column}" if line else str(file)
    return SpecError(one_line(what), one_line(remedy) if remedy else None, where)


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise _error(file, "a folder, not a file", "name a YAML file in it")
    if not file.exists():
        raise _error(file, "no such file", _nearest_file(file))
    if not file.is_file():
        raise _error(file, "not a regular file", "name a YAML file")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _error(file, "larger than 1 MB", "a spec is a few KB; is this the right file?")
        return file.read_bytes()
    except OSError as error:
        raise _error(file, f"cannot be read: {error.strerror}", "check its permissions") from error


def _nearest_file(file: Path) -> str:
    folder = file.parent
    names = [f.name for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    near = get_close_matches(file.name, names, n=1)
    return f"did you mean {folder / near[0]}?" if near else "check the path"


def _decode(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8-sig"))
        what = f"not UTF-8: byte 0x{data[error.start]:02X}"
        raise _error(file, what, "save the file as UTF-8", line, column) from error


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _plain(node: yaml.Node, path: Loc, into: Document) -> Any:
    into.values[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, into)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, index), into) for index, child in enumerate(node.value)]
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TEXT_TAG:
        raise into.error(path, f"a tag ({node.tag}) is not read here", "write the plain value")
    value = node.value if node.style else scalar(node.value)
    if value is None and path:
        name = _name(path)
        raise into.error(path, f"{name} has no value", "give one, or leave it out", at_key=True)
    return value


def _mapping(node: yaml.MappingNode, path: Loc, into: Document) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(into.file, "a key that is not text", "write a name", *place)
        key = str(key_node.value)
        inner = (*path, key)
        if key in found:
            first = into.keys[inner][0]
            what = f"'{key}' stands here again; it was first given in line {first}"
            raise _error(into.file, what, "keep one of the two", *place)
        into.keys[inner] = place
        found[key] = _plain(value_node, inner, into)
    return found


def _name(path: Loc) -> str:
    last = path[-1]
    return f"'{last}'" if isinstance(last, str) else f"entry {last + 1} of '{path[-2]}'"
