"""A trial over time: small charts in text, and one drawing in a page.

In text it is a line a figure, one column a stretch of time: sparklines of the eight block
characters, or of eight ASCII ones that rise alike where the encoding holds no blocks. In a
page it is a panel a figure, one above the other, over one time axis; only geometry is here,
in the units of the drawing: the template holds the shapes and the style sheet their colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from sparklines import sparklines

from lab.model.verdict import Series
from lab.report import format
from lab.report.blocks import Chart

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
        values = _values(series, name)
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


def _values(series: Series, name: str) -> Values:
    """A figure over time; no p95 of a burst: it is by the time of sending, and that is one."""
    values: Values = getattr(series, name)
    return [] if name == "p95" and sum(map(bool, series.sent)) == 1 else values


def _squeezed(values: Values, columns: int) -> list[float | None]:
    """As many values as there are columns, each the highest of its stretch."""
    step = ceil(len(values) / columns)
    stretches = [values[first : first + step] for first in range(0, len(values), step)]
    return [max((v for v in stretch if v is not None), default=None) for stretch in stretches]


WIDTH = 860
LEFT = 112
RIGHT = WIDTH - 24
TOP = 6
LABEL_HEIGHT = 14
PANEL_HEIGHT = 64
GAP = 14
FOOT = 22

TICKS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
"""Seconds between two ticks: the first that gives no more than ten."""

PANELS: tuple[tuple[str, dict[str, str], Callable[[float], str]], ...] = (
    ("users", {"users": "area"}, format.count),
    ("uploads/s", {"sent": "soft", "answered": "main"}, format.significant),
    ("p95", {"p95": "main"}, format.seconds),
    ("errors/s", {"errors": "bad"}, format.significant),
    ("connections", {"pool_checked_out": "soft", "pg_connections": "main"}, format.count),
    ("in flight", {"uploads_inflight": "main"}, format.count),
    ("threads busy", {"threads_busy": "main"}, format.count),
    ("storage", {"gcs_latency": "main"}, format.seconds),
    ("loop lag", {"loop_lag": "main"}, format.seconds),
    ("CPU", {"cpu_backend": "main"}, format.cores),
    ("memory", {"rss_backend": "main"}, format.size),
    (
        "pg by state",
        {"pg_idle": "soft", "pg_active": "main", "pg_in_transaction": "bad"},
        format.count,
    ),
)
"""Title, series with the style of each, and how the scale's upper end is written."""

BOUNDED = {"p95", "pg_connections", "uploads_inflight", "threads_busy", "rss_backend"}
"""The series that a criterion's bound is drawn for: metrics have the same names."""


@dataclass(frozen=True)
class Panel:
    """The figures of one scale, which goes from 0 at the foot to ``scale`` at the top."""

    title: str
    top: float
    foot: float
    scale: str
    lines: tuple[tuple[str, str], ...]  #: style and path of each figure
    bound: float | None  #: where a criterion's bound is


@dataclass(frozen=True)
class Mark:
    """A moment across all panels, with a label at height ``y``."""

    x: float
    label: str
    y: float = 0.0


@dataclass(frozen=True)
class Drawing:
    """All panels of a cell, ticks of their common axis, stages and crossings."""

    width: int
    height: int
    left: int
    right: int
    base: float
    panels: tuple[Panel, ...]
    ticks: tuple[Mark, ...]
    stages: tuple[Mark, ...]
    crossings: tuple[Mark, ...]


def drawing(chart: Chart) -> Drawing:
    """The drawing of a chart, with its stages, crossings and bounds."""
    series = chart.series
    length = series.bin_s * len(series.users)

    def across(t: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, t / length)), 1)

    top = TOP + LABEL_HEIGHT * len(chart.crossings)
    panels = _panels(chart, across, top)
    base = top + len(panels) * (PANEL_HEIGHT + GAP) - GAP
    step = next((step for step in TICKS if length / step <= 10), TICKS[-1])
    return Drawing(
        width=WIDTH,
        height=base + FOOT,
        left=LEFT,
        right=RIGHT,
        base=base,
        panels=panels,
        ticks=tuple(Mark(across(t), f"{t} s") for t in range(0, int(length) + 1, step)),
        stages=tuple(Mark(across(s.start), f"to {s.users}") for s in chart.stages),
        crossings=tuple(
            Mark(across(crossing.t), crossing.criterion, LABEL_HEIGHT * (index + 0.7))
            for index, crossing in enumerate(chart.crossings)
        ),
    )


def _panels(chart: Chart, across: Callable[[float], float], begin: float) -> tuple[Panel, ...]:
    panels: list[Panel] = []
    for title, styles, write in PANELS:
        lists = {name: _values(chart.series, name) for name in styles}
        measured = [v for values in lists.values() for v in values if v is not None]
        if not measured:
            continue
        highest = max(measured)
        # A bound far above everything would flatten what there is to see.
        bounds = [chart.bounds[name] for name in styles if name in BOUNDED & set(chart.bounds)]
        bound = next((bound for bound in bounds if bound <= 2 * highest), None)
        scale = max(highest, bound or 0.0) or 1.0
        top = begin + len(panels) * (PANEL_HEIGHT + GAP)

        def down(value: float, top: float = top, scale: float = scale) -> float:
            return round(top + PANEL_HEIGHT * (1 - value / scale), 1)

        lines = tuple(
            (style, _path(lists[name], chart.series, across, down, closed=style == "area"))
            for name, style in styles.items()
        )
        at = None if bound is None else down(bound)
        panels.append(Panel(title, top, top + PANEL_HEIGHT, write(scale), lines, at))
    return tuple(panels)


def _path(
    values: Values,
    series: Series,
    across: Callable[[float], float],
    down: Callable[[float], float],
    *,
    closed: bool,
) -> str:
    """Lines from middle to middle of the bins; an area goes back along its foot."""
    pieces: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            x = across(series.start + (index + 0.5) * series.bin_s)
            pieces[-1].append(f"{x:g} {down(value):g}")
    drawn = []
    for piece in filter(None, pieces):
        shape = f"M{' L'.join(piece)}" if len(piece) > 1 else f"M{piece[0]} h1"
        if closed:
            first, last = piece[0].split()[0], piece[-1].split()[0]
            shape += f" L{last} {down(0):g} L{first} {down(0):g} Z"
        drawn.append(shape)
    return " ".join(drawn)
