"""What a value's type says of it, as people read it: its unit, its bounds, the words for it.

Read from the annotations of `lab.model.knobs`, so that the table says nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from lab.model.units import Duration, NoneAs, RateLimit, Size, Span, format_size

_UNITS: dict[Any, str] = {
    Span: "range of durations",
    RateLimit: "rate limit",
    int: "count",
    float: "number",
}


def _quantity(metadata: Iterable[Any]) -> str | None:
    """The kind of a quantity with a unit, by the reader that it shares with its alias."""
    quantities = {"duration": Duration, "size": Size}
    return next((word for word, kind in quantities.items() if get_args(kind)[1] in metadata), None)


def none_word(metadata: Iterable[Any]) -> str:
    """What a spec writes where an optional value is None: ``off``; empty for one that never is."""
    return next((extra.word for extra in metadata if isinstance(extra, NoneAs)), "")


def unit_of(kind: Any, metadata: Iterable[Any]) -> str:
    """The kind of value (``duration``, ``count``), and the words that it may be instead.

    Annotated flattens: a quantity's own annotations stand in ``metadata``, before the others.
    """
    metadata = tuple(metadata)
    return " or ".join([_quantity(metadata) or _unit(kind), *_words(kind, none_word(metadata))])


def _words(kind: Any, none_as: str) -> list[str]:
    """The words that an optional value may be instead: ``preset``, ``off``."""
    if get_origin(kind) not in (Union, UnionType):
        return []
    literals = (get_args(part) for part in get_args(kind) if get_origin(part) is Literal)
    return [*chain.from_iterable(literals), none_as]


def _unit(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "choice"
    if get_origin(kind) in (Union, UnionType):
        return _unit(get_args(kind)[0])
    if get_origin(kind) is Annotated:
        return _quantity(get_args(kind)) or _unit(get_args(kind)[0])
    if kind in _UNITS:
        return _UNITS[kind]
    raise TypeError(f"no unit is known for a knob of type {kind}")


SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
"""How people read the limits of a value, by pydantic's names for them."""


def bounds_of(kind: Any, metadata: tuple[Any, ...]) -> str:
    """The limits of a knob's value, as people read them."""
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        inner = get_args(kind)[0]
        return bounds_of(inner, get_args(inner)[1:] if get_origin(inner) is Annotated else ())
    is_size = get_args(Size)[1] in metadata
    limits = [
        f"{sign} {format_size(value) if is_size else f'{value:g}'}"
        for extra in metadata
        for limit in (getattr(extra, "metadata", None) or [extra])
        for name, sign in SIGNS.items()
        if (value := getattr(limit, name, None)) is not None
    ]
    return ", ".join(limits)
