"""One cell as blocks: what limited it, how it went over time, its criteria, checks, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from lab.judge.bottleneck import OF_BODIES
from lab.judge.statistics import share_bounds
from lab.model import metrics
from lab.model.criterion import Criterion
from lab.model.evidence import Cause
from lab.model.journeys import REQUESTS, Journey
from lab.model.knobs import Knobs, Preset
from lab.model.replica import file_limit
from lab.model.run import AttemptResult, CellResult
from lab.model.units import format_number
from lab.model.verdict import Check, Crossing, Finding, StageResult, Timeline
from lab.report import format, pictures
from lab.report.beside import beside_baseline
from lab.report.blocks import (
    Bar,
    Block,
    Chart,
    Fact,
    Facts,
    Heading,
    Items,
    Paragraph,
    Section,
    Table,
    Tone,
    Value,
)
from lab.report.pictures.limits import limits

OUTCOME_TONES: Mapping[str, Tone] = {"met": "good", "missed": "bad", "undecided": "unclear"}
PERCENTILES = tuple(end.removeprefix("_") for end in metrics.QUANTILES)
"""The percentiles of a stage, as columns."""

ARRIVED = {
    True: Value("ok", tone="good"),
    False: Value("OFF", tone="bad"),
    None: Value("unclear", tone="unclear"),
}
"""Whether what was injected arrived."""


def cell_section(cell: CellResult) -> Section:
    """Everything that is stored of one cell."""
    return Section(
        cell.id,
        Value.verdict(cell.verdict),
        (
            *limiting_factor(cell),
            *pictures.of_cell(cell),
            Heading("verdict"),
            Items(cell.reasons),
            Facts((*_facts(cell), Fact("knobs", changed_knobs(cell), True))),
            *_attempts(cell),
            *beside_baseline(cell),
            *_where_the_loop_stood(cell),
            *_workers(cell),
            *_sizes(cell),
            *over_time(cell),
            Heading("criteria"),
            _findings(cell.findings),
            Heading("injected, and measured"),
            _checks(cell.injected),
            *_journeys(cell),
            *_metrics(cell.metrics),
        ),
    )


def _facts(cell: CellResult) -> Iterator[Fact]:
    yield Fact("load", format.load(cell.load))
    if cell.speed_reason:
        speed = format_number(float(cell.knobs["speed"]))
        yield Fact("speed", f"{speed}, chosen: {cell.speed_reason}")


def _attempts(cell: CellResult) -> list[Block]:
    """Each attempt, the one that counts last; nothing where it was the first."""
    if not cell.attempts:
        return []
    speed = Knobs.model_validate(cell.knobs).speed
    why = tuple(found.reason for found in cell.invalid)
    counts = AttemptResult(speed=speed, verdict=cell.verdict, reasons=why)
    rows = [
        (str(n), f"{one.speed:g}", Value.verdict(one.verdict), "; ".join(one.reasons))
        for n, one in enumerate((*cell.attempts, counts), start=1)
    ]
    heads = ("attempt", "speed", "verdict", "why it was repeated")
    return [Heading("attempts"), Table.of(heads, rows, right=("attempt", "speed"))]


def changed_knobs(cell: CellResult) -> str:
    """The knobs that differ from the preset *as-found*, as a spec writes them."""
    as_found = Knobs.preset(Preset.AS_FOUND).as_text()
    changed = [
        f"{name}={value}" for name, value in cell.knobs.items() if as_found.get(name) != value
    ]
    return ", ".join(changed) or "all as found"


def limiting_factor(cell: CellResult) -> list[Block]:
    """The limit and its evidence; nothing of a cell that has none."""
    if cell.limit is None:
        return []
    return [Heading("limit"), Paragraph(cell.limit.evidence, lead=str(cell.limit.resource))]


def _where_the_loop_stood(cell: CellResult) -> list[Block]:
    """The lines in which the event loop stood, a row each; nothing where it stood in none."""
    if not cell.stood:
        return []
    rows = [
        (
            Value(row.place, code=True),
            Value(format.percent(row.share), picture=Bar(min(row.share, 1.0))),
        )
        for row in cell.stood
    ]
    table = Table.of(("line of the service", "of the time"), rows, right=("of the time",))
    return [Heading("where the event loop stood"), table]


def _workers(cell: CellResult) -> list[Block]:
    """How uploads were split among several workers; nothing where there is one."""
    if not cell.workers:
        return []
    rows = [
        (
            str(one.worker),
            str(one.uploads),
            format.percent(one.share),
            format.metric("throughput", one.rate),
            *map(format.percent, (one.busy, one.queued, one.idle)),
        )
        for one in cell.workers
    ]
    heads = ("worker", "uploads", "share", "up/s", "slots busy", "queued", "idle, others queued")
    return [Heading("workers"), Table.of(heads, rows, right=heads)]


def _sizes(cell: CellResult) -> list[Block]:
    """Uploads by size of file; nothing where all files were of one size."""
    if not cell.sizes:
        return []
    rows = [
        (
            f"{format.size(one.from_)} - {format.size(one.to)}",
            str(one.attempts),
            format.percent(one.failed / one.attempts) if one.attempts else format.NONE,
            ", ".join(f"{cause} {count}" for cause, count in one.causes.items()) or format.NONE,
            *(format.quantity(value, "seconds") for value in (one.p50, one.p95)),
        )
        for one in cell.sizes
    ]
    heads = ("file", "uploads", "failed", "by cause", "p50", "p95")
    table = Table.of(heads, rows, right=("uploads", "failed", "p50", "p95"))
    return [Heading("by size of file"), *_too_large(cell), table]


def _too_large(cell: CellResult) -> list[Block]:
    """How many were refused for their size, beside what the sizes predict; nothing of a load of
    which nobody refuses any."""
    limit = file_limit(cell.target, Knobs.model_validate(cell.knobs))
    predicted = format.read_load(cell.load).audio.share_above(limit) if limit else 0.0
    sent = int(cell.metrics.get("attempts", 0))
    if not limit or not predicted or not sent:
        return []
    refused = round(sum(cell.metrics.get(f"errors.{cause}", 0.0) for cause in OF_BODIES))
    low, high = map(format.percent, share_bounds(refused, sent))
    return [
        Paragraph(
            f"files above {format.size(limit)} are refused: {format.percent(predicted)} of the"
            f" load's sizes, {format.metric('oversize', cell.metrics.get('oversize'))} of those"
            f" sent; refused were {refused} of {format.plural(sent, 'upload')},"
            f" {format.percent(refused / sent)} ({low} .. {high} at 95 %)"
        )
    ]


def over_time(cell: CellResult) -> list[Block]:
    """Stages, a chart, what went first, and leaks: whatever is stored of them."""
    blocks: list[Block] = []
    timeline = cell.course or Timeline()
    if timeline.stages:
        blocks += [Heading("by stage"), _stages(timeline.stages)]
    if timeline.series:
        criteria = (Criterion.parse(finding.criterion) for finding in cell.findings)
        bounds = {one.name: one.bound for one in criteria if not one.relative}
        chart = Chart(
            timeline.series,
            timeline.stages,
            timeline.crossings,
            bounds,
            limits(cell),
            str(cell.limit.resource) if cell.limit else "",
        )
        blocks += [Heading("over time"), chart]
    if events := what_went_first(timeline):
        blocks += [Heading("what went first"), Items(events, numbered=True)]
    if cell.leaks:
        blocks += [Heading("leaks"), Items(tuple(leak.reason for leak in cell.leaks))]
    return blocks


def _stages(stages: Sequence[StageResult]) -> Table:
    names = ("throughput", "p50", "p95", "error_rate")
    rows: list[tuple[Value | str, ...]] = [
        (
            str(stage.users),
            f"{stage.start:.0f}-{stage.end:.0f} s",
            Value.verdict(stage.outcome),
            *(format.metric(name, stage.metrics.get(name)) for name in names),
            format.led_by(stage.metrics),
            format.metric("pg_connections", stage.metrics.get("pg_connections")),
        )
        for stage in stages
    ]
    heads = ("users", "time", "verdict", "up/s", "p50", "p95", "failed", "led by", "pg")
    return Table.of(heads, rows, right=("users", "up/s", "p50", "p95", "failed", "pg"))


def what_went_first(timeline: Timeline) -> tuple[str, ...]:
    """What was crossed and what failed, a line each, in the order in which it showed."""
    events = [(crossing.t, _crossing(crossing)) for crossing in timeline.crossings]
    for failure in timeline.failures:
        since = f"{failure.cause} from {format.plural(failure.users, 'user')} on, {failure.t:.0f} s"
        events.append((failure.t, f"{since}: {failure.count} in all"))
    return tuple(text for _, text in sorted(events, key=lambda event: event[0]))


def _crossing(crossing: Crossing) -> str:
    low, high = sorted((crossing.since_users, crossing.users))
    users = f"{low}-{high}" if low < high else f"{low}"
    criterion = Criterion.parse(crossing.criterion)
    value = format.metric(criterion.metric, crossing.value)
    if crossing.samples:
        value += f" of {crossing.samples} {REQUESTS[criterion.journey].noun}s"
    return f"{crossing.criterion} was crossed at {users} users, {crossing.t:.0f} s: {value}"


def _findings(findings: Sequence[Finding]) -> Block:
    def form(finding: Finding, value: float | None) -> str:
        criterion = Criterion.parse(finding.criterion)
        if criterion.relative and value is not None:
            return format.change("ratio", value)
        return format.metric(criterion.metric, value)

    def interval(finding: Finding) -> str:
        """The one-sided 95 % bounds where the criterion is statistical, or both ends of a range."""
        if finding.low is None and finding.high is None:
            return format.NONE
        return f"{form(finding, finding.low)} .. {form(finding, finding.high)}"

    rows = [
        (
            Value(finding.criterion, code=True),
            Value(finding.outcome, tone=OUTCOME_TONES[finding.outcome]),
            form(finding, finding.value),
            interval(finding),
            finding.reason,
        )
        for finding in findings
    ]
    heads = ("criterion", "outcome", "value", "bounds", "why")
    return _table(heads, rows, right="value")


def _checks(checks: Sequence[Check]) -> Block:
    rows = [
        (
            check.name,
            check.expected,
            format.NONE if check.measured is None else format.significant(check.measured),
            ARRIVED[check.ok],
            check.reason,
        )
        for check in checks
    ]
    heads = ("what", "expected", "measured", "arrived", "why")
    return _table(heads, rows, right="measured")


def _metrics(values: Mapping[str, float]) -> Iterator[Block]:
    """Where the time went, a row a stage; what was answered, a line a journey; and all others."""
    timed = list(_timed(values))
    answers = [name for name in values if name.startswith(metrics.STATUS)]
    shown = {*answers, *chain.from_iterable(timed), *_of_journeys(values)}
    if timed:
        yield Heading("where the time went")
        stages = [_stage_times(names, values) for names in timed]
        right = ("mean", *PERCENTILES)
        yield Table.of(("stage", *right, "of"), stages, right=right, glossary="of")
    yield Heading("metrics")
    if answers:
        yield Facts(tuple(_answers(answers, values)))
    yield _other_metrics({name: value for name, value in values.items() if name not in shown})


def _answers(names: Sequence[str], values: Mapping[str, float]) -> Iterator[Fact]:
    for journey in Journey:
        of = [name for name in names if metrics.journey_in(name) is journey]
        told = [f"{metrics.status_of(name)}: {format.count(values[name])}" for name in of]
        if told:
            label = "answers" if journey is Journey.UPLOAD else f"answers ({journey})"
            yield Fact(label, ", ".join(told))


def _timed(values: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """Of each stage that was measured the mean and the percentiles: first those of uploads."""
    for journey in Journey:
        for stage in metrics.STAGES:
            each = metrics.with_percentiles(stage)
            names = tuple(metrics.with_journey(name, journey) for name in each)
            if names[0] in values:
                yield names


def _stage_times(names: Sequence[str], values: Mapping[str, float]) -> tuple[Value | str, ...]:
    stage = metrics.STAGES.get(names[0])
    of = stage.help if stage else _meaning(names[0])
    times = (format.metric(name, values.get(name)) for name in names)
    return (Value(names[0], code=True), *times, of)


def _other_metrics(values: Mapping[str, float]) -> Block:
    """In the metric table's order; those of another lab last, and no errors that did not occur.

    Most of those of journeys have tables of their own; the others stand between.
    """
    names = [name for name in metrics.BY_NAME if name in values]
    names += [name for name in values if name not in metrics.BY_NAME and metrics.row_of(name)]
    names += sorted(name for name in values if not metrics.row_of(name))
    rows = [
        (
            Value(name, code=True),
            format.metric(name, values[name]),
            _meaning(name),
        )
        for name in names
        if values[name] or not name.startswith(format.ERRORS)
    ]
    if not rows:
        return Paragraph("none")
    heads = ("metric", "value", "meaning")
    return Table.of(heads, rows, right=("value",), glossary="meaning")


def _meaning(name: str) -> str:
    """Of a journey's metric, that it is: the row says what it would be of uploads."""
    row = metrics.row_of(name)
    if row is None or name in metrics.BY_NAME:
        return row.help if row else ""
    return f"the same as {row.name}, of {REQUESTS[metrics.journey_in(name)].noun}s"


