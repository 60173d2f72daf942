"""A run as Markdown, for an issue, a wiki or a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lab.model.capacity import Threshold, Thresholds
from lab.model.run import CellResult, RunInfo, Summary
from lab.report import course, figures, thresholds, words
from lab.report.charts import charts
from lab.report.columns import RIGHT, columns
from lab.report.details import changed_knobs, finding_value, interval

_CHART = 100
"""Columns of a chart."""

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~])")


def markdown_report(summary: Summary, info: RunInfo) -> str:
    """The run as one Markdown document."""
    parts = [
        f"# {escaped(summary.experiment)}",
        escaped(summary.about),
        _facts(info, {"Offered load": words.offered(summary)}),
        f"**{words.tally(summary)}**",
        _matrix(summary.cells),
        f"**Answer.** {escaped(summary.answer.text)}" if summary.answer else "",
        f"> {escaped(words.loop_note(summary))}" if summary.cells else "",
        f"Not finished: {escaped('; '.join(summary.missing))}" if summary.missing else "",
        *(_cell(cell) for cell in summary.cells),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(value: object) -> str:
    """Text with what Markdown would read as markup escaped, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str]) -> str:
    """A table with its heads; the columns of ``right`` are aligned to the right."""
    rule = ["--:" if head in right else "---" for head in heads]
    lines = [
        [escaped(head) for head in heads],
        rule,
        *([escaped(cell) for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def thresholds_markdown(found: Thresholds, info: RunInfo) -> str:
    """A search for thresholds as one Markdown document."""
    asked = {"Question": thresholds.asked(info), "Offered load": thresholds.searched(info)}
    parts = [
        f"# {escaped(found.experiment)}",
        escaped(found.about),
        _facts(info, asked),
        f"**{thresholds.tally(found)}**",
        "\n".join(f"- {escaped(c.id)}: {escaped(thresholds.sentence(c))}" for c in found.cells),
        f"> {escaped(words.CLOSED_NOTE)}",
        f"Not finished: {escaped('; '.join(found.missing))}" if found.missing else "",
        *(_trials(cell) for cell in found.cells),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _trials(cell: Threshold) -> str:
    rows = map(thresholds.trial_row, cell.trials)
    trials = table(thresholds.TRIAL_HEADS, rows, thresholds.TRIAL_RIGHT)
    return f"## {escaped(cell.id)}: {cell.outcome}\n\n{trials}"


def _facts(info: RunInfo, asked: Mapping[str, str]) -> str:
    facts = {
        "Run": info.name,
        "Started": info.started,
        "Spec": info.spec_file,
        "Stack": words.stack_words(info),
        **asked,
        "Machine": ", ".join(f"{name} {value}" for name, value in info.machine.items()),
        "Versions": ", ".join(f"{name} {value}" for name, value in info.versions.items()),
        "Revision": info.git,
    }
    return "\n".join(f"- {name}: {escaped(value)}" for name, value in facts.items() if value)


def _matrix(cells: Sequence[CellResult]) -> str:
    if not cells:
        return ""
    axes, shown = words.varying_axes(cells), columns(cells)
    rows = [
        (
            *(cell.axes.get(axis, figures.NONE) for axis in axes),
            cell.verdict,
            *(column.text(cell) for column in shown),
            words.first_reason(cell),
        )
        for cell in cells
    ]
    right = [column.head for column in shown if column.short in RIGHT]
    return table((*axes, "verdict", *(column.head for column in shown), "why"), rows, right)


def _cell(cell: CellResult) -> str:
    findings = (
        (one.criterion, one.outcome, finding_value(one, one.value), interval(one), one.reason)
        for one in cell.findings
    )
    checks = (
        (one.name, one.expected, _measured(one.measured), words.check_word(one.ok), one.reason)
        for one in cell.injected
    )
    parts = [
        f"## {escaped(cell.id)}: {cell.verdict}",
        "\n".join(f"- {escaped(reason)}" for reason in cell.reasons),
        f"Knobs: {escaped(changed_knobs(cell))}",
        *_over_time(cell),
        table(("criterion", "outcome", "value", "95 % bounds", "why"), findings, ("value",)),
        table(("injected", "expected", "measured", "arrived", "why"), checks, ("measured",)),
        table(("metric", "value", "meaning"), words.table_metrics(cell.metrics), ("value",)),
    ]
    return "\n\n".join(part for part in parts if part)


def _over_time(cell: CellResult) -> list[str]:
    """The limiting factor, the stages, the charts, what went first, and leaks."""
    parts = []
    if cell.limit:
        parts.append(f"Limit: **{escaped(cell.limit.resource)}**: {escaped(cell.limit.evidence)}")
    if cell.course and cell.course.stages:
        rows = [course.stage_row(stage) for stage in cell.course.stages]
        parts.append(table(course.STAGE_HEADS, rows, course.STAGE_RIGHT))
    if cell.course and cell.course.series:
        lines = charts(cell.course.series, _CHART, blocks=True)
        parts.append("\n".join(("```text", *lines, "```")))
    if cell.course and (told := course.story(cell.course)):
        parts.append("\n".join(f"{i}. {escaped(line)}" for i, line in enumerate(told, start=1)))
    if cell.leaks:
        parts.append("\n".join(f"- {escaped(leak.reason)}" for leak in cell.leaks))
    return parts


def _measured(value: float | None) -> str:
    return figures.NONE if value is None else figures.significant(value)
