"""The end of a run at one glance: a row a cell, with the deciding reason beside or under it.

The text is ASCII, so a pipe of any encoding carries it; verdicts have a sign of their own,
so colour is never the only thing that tells them apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from lab.model.run import CellResult, RunInfo, Summary
from lab.model.verdict import Outcome
from lab.report import course, figures, words
from lab.report.columns import FOLDED, RIGHT, Column, columns
from lab.report.details import over_time
from lab.report.style import COLOURS, Style

_GAP = "  "
_BESIDE = 34
"""Columns that a reason needs to stand beside its row; with fewer it goes under it."""

_MOST_CHARTS = 4
"""Cells that are shown over time; more would bury the table."""


def end_table(summary: Summary, info: RunInfo, where: Path | str, style: Style) -> str:
    """The run as text: header, a row a cell, and what came of it.

    Args:
        summary: the cells.
        info: what was decided before the first.
        where: the run's folder, as the reader can name it.
        style: width and colour of the place where it is shown.
    """
    return style.render(
        *_header(summary, info),
        *_rows(summary.cells, style),
        *_over_time(summary.cells, style),
        *_answer(summary),
        *_footer(summary, where),
    )


def _answer(summary: Summary) -> list[Text]:
    """The paragraph that a run ends with."""
    if not summary.answer:
        return []
    return [Text("\nanswer", style="bold"), Text(summary.answer.text)]


def _over_time(cells: Sequence[CellResult], style: Style) -> list[RenderableType]:
    """Of each cell whose load changed: its stages, charts, what went first, and its limit."""
    changing = [cell for cell in cells if cell.course and cell.course.stages]
    if len(changing) > _MOST_CHARTS:
        return [Text("\nlab report RUN --cell ID shows a cell by stage and over time")]
    parts: list[RenderableType] = []
    for cell in changing:
        parts += [Text(f"\n{cell.id}", style="bold"), *over_time(cell, style)]
        parts += [Text(f"\nlimit: {course.limit_words(cell.limit)}")] if cell.limit else []
    return parts


def _header(summary: Summary, info: RunInfo) -> list[Text]:
    title = Text(summary.experiment, style="bold")
    if summary.about:
        title.append(f": {summary.about}", style="not bold")
    lines = [title, Text(words.stack_words(info)), Text(words.offered(summary))]
    if note := words.loop_note(summary):
        lines.append(Text(note, style="dim"))
    return [*lines, Text()]


def _footer(summary: Summary, where: Path | str) -> list[Text]:
    lines = [Text(), Text(words.tally(summary), style="bold")]
    if summary.missing:
        lines.append(Text(f"go on: lab run --resume {where}"))
    lines.append(Text(f"stored in {where}"))
    lines.append(Text("see more: lab report RUN [--cell ID | --html | --markdown | --json]"))
    return lines


def _rows(cells: Sequence[CellResult], style: Style) -> list[Text]:
    """The rows in the widest layout that fits: reasons beside, under, causes with them, stacked."""
    if not cells:
        return [Text("no cell is finished")]
    axes, shown = words.varying_axes(cells), columns(cells)
    heads = [*axes, "verdict", *(column.short for column in shown)]
    grid = [_cells(cell, axes, shown) for cell in cells]
    widths = _widths(heads, grid)
    folded = _total(widths) > style.width
    if folded:
        for name in FOLDED:
            heads, grid = _without(name, heads, grid)
        widths = _widths(heads, grid)
    if _total(widths) > style.width:
        return _stacked(cells, heads[len(axes) + 1 :], [row[len(axes) :] for row in grid], style)
    room = style.width - _total(widths) - len(_GAP)
    return _table(cells, heads, widths, grid, room, folded=folded)


def _without(
    name: str, heads: Sequence[str], grid: Sequence[Sequence[Text]]
) -> tuple[list[str], list[list[Text]]]:
    """The table without one of its columns, if it has it."""
    kept = [index for index, head in enumerate(heads) if head != name]
    return [heads[index] for index in kept], [[row[index] for index in kept] for row in grid]


def _widths(heads: Sequence[str], grid: Sequence[Sequence[Text]]) -> list[int]:
    return [max(len(head), *(row[i].cell_len for row in grid)) for i, head in enumerate(heads)]


def _table(
    cells: Sequence[CellResult],
    heads: Sequence[str],
    widths: Sequence[int],
    grid: Sequence[Sequence[Text]],
    room: int,
    *,
    folded: bool,
) -> list[Text]:
    beside = room >= _BESIDE
    head = _join([Text(name, style="bold") for name in heads], heads, widths)
    rule = Text(_GAP.join("-" * width for width in widths), style="dim")
    if beside:
        head.append(f"{_GAP}why", style="bold")
        rule.append(f"{_GAP}---")
    lines = [head, rule]
    for cell, row in zip(cells, grid, strict=True):
        line = _join(row, heads, widths)
        if beside:
            lines += _why_beside(line, words.first_reason(cell), room)
        else:
            lines += [line, *_why_under(cell, room + _total(widths), folded=folded)]
    return lines


def _cells(cell: CellResult, axes: Sequence[str], shown: Sequence[Column]) -> list[Text]:
    return [
        *(Text(cell.axes.get(axis, figures.NONE)) for axis in axes),
        Text(f"{words.MARKS[cell.verdict]} {cell.verdict}", style=COLOURS[cell.verdict]),
        *(Text(column.bare(cell)) for column in shown),
    ]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _join(row: Sequence[Text], heads: Sequence[str], widths: Sequence[int]) -> Text:
    line = Text()
    for index, (text, head, width) in enumerate(zip(row, heads, widths, strict=True)):
        space, right = " " * (width - text.cell_len), head in RIGHT
        line.append(_GAP if index else "")
        line.append(space if right else "")
        line.append_text(text)
        line.append("" if right else space)
    return line


def _why_beside(line: Text, why: str, room: int) -> list[Text]:
    indent = " " * (line.cell_len + len(_GAP))
    first, *rest = textwrap.wrap(why, room) or [""]
    line.append(f"{_GAP}{first}", style="dim")
    return [line, *(Text(indent + text, style="dim") for text in rest)]


def _why_under(cell: CellResult, width: int, *, folded: bool) -> list[Text]:
    """The reason on lines of its own; a cell that held needs none, unless something failed."""
    why = "" if cell.verdict is Outcome.HELD else words.first_reason(cell)
    leading = words.leading_error(cell.metrics) if folded else None
    text = ": ".join(filter(None, (str(leading or ""), why)))
    if folded and cell.limit and why:
        text += f" (limit: {cell.limit.resource})"
    return [Text(f"    {line}", style="dim") for line in textwrap.wrap(text, max(width - 4, 10))]


def _stacked(
    cells: Sequence[CellResult], heads: Sequence[str], grid: Sequence[Sequence[Text]], style: Style
) -> list[Text]:
    """Rows too wide for the place: verdict and id, the figures under them, then the reason."""
    lines = []
    for cell, (verdict, *row) in zip(cells, grid, strict=True):
        lines.append(Text.assemble(verdict, _GAP, cell.id))
        figure = [f"{head} {text}" for head, text in zip(heads, row, strict=True)]
        lines += [Text(f"    {line}") for line in _packed(figure, style.width - 4)]
        lines += _why_under(cell, style.width, folded=True)
    return lines


def _packed(parts: Sequence[str], width: int) -> list[str]:
    """The parts on as few lines of ``width`` columns as hold them, none broken in two."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(part)
    return lines
