"""Blocks as Markdown, for an issue, a wiki or a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lab.model.text import clean
from lab.report import blocks
from lab.report.charts import chart_lines
from lab.report.curves import curve_lines

_CHART_WIDTH = 100
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&$]|:(?=//)|(?<=www)\.)")
_HEAD = re.compile(r"^(?=[-+=]|\d+[.)](?:\s|$))(\d*)")
"""Where a paragraph would begin as a list, a line, or the underline of a title."""


def page_markdown(page: blocks.Page) -> str:
    """A run as one Markdown document."""
    return document(
        [
            f"# {escaped(page.title)}",
            paragraph(page.about),
            _facts(page.facts),
            f"**{page.tally}**",
            _answer(page),
            matrix_markdown(page.matrix),
            *(("## Before and after", *map(_block, page.beside)) if page.beside else ()),
            f"> {escaped(page.note)}" if page.note else "",
            *_not_told(page),
            *(
                part
                for section in page.sections
                for part in (
                    f"## {escaped(section.title)}: {section.verdict.text}",
                    *map(_block, section.blocks),
                )
            ),
        ]
    )


def answer_markdown(page: blocks.Page) -> str:
    """A run at one glance: its question, its answer, its table, and what was not measured."""
    prominent = (fact for fact in page.facts if fact.prominent or fact.name == "run")
    return document(
        [
            f"## {escaped(page.title)}",
            paragraph(page.about),
            f"**{page.tally}**",
            _answer(page),
            matrix_markdown(page.matrix),
            _facts(prominent),
            *_not_told(page),
        ]
    )


def _not_told(page: blocks.Page) -> list[str]:
    """The cells of which nothing is told, and why."""
    missing = "; ".join(page.missing)
    return [
        f"Not finished: {escaped(missing)}" if missing else "",
        escaped(page.not_measured()),
        *(f"Damaged: {escaped(cell_id)}: {escaped(why)}" for cell_id, why in page.damaged),
    ]


def blocks_markdown(title: str, parts: Iterable[blocks.Block]) -> str:
    """Blocks under a title as one Markdown document."""
    return document([f"# {escaped(title)}", *map(_block, parts)])


def _answer(page: blocks.Page) -> str:
    if page.listed:
        return f"**Answer.**\n\n{_block(blocks.Items(page.listed))}"
    return f"**Answer.** {escaped(page.answer)}" if page.answer else ""


def document(parts: Iterable[str]) -> str:
    """The parts that are not empty, an empty line between them."""
    return clean("\n\n".join(filter(None, parts))) + "\n"


def escaped(value: object) -> str:
    """Text with what Markdown would read as markup escaped, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(str(value)).split()))


def paragraph(text: str) -> str:
    """Running text that is a paragraph however it begins."""
    return _HEAD.sub(r"\1\\", escaped(text))


def table_markdown(table: blocks.Table) -> str:
    """A table with its heads."""
    return _table(
        [column.head for column in table.columns],
        [column.right for column in table.columns],
        [[value.text for value in row] for row in table.rows],
    )


def _table(heads: Sequence[str], right: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    lines = [
        map(escaped, heads),
        ["--:" if number else "---" for number in right],
        *(map(escaped, row) for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def matrix_markdown(matrix: blocks.Matrix) -> str:
    """The table of a run, or its sentences where these hold every figure."""
    if matrix.sentences:
        return "\n".join(f"- {escaped(row.id)}: {escaped(row.why)}" for row in matrix.rows)
    if not matrix.rows:
        return ""
    return _table(
        [*(column.head for column in matrix.columns), "why"],
        [*(column.right for column in matrix.columns), False],
        [[*(value.text for value in row.values), row.why] for row in matrix.rows],
    )


def _block(block: blocks.Block) -> str:
    match block:
        case blocks.Heading(text):
            return f"### {_capitalised(escaped(text))}"
        case blocks.Paragraph(text, lead):
            return f"**{escaped(lead)}**: {escaped(text)}" if lead else paragraph(text)
        case blocks.Items(texts, numbered):
            return "\n".join(
                f"{f'{number}.' if numbered else '-'} {escaped(text)}"
                for number, text in enumerate(texts, start=1)
            )
        case blocks.Facts(facts):
            return _facts(facts, "*")  # another mark, so that no list before it goes on
        case blocks.Table():
            return table_markdown(block)
        case blocks.Picture():
            table = table_markdown(block.table)
            return f"### {escaped(block.title)}\n\n{table}" if block.in_text else ""
        case blocks.Chart(series):
            lines = chart_lines(series, _CHART_WIDTH, blocks=True)
            return "\n".join(("```text", *lines, "```"))
        case blocks.ShareCurve():
            return "\n".join(("```text", *curve_lines(block, _CHART_WIDTH), "```"))
        case blocks.BottleneckPath(hops):
            return "\n".join(f"{n}. {_hop(hop)}" for n, hop in enumerate(hops, start=1))


def _hop(hop: blocks.Hop) -> str:
    by = f"{escaped(hop.change)}: " if hop.change else ""
    return f"{by}{escaped(hop.limit.marked)}"


def _facts(facts: Iterable[blocks.Fact], mark: str = "-") -> str:
    return "\n".join(
        f"{mark} {_capitalised(escaped(fact.name))}: {escaped(fact.text)}" for fact in facts
    )


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
