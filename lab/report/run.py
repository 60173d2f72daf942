"""A run as blocks: a row a cell, with the figures that matter where it ran, and each cell whole.

On the VM these are the rate and the database's connections; on Cloud Run, who was served,
refused, or lost with an instance, and what the instances did. A run of both shows both, with
a dash where a figure does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from lab.model import metrics
from lab.model.criterion import Criterion
from lab.model.load import OpenLoad
from lab.model.run import CellResult, RunInfo, Summary
from lab.model.verdict import InvalidityKind, Outcome
from lab.report import format, pictures
from lab.report.beside import before_after
from lab.report.blocks import (
    Bar,
    Block,
    Column,
    Fact,
    Heading,
    Matrix,
    MatrixRow,
    Page,
    Paragraph,
    Strip,
    Value,
)
from lab.report.cell import cell_section, limiting_factor, over_time
from lab.report.cells import upper_bound, varying_axes

CLOSED_NOTE = (
    "Closed loop: a user waits for its answer before it uploads again, so a slower server is "
    "sent less. The rate is what got through, not what was wanted."
)
OPEN_NOTE = "Open loop: uploads arrive at their rate however slow the answers are."
BURST_NOTE = "Burst: every user uploads once, so what is offered does not depend on the answers."
CAPPED_NOTE = (
    "Open loop with a cap: an arrival that finds max_in_flight uploads in flight is not sent, so "
    "less than the rate is offered; `dropped` says how many were not."
)
_CAPPED = "capped"
_NOTES = {
    CLOSED_NOTE: {"closed", "stages"},
    OPEN_NOTE: {"open"},
    CAPPED_NOTE: {_CAPPED},
    BURST_NOTE: {"burst"},
}

_MAX_CHARTS = 4
"""Cells that are shown over time at a glance; more would bury the table."""


def run_page(summary: Summary, info: RunInfo) -> Page:
    """The finished cells of a run, and what came of it."""
    return Page(
        title=summary.experiment,
        about=summary.about,
        facts=run_facts(info, Fact("offered load", offered(summary), prominent=True)),
        note=loop_note(summary),
        matrix=_matrix(summary.cells),
        answer=summary.answer.text if summary.answer else "",
        claims=tuple(claim.text for claim in summary.answer.claims) if summary.answer else (),
        sections=tuple(map(cell_section, summary.cells)),
        missing=summary.missing,
        damaged=tuple((cell.id, cell.problem) for cell in summary.damaged),
        resume="lab run --resume",
        unmeasured=tuple(cell.id for cell in _invalid(summary)),
        remedies=_remedies(_invalid(summary)),
        beside=before_after(summary.cells),
        glance=_glance(summary.cells),
        pictures=pictures.of_run(summary.cells),
    )


REMEDIES: Mapping[InvalidityKind, str] = {
    "speed": "let the lab choose the speed (speed: auto), or lower it",
    "machine": "stop the programs that keep this machine busy",
    "generator": "stop the programs that keep this machine busy",
    "part": "see why a part died, in its log under cells/",
    "standstill": "stop the programs that keep this machine busy, and do not suspend it",
    "clock": "keep its time service from stepping this machine's clock",
    "injection": "see with `lab calibrate` whether what is injected is what arrives",
    "evidence": "see what has changed the cell's files",
    "descriptors": "raise `ulimit -n`",
    "space": "free some space where the part writes: TMPDIR, or the engine's disk",
    "defect": "see what the replica did, in its logs under cells/",
}
"""What to do about each kind of reason before a cell is measured again."""


def _invalid(summary: Summary) -> list[CellResult]:
    return [cell for cell in summary.cells if cell.verdict is Outcome.INVALID]


def _remedies(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """What to do about these, each once; of a cell of an earlier lab its reasons say it."""
    kinds = dict.fromkeys(found.kind for cell in cells for found in cell.invalid)
    return tuple(dict.fromkeys(REMEDIES[kind] for kind in kinds))


def run_facts(info: RunInfo, *asked: Fact) -> tuple[Fact, ...]:
    """What was run, where and how; a fact without a text is left out."""
    facts = (
        Fact("run", info.name, code=True),
        Fact("started", info.started),
        Fact("spec", info.spec_file),
        Fact("command", f"lab {' '.join(info.arguments)}", code=True),
        Fact("stack", format.stack(info), prominent=True),
        *asked,
        Fact("machine", ", ".join(f"{name} {value}" for name, value in info.machine.items())),
        Fact("versions", ", ".join(f"{name} {value}" for name, value in info.versions.items())),
        Fact("revision", info.git),
    )
    return tuple(fact for fact in facts if fact.text)


def offered(summary: Summary) -> str:
    """The load that every cell was offered."""
    loads = list({str(sorted(cell.load.items())): cell.load for cell in summary.cells}.values())
    if not loads:
        return "no cell is finished"
    return format.load(loads[0]) if len(loads) == 1 else "the load differs from cell to cell"


def loop_note(summary: Summary) -> str:
    """What must be known of the kind of load to read its figures; empty without cells."""
    loads = [format.read_load(cell.load) for cell in summary.cells]
    kinds = {
        _CAPPED if isinstance(load, OpenLoad) and load.max_in_flight else load.kind
        for load in loads
    }
    return " ".join(note for note, told in _NOTES.items() if kinds & told)


def _glance(cells: Sequence[CellResult]) -> tuple[Block, ...]:
    """Of each cell whose load changed: its stages, charts, what went first, and its limit."""
    changing = [cell for cell in cells if cell.course and cell.course.stages]
    if len(changing) > _MAX_CHARTS:
        hint = "lab report RUN --cell ID shows a cell by stage and over time"
        return (Heading("over time"), Paragraph(hint))
    blocks: list[Block] = []
    for cell in changing:
        blocks += [Heading(cell.id), *over_time(cell), *limiting_factor(cell)]
    return tuple(blocks)


Shown = tuple[Column, Callable[[CellResult], Value]]
"""A column of the run's table, and what stands in it."""


