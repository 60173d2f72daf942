"""Blocks as text for a terminal: the end of a run at one glance, and one cell whole.

The text is ASCII, but for charts where the place can show more, so a pipe of any encoding
carries it; verdicts have a sign of their own, so they differ in more than colour.
Nothing is left to rich's guess from the environment.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from pathlib import Path
from typing import TextIO

from rich.box import Box
from rich.color import ColorSystem
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from lab.model.text import Styled, clean
from lab.model.verdict import Outcome
from lab.report import blocks
from lab.report.charts import chart_lines
from lab.report.curves import curve_lines

COLOURS = {
    Outcome.HELD: "bold green",
    Outcome.BROKE: "bold red",
    Outcome.UNDECIDED: "bold yellow",
    Outcome.INVALID: "bold magenta",
}
TONES = {"": "", "good": "green", "bad": "red", "unclear": "yellow"}

RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""A box of which only the rule under the header is left, in ASCII: whole in any pipe."""

_GAP = "  "
_MIN_BESIDE = 34
"""Columns that a reason needs to stand beside its row; with fewer it goes under it."""

_TIED = "\xa0"
"""Stands for a space at which no line is broken."""


@dataclass(frozen=True)
class Style:
    """How text is to look: ``width`` in columns, whether it may have colour, and block
    characters in its charts; all other text is ASCII. ``height`` is how many lines are seen at
    once; None where all are, as in a pipe."""

    width: int = 100
    colour: bool = False
    blocks: bool = False
    height: int | None = None

    @classmethod
    def of(
        cls, stream: TextIO, width: int, environment: Mapping[str, str], height: int | None = None
    ) -> Style:
        """The style that suits a stream: no colour in a pipe, for NO_COLOR or a dumb terminal;
        blocks where its encoding holds them; all lines in a pipe."""
        dumb = environment.get("TERM") == "dumb"
        plain = environment.get("NO_COLOR") or dumb
        utf = (getattr(stream, "encoding", None) or "").lower().startswith("utf")
        seen = height if stream.isatty() else None
        colour = stream.isatty() and not plain
        return cls(width=width, colour=colour, blocks=utf and not dumb, height=seen)


SPARE = 2
"""Lines that a shell's prompt, and what was typed, take of a screen."""


def page_text(page: blocks.Page, where: Path | str, style: Style) -> Styled:
    """A run: what came of it, what was asked, and a row a cell; on one screen where that can be.

    What does not fit there is left out, the last first, and where to see it is said: how cells went
    over time, before and after, the reasons under the rows.

    Args:
        page: the run.
        where: its folder, as the reader can name it.
        style: width and colour of the place where it is shown.
    """
    whole = _page(page, where, style)
    if style.height is None or _lines_of(whole) + SPARE <= style.height:
        return whole
    for shown in (
        replace(page, glance=_pointer(page.glance)),
        replace(page, glance=_pointer((*page.beside, *page.glance)), beside=()),
    ):
        whole = _page(shown, where, style)
        if _lines_of(whole) + SPARE <= style.height:
            break
    return whole


def _pointer(left_out: Sequence[blocks.Block]) -> tuple[blocks.Block, ...]:
    """Where to see what had no room."""
    told = "lab report RUN --cell ID shows a cell by stage and over time; --html shows pictures"
    return (blocks.Paragraph(told),) if left_out else ()


def _lines_of(text: str) -> int:
    return text.count("\n")


def _page(page: blocks.Page, where: Path | str, style: Style) -> Styled:
    title = Text(page.title, style="bold")
    if page.about:
        title.append(f": {page.about}", style="not bold")
    lines: list[RenderableType] = [title]
    lines += _answer(page, style) if page.answer else []
    lines += [Text(), *(Text(fact.text) for fact in page.facts if fact.prominent)]
    lines += [Text(page.note, style="dim")] if page.note else []
    lines.append(Text())
    lines += _sentences(page, style) if page.matrix.sentences else _matrix(page.matrix, style)
    for cell_id, problem in page.damaged:
        lines += [Text(f"- {cell_id}: damaged"), *_indented(problem, style)]
    if page.beside:
        lines += _rendered((blocks.Heading("before and after"), *page.beside), style)
    lines += _rendered(page.glance, style)
    lines += [Text(), Text(page.tally, style="bold")]
    lines += [Text(page.not_measured(where))] if page.unmeasured else []
    lines += [Text(f"go on: {page.resume} {where}")] if page.missing else []
    lines.append(Text(f"stored in {where}"))
    lines.append(Text("see more: lab report RUN [--cell ID | --html | --markdown | --json]"))
    return _text(lines, style)


