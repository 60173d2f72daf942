"""The matrix as a heat map: how far each cell is from its bound, and what came of it.

Colour tells the distance of the criterion that is nearest to its bound, or furthest beyond it; the
band at a cell's left, and the sign and the word in it, tell its verdict.

    rows     the axis before the last that varies       one axis alone: a row a label
    columns  the last one
    maps     one for each combination of the others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite

from markupsafe import Markup

from lab.model.criterion import Criterion
from lab.model.run import CellResult
from lab.model.verdict import Finding, Outcome
from lab.report import format
from lab.report.blocks import MARKS, Picture, Table, Value
from lab.report.cells import varying_axes
from lab.report.pictures.svg import CHARACTER, Canvas, drawing, fitted

STEPS = (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)
"""Ends of the classes of distance: below 1 a bound is kept, above it is passed."""

WIDE, HIGH, GAP = 124, 46, 3
BAND = 10
HEAD = 22
MAX_WIDTH = 1000


@dataclass(frozen=True)
class Distance:
    """How far a figure is from its bound, as their ratio; above 1 it is on the wrong side.

    ``finding`` is the criterion's, of which it is.
    """

    ratio: float
    finding: Finding


def distance(cell: CellResult) -> Distance | None:
    """The distance of the criterion that is furthest on; None where nothing was measured."""
    found = [
        Distance(ratio, finding)
        for finding in cell.findings
        if (ratio := _ratio(finding)) is not None
    ]
    return max(found, key=lambda one: one.ratio, default=None)


def _ratio(finding: Finding) -> float | None:
    if finding.value is None:
        return None
    criterion = Criterion.parse(finding.criterion)
    value, bound = finding.value, criterion.bound
    if criterion.op in (">", ">="):
        value, bound = bound, value
    if criterion.op == "==":
        return 0.0 if finding.outcome == "met" else inf
    if bound <= 0:
        return 0.0 if value <= bound else inf
    return max(0.0, value / bound)


def picture(cells: Sequence[CellResult]) -> Picture | None:
    """The heat map of cells that differ in some axis; None where there is nothing to compare."""
    axes = varying_axes(cells)
    if len(cells) < 2 or not axes or not any(cell.findings for cell in cells):
        return None
    maps = _maps(cells, axes)
    outcomes = [str(outcome) for outcome in Outcome for c in cells if c.verdict is outcome]
    tally = ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys(outcomes))
    return Picture(
        name="heat-map",
        title=f"The matrix: {' x '.join(axes)}",
        about=f"{format.plural(len(cells), 'cell')}: {tally}. The table below has each cell's"
        " verdict and its distance from the bound.",
        table=_table(cells, axes),
        draw=lambda name: _drawn(name, maps, axes, tally),
        data={"cells": [_stored(cell) for cell in cells]},
        note="Colour tells how far the criterion that is furthest on is from its bound (1 x: at"
        " the bound); the band at the left, the sign and the word tell the verdict.",
    )


def _stored(cell: CellResult) -> dict[str, object]:
    far = distance(cell)
    told = {"criterion": far.finding.criterion, "value": far.finding.value} if far else {}
    return {"id": cell.id, "axes": cell.axes, "verdict": str(cell.verdict), **told}


def _table(cells: Sequence[CellResult], axes: Sequence[str]) -> Table:
    heads = (*axes, "verdict", "criterion", "value", "of its bound")
    rows = []
    for cell in cells:
        far = distance(cell)
        rows.append(
            (
                *(cell.axes.get(axis, format.NONE) for axis in axes),
                Value.verdict(cell.verdict),
                Value(far.finding.criterion, code=True) if far else format.NONE,
                _value(far.finding) if far else format.NONE,
                _times(far.ratio) if far else format.NONE,
            )
        )
    return Table.of(heads, rows, right=("value", "of its bound"))


def _value(finding: Finding) -> str:
    criterion = Criterion.parse(finding.criterion)
    if criterion.relative and finding.value is not None:
        return format.change("ratio", finding.value)
    return format.metric(criterion.metric, finding.value)


def _times(ratio: float) -> str:
    return f"{format.significant(ratio)} x" if isfinite(ratio) else "beyond"


# The drawing.

Labels = tuple[str, ...]


@dataclass(frozen=True)
class _Map:
    """One of the small multiples: its cells by the labels of row and column."""

    title: str
    rows: Labels
    columns: Labels
    cells: Mapping[tuple[str, str], CellResult]


def _maps(cells: Sequence[CellResult], axes: Sequence[str]) -> list[_Map]:
    row, column = (axes[-2], axes[-1]) if len(axes) > 1 else (axes[0], "")
    others = [axis for axis in axes if axis not in (row, column)]
    rows, columns = _labels(cells, row), _labels(cells, column) if column else ("",)
    apart: dict[Labels, dict[tuple[str, str], CellResult]] = {}
    for cell in cells:
        key = tuple(cell.axes.get(axis, format.NONE) for axis in others)
        place = cell.axes.get(row, format.NONE), cell.axes.get(column, "")
        apart.setdefault(key, {})[place] = cell
    return [
        _Map(
            ", ".join(f"{axis} {text}" for axis, text in zip(others, key, strict=True)),
            rows,
            columns,
            of,
        )
        for key, of in apart.items()
    ]


def _labels(cells: Sequence[CellResult], axis: str) -> Labels:
    return tuple(dict.fromkeys(cell.axes.get(axis, format.NONE) for cell in cells))


def _drawn(name: str, maps: Sequence[_Map], axes: Sequence[str], tally: str) -> Markup:
    left = min(220.0, max(len(text) for text in maps[0].rows) * CHARACTER * 1.12 + 18)
    one_wide = left + len(maps[0].columns) * (WIDE + GAP)
    title = HEAD if maps[0].title else 0
    one_high = title + HEAD + len(maps[0].rows) * (HIGH + GAP) + 14
    across = max(1, int((MAX_WIDTH + 20) // (one_wide + 20)))
    canvas = Canvas()
    for index, one in enumerate(maps):
        x = (index % across) * (one_wide + 20)
        y = 18 + (index // across) * one_high
        _map(canvas, one, axes, (x, y), left)
    width = max(min(across, len(maps)) * (one_wide + 20) - 20, 470)
    height = 18 + -(-len(maps) // across) * one_high
    _legend(canvas, height, width)
    return drawing(
        width,
        height + 62,
        name,
        f"Heat map of {' x '.join(axes)}",
        f"How far each cell is from its bound, and its verdict: {tally}.",
        canvas,
    )


def _map(
    canvas: Canvas, one: _Map, axes: Sequence[str], at: tuple[float, float], left: float
) -> None:
    x, y = at
    if one.title:
        canvas.text(x, y, one.title, "strong")
        y += HEAD
    if len(axes) > 1:
        canvas.text(x + left, y - 4, axes[-1], "quiet")
    canvas.text(x, y + 14, axes[-2] if len(axes) > 1 else axes[0], "quiet")
    for number, column in enumerate(one.columns):
        middle = x + left + number * (WIDE + GAP) + WIDE / 2
        canvas.text(middle, y + 14, fitted(column, WIDE), "strong", "middle")
    for line, row in enumerate(one.rows):
        top = y + HEAD + line * (HIGH + GAP)
        canvas.text(x, top + HIGH / 2 + 4, fitted(row, left - 8), "strong")
        for number, column in enumerate(one.columns):
            _cell(canvas, one.cells.get((row, column)), x + left + number * (WIDE + GAP), top)


def _cell(canvas: Canvas, cell: CellResult | None, x: float, y: float) -> None:
    if cell is None:
        canvas.box(x, y, WIDE, HIGH, "none")
        return
    far = distance(cell)
    canvas.box(x, y, WIDE, HIGH, f"shade {shade_of(far.ratio)}" if far else "shade")
    _band(canvas, cell.verdict, x, y, BAND, HIGH)
    canvas.text(x + BAND + 8, y + 19, f"{MARKS[cell.verdict]} {cell.verdict}", "strong")
    if far:
        metric = Criterion.parse(far.finding.criterion).metric
        text = f"{_NAMES.get(metric, metric)} {_value(far.finding)}"
        canvas.text(x + BAND + 8, y + 36, fitted(text, WIDE - BAND - 8))


def _band(canvas: Canvas, outcome: Outcome, x: float, y: float, wide: float, high: float) -> None:
    """The verdict's colour, and its pattern over it."""
    canvas.box(x, y, wide, high, f"band {outcome}", layer=1)
    canvas.box(x, y, wide, high, f"of-{outcome}", layer=2)


_NAMES = {"error_rate": "failed", "throughput": "rate"}


def shade_of(ratio: float) -> str:
    """The class of a distance: ``d0`` far inside the bound, ``d7`` far beyond it."""
    return f"d{sum(ratio > step for step in STEPS)}"


def _legend(canvas: Canvas, y: float, width: float) -> None:
    """The classes of distance from left to right, and under them the bands of the verdicts."""
    wide = min(58.0, (width - 4) / (len(STEPS) + 1))
    for index in range(len(STEPS) + 1):
        canvas.box(index * wide, y + 6, wide - 1, 12, f"shade d{index}")
    for index, step in enumerate(STEPS, start=1):
        canvas.text(index * wide, y + 31, f"{step:g} x", "quiet", "middle")
    at = 0.0
    for outcome in Outcome:
        _band(canvas, outcome, at, y + 42, 14, 14)
        text = f"{MARKS[outcome]} {outcome}"
        canvas.text(at + 19, y + 53, text)
        at += 19 + len(text) * CHARACTER + 18
