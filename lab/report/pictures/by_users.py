"""Throughput and latency against the users, where a run has several numbers of them.

    a load in stages        a line a cell, a point a stage
    cells that differ in    a line for each combination of the settings, a point a cell
    nothing but their load

A point's shape is its verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lab.model.load import OpenLoad
from lab.model.run import CellResult
from lab.model.verdict import Outcome
from lab.report import format, phrases
from lab.report.blocks import Picture, Table, Value
from lab.report.cells import upper_bound
from lab.report.pictures.svg import (
    CHARACTER,
    Canvas,
    Scale,
    drawing,
    linear,
    number,
    rounded_up,
    ticks,
)


@dataclass(frozen=True)
class AtUsers:
    """What so many users met."""

    users: int
    outcome: Outcome
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class UsersCurve:
    """Points of the same settings, by growing users."""

    name: str
    points: tuple[AtUsers, ...]


@dataclass(frozen=True)
class Panel:
    """A figure against users; of its metrics the first has the points."""

    title: str
    metrics: tuple[str, ...]
    write: Callable[[float], str]
    bounded: bool = False


PANELS = (
    Panel("uploads/s", ("throughput",), format.significant),
    Panel("p95 (thin: p50)", ("p95", "p50"), format.seconds, bounded=True),
    Panel("failed", ("error_rate",), format.percent),
)
"""From left to right; on one of them is the bound on p95."""

METRICS = tuple(metric for panel in PANELS for metric in panel.metrics)

STYLES = 6
"""So many curves have a colour, and a dash, of their own."""

WIDTH, PANEL_WIDTH, LEFT, HIGH = 900.0, 280.0, 48.0, 170.0


def curves(cells: Sequence[CellResult]) -> list[UsersCurve]:
    """Every curve of at least two points that a run has."""
    return [*_of_stages(cells), *_of_cells(cells)]


def _of_stages(cells: Sequence[CellResult]) -> Iterator[UsersCurve]:
    for cell in cells:
        stages = cell.course.stages if cell.course else ()
        points = [AtUsers(stage.users, stage.outcome, stage.metrics) for stage in stages]
        if len({point.users for point in points}) > 1:
            yield UsersCurve(phrases.name(cell), tuple(points))


def _of_cells(cells: Sequence[CellResult]) -> Iterator[UsersCurve]:
    groups: dict[str, list[CellResult]] = {}
    for cell in cells:
        load = format.read_load(cell.load)
        staged = cell.course is not None and bool(cell.course.stages)
        if not isinstance(load, OpenLoad) and not staged:
            settings = {name: value for name, value in cell.knobs.items() if name != "speed"}
            key = str((cell.target, load.kind, sorted(settings.items(), key=str)))
            groups.setdefault(key, []).append(cell)
    for group in groups.values():
        points = sorted(
            (
                AtUsers(format.read_load(cell.load).peak_users, cell.verdict, cell.metrics)
                for cell in group
            ),
            key=lambda point: point.users,
        )
        if len({point.users for point in points}) == len(points) > 1:
            yield UsersCurve(_common(group), tuple(points))


def _common(cells: Sequence[CellResult]) -> str:
    """The labels that all cells of a group share; what they are, where none is."""
    shared = {
        axis: text
        for axis, text in cells[0].axes.items()
        if all(cell.axes.get(axis) == text for cell in cells)
    }
    return " / ".join(f"{axis} {text}" for axis, text in shared.items()) or "all cells"


def picture(cells: Sequence[CellResult]) -> Picture | None:
    """The curves of a run; None where its load does not vary."""
    found = curves(cells)
    if not found:
        return None
    bounds = [bound for cell in cells if (bound := upper_bound(cell)) is not None]
    return Picture(
        name="by-users",
        title="Throughput and latency against users",
        about=_about(found),
        table=_table(found),
        draw=lambda name: _drawn(name, found, min(bounds, default=None)),
        data={
            curve.name: [
                {
                    "users": point.users,
                    "verdict": str(point.outcome),
                    **{name: point.metrics[name] for name in METRICS if name in point.metrics},
                }
                for point in curve.points
            ]
            for curve in found
        },
        note="A point each for so many users, whose shape is the verdict. Dashed: the bound on"
        " p95. Users in a closed loop send less as answers take longer.",
    )


def _about(found: Sequence[UsersCurve]) -> str:
    parts = []
    for curve in found:
        broke = [point.users for point in curve.points if point.outcome is Outcome.BROKE]
        first = f"broke first at {format.plural(broke[0], 'user')}" if broke else "never broke"
        parts.append(f"{curve.name}: {curve.points[0].users} to {curve.points[-1].users}, {first}")
    return f"{'; '.join(parts)}."


def _table(found: Sequence[UsersCurve]) -> Table:
    rows: list[tuple[Value | str, ...]] = [
        (
            curve.name,
            str(point.users),
            Value.verdict(point.outcome),
            *(format.metric(name, point.metrics.get(name)) for name in METRICS),
        )
        for curve in found
        for point in curve.points
    ]
    heads = ("users", "verdict", *METRICS)
    return Table.of(("cells", *heads), rows, right=("users", *METRICS))


# The drawing.


def _drawn(name: str, found: Sequence[UsersCurve], bound: float | None) -> Markup:
    most = max(point.users for curve in found for point in curve.points)
    end = rounded_up(most)
    canvas = Canvas()
    _legend(canvas, found)
    top = 24.0 + 18 * (len(found) if len(found) > 1 else 0) + 22
    for index, panel in enumerate(PANELS):
        place = LEFT + index * (PANEL_WIDTH + 16), top
        _panel(canvas, panel, found, place, end, bound if panel.bounded else None)
    title = "Throughput and latency against users"
    return drawing(WIDTH, top + HIGH + 36, name, title, _about(found), canvas)


def _panel(
    canvas: Canvas,
    panel: Panel,
    found: Sequence[UsersCurve],
    place: tuple[float, float],
    end: float,
    bound: float | None,
) -> None:
    left, top = place
    right, foot = left + PANEL_WIDTH - 44, top + HIGH
    highest = max(_values(found, panel), default=0.0)
    shown = bound if bound is not None and bound <= 4 * highest else None
    scale = rounded_up(max(highest, shown or 0.0), 5)
    across, up = linear(end, left, right), linear(scale, foot, top)
    canvas.text(left, top - 10, panel.title, "strong")
    for value in ticks(scale, 5):
        canvas.line(left, up(value), right, up(value), "grid")
        text = panel.write(value) if value else "0"
        canvas.text(left - 5, up(value) + 4, text, "quiet", "end")
    for users in ticks(end, 4):
        canvas.text(across(users), foot + 15, f"{users:g}", "quiet", "middle")
    canvas.text(right, foot + 29, "users", "quiet", "end")
    canvas.line(left, foot, right, foot, "axis")
    if shown is not None:
        canvas.line(left, up(shown), right, up(shown), "bound")
    for index, curve in enumerate(found):
        for nth, metric in enumerate(panel.metrics):
            _curve(canvas, curve, metric, (across, up), _style(index, thin=nth > 0))


def _values(found: Sequence[UsersCurve], panel: Panel) -> list[float]:
    return [
        point.metrics[metric]
        for curve in found
        for point in curve.points
        for metric in panel.metrics
        if metric in point.metrics
    ]


def _style(index: int, *, thin: bool = False) -> str:
    return f"curve c{index % STYLES}{' thin' if thin else ''}"


def _curve(
    canvas: Canvas, curve: UsersCurve, metric: str, scales: tuple[Scale, Scale], style: str
) -> None:
    across, up = scales
    points = [point for point in curve.points if metric in point.metrics]
    places = [(across(point.users), up(point.metrics[metric])) for point in points]
    if places:
        canvas.path(f"M{'L'.join(f'{number(x)} {number(y)}' for x, y in places)}", style)
    if not style.endswith("thin"):
        for point, (x, y) in zip(points, places, strict=True):
            _mark(canvas, point.outcome, x, y)


_SHAPES = {
    Outcome.HELD: "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    Outcome.BROKE: "m-4-4l8 8m0-8l-8 8",
    Outcome.UNDECIDED: "m-4-4h8v8h-8z",
    Outcome.INVALID: "m0-5l5 9h-10z",
}


def _mark(canvas: Canvas, outcome: Outcome, x: float, y: float) -> None:
    """A point, whose shape and colour are those of its verdict."""
    canvas.path(f"M{number(x)} {number(y)}{_SHAPES[outcome]}", f"mark m-{outcome}")


def _legend(canvas: Canvas, found: Sequence[UsersCurve]) -> None:
    at = 6.0
    for outcome in Outcome:
        _mark(canvas, outcome, at, 10)
        canvas.text(at + 10, 14, str(outcome))
        at += 36 + len(outcome) * CHARACTER
    for index, curve in enumerate(found if len(found) > 1 else ()):
        y = 32 + 18 * index
        canvas.line(0, y - 4, 30, y - 4, _style(index))
        canvas.text(36, y, curve.name)
