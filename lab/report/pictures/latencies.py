"""The distribution of latencies, with the bound that the criteria set on p95.

How many uploads took how long, on a logarithmic scale whose classes are a tenth wider each than the
one before; failures are hatched and stand on the successes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from markupsafe import Markup

from lab.model.run import CellResult
from lab.model.verdict import Latencies
from lab.report import format
from lab.report.blocks import Picture, Table
from lab.report.cells import upper_bound
from lab.report.pictures.svg import (
    Scale,
    drawing,
    element,
    label,
    line,
    linear,
    logarithmic,
    rounded_up,
    ticks,
)

WIDTH, LEFT, RIGHT = 640.0, 44.0, 14.0
TOP, HIGH = 34.0, 150.0
MARKED = ("p50", "p95", "p99")
ROUND = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
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
    parts += [f"The bound on p95 is {format.seconds(bound)}."] if bound is not None else []
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
    shapes = [*_axes(across, first, last, up, end)]
    classes = zip(pairwise(told.edges), told.succeeded, told.failed, strict=True)
    for (low, high), good, bad in classes:
        x, wide = across(low), across(high) - across(low) - 1
        if good:
            y = up(good)
            shapes.append(element("rect", x=x, y=y, width=wide, height=foot - y, class_="good-bar"))
        if bad:
            y, below = up(good + bad), up(good)
            size = {"x": x, "y": y, "width": wide, "height": below - y}
            shapes.append(element("rect", class_="bad-bar", **size))
            shapes.append(element("rect", fill="url(#waiting)", **size))
    shapes += _percentiles(cell, across)
    if bound is not None and first <= bound <= last:
        text = f"p95 < {format.seconds(bound)}"
        shapes.append(line(across(bound), TOP - 18, across(bound), foot, "bound"))
        anchor = "end" if across(bound) > WIDTH - 110 else ""
        shapes.append(
            label(across(bound) + (-4 if anchor else 4), TOP - 20, text, "crossed", anchor)
        )
    about = _about(cell, told)
    return drawing(WIDTH, foot + 24, name, "How long uploads took", about, shapes)


def _axes(across: Scale, first: float, last: float, up: Scale, end: float) -> Iterator[Markup]:
    foot = TOP + HIGH
    for value in ticks(end, 4):
        yield line(LEFT, up(value), WIDTH - RIGHT, up(value), "grid")
        yield label(LEFT - 6, up(value) + 4, f"{value:g}", "quiet", "end")
    before = -100.0
    for seconds in ROUND:
        x = across(seconds)
        if first <= seconds <= last and x - before > 52:
            yield label(x, foot + 16, format.seconds(seconds), "quiet", "middle")
            before = x
    yield line(LEFT, foot, WIDTH - RIGHT, foot, "axis")


def _percentiles(cell: CellResult, across: Scale) -> Iterator[Markup]:
    """A mark each above the bars; the name of one that is beside another is left out."""
    before = -100.0
    for name in _marked(cell):
        x = across(cell.metrics[_name(cell, name)])
        yield element("path", d=f"M{x:.1f} {TOP - 2}l-4 -6h8z", class_="pin")
        if x - before > 26:
            yield label(x, TOP - 10, name, "strong", "middle")
            before = x
