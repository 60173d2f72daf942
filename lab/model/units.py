"""Quantities with their units written out: ``10 s``, ``200 KB``, ``5 %``, ``5/s``, ``2-5 s``.

A bare number is refused wherever a unit belongs, because `10` has been read as seconds by
one person and as milliseconds by the next. Inside the lab a duration is a float of
seconds, a size an int of bytes, a share a float from 0 to 1, a rate a float per second.
Each type reads its text form and, in JSON, writes it again without loss. A number is in decimal
ASCII digits, at most fifteen before its point: so it is finite, whatever its unit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Annotated, Any, Final, Self

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    WithJsonSchema,
    WrapSerializer,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from lab.model.base import Frozen

DURATIONS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
SIZES = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
PER = {"s": 1.0, "min": 60.0, "h": 3600.0}

MAX_TEXT = 80
"""Characters of a quantity: no pattern is tried on more."""

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]+)?)"
_QUANTITY = re.compile(rf"{_NUMBER}\s*([A-Za-zµ%]+)")
_RANGE = re.compile(rf"{_NUMBER}\s*([A-Za-z]*)\s*(?:-|–|to)\s*{_NUMBER}\s*([A-Za-z]+)")
_BYTE_RATE = re.compile(rf"{_NUMBER}\s*([A-Za-z]+)\s*/\s*s")
_RATE = re.compile(rf"{_NUMBER}\s*/\s*({'|'.join(PER)})")


def short(text: str, kind: str, example: str) -> str:
    """A text without blanks around it, as long as a ``kind`` of value may be.

    Raises:
        ValueError: it is longer than that.
    """
    if len(text) > MAX_TEXT:
        what = f"'{text[:20]}...' has {len(text)} characters, too many for a {kind}"
        raise ValueError(f"{what}; write it like '{example}'")
    return text.strip()


def _matched(pattern: re.Pattern[str], text: object, kind: str, example: str) -> re.Match[str]:
    """The parts of a quantity.

    Raises:
        ValueError: the text is none.
    """
    match = pattern.fullmatch(short(text, kind, example)) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"'{text}' is not a {kind}; write it like '{example}'")
    return match


def _quantity(text: object, units: dict[str, Any], kind: str, example: str) -> float:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise ValueError(f"{text!r} is not a {kind}; write it like '{example}'")
    if isinstance(text, int | float):
        raise ValueError(f"{text} has no unit; write the {kind} like '{example}'")
    match = _QUANTITY.fullmatch(short(text, kind, example))
    if not match or match[2] not in units:
        known = ", ".join(units)
        raise ValueError(f"'{text}' is not a {kind}; write it like '{example}' (units: {known})")
    return float(match[1]) * float(units[match[2]])


def format_number(value: float) -> str:
    """The shortest decimal text that reads back as ``value``, never in exponent form."""
    rounded = round(value, 9)
    return str(int(rounded)) if rounded == int(rounded) else f"{rounded:.9f}".rstrip("0")


def parse_duration(text: object) -> float:
    """Seconds from a text like ``10 s`` or ``25 ms``.

    Raises:
        ValueError: no unit, an unknown unit, or not a quantity at all.
    """
    return round(_quantity(text, DURATIONS, "duration", "10 s"), 9)


def format_duration(seconds: float) -> str:
    """The text form of a duration in seconds, in the unit a person would choose."""
    if seconds and seconds % 60 == 0:
        return f"{format_number(seconds / 60)} min"
    if 0 < seconds < 1:
        return f"{format_number(seconds * 1e3)} ms"
    return f"{format_number(seconds)} s"


def parse_size(text: object) -> int:
    """Bytes from a text like ``200 KB`` (1000) or ``256 MiB`` (1024).

    Raises:
        ValueError: no unit, an unknown unit, or not a quantity at all.
    """
    return round(_quantity(text, SIZES, "size", "200 KB"))


def format_size(size: int) -> str:
    """The text form of a size in bytes, in the largest unit that divides it."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "KB"):
        if size and size % SIZES[unit] == 0:
            return f"{size // SIZES[unit]} {unit}"
    return f"{size} B"


