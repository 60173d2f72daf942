"""One cell, whole: its settings, every metric, each criterion, and what was injected."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lab.model.criterion import Criterion
from lab.model.knobs import Knobs, Preset
from lab.model.run import CellResult
from lab.model.verdict import Check, Finding
from lab.report import course, figures, words
from lab.report.charts import charts
from lab.report.style import COLOURS, RULE, Style

_MET = {"met": "green", "missed": "red", "undecided": "yellow"}


def cell_details(cell: CellResult, style: Style) -> str:
    """Everything that is stored of one cell, as text."""
    verdict = Text(f"{words.MARKS[cell.verdict]} {cell.verdict}", style=COLOURS[cell.verdict])
    return style.render(
        Text.assemble((cell.id, "bold"), "  ", verdict),
        *(Padding(Text(reason), (0, 0, 0, 2)) for reason in cell.reasons),
        Text(words.load_words(cell.load)),
        Text(f"knobs: {changed_knobs(cell)}"),
        *_limit(cell),
        *over_time(cell, style),
        Text("\ncriteria", style="bold"),
        _findings(cell.findings),
        Text("\ninjected, and measured", style="bold"),
        _checks(cell.injected),
        Text("\nmetrics", style="bold"),
        _metrics(cell),
    )


def changed_knobs(cell: CellResult) -> str:
    """The knobs that differ from the preset *as-found*, as a spec writes them."""
    found = Knobs.preset(Preset.AS_FOUND).as_text()
    changed = [f"{name}={value}" for name, value in cell.knobs.items() if found.get(name) != value]
    return ", ".join(changed) or "all as found"


def finding_value(finding: Finding, value: float | None) -> str:
    """A finding's figure in the unit of its criterion's metric."""
    return figures.metric(Criterion.parse(finding.criterion).metric, value)


def interval(finding: Finding) -> str:
    """The one-sided 95 % bounds of a finding, where its criterion is statistical."""
    if finding.low is None and finding.high is None:
        return figures.NONE
    low, high = (finding_value(finding, end) for end in (finding.low, finding.high))
    return f"{low} .. {high}"


def table(heads: Sequence[str], *, right: Sequence[str] = ()) -> Table:
    """A table of which only the header's rule is drawn, in ASCII."""
    made = Table(box=RULE, show_edge=False, pad_edge=False, header_style="bold")
    for index, head in enumerate(heads):
        made.add_column(
            head,
            justify="right" if head in right else "left",
            overflow="fold",
            no_wrap=index == 0,  # the first column holds names, which people copy
        )
    return made


def _limit(cell: CellResult) -> list[RenderableType]:
    """The limiting factor, and how near its limit each other resource was."""
    if not cell.limit:
        return []
    made = table(("resource", "level", "evidence"), right=("level",))
    for one in cell.limit.candidates:
        made.add_row(one.resource, figures.percent(one.level), one.evidence)
    head = Text.assemble(("\nlimit: ", "bold"), course.limit_words(cell.limit))
    return [head, made]


def over_time(cell: CellResult, style: Style) -> list[RenderableType]:
    """Stages, charts, what went first, and leaks: whatever is stored of them."""
    parts: list[RenderableType] = []
    if cell.course and cell.course.stages:
        made = table(course.STAGE_HEADS, right=course.STAGE_RIGHT)
        for stage in cell.course.stages:
            first, *rest = course.stage_row(stage)
            rest[1] = Text(rest[1], style=COLOURS[stage.outcome])  # type: ignore[call-overload]
            made.add_row(first, *rest)
        parts += [Text("\nby stage", style="bold"), made]
    if cell.course and cell.course.series:
        lines = charts(cell.course.series, style.width, blocks=style.blocks)
        parts += [Text("\nover time", style="bold"), *(Text(line) for line in lines)]
    if cell.course and (told := course.story(cell.course)):
        parts.append(Text("\nwhat went first", style="bold"))
        parts += [Text(f"{number}. {line}") for number, line in enumerate(told, start=1)]
    if cell.leaks:
        parts.append(Text("\nleaks", style="bold"))
        parts += [Text(leak.reason) for leak in cell.leaks]
    return parts


def _findings(findings: Sequence[Finding]) -> RenderableType:
    made = table(("criterion", "outcome", "value", "95 % bounds", "why"), right=("value",))
    for one in findings:
        outcome = Text(one.outcome, style=_MET[one.outcome])
        value = finding_value(one, one.value)
        made.add_row(one.criterion, outcome, value, interval(one), one.reason)
    return made if findings else Text("none")


def _checks(checks: Sequence[Check]) -> RenderableType:
    made = table(("what", "expected", "measured", "arrived", "why"), right=("measured",))
    for one in checks:
        measured = figures.NONE if one.measured is None else figures.significant(one.measured)
        word = words.check_word(one.ok)
        arrived = Text(word, style={True: "green", False: "red", None: "yellow"}[one.ok])
        made.add_row(one.name, one.expected, measured, arrived, one.reason)
    return made if checks else Text("none")


def _metrics(cell: CellResult) -> RenderableType:
    made = table(("metric", "value", "meaning"), right=("value",))
    for row in words.table_metrics(cell.metrics):
        made.add_row(*row)
    return made if cell.metrics else Text("none")
