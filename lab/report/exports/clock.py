"""The moment of each cell, for formats in which everything has one.

    run starts ─> |- ramp - window - last answer -|  10 s  |- ramp - window - … -|
                  cell 1                                    cell 2

All figures are in real-world time, which a speed makes longer than the time that went by; so the
cells stand one after the other on a clock of that time, which begins when the run did, 10 s apart.
What the lab did between two cells is not on it. It follows from what is stored alone, so that the
same run is exported with the same moments, each time and on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import ceil
from typing import NamedTuple

from lab.model.load import load_of_spec
from lab.model.run import CellResult
from lab.report.exports.run import ExportedCell, ExportedRun

GAP_S = 10
"""Seconds between the end of a cell and the start of the next."""


class TimedCell(NamedTuple):
    """A cell, and when its load started and its last answer came, in seconds since 1970."""

    cell: ExportedCell
    start: int
    end: int


def timed(run: ExportedRun) -> Iterator[TimedCell]:
    """The cells with their moments, whole seconds."""
    start = run_start(run)
    for cell in run.cells:
        end = start + _length(cell.result)
        yield TimedCell(cell, start, end)
        start = end + GAP_S


def run_start(run: ExportedRun) -> int:
    """When the run began, in seconds since 1970; 0 where what is stored is no time."""
    try:
        return int(datetime.fromisoformat(run.info.started).astimezone(UTC).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


def _length(result: CellResult) -> int:
    """Real-world seconds from a load's start to its last answer, as far as that is stored."""
    planned = load_of_spec(result.load).measured[1]
    series = result.course.series if result.course else None
    seen = series.start + series.bin_s * len(series.sent) if series else 0.0
    return ceil(max(planned, seen, 1.0))