def parse_byte_rate(text: object) -> int:
    """Bytes a second from a text like ``250 KB/s``.

    Raises:
        ValueError: not a size with ``/s`` after it.
    """
    example = "250 KB/s"
    match = isinstance(text, str) and _BYTE_RATE.fullmatch(short(text, "size a second", example))
    if not match or match[2] not in SIZES:
        units = ", ".join(f"{unit}/s" for unit in SIZES)
        raise ValueError(
            f"'{text}' is not a size a second; write it like '{example}' (units: {units})"
        )
    return round(float(match[1]) * SIZES[match[2]])


def format_byte_rate(rate: int) -> str:
    """The text form of bytes a second, in the largest unit that divides them."""
    return f"{format_size(rate)}/s"


def parse_share(text: object) -> float:
    """A share from 0 to 1 from a text like ``5 %``.

    Raises:
        ValueError: not a percentage.
    """
    return round(_quantity(text, {"%": 0.01}, "share", "5 %"), 9)


def format_share(share: float) -> str:
    """The text form of a share: ``0.05`` is ``5 %``."""
    return f"{format_number(share * 100)} %"


def percent(share: float) -> str:
    """A share that was measured, as a whole percentage: ``0.214`` is ``21 %``."""
    return f"{share * 100:.0f} %"


def parse_rate(text: object) -> float:
    """Events a second from a text like ``5/s`` or ``300/min``.

    Raises:
        ValueError: not a rate.
    """
    match = _matched(_RATE, text, "rate", "5/s")
    return float(match[1]) / PER[match[2]]


def format_rate(rate: float) -> str:
    """The text form of a rate in events a second: ``5/s``, ``6/h``; the shortest that there is."""
    return min((f"{format_number(rate * per)}/{unit}" for unit, per in PER.items()), key=len)


def _typed(
    parse: Callable[[object], Any], form: Callable[[Any], str], pattern: str, example: str
) -> tuple[Any, ...]:
    """The annotations that make a number read and write its text form.

    A number is taken as it is only where the lab itself builds a model in Python
    (``model_construct`` or a default): from a spec every quantity is text.
    """
    return (
        BeforeValidator(parse),
        PlainSerializer(form, return_type=str, when_used="json"),
        WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]}),
    )


DECIMAL = r"\d+(\.\d+)?\s*"
Duration = Annotated[
    float,
    *_typed(parse_duration, format_duration, rf"^{DECIMAL}({'|'.join(DURATIONS)})$", "10 s"),
]
Size = Annotated[
    int, *_typed(parse_size, format_size, rf"^{DECIMAL}({'|'.join(SIZES)})$", "200 KB")
]
ByteRate = Annotated[
    int,
    *_typed(
        parse_byte_rate, format_byte_rate, rf"^{DECIMAL}({'|'.join(SIZES)})\s*/\s*s$", "250 KB/s"
    ),
]
Share = Annotated[float, *_typed(parse_share, format_share, rf"^{DECIMAL}%$", "5 %")]
Rate = Annotated[
    float, *_typed(parse_rate, format_rate, rf"^{DECIMAL}/\s*({'|'.join(PER)})$", "5/s")
]