_LATENCIES = ("p50", "p95", "p99")
_IN_ROW = ("attempts", "succeeded", "error_rate", "throughput", *_LATENCIES)


def _of_journeys(values: Mapping[str, float]) -> Iterator[str]:
    """The metrics of journeys other than uploads that stand in their rows."""
    for name in values:
        row = metrics.row_of(name)
        if row and name != row.name and (row.name in _IN_ROW or row.name.startswith(format.ERRORS)):
            yield name


def _journeys(cell: CellResult) -> list[Block]:
    """A row for each journey of a load that has more than uploads; else nothing."""
    journeys = format.read_load(cell.load).journeys
    if journeys == (Journey.UPLOAD,):
        return []
    heads = ("journey", "attempts", "served", "per s", "failed", "by cause", *_LATENCIES)
    rows = [_journey(journey, cell.metrics) for journey in journeys]
    right = ("attempts", "served", "per s", "failed", *_LATENCIES)
    return [Heading("journeys"), Table.of(heads, rows, right=right)]


def _journey(journey: Journey, values: Mapping[str, float]) -> tuple[str, ...]:
    def form(name: str) -> str:
        return format.metric(name, values.get(metrics.with_journey(name, journey)))

    causes = ((cause, metrics.with_journey(f"{format.ERRORS}{cause}", journey)) for cause in Cause)
    counts = {cause: values[name] for cause, name in causes if values.get(name)}
    failed = sorted(counts, key=lambda cause: -counts[cause])
    by_cause = ", ".join(f"{cause} {counts[cause]:.0f}" for cause in failed) or format.NONE
    counts_of = map(form, ("attempts", "succeeded", "throughput", "error_rate"))
    return (str(journey), *counts_of, by_cause, *map(form, _LATENCIES))


def _table(heads: Sequence[str], rows: Sequence[Sequence[Value | str]], right: str) -> Block:
    return Table.of(heads, rows, right=(right,)) if rows else Paragraph("none")
