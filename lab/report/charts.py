"""A trial over time in text: a line a figure, one column a stretch of time.

They are sparklines of the eight block characters, or of eight ASCII ones that rise alike where the
encoding holds no blocks. What a page shows is `lab.report.pictures.over_time`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from sparklines import sparklines

from lab.model.verdict import Series
from lab.report import format

Values = Sequence[float | int | None]

LINES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("users", "users", format.count),
    ("sent/s", "sent", format.significant),
    ("answered/s", "answered", format.significant),
    ("p95", "p95", format.seconds),
    ("errors/s", "errors", format.significant),
    ("pg", "pg_connections", format.count),
    ("pool", "pool_checked_out", format.count),
    ("in flight", "uploads_inflight", format.count),
    ("threads", "threads_busy", format.count),
    ("storage", "gcs_latency", format.seconds),
    ("loop lag", "loop_lag", format.seconds),
    ("CPU", "cpu_backend", format.cores),
    ("memory", "rss_backend", format.size),
    ("pg active", "pg_active", format.count),
    ("pg idle", "pg_idle", format.count),
    ("pg in tx", "pg_in_transaction", format.count),
    ("loop busy", "loop_busy", format.percent),
    ("anyio", "anyio_busy", format.count),
    ("queued", "gateway_queue", format.count),
    ("inside", "gateway_inflight", format.count),
    ("instances", "instances", format.count),
)
"""Label, series, and how its highest value is written."""

LABEL_COLUMNS = 12
RANGE_COLUMNS = 16
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = str.maketrans(BLOCKS, "_.:-=+*#")


def chart_lines(series: Series, width: int, *, blocks: bool) -> list[str]:
    """A line a figure, ``width`` columns at most, and one with the time that they span.

    Each runs from 0 to its own highest value, which stands at its end.
    """
    columns = max(8, width - LABEL_COLUMNS - RANGE_COLUMNS)
    lines = []
    for label, name, write in LINES:
        values = values_of(series, name)
        top = max((value for value in values if value is not None), default=None)
        if top is None:
            continue
        [line] = sparklines(_squeezed(values, columns), minimum=0, maximum=top or 1)
        line = line if blocks else line.translate(ASCII)
        lines.append(f"{label:<{LABEL_COLUMNS}}{line}  0 .. {write(top)}")
    end = f"{series.start + series.bin_s * len(series.users):.0f} s"
    span = min(columns, len(series.users))
    lines.append(f"{'':<{LABEL_COLUMNS}}{'0 s':<{max(0, span - len(end))}}{end}")
    return lines


def values_of(series: Series, name: str) -> Values:
    """A figure over time; no p95 of a burst: it is by the time of sending, and that is one."""
    values: Values = getattr(series, name)
    return [] if name == "p95" and sum(map(bool, series.sent)) == 1 else values


def _squeezed(values: Values, columns: int) -> list[float | None]:
    """As many values as there are columns, each the highest of its stretch."""
    step = ceil(len(values) / columns)
    stretches = [values[first : first + step] for first in range(0, len(values), step)]
    return [max((v for v in stretch if v is not None), default=None) for stretch in stretches]
