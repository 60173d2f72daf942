"""Small charts for a terminal: a line a figure, one column a stretch of time.

They are sparklines of the eight block characters, or of eight ASCII ones that rise alike
where the terminal's encoding holds no blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

from sparklines import sparklines

from lab.model.verdict import Series
from lab.report import figures

ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("users", "users", figures.count),
    ("sent/s", "sent", figures.significant),
    ("answered/s", "answered", figures.significant),
    ("p95", "p95", figures.seconds),
    ("errors/s", "errors", figures.significant),
    ("pg", "pg_connections", figures.count),
    ("pool", "pool_checked_out", figures.count),
    ("in flight", "uploads_inflight", figures.count),
)
"""Label, series, and how its highest value is written."""

LABEL = 12
RANGE = 16
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = str.maketrans(BLOCKS, "_.:-=+*#")

Values = Sequence[float | int | None]


def charts(series: Series, width: int, *, blocks: bool) -> list[str]:
    """A line a figure, ``width`` columns at most, and one with the time that they span.

    Each runs from 0 to its own highest value, which stands at its end.
    """
    columns = max(8, width - LABEL - RANGE)
    lines = []
    for label, name, form in ROWS:
        values: Values = getattr(series, name)
        seen = [value for value in values if value is not None]
        if not seen:
            continue
        drawn = _sparkline(_squeezed(values, columns), max(seen))
        drawn = drawn if blocks else drawn.translate(ASCII)
        lines.append(f"{label:<{LABEL}}{drawn}  0 .. {form(max(seen))}")
    end = f"{series.start + series.bin_s * len(series.users):.0f} s"
    span = min(columns, len(series.users))
    lines.append(f"{'':<{LABEL}}{'0 s':<{max(0, span - len(end))}}{end}")
    return lines


def _sparkline(values: Values, most: float) -> str:
    [line] = sparklines(list(values), minimum=0, maximum=most or 1)
    return str(line)


def _squeezed(values: Values, columns: int) -> list[float | None]:
    """As many values as there are columns, each the highest of its stretch."""
    step = ceil(len(values) / columns)
    parts = [values[first : first + step] for first in range(0, len(values), step)]
    return [max((v for v in part if v is not None), default=None) for part in parts]