def _metric(name: str, head: str, short: str, *, unit_in_title: bool = False) -> Shown:
    def value(cell: CellResult) -> Value:
        number = cell.metrics.get(format.of_main(name, cell))
        brief = format.brief(number) if unit_in_title and number is not None else ""
        return Value(format.metric(name, number), brief)

    return Column(head, short, right=True), value


RATE = _metric("throughput", "uploads/s", "up/s", unit_in_title=True)
P50 = _metric("p50", "p50", "p50 s", unit_in_title=True)
P95 = _metric("p95", "p95", "p95 s", unit_in_title=True)
FAILED = _metric("error_rate", "failed", "failed")
CAUSE: Shown = (Column("led by", folds=True), lambda cell: Value(format.led_by(cell.metrics)))
CONNECTIONS = _metric("pg_connections", "pg peak", "pg")
SERVED = (
    _metric("succeeded", "served", "served"),
    _metric("errors.no_instance", "refused (429)", "429"),
    _metric("errors.instance_died", "died (503)", "503"),
    _metric("errors.request_timeout", "timed out (504)", "504"),
)
INSTANCES = (
    _metric("cold_starts", "cold starts", "cold"),
    _metric("queue_wait", "queued", "wait s", unit_in_title=True),
    _metric("memory_instance", "memory peak", "memory"),
    _metric("oom_kills", "OOM kills", "OOM"),
)
LIMIT: Shown = (
    Column("limit", folds=True),
    lambda cell: Value(str(cell.limit.resource) if cell.limit else format.NONE),
)


def _beside(cell: CellResult) -> Value:
    """How the rate compares with the baseline's; of the baseline itself, what it is."""
    if cell.against is None:
        return Value("baseline" if not cell.baseline else format.NONE)
    rates = (one for one in cell.against.changes if metrics.plain(one.metric) == "throughput")
    rate = next(rates, None)
    if rate is None:
        return Value(format.NONE)
    return Value(format.beside(rate))


