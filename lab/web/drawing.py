"""The replica as a drawing: its parts as boxes that fill up, on an upload's way from the left.

Only geometry is here, in the units of the drawing: the template holds the shapes and the style
sheet their colours. What is drawn is told in words beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.report import format
from lab.web.parts import PartLevel
from lab.web.track import PastPoint

WIDE, HIGH = 150, 74
GAP_X, GAP_Y = 34, 22
PLACES = {
    "users": (0, 0),
    "entrance": (1, 0),
    "loops": (2, 0),
    "pool": (3, 0),
    "pooler": (4, 0),
    "database": (5, 0),
    "threads": (3, 1),
    "storage": (5, 1),
}
"""Column and row of each part."""

ARROWS = (
    ("users", "entrance"),
    ("entrance", "loops"),
    ("loops", "pool"),
    ("pool", "pooler"),
    ("pooler", "database"),
    ("loops", "threads"),
    ("threads", "storage"),
)


@dataclass(frozen=True)
class PartBox:
    """A part's box; ``fill`` is the height of its level, from the foot."""

    part: PartLevel
    x: float
    y: float
    fill: float
    figure: str
    queue: str


@dataclass(frozen=True)
class Drawn:
    """The boxes and the arrows between them."""

    width: float
    height: float
    boxes: tuple[PartBox, ...]
    arrows: tuple[str, ...]


def drawn(parts: Sequence[PartLevel]) -> Drawn:
    """The drawing of these parts."""
    by_key = {part.key: part for part in parts}
    columns = sorted({PLACES[key][0] for key in by_key})
    boxes = {key: _box(part, columns) for key, part in by_key.items()}
    arrows = [pair for pair in ARROWS if pair[0] in boxes and pair[1] in boxes]
    if "pooler" not in boxes:
        arrows.append(("pool", "database"))
    width = len(columns) * (WIDE + GAP_X) - GAP_X
    return Drawn(
        width=width + 2,
        height=2 * HIGH + GAP_Y + 2,
        boxes=tuple(boxes.values()),
        arrows=tuple(_arrow(boxes[begin], boxes[end]) for begin, end in arrows),
    )


def _box(part: PartLevel, columns: Sequence[int]) -> PartBox:
    column, row = PLACES[part.key]
    x = 1 + columns.index(column) * (WIDE + GAP_X)
    queue = f"{format.count(part.waiting)} waiting" if part.waiting >= 1 else ""
    return PartBox(
        part, x, 1 + row * (HIGH + GAP_Y), HIGH * (part.level or 0.0), figure(part), queue
    )


def figure(part: PartLevel) -> str:
    """How much of a part is in use, in words."""
    if part.used is None:
        return format.NONE
    if part.key == "loops":
        return f"{format.percent(part.used)} {part.unit}"
    if part.slots is None:
        return f"{format.count(part.used)} {part.unit}"
    return f"{format.count(part.used)} of {format.count(part.slots)} {part.unit}"


def _arrow(begin: PartBox, end: PartBox) -> str:
    """From the middle of a box's right side to that of another's left."""
    x1, y1, x2, y2 = begin.x + WIDE, begin.y + HIGH / 2, end.x, end.y + HIGH / 2
    if y1 == y2:
        return f"M{x1:g} {y1:g}H{x2 - 2:g}"
    middle = x1 + GAP_X / 2
    return f"M{x1:g} {y1:g}H{middle:g}V{y2:g}H{x2 - 2:g}"


# Figures over time.

CHART_WIDE, CHART_HIGH = 560, 56


@dataclass(frozen=True)
class LiveCurve:
    """A figure over time, from 0 at the foot to ``top``; ``path`` is empty where there is none."""

    name: str
    style: str
    top: str
    path: str


def curves(history: Sequence[PastPoint], until: float) -> tuple[LiveCurve, ...]:
    """Users, successes and failures a second, one below the other, over the same time.

    Args:
        history: the trial's past.
        until: real-world seconds at the right edge.
    """
    rows = (
        ("users", "area", [float(p.users) for p in history], format.count),
        ("answered/s", "main", [p.rate for p in history], format.significant),
        ("errors/s", "bad", [p.errors for p in history], format.significant),
    )
    times = [point.t for point in history]
    made = []
    for name, style, values, write in rows:
        top = max(values, default=0.0)
        path = _path(times, values, max(until, 1.0), top or 1.0)
        made.append(LiveCurve(name, style, write(round(top, 2)), path))
    return tuple(made)


def _path(times: Sequence[float], values: Sequence[float], until: float, top: float) -> str:
    points = [
        f"{CHART_WIDE * min(1.0, t / until):.1f} {CHART_HIGH * (1 - value / top):.1f}"
        for t, value in zip(times, values, strict=True)
    ]
    return f"M{'L'.join(points)}" if points else ""
