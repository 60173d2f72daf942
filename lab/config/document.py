"""A YAML file as plain values, with the line and column of every key and value.

YAML 1.1 reads ``off``, ``on``, ``yes`` and ``no`` as booleans, ``010`` as eight and
``1:30`` as ninety. Here a plain scalar is one of: nothing, ``true``, ``false``, a decimal
number; all else is the text that stands there. Keys are always text. Anchors, aliases and tags
are refused wherever they stand, and `<<` is a key as any other: a spec says each thing where a
reader looks for it. A file has at most `MAX_BYTES` bytes and `MAX_NODES` keys, values, lists and
mappings, `MAX_DEPTH` of them in one another.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver

from lab.errors import SpecError
from lab.model.suggest import nearest
from lab.model.text import clean

Loc = tuple[str | int, ...]
"""Where a value stands: ``("load", "stages", 0, "users")``."""

MAX_BYTES = 200_000
MAX_DEPTH = 20
MAX_NODES = 10_000

_INT = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d{1,3})?")


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
        return _error(self.file, what, remedy, self.position(path, at_key=at_key))

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
    root = _compose(file, _decode(file, _read(file)))
    if root is None:
        raise _error(file, "the file is empty", "write a mapping of keys to values")
    if not isinstance(root, MappingNode):
        remedy = "write keys with values, as `experiment: name`"
        raise _error(file, "not a mapping", remedy, _start(root.start_mark))
    document = Document(file, {}, {}, {})
    return replace(document, value=_plain(root, (), document))


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
    line = clean(" ".join(str(text).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def entry(path: Loc) -> str:
    """What stands at ``path``, for a message: ``'users'``, or ``entry 2 of 'stages'``."""
    last = path[-1]
    return f"'{last}'" if isinstance(last, str) else f"entry {last + 1} of '{path[-2]}'"


def _error(
    file: Path, what: str, remedy: str | None = None, place: tuple[int, int] | None = None
) -> SpecError:
    where = ":".join(map(str, (file, *(place or ()))))
    return SpecError(one_line(what), one_line(remedy) if remedy else None, where)


def _read(file: Path) -> bytes:
    if file.is_dir():
        raise _error(file, "a folder, not a file", "name a YAML file in it")
    if not file.exists():
        near = nearest(file.name, (f.name for f in file.parent.glob("*") if f.is_file()))
        remedy = f"did you mean {file.with_name(near)}?" if near else "check the path"
        raise _error(file, "no such file", remedy)
    if not file.is_file():
        raise _error(file, "not a regular file", "name a YAML file")
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise _error(file, f"cannot be read: {error.strerror}", "check its permissions") from error
    if len(data) > MAX_BYTES:
        what = f"larger than {MAX_BYTES // 1000} KB"
        raise _error(file, what, "a spec is a few KB; is this the right file?")
    return data


def _decode(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode("utf-8-sig"))
        what = f"not UTF-8: byte 0x{data[error.start]:02X}"
        raise _error(file, what, "save the file as UTF-8", place) from error


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


class _Refused(MarkedYAMLError):
    """Well-formed YAML that a spec may not use; ``problem`` and ``note`` are what and remedy."""


class _Composer(Composer):
    """Composes nodes, and refuses what a spec may not use, wherever it stands."""

    nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        event = self.parser.peek_event()
        self.nodes += 1
        if problem := _refusal(event, self.nodes):
            what, remedy = problem
            raise _Refused(problem=what, problem_mark=event.start_mark, note=remedy)
        node: Node = super().compose_node(parent, index)
        return node


def _refusal(event: Any, nodes: int) -> tuple[str, str] | None:
    """Why a node may not be, and the remedy; None if it may."""
    if isinstance(event, AliasEvent):
        return f"an alias (*{event.anchor}) is not read here", "write the value out"
    if event.anchor is not None:
        return f"an anchor (&{event.anchor}) is not read here", "leave it out"
    if event.tag is not None:
        return f"a tag ({event.tag}) is not read here", "leave it out, and write the plain value"
    if nodes > MAX_NODES:
        return f"more than {MAX_NODES} keys and values", "split the file"
    return None


class _Resolver(VersionedResolver):
    """Takes every scalar for text, whatever it looks like; `scalar` says what it stands for."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        return super().resolve(kind, value, (False, implicit))


def _compose(file: Path, text: str) -> Node | None:
    """The nodes of a text, each with its place; scalars are not resolved. None: it is empty."""
    yaml = YAML(typ="base", pure=True)
    yaml.Composer, yaml.Resolver, yaml.max_depth = _Composer, _Resolver, MAX_DEPTH
    yaml.composer.warn_double_anchors = False
    try:
        root: Node | None = yaml.compose(text)
    except ReaderError as error:
        what = f"a character YAML does not allow: U+{error.character:04X}"
        raise _error(file, what, "remove it", _place(text[: error.position])) from error
    except MarkedYAMLError as error:
        raise _error(file, *_explained(error), _start(error.problem_mark)) from error
    except AssertionError as error:  # so ruamel refuses the version of a %YAML directive
        raise _error(file, f"not YAML: {error}", "leave the directive out") from error
    except ValueError as error:  # and so the number of a character, as "\\U00110000"
        raise _error(file, f"not YAML: {error}", "check the escapes in its quotes") from error
    return root


def _explained(error: MarkedYAMLError) -> tuple[str, str]:
    """What is wrong with a YAML text, and the remedy."""
    if isinstance(error, _Refused):
        return str(error.problem), str(error.note)
    if isinstance(error, MaxDepthExceededError):
        return "nested too deeply", "a spec is four levels deep"
    what = " ".join(filter(None, ("not YAML:", error.problem, error.context)))
    what = re.sub(r"\('([^']*)',\)", r"'\1'", what)  # ruamel names some tokens by a tuple
    what = what.replace("hexdecimal", "hexadecimal")
    return what, "check brackets, quotes and indentation"


def _start(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


def _plain(node: Node, path: Loc, into: Document) -> Any:
    into.values[path] = _start(node.start_mark)
    if isinstance(node, MappingNode):
        return _mapping(node, path, into)
    if not isinstance(node, ScalarNode):
        return [_plain(child, (*path, index), into) for index, child in enumerate(node.value)]
    value = node.value if node.style else scalar(node.value)
    if value is None:
        what = f"{entry(path)} has no value"
        raise into.error(path, what, "give one, or leave it out", at_key=True)
    return value


def _mapping(node: MappingNode, path: Loc, into: Document) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = _start(key_node.start_mark)
        if not isinstance(key_node, ScalarNode):
            raise _error(into.file, "a key that is not text", "write a name", place)
        key = str(key_node.value)
        if not key_node.style:
            key = key.removesuffix(":")  # YAML 1.2 reads "{users:, ramp: 1 s}" as the key "users:"
        inner = (*path, key)
        if key in mapping:
            line, _ = into.keys[inner]
            what = f"'{key}' stands here again; it was first given in line {line}"
            raise _error(into.file, what, "keep one of the two", place)
        into.keys[inner] = place
        mapping[key] = _plain(value_node, inner, into)
    return mapping
