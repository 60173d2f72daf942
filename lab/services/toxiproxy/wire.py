"""What travels over the API: bodies read strictly, errors with the original's status."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError

UPSTREAM, DOWNSTREAM = STREAMS = ("upstream", "downstream")


class ApiError(LabError):
    """A request that the API refuses; ``status`` is the HTTP status of the answer."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


def bad_body(why: str) -> ApiError:
    """A body that cannot be read: 400."""
    return ApiError(f"bad request body: {why}", 400)


@dataclass
class Toxic:
    """A toxic as the API shows it; the stages of all its links read it live.

    ``attributes`` are whole numbers in the units of their type (ms, KB/s, us, bytes).
    """

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }


def read_json(body: bytes, kind: type[dict[str, Any]] | type[list[Any]]) -> Any:
    """The JSON object or array at the head of a body; what follows it is ignored.

    Raises:
        ApiError: 400, not JSON or of another kind.
    """
    text = body.decode("utf-8", errors="replace").lstrip()
    if not text:
        raise bad_body("EOF")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError as error:
        raise bad_body(str(error)) from error
    if not isinstance(value, kind):
        raise bad_body(f"{_json_name(value)} where {_KINDS[kind]} should be")
    return value


_KINDS: dict[type, str] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def _json_name(value: object) -> str:
    return _KINDS.get(type(value), "null")


def take(given: Mapping[str, Any], key: str, kind: type[Any], default: Any) -> Any:
    """A member of an object, or ``default`` where it is absent or null.

    Raises:
        ApiError: 400, of another kind than ``kind`` (a float takes whole numbers too).
    """
    value = given.get(key)
    if value is None:
        return default
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    wanted = "a whole number" if kind is int else _KINDS[kind]
    raise bad_body(f"'{key}' is {_json_name(value)}, not {wanted}")
