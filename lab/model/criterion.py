"""A criterion: a metric, a comparison and a bound, in its unit or as a multiple of a baseline."""

from __future__ import annotations

import operator
import re
from typing import Any, ClassVar, Self

from pydantic import Field, model_serializer, model_validator

from lab.model import metrics
from lab.model.base import Frozen
from lab.model.journeys import Journey, journey_named
from lab.model.suggest import suggest
from lab.model.units import (
    format_duration,
    format_number,
    format_rate,
    format_share,
    format_size,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    short,
)

_FORM = re.compile(r"([A-Za-z0-9_.]+)\s*(?:\(\s*([A-Za-z0-9_-]+)\s*\)\s*)?(<=|>=|==|<|>)\s*(\S.*)")
OF_ALL = ("error_rate", "oversize")
"""Shares of all requests, which are never more than these."""

_TIMES = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*[x\u00d7]\s*baseline")
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]+)?(e\+[0-9]{1,2})?")
"""A count; earlier labs wrote those of a million and more with an exponent."""


def _parse_count(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"'{text}' is not a number; write it like '20'")
    return float(text)


def _parse_cores(text: str) -> float:
    return _parse_count(re.sub(r"\s*cores?$", "", text))


def _parse_bytes_per_second(text: str) -> int:
    return parse_size(re.sub(r"\s*/\s*s$", "", text))


def _format_bytes(value: float) -> str:
    return format_size(int(value))


_UNITS = {
    "count": (_parse_count, format_number),
    "cores": (_parse_cores, format_number),
    "seconds": (parse_duration, format_duration),
    "share": (parse_share, format_share),
    "per second": (parse_rate, format_rate),
    "bytes": (parse_size, _format_bytes),
    "bytes per second": (_parse_bytes_per_second, _format_bytes),
}
"""How a bound is read and written, by the unit of its metric."""


class Criterion(Frozen):
    """What a cell must satisfy to hold: ``p95 < 10 s``, ``p95(progress) < 1 s``.

    ``bound`` is in the metric's own unit (seconds, a share from 0 to 1, a count). Of a metric that
    is of a journey ``journey`` says of which: where none is named, `lab.model.metrics.home_of`.
    One that is ``relative`` (``throughput > 1.8 x baseline``) has a factor for its bound.
    """

    OPERATORS: ClassVar = {
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
        "==": operator.eq,
    }

    metric: str
    op: str
    bound: float
    journey: Journey = Field(default_factory=lambda given: metrics.home_of(given.get("metric", "")))
    relative: bool = False

    @property
    def name(self) -> str:
        """The metric with its journey: ``p95``, ``p95(progress)``."""
        return metrics.with_journey(self.metric, self.journey)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``metric op bound``, ``metric(journey) op bound`` or ``metric op n x baseline``.

        Raises:
            ValueError: another form, a metric not in the table, a journey that there is not or
                that the metric is not of, a bound in a wrong unit, or a factor of 0.
        """
        kind, example = "criterion", "p95 < 10 s"
        match = _FORM.fullmatch(short(text, kind, example)) if isinstance(text, str) else None
        if not match:
            raise ValueError(f"'{text}' is not a {kind}; write it like '{example}'")
        name, of, op, bound = match.groups()
        if name not in metrics.BY_NAME:
            remedy = suggest(name, metrics.BY_NAME, "`lab metrics` lists them")
            raise ValueError(f"'{name}' is not a metric; {remedy}")
        journey = metrics.home_of(name) if of is None else _journey(name, of)
        if times := _TIMES.fullmatch(bound.strip()):
            factor = _factor(text, op, float(times[1]))
            return cls(metric=name, op=op, bound=factor, journey=journey, relative=True)
        if "baseline" in bound.lower():
            what = f"'{bound.strip()}' is not a multiple of the baseline"
            raise ValueError(f"{what}; write it like '1.8 x baseline'")
        unit = metrics.BY_NAME[name].unit
        read, _ = _UNITS[unit]
        found = cls(metric=name, op=op, bound=read(bound), journey=journey)
        ends = map(found.satisfied_by, (0.0, 1.0))
        if name in OF_ALL and op in ("<", ">") and not any(ends):
            raise ValueError(f"'{text}' is met by no share; they go from 0 to 100 %")
        return found

    @model_validator(mode="wrap")
    @classmethod
    def _from_text(cls, value: Any, handler: Any) -> Any:
        return handler(value) if isinstance(value, cls | dict) else cls.parse(value)

    @model_serializer(mode="wrap", when_used="json")
    def _to_text(self, _handler: Any) -> str:
        return str(self)

    def satisfied_by(self, value: float) -> bool:
        """Whether a value of the metric, or where this is relative a ratio of two, meets the bound.

        It says nothing of the evidence.
        """
        return bool(self.OPERATORS[self.op](value, self.bound))

    def __str__(self) -> str:
        if self.relative:
            return f"{self.name} {self.op} {format_number(self.bound)} x baseline"
        _, write = _UNITS[metrics.BY_NAME[self.metric].unit]
        return f"{self.name} {self.op} {write(self.bound)}"


def _factor(text: object, op: str, factor: float) -> float:
    """The factor of a relative criterion.

    Raises:
        ValueError: it is 0, or is to be met exactly, which two measurements never do.
    """
    if not factor:
        raise ValueError(f"'{text}' asks for 0 x baseline; write a bound of its own instead")
    if op == "==":
        raise ValueError(f"'{text}': two measurements are never equal; write <, <=, > or >=")
    return factor


def _journey(metric: str, name: str) -> Journey:
    """The journey that a metric is to be of.

    Raises:
        ValueError: there is none, or it has no such figure.
    """
    of = metrics.journeys_of(metric)
    journey = journey_named(name, of or Journey)
    if not of:
        raise ValueError(f"{metric} is of no single journey; write {metric} alone")
    if journey not in of:
        raise ValueError(f"{journey} has no {metric}; it is of {', '.join(of)}")
    return journey
