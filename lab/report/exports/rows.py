"""Samples and cells as rows of a table, for a spreadsheet or a data frame.

A column has a name, a kind, and what stands in it of a row; a value that is not there is None.
Durations are real-world seconds, shares run from 0 to 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lab.model.evidence import Sample
from lab.model.metrics import BY_NAME, STAGES, plain
from lab.report.exports.run import ExportedCell, ExportedRun

Kind = Literal["text", "real", "whole", "truth"]
Scalar = str | float | int | bool | None
Row = Sequence[Scalar]


@dataclass(frozen=True)
class TableColumn:
    """A column: its name, and of what kind its values are."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Rows:
    """A table, whose rows come in groups, each of which fits into memory."""

    columns: tuple[TableColumn, ...]
    groups: Iterable[Sequence[Row]]


TIMINGS = tuple(
    dict.fromkeys(
        (
            *("queue", "cold"),  # of Cloud Run's gateway
            *(name for row in STAGES.values() for name in row.timings),
        )
    )
)
"""The stages of `Sample.stages`."""

_OF_SAMPLE: tuple[tuple[TableColumn, Callable[[Sample], Scalar]], ...] = (
    (TableColumn("journey", "text"), lambda sample: str(sample.journey)),
    (TableColumn("user", "whole"), lambda sample: sample.user),
    (TableColumn("request", "text"), lambda sample: sample.request),
    (TableColumn("planned_at", "real"), lambda sample: sample.planned_at),
    (TableColumn("sent_at", "real"), lambda sample: sample.sent_at),
    (TableColumn("latency_s", "real"), lambda sample: sample.latency_s),
    (TableColumn("status", "whole"), lambda sample: sample.status),
    (TableColumn("error", "text"), lambda sample: sample.error and str(sample.error)),
    (TableColumn("bytes", "whole"), lambda sample: sample.bytes),
    (TableColumn("uplink_s", "real"), lambda sample: sample.uplink_s),
    (TableColumn("load_stage", "whole"), lambda sample: sample.stage),
    (TableColumn("worker", "whole"), lambda sample: sample.worker),
    (TableColumn("recording", "text"), lambda sample: sample.recording),
    *(
        (TableColumn(f"stage.{name}", "real"), lambda sample, name=name: sample.stages.get(name))
        for name in TIMINGS
    ),
)


def samples(run: ExportedRun) -> Rows:
    """A row a sample: which cell it is of, whether it counts, and all that is stored of it."""
    head = (TableColumn("cell", "text"), TableColumn("in_window", "truth"))
    columns = (*head, *(column for column, _ in _OF_SAMPLE))
    return Rows(columns, (list(_samples(cell)) for cell in run.cells))


def _samples(of: ExportedCell) -> Iterator[Row]:
    observed = of.observe()
    windows = [line.window for line in observed.evidence if line.kind == "load"]
    start, end = windows[-1] if windows else of.cell.load.measured
    for sample in observed.samples:
        inside = start <= sample.sent_at < end
        yield (of.result.id, inside, *(value(sample) for _, value in _OF_SAMPLE))


def cells(run: ExportedRun) -> Rows:
    """A row a cell: axes, verdict, limit, target, knobs, load, and every metric.

    Its columns are those that any of the cells has.
    """
    told = [_told(cell) for cell in run.cells]
    columns = list(dict.fromkeys(name for row in told for name in row))
    order = {name: number for number, name in enumerate(BY_NAME)}
    metrics = [name for name in columns if plain(name) in order]
    metrics.sort(key=lambda name: (order[plain(name)], name))
    others = [name for name in columns if plain(name) not in order]
    names = (*others, *metrics)
    kinds: Mapping[str, Kind] = {
        **dict.fromkeys(metrics, "real"),
        "speed": "real",
        "attempt": "whole",
    }
    return Rows(
        tuple(TableColumn(name, kinds.get(name, "text")) for name in names),
        [[[row.get(name) for name in names] for row in told]],
    )


def _told(of: ExportedCell) -> dict[str, Scalar]:
    result = of.result
    return {
        "cell": result.id,
        **{f"axis.{name}": value for name, value in result.axes.items()},
        "verdict": str(result.verdict),
        "reason": result.reasons[0] if result.reasons else None,
        "limit": str(result.limit.resource) if result.limit else None,
        "attempt": len(result.attempts) + 1,
        "target": result.target,
        "speed": of.cell.knobs.speed,
        **{f"knob.{name}": _text(value) for name, value in result.knobs.items() if name != "speed"},
        **{f"load.{name}": _text(value) for name, value in result.load.items()},
        **result.metrics,
    }


def _text(value: Any) -> str | None:
    """A setting as a spec writes it."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
