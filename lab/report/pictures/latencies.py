"""The distribution of latencies, with the bound that the criteria set on p95.

How many uploads took how long, on a logarithmic scale whose classes are a tenth wider each than the
one before; failures are hatched and stand on the successes.
"""

from __future__ import annotations

from itertools import pairwise

from markupsafe import Markup

from lab.model.distribution import Latencies
from lab.model.run import CellResult
from lab.model.units import format_duration
from lab.report import format
from lab.report.blocks import Picture, Table
from lab.report.cells import upper_bound
from lab.report.pictures.svg import (
    Canvas,
    Scale,
    drawing,
    linear,
    logarithmic,
    rounded_up,
    ticks,
)

WIDTH, LEFT, RIGHT = 640.0, 44.0, 30.0
TOP, HIGH = 44.0, 150.0
MARKED = ("p50", "p95", "p99")
ROUND = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7),
    *(10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600),
)
"""Seconds that the scale may name."""


def of_cell(cell: CellResult) -> Picture | None:
    """The distribution of one cell; None where none is stored."""
    told = cell.latencies
    if told is None:
        return None
    return Picture(
        name="latencies",
        title="How long uploads took",
        about=_about(cell, told),
        table=_table(told),
        draw=lambda name: _drawn(name, cell, told),
        data={
            **told.model_dump(mode="json"),
            **{name: cell.metrics[_name(cell, name)] for name in _marked(cell)},
            "bound": upper_bound(cell),
        },
        note="Uploads by how long they took, on a logarithmic scale; hatched: they failed."
        " Dashed: the bound on p95. Marks: percentiles of the successes.",
    )


def _name(cell: CellResult, metric: str) -> str:
    return format.of_main(metric, cell)


def _marked(cell: CellResult) -> list[str]:
    return [name for name in MARKED if _name(cell, name) in cell.metrics]


def _about(cell: CellResult, told: Latencies) -> str:
    parts = [f"{sum(told.succeeded)} succeeded, {sum(told.failed)} failed."]
    figures = [
        f"{name} {format.seconds(cell.metrics[_name(cell, name)])}" for name in _marked(cell)
    ]
    parts += [f"Of the successes {', '.join(figures)}."] if figures else []
    bound = upper_bound(cell)
    parts += [f"The bound on p95 is {format_duration(bound)}."] if bound is not None else []
    return " ".join(parts)


def _table(told: Latencies) -> Table:
    rows = [
        (f"{format.seconds(low)} - {format.seconds(high)}", str(good), str(bad))
        for (low, high), good, bad in zip(
            pairwise(told.edges), told.succeeded, told.failed, strict=True
        )
        if good or bad
    ]
    heads = ("took", "succeeded", "failed")
    return Table.of(heads, rows, right=heads)


def _drawn(name: str, cell: CellResult, told: Latencies) -> Markup:
    bound = upper_bound(cell)
    first, last = told.edges[0], told.edges[-1]
    if bound is not None and first / 10 <= bound <= last * 10:
        first, last = min(first, bound * 0.8), max(last, bound * 1.25)
    across = logarithmic(first, last, LEFT, WIDTH - RIGHT)
    most = max(g + b for g, b in zip(told.succeeded, told.failed, strict=True))
    end = rounded_up(most, 4)
    foot = TOP + HIGH
    up = linear(end, foot, TOP)
    canvas = Canvas()
    _axes(canvas, across, (first, last), up, end)
    for (low, high), good, bad in zip(
        pairwise(told.edges), told.succeeded, told.failed, strict=True
    ):
        x, wide = across(low), across(high) - across(low) - 1
        if good:
            canvas.box(x, up(good), wide, foot - up(good), "good-bar")
        if bad:
            for layer, style in enumerate(("bad-bar", "waiting")):
                canvas.box(x, up(good + bad), wide, up(good) - up(good + bad), style, layer)
    _percentiles(canvas, cell, across)
    if bound is not None and first <= bound <= last:
        x, text = across(bound), f"p95 < {format_duration(bound)}"
        canvas.line(x, TOP - 24, x, foot, "bound")
        late = x > WIDTH - 110
        canvas.text(x + (-4 if late else 4), TOP - 28, text, "crossed", "end" if late else "")
    return drawing(WIDTH, foot + 24, name, "How long uploads took", _about(cell, told), canvas)


def _axes(canvas: Canvas, across: Scale, ends: tuple[float, float], up: Scale, most: float) -> None:
    foot, (first, last) = TOP + HIGH, ends
    for value in ticks(most, 4):
        canvas.line(LEFT, up(value), WIDTH - RIGHT, up(value), "grid")
        canvas.text(LEFT - 6, up(value) + 4, f"{value:g}", "quiet", "end")
    before = -100.0
    for seconds in ROUND:
        x = across(seconds)
        if first <= seconds <= last and x - before > 52:
            canvas.text(x, foot + 16, format_duration(seconds), "quiet", "middle")
            before = x
    canvas.line(LEFT, foot, WIDTH - RIGHT, foot, "axis")


def _percentiles(canvas: Canvas, cell: CellResult, across: Scale) -> None:
    """A mark each above the bars; the name of one that is beside another is left out."""
    before = -100.0
    for name in _marked(cell):
        x = across(cell.metrics[_name(cell, name)])
        canvas.path(f"M{x:.1f} {TOP - 2}l-4-6h8z", "pin")
        if x - before > 26:
            canvas.text(x, TOP - 10, name, "strong", "middle")
            before = x