def _answer(page: blocks.Page, style: Style) -> list[RenderableType]:
    told = blocks.Items(page.listed) if page.listed else blocks.Paragraph(page.answer)
    return _rendered((blocks.Heading("answer"), told), style)


def section_text(section: blocks.Section, style: Style) -> Styled:
    """One cell, whole."""
    head = Text.assemble((section.title, "bold"), _GAP, _value(section.verdict))
    return _text([head, *_rendered(section.blocks, style)], style)


def blocks_text(parts: Iterable[blocks.Block], style: Style) -> Styled:
    """Blocks, one under the other."""
    return _text(_rendered(parts, style), style)


def _text(parts: Iterable[RenderableType], style: Style) -> Styled:
    """The parts as text, a line break after each, without trailing spaces; all but the colours
    is cleaned."""
    console = Console(
        file=io.StringIO(),
        width=style.width,
        force_terminal=style.colour,
        color_system="standard" if style.colour else None,
        no_color=not style.colour,
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
        _environ={},
    )
    segments = chain.from_iterable(map(console.render, parts))
    lines = "".join(_coloured(segment, style) for segment in segments).splitlines()
    return Styled("\n".join(line.rstrip() for line in lines) + "\n")


def _coloured(segment: Segment, style: Style) -> str:
    text = clean(segment.text)
    if not style.colour or not segment.style:
        return text
    return segment.style.render(text, color_system=ColorSystem.STANDARD)


