"""A trial over time as drawings in a page: a panel a figure, one above the other, one time axis.

Only geometry is here, in the units of the drawing; the template holds the shapes and the
style sheet their colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lab.model.criterion import Criterion
from lab.model.run import CellResult
from lab.model.verdict import Series, Timeline
from lab.report import figures

WIDTH = 860
LEFT = 112
RIGHT = 24
TOP = 6
LABEL = 14
HEIGHT = 64
GAP = 14
FOOT = 22

TICKS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)

Values = Sequence[float | int | None]


@dataclass(frozen=True)
class ChartLine:
    """One figure: pieces of a path, broken where nothing was measured."""

    style: str
    path: str


@dataclass(frozen=True)
class Panel:
    """One panel: its title, its scale's upper end, its lines, and where its bound is (or None)."""

    title: str
    top: float
    most: str
    lines: tuple[ChartLine, ...]
    bound: float | None


@dataclass(frozen=True)
class Mark:
    """A moment across all panels, with a few words at height ``y``."""

    x: float
    words: str
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


PANELS: tuple[tuple[str, tuple[tuple[str, str], ...], Callable[[float], str]], ...] = (
    ("users", (("users", "area"),), figures.count),
    ("uploads/s", (("sent", "soft"), ("answered", "main")), figures.significant),
    ("p95", (("p95", "main"),), figures.seconds),
    ("errors/s", (("errors", "bad"),), figures.significant),
    ("connections", (("pool_checked_out", "soft"), ("pg_connections", "main")), figures.count),
    ("in flight", (("uploads_inflight", "main"),), figures.count),
)
"""Title, series with the style of each, and how the scale's upper end is written."""


def drawing(cell: CellResult) -> Drawing | None:
    """The drawing of a cell's course; None where nothing was stored of it."""
    if cell.course is None or cell.course.series is None:
        return None
    series = cell.course.series
    length = series.bin_s * len(series.users)

    def across(t: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, t / length)), 1)

    crossings = cell.course.crossings
    top = TOP + LABEL * len(crossings)
    panels = _panels(series, across, top, _bounds(cell))
    base = top + len(panels) * (HEIGHT + GAP) - GAP
    return Drawing(
        width=WIDTH,
        height=base + FOOT,
        left=LEFT,
        right=WIDTH - RIGHT,
        base=base,
        panels=panels,
        ticks=tuple(Mark(across(t), f"{t:g} s") for t in _ticks(length)),
        stages=_stages(cell.course, across),
        crossings=tuple(
            Mark(across(one.t), one.criterion, LABEL * (index + 0.7))
            for index, one in enumerate(crossings)
        ),
    )


def _panels(
    series: Series, across: Callable[[float], float], begin: float, bounds: dict[str, float]
) -> tuple[Panel, ...]:
    found: list[Panel] = []
    for title, parts, form in PANELS:
        lists: dict[str, Values] = {name: getattr(series, name) for name, _ in parts}
        seen = [v for values in lists.values() for v in values if v is not None]
        if not seen:
            continue
        bound = bounds.get(title)
        # A bound far above everything would flatten what there is to see.
        bound = bound if bound is not None and bound <= 2 * max(seen) else None
        most = max([*seen, bound or 0.0]) or 1.0
        top = begin + len(found) * (HEIGHT + GAP)

        def down(value: float, top: float = top, most: float = most) -> float:
            return round(top + HEIGHT * (1 - value / most), 1)

        lines = tuple(
            ChartLine(style, _path(lists[name], series, across, down, closed=style == "area"))
            for name, style in parts
        )
        at = None if bound is None else down(bound)
        found.append(Panel(title, top, form(most), lines, at))
    return tuple(found)


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


def _bounds(cell: CellResult) -> dict[str, float]:
    """The bounds that criteria set on what a panel shows."""
    panel_of = {"p95": "p95", "pg_connections": "connections", "uploads_inflight": "in flight"}
    criteria = [Criterion.parse(finding.criterion) for finding in cell.findings]
    return {panel_of[one.metric]: one.bound for one in criteria if one.metric in panel_of}


def _ticks(length: float) -> list[float]:
    step = next((step for step in TICKS if length / step <= 10), TICKS[-1])
    return [float(t) for t in range(0, int(length) + 1, step)]


def _stages(course: Timeline, across: Callable[[float], float]) -> tuple[Mark, ...]:
    return tuple(Mark(across(one.start), f"to {one.users}") for one in course.stages)
