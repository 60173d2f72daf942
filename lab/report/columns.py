"""The figures that stand beside each cell: which of them matter depends on where it ran.

Before the VM it is the rate and the database's connections; before Cloud Run who was served,
refused, or lost with an instance, and what the instances did. A run of both shows both, and
what one of them has not is a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.model.run import CellResult
from lab.report import course, figures, words

Text = Callable[[CellResult], str]


@dataclass(frozen=True)
class Column:
    """One figure of every cell.

    Args:
        head: its title in a document, where figures carry their units.
        short: its title on a terminal, with the unit where ``bare`` has none.
        text: the figure with its unit.
        bare: as it stands under ``short``.
    """

    head: str
    short: str
    text: Text
    bare: Text


def _metric(head: str, short: str, name: str) -> Column:
    def text(cell: CellResult) -> str:
        return figures.metric(name, cell.metrics.get(name))

    return Column(head, short, text, text)


def _number(head: str, short: str, name: str) -> Column:
    """A column whose unit stands in its short title."""

    def bare(cell: CellResult) -> str:
        value = cell.metrics.get(name)
        return figures.NONE if value is None else figures.cell(value)

    return Column(head, short, _metric(head, short, name).text, bare)


def _cause(cell: CellResult) -> str:
    return str(words.leading_error(cell.metrics) or figures.NONE)


RATE = _number("uploads/s", "up/s", "throughput")
P50 = _number("p50", "p50 s", "p50")
P95 = _number("p95", "p95 s", "p95")
FAILED = _metric("failed", "failed", "error_rate")
CAUSE = Column("led by", "led by", _cause, _cause)
LIMIT = Column("limit", "limit", course.limit_name, course.limit_name)
CONNECTIONS = _metric("pg peak", "pg", "pg_connections")
SERVED = _metric("served", "served", "succeeded")
FATES = (
    _metric("refused (429)", "429", "errors.no_instance"),
    _metric("died (503)", "503", "errors.instance_died"),
    _metric("timed out (504)", "504", "errors.request_timeout"),
)
LIVES = (
    _metric("cold starts", "cold", "cold_starts"),
    _number("queued", "wait s", "queue_wait"),
    _metric("memory peak", "memory", "memory_instance"),
    _metric("OOM kills", "OOM", "oom_kills"),
)

RIGHT = {column.short for column in (RATE, P50, P95, FAILED, CONNECTIONS, SERVED, *FATES, *LIVES)}
"""The short titles of those that are numbers."""

FOLDED = (CAUSE.short, LIMIT.short)
"""The short titles of those that go under the row where it would be too wide."""


def columns(cells: Sequence[CellResult]) -> tuple[Column, ...]:
    """What a table of these cells shows of each, from left to right."""
    limit = (LIMIT,) if course.any_limit(cells) else ()
    before_front = front_columns(cells)
    if not before_front:
        return (RATE, P50, P95, FAILED, CAUSE, CONNECTIONS, *limit)
    if all(_before_front(cell) for cell in cells):
        return (SERVED, *FATES, P50, P95, CAUSE, *LIVES, *limit)
    return (RATE, P50, P95, FAILED, CAUSE, *before_front, *limit)


def front_columns(cells: Sequence[CellResult]) -> tuple[Column, ...]:
    """What is added where Cloud Run is among the cells' targets; nothing where it is not."""
    if not any(_before_front(cell) for cell in cells):
        return ()
    return (SERVED, *FATES, *LIVES)


def _before_front(cell: CellResult) -> bool:
    return cell.target == "cloudrun"