def _rendered(parts: Iterable[blocks.Block], style: Style) -> list[RenderableType]:
    rendered: list[RenderableType] = []
    for block in parts:
        match block:
            case blocks.Heading(text):
                rendered.append(Text(f"\n{text}", style="bold"))
            case blocks.Paragraph(text, lead):
                rendered.append(Text(f"{lead}: {text}" if lead else text))
            case blocks.Items():
                rendered += _items(block)
            case blocks.Facts(facts):
                rendered += [Text(f"{fact.name}: {fact.text}") for fact in facts]
            case blocks.Table():
                rendered.append(_table(block))
            case blocks.Chart() | blocks.ShareCurve():
                rendered += map(Text, _drawn(block, style))
            case blocks.Picture(title=title, table=table, in_text=True):
                rendered += [
                    Text(f"\n{title.lower()}", style="bold"),
                    _table(table, style.width // 9),
                ]
            case blocks.BottleneckPath(hops):
                rendered += map(_hop, hops)
    return rendered


def _drawn(block: blocks.Chart | blocks.ShareCurve, style: Style) -> list[str]:
    if isinstance(block, blocks.Chart):
        return chart_lines(block.series, style.width, blocks=style.blocks)
    return curve_lines(block, style.width)


def _items(items: blocks.Items) -> list[RenderableType]:
    if items.numbered:
        return [Text(f"{number}. {text}") for number, text in enumerate(items.texts, 1)]
    return [Padding(Text(text), (0, 0, 0, 2)) for text in items.texts]


def _hop(hop: blocks.Hop) -> Text:
    by = f"{_GAP}-> {hop.change}: " if hop.change else _GAP
    return Text.assemble(by, _value(hop.limit))


def _value(value: blocks.Value, *, short: bool = False) -> Text:
    """A value in its colour; under a short title ``short``."""
    colour = COLOURS[value.outcome] if value.outcome else TONES[value.tone]
    return Text((short and value.short) or value.marked, style=colour)


def _table(table: blocks.Table, bars: int = 0) -> RichTable:
    """A table of which only the header's rule is drawn, in ASCII.

    Args:
        table: the table.
        bars: columns of text that the longest bar beside a value has; 0: none is drawn.
    """
    rich = RichTable(box=RULE, show_edge=False, pad_edge=False, header_style="bold")
    barred = [bars > 0 and any(_share(row[i]) for row in table.rows) for i in _places(table)]
    for index, column in enumerate(table.columns):
        rich.add_column(
            column.head,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=index == 0,  # the first column holds names, which people copy
        )
        if barred[index]:
            rich.add_column("", no_wrap=True)
    for row in table.rows:
        texts: list[Text] = []
        for value, drawn in zip(row, barred, strict=True):
            texts += [_value(value, short=True), *([_bar(value, bars)] if drawn else [])]
        rich.add_row(*texts)
    return rich


def _places(table: blocks.Table) -> range:
    return range(len(table.columns))


def _share(value: blocks.Value) -> float:
    return value.picture.share if isinstance(value.picture, blocks.Bar) else 0.0


def _bar(value: blocks.Value, width: int) -> Text:
    """A bar in ASCII: at least a sign where there is anything."""
    length = max(round(_share(value) * width), int(_share(value) > 0))
    return Text("#" * length, style="red" if getattr(value.picture, "full", False) else "")


def _sentences(page: blocks.Page, style: Style) -> list[Text]:
    """A sentence a cell, under its id."""
    lines = []
    for row, section in zip(page.matrix.rows, page.sections, strict=True):
        head = Text.assemble(_value(section.verdict)[:2], (row.id, "bold"))
        lines += [head, *_indented(row.why, style)]
    for cell_id in (cell_id for cell_id in page.missing if cell_id not in page.begun):
        lines += [Text(f"- {cell_id}"), *_indented("not finished", style)]
    return lines


def _matrix(matrix: blocks.Matrix, style: Style) -> list[Text]:
    """The rows in the widest layout that fits: reasons beside, under, causes with them, stacked."""
    if not matrix.rows:
        return [Text("no cell is finished")]
    for folded in (False, True):
        shown = [not (folded and column.folds) for column in matrix.columns]
        columns = list(compress(matrix.columns, shown))
        grid = [[Text(column.short or column.head, style="bold") for column in columns]]
        grid += [
            [_value(value, short=True) for value in compress(row.values, shown)]
            for row in matrix.rows
        ]
        widths = [max(text.cell_len for text in texts) for texts in zip(*grid, strict=True)]
        lines = [_line(texts, columns, widths) for texts in grid]
        lines.insert(1, Text(_GAP.join("-" * width for width in widths), style="dim"))
        room = style.width - lines[0].cell_len
        if room >= len(_GAP) + _MIN_BESIDE:
            return _beside(lines, ["why", "---", *(row.why for row in matrix.rows)], room)
        if room >= 0:
            reasons = ["", "", *(row.folded if folded else row.under for row in matrix.rows)]
            under = [_indented(reason, style, "dim") for reason in reasons]
            return [text for line, why in zip(lines, under, strict=True) for text in (line, *why)]
    return _stacked(matrix.rows, columns, grid, style)


def _line(texts: Sequence[Text], columns: Sequence[blocks.Column], widths: Sequence[int]) -> Text:
    line = Text()
    for index, (text, column, width) in enumerate(zip(texts, columns, widths, strict=True)):
        space = " " * (width - text.cell_len)
        line.append(_GAP if index else "")
        line.append(space if column.right else "")
        line.append_text(text)
        line.append("" if column.right else space)
    return line


def _beside(lines: Sequence[Text], reasons: Sequence[str], room: int) -> list[Text]:
    table = []
    for line, reason in zip(lines, reasons, strict=True):
        indent = " " * (line.cell_len + len(_GAP))
        first, *rest = _wrapped(reason, room - len(_GAP)) or [""]
        line.append(f"{_GAP}{first}", style="bold" if line is lines[0] else "dim")
        table += [line, *(Text(indent + text, style="dim") for text in rest)]
    return table


def _stacked(
    rows: Sequence[blocks.MatrixRow],
    columns: Sequence[blocks.Column],
    grid: Sequence[Sequence[Text]],
    style: Style,
) -> list[Text]:
    """Rows too wide for the place: verdict and id, the figures under them, then the reason."""
    titles, *grid = grid
    verdict, *figures = (index for index, column in enumerate(columns) if not column.names)
    lines = []
    for row, texts in zip(rows, grid, strict=True):
        whole = _GAP.join(f"{titles[i]} {texts[i]}".replace(" ", _TIED) for i in figures)
        lines.append(Text.assemble(texts[verdict], _GAP, row.id))
        lines += [*_indented(whole, style), *_indented(row.folded, style, "dim")]
    return lines


def _indented(text: str, style: Style, colour: str = "") -> list[Text]:
    return [Text(f"    {line}", style=colour) for line in _wrapped(text, style.width - 4)]


def _wrapped(text: str, width: int) -> list[str]:
    """The text as lines; numbers stay with their units, and so does all that is tied."""
    tied = re.sub(r"(?<=\d) (?=%|(s|min|h|users?)\b)", _TIED, text)
    lines = textwrap.wrap(tied, max(width, 10), break_on_hyphens=False)
    return [line.replace(_TIED, " ") for line in lines]
