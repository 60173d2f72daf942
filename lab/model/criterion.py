"""A criterion: a metric, a comparison and a bound, typed by the metric's unit."""

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

    @property
    def name(self) -> str:
        """The metric with its journey: ``p95``, ``p95(progress)``."""
        return metrics.with_journey(self.metric, self.journey)

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read ``metric op bound``, or ``metric(journey) op bound``.

        Raises:
            ValueError: another form, a metric not in the table, a journey that there is not or
                that the metric is not of, or a bound in a wrong unit.
        """
        kind, example = "criterion", "p95 < 10 s"
        match = _FORM.fullmatch(short(text, kind, example)) if isinstance(text, str) else None
        if not match:
            raise ValueError(f"'{text}' is not a {kind}; write it like '{example}'")
        name, of, op, bound = match.groups()
        if name not in metrics.BY_NAME:
            remedy = suggest(name, metrics.BY_NAME, "`lab metrics` lists them")
            raise ValueError(f"'{name}' is not a metric; {remedy}")
        read, _ = _UNITS[metrics.BY_NAME[name].unit]
        journey = metrics.home_of(name) if of is None else _journey(name, of)
        return cls(metric=name, op=op, bound=read(bound), journey=journey)

    @model_validator(mode="wrap")
    @classmethod
    def _from_text(cls, value: Any, handler: Any) -> Any:
        return handler(value) if isinstance(value, cls | dict) else cls.parse(value)

    @model_serializer(mode="wrap", when_used="json")
    def _to_text(self, _handler: Any) -> str:
        return str(self)

    def satisfied_by(self, value: float) -> bool:
        """Whether a value of the metric meets the bound; says nothing of the evidence."""
        return bool(self.OPERATORS[self.op](value, self.bound))

    def __str__(self) -> str:
        _, write = _UNITS[metrics.BY_NAME[self.metric].unit]
        return f"{self.name} {self.op} {write(self.bound)}"


def _journey(metric: str, name: str) -> Journey:
    """The journey that a metric is to be of.

    Raises:
        ValueError: there is none, or it has no such figure.
    """
    journey = journey_named(name)
    of = metrics.journeys_of(metric)
    if not of:
        raise ValueError(f"{metric} is of no single journey; write {metric} alone")
    if journey not in of:
        raise ValueError(f"{journey} has no {metric}; it is of {', '.join(of)}")
    return journey