BESIDE: Shown = (Column("rate, of baseline", "x base"), _beside)

ASKED = {
    "errors.body_too_large": _metric("oversize", "too large", "large"),
    "wasted": _metric("wasted", "wasted", "wasted"),
    "probe_restarts": _metric("probe_restarts", "restarts", "again"),
}
"""What a table shows as well where a criterion is on this metric."""


def columns(cells: Sequence[CellResult]) -> tuple[Shown, ...]:
    """The figures that a table of these cells shows of each, from left to right."""
    asked = {Criterion.parse(one.criterion).metric for cell in cells for one in cell.findings}
    limit = tuple(shown for name, shown in ASKED.items() if name in asked)
    limit += (LIMIT,) if any(cell.limit for cell in cells) else ()
    limit = (BESIDE, *limit) if any(cell.against for cell in cells) else limit
    targets = {cell.target for cell in cells}
    if targets == {"cloudrun"}:
        return (*SERVED, P50, P95, CAUSE, *INSTANCES, *limit)
    instances = (*SERVED, *INSTANCES) if "cloudrun" in targets else ()
    return (RATE, P50, P95, FAILED, CAUSE, CONNECTIONS, *instances, *limit)


def _matrix(cells: Sequence[CellResult]) -> Matrix:
    axes, shown = varying_axes(cells), columns(cells)
    rates = [cell.metrics.get("throughput", 0.0) for cell in cells]
    bars: Pictures = [Bar(rate / (max(rates) or 1.0)) for rate in rates]
    small = {RATE: bars, P95: _strips(cells)}
    rows = []
    for index, cell in enumerate(cells):
        drawn = {column: small[column][index] for column in small}
        values = (
            *(Value(cell.axes.get(axis, format.NONE)) for axis in axes),
            Value.verdict(cell.verdict),
            *(replace(column[1](cell), picture=drawn.get(column)) for column in shown),
        )
        attempts = f"attempt {len(cell.attempts) + 1}" if cell.attempts else ""
        why = "; ".join(filter(None, (attempts, format.first_reason(cell))))
        under = attempts if cell.verdict is Outcome.HELD else why  # to hold needs no reason
        rows.append(MatrixRow(cell.id, values, why, under, _folded(cell, under)))
    return Matrix(
        columns=(
            *(Column(axis, names=True) for axis in axes),
            Column("verdict"),
            *(column for column, _ in shown),
        ),
        rows=tuple(rows),
        legend="A strip runs from p50 to p95, all to one scale; the upright mark is the bound that "
        "the criteria set on p95.",
    )


def _folded(cell: CellResult, reason: str) -> str:
    """The reason with the leading cause, which matters where a cell held too, and the limit."""
    cause = format.led_by(cell.metrics) if format.leading_cause(cell.metrics) else ""
    text = ": ".join(filter(None, (cause, reason)))
    return f"{text} (limit: {cell.limit.resource})" if cell.limit and reason else text


Pictures = list[Bar | Strip | None]


def _strips(cells: Sequence[CellResult]) -> Pictures:
    """p50 to p95 of each cell and its bound, on a scale on which the slowest and all bounds fit."""
    latencies = [[cell.metrics.get(name) for name in ("p50", "p95")] for cell in cells]
    bounds = [upper_bound(cell) for cell in cells]
    scale = max(filter(None, [*chain(*latencies), *bounds]), default=1.0)
    strips: Pictures = []
    for (p50, p95), bound in zip(latencies, bounds, strict=True):
        if p50 is None or p95 is None:
            strips.append(None)
        else:
            mark = [] if bound is None else [("mark", bound / scale, bound / scale)]
            strips.append(Strip((("range", p50 / scale, p95 / scale), *mark)))
    return strips