class _Text(Frozen):
    """A frozen value whose one text form is what specs and JSON hold."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """The value that a text stands for; raises ValueError where it stands for none."""
        raise NotImplementedError

    @model_validator(mode="wrap")
    @classmethod
    def _from_text(cls, value: Any, handler: Any) -> Any:
        if isinstance(value, cls | dict):
            return handler(value)
        return cls.parse(value)

    @model_serializer(mode="wrap", when_used="json")
    def _to_text(self, _handler: Any) -> str:
        return str(self)


def _range(
    text: object,
    units: dict[str, Any],
    parse: Callable[[object], Any],
    kind: str,
    example: str,
) -> tuple[Any, Any]:
    """The two ends of a range, or of a single value twice; the first may leave its unit out."""
    match = _RANGE.fullmatch(short(text, kind, example)) if isinstance(text, str) else None
    if not match:
        single = parse(text)
        return single, single
    first, first_unit, second, unit = match.groups()
    if unit not in units or (first_unit and first_unit not in units):
        raise ValueError(
            f"'{text}' is not a {kind}; write it like '{example}' (units: {', '.join(units)})"
        )
    low, high = parse(f"{first} {first_unit or unit}"), parse(f"{second} {unit}")
    if low > high:
        raise ValueError(f"'{text}' runs backwards; write the smaller end first")
    return low, high


class Span(_Text):
    """A range of durations in seconds, drawn from uniformly: ``2-5 s``, or one: ``25 ms``."""

    low: float
    high: float

    @classmethod
    def parse(cls, text: object) -> Self:
        low, high = _range(text, DURATIONS, parse_duration, "range of durations", "2-5 s")
        return cls(low=low, high=high)

    @property
    def mean(self) -> float:
        """Mean of the uniform distribution over the span, in seconds."""
        return (self.low + self.high) / 2

    def __str__(self) -> str:
        if self.low == self.high:
            return format_duration(self.low)
        return f"{format_duration(self.low)} - {format_duration(self.high)}"


class SizeRange(_Text):
    """A range of sizes in bytes, drawn from log-uniformly: ``50 KB - 2 MB``, or one: ``200 KB``."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: object) -> Self:
        low, high = _range(text, SIZES, parse_size, "range of sizes", "50 KB - 2 MB")
        return cls(low=low, high=high)

    @property
    def mean(self) -> float:
        """Mean of the log-uniform distribution, in bytes: (b - a) / ln(b / a)."""
        if self.low == self.high:
            return float(self.low)
        return (self.high - self.low) / log(self.high / self.low)

    def share_above(self, size: float) -> float:
        """The share of its files that are larger than ``size`` bytes: ln(b / size) / ln(b / a)."""
        if not self.low <= size < self.high:
            return float(size < self.low)
        return log(self.high / size) / log(self.high / self.low)

    def __str__(self) -> str:
        if self.low == self.high:
            return format_size(self.low)
        return f"{format_size(self.low)} - {format_size(self.high)}"


MAX_COUNT = 1_000_000
"""Events that a rate limit may let pass in its span: more is no limit on one machine."""


class RateLimit(_Text):
    """At most ``count`` events in any window of ``per`` seconds: ``500/min``."""

    count: int
    per: float

    @classmethod
    def parse(cls, text: object) -> Self:
        example = "500/min', or 'off"
        match = _matched(_RATE, text, "rate limit", example)
        count = float(match[1])
        if count < 1 or not count.is_integer():
            raise ValueError(f"'{text}' is not a rate limit; write it like '{example}'")
        if count > MAX_COUNT:
            raise ValueError(f"{text} is out of bounds; it must be <= {MAX_COUNT}/{match[2]}")
        return cls(count=int(count), per=PER[match[2]])

    def __str__(self) -> str:
        unit = next(name for name, seconds in PER.items() if seconds == self.per)
        return f"{self.count}/{unit}"


@dataclass(frozen=True)
class AtMost:
    """A bound of a span's upper end, in seconds."""

    le: int

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Span) -> Span:
        if value.high > self.le:
            most = format_duration(self.le)
            raise ValueError(f"{value} is out of bounds; it must be <= {most}")
        return value


@dataclass(frozen=True)
class NoneAs:
    """What an optional value's None is called in specs: ``off``, ``unlimited``."""

    word: str


def _none_as(word: str) -> tuple[Any, ...]:
    """The annotations of an optional value whose None specs write as ``word``."""
    return (
        NoneAs(word),
        BeforeValidator(lambda value: None if value == word else value),
        WrapSerializer(
            lambda value, text: word if value is None else text(value), when_used="json"
        ),
    )


OFF = _none_as("off")
UNLIMITED = _none_as("unlimited")

PRESET: Final = "preset"
"""The word for a value that another knob's preset says."""
