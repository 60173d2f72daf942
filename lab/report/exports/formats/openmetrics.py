"""OpenMetrics text, with time stamps: every figure of every cell, and its series over time.

    replica_lab_p95_seconds{experiment="x",run="…",cell="workers=2",journey="upload"} 6.08 17672…

Names are those of the metric table, with the unit at their end as Prometheus has it. The causes of
a failure are a label of ``replica_lab_errors``, statuses of ``replica_lab_status``. The figures of
a cell have the moment of its end; what it was like over time is in ``replica_lab_over_time_…``.
Which moments these are says `lab.report.exports.clock`.

    promtool tsdb create-blocks-from openmetrics metrics.txt data/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from lab.model.evidence import Cause
from lab.model.metrics import (
    BY_NAME,
    STATUS,
    Unit,
    is_of_journey,
    journey_in,
    plain,
)
from lab.model.text import clean_line
from lab.model.verdict import Outcome, Series
from lab.report.exports.clock import TimedCell, timed
from lab.report.exports.run import ExportedRun, Format
from lab.report.format import ERRORS

PREFIX = "replica_lab_"
OVER_TIME = f"{PREFIX}over_time_"
VERDICT = f"{PREFIX}verdict"
SPEED = f"{PREFIX}speed"

SUFFIXES: Mapping[Unit, str] = {
    "count": "",
    "seconds": "_seconds",
    "share": "_ratio",
    "per second": "_per_second",
    "cores": "_cores",
    "bytes": "_bytes",
    "bytes per second": "_bytes_per_second",
}
"""How a name ends, by the metric's unit."""

BASE_UNITS = ("_seconds", "_ratio", "_bytes")
"""Those of which OpenMetrics knows the unit."""

SERIES: Mapping[str, tuple[Unit, str]] = {
    "users": ("count", "users there were"),
    "sent": ("per second", "uploads sent a second"),
    "answered": ("per second", "successes a second, when their answer came"),
    "errors": ("per second", "failures a second, when they came"),
    **{
        name: (BY_NAME[name].unit, BY_NAME[name].help)
        for name in (
            *("p95", "gcs_latency", "pg_connections", "pool_checked_out", "uploads_inflight"),
            *("threads_busy", "cpu_backend", "rss_backend", "loop_lag"),
        )
    },
    "pg_active": ("count", "the application's backends that are active"),
    "pg_idle": ("count", "those that are idle"),
    "pg_in_transaction": ("count", "those that are idle in a transaction"),
}
"""What there is over time, as `Series` has it: its unit and its meaning."""


class Family(NamedTuple):
    """A metric family: its name, what it counts, its unit where OpenMetrics has it, its meaning."""

    name: str
    unit: str
    help: str


Labels = tuple[tuple[str, str], ...]


class MetricPoint(NamedTuple):
    """A sample of a family."""

    labels: Labels
    value: float
    at: float


def family_of(metric: str) -> tuple[Family, Labels]:
    """The family of a metric by its name, with a journey or without, and the labels of its own."""
    name = plain(metric)
    row = BY_NAME[name]
    journey = (("journey", str(journey_in(metric))),) if is_of_journey(name) else ()
    if name.startswith(ERRORS):
        text = f"uploads of the window that failed, by cause ({len(Cause)} causes)"
        labels = (*journey, ("cause", name.removeprefix(ERRORS)))
        return Family(f"{PREFIX}errors", "", text), labels
    if name.startswith(STATUS):
        labels = (*journey, ("code", name.removeprefix(STATUS)))
        return Family(f"{PREFIX}status", "", "answers of the window by their HTTP status"), labels
    return _family(f"{PREFIX}{name}", row.unit, row.help), journey


def over_time(name: str) -> Family:
    """The family of what a cell was like over time."""
    unit, text = SERIES[name]
    return _family(f"{OVER_TIME}{name}", unit, f"over time: {text}")


def _family(name: str, unit: Unit, text: str) -> Family:
    suffix = SUFFIXES[unit]
    return Family(name + suffix, suffix[1:] if suffix in BASE_UNITS else "", text)


def names() -> frozenset[str]:
    """Every name that an export may have."""
    of_cells = {family_of(name)[0].name for name in BY_NAME}
    return frozenset({*of_cells, *(over_time(name).name for name in SERIES), VERDICT, SPEED})


def written(run: ExportedRun) -> Iterator[bytes]:
    """The text, family by family, as OpenMetrics asks for."""
    common = (("experiment", run.info.experiment.experiment), ("run", run.info.name))
    cells = [(one, (*common, ("cell", one.cell.result.id))) for one in timed(run)]
    yield _text(f"# TYPE {VERDICT} stateset", f"# HELP {VERDICT} what came of the cell")
    for one, labels in cells:
        of_cell = ((outcome, float(one.cell.result.verdict is outcome)) for outcome in Outcome)
        points = [MetricPoint((*labels, (VERDICT, str(o))), is_it, one.end) for o, is_it in of_cell]
        yield _lines(VERDICT, points)
    speeds = [MetricPoint(labels, one.cell.cell.knobs.speed, one.end) for one, labels in cells]
    yield from _gauge(Family(SPEED, "", "by what delays and durations were divided"), speeds)
    found: dict[Family, list[MetricPoint]] = defaultdict(list)
    for one, labels in cells:
        for metric, value in one.cell.result.metrics.items():
            if plain(metric) in BY_NAME:
                family, own = family_of(metric)
                found[family].append(MetricPoint((*labels, *own), value, one.end))
    for one, labels in cells:
        for family, point in _series(one, labels):
            found[family].append(point)
    for family, points in found.items():
        yield from _gauge(family, points)
    yield b"# EOF\n"


def _series(one: TimedCell, labels: Labels) -> Iterator[tuple[Family, MetricPoint]]:
    """Every figure over time of a cell, at the end of its bin; none of one without."""
    course = one.cell.result.course
    series = course.series if course else None
    for name in SERIES if series else ():
        family = over_time(name)
        for number, value in enumerate(_values(series, name)):
            if value is not None and series is not None:
                at = one.start + series.start + (number + 1) * series.bin_s
                yield family, MetricPoint(labels, value, at)


def _values(series: Series | None, name: str) -> Sequence[float | None]:
    values: Sequence[float | None] = getattr(series, name)
    return values


def _gauge(family: Family, points: Iterable[MetricPoint]) -> Iterator[bytes]:
    head = [f"# TYPE {family.name} gauge"]
    head += [f"# UNIT {family.name} {family.unit}"] if family.unit else []
    yield _text(*head, f"# HELP {family.name} {_escaped(family.help)}")
    yield _lines(family.name, points)


def _lines(name: str, points: Iterable[MetricPoint]) -> bytes:
    return _text(*(_line(name, point) for point in points))


def _line(name: str, point: MetricPoint) -> str:
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in point.labels)
    return f"{name}{{{labels}}} {point.value!r} {point.at:.3f}"


def _escaped(text: str) -> str:
    """A label's value, or a meaning, on one line."""
    return clean_line(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _text(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


FORMAT = Format(
    "every figure, and its series over time, for Prometheus and Grafana", {"metrics.txt": written}
)
