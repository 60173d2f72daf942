"""A run beside its baseline: before and after side by side, and what the difference comes to.

CellResult.against ─> effect         helps, harms, does nothing …, by the figures that users feel
                   ─> before_after   a table, a row a cell, with both figures as bars
                   ─> beside_baseline   one cell whole, a row a figure
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Literal

from lab.judge.comparison import MATTERS, MOST_FAILED, SHARE_MATTERS
from lab.model import metrics
from lab.model.criterion import Criterion
from lab.model.physics import PERCENTILES
from lab.model.run import CellResult
from lab.model.verdict import Change, Comparison, Flip
from lab.report import format, phrases
from lab.report.blocks import Block, Heading, Items, Pair, Paragraph, Table, Tone, Value

Effect = Literal["helps", "harms", "helps and harms", "does nothing", "is open"]
"""What a change of settings comes to; ``is open`` where figures are not compared, or tell too
little."""

EFFECT_TONES: Mapping[Effect, Tone] = {
    "helps": "good",
    "harms": "bad",
    "helps and harms": "unclear",
}

TENDENCY_TONES: Mapping[str, Tone] = {"better": "good", "worse": "bad", "unclear": "unclear"}

FELT = ("throughput", "p95", "error_rate")
"""The figures that users feel, and the heads of their columns: `HEADS`."""

HEADS = ("uploads/s", "p95", "failed")

WIDER = 1.22
"""An interval at 95 % is to be this many times as wide, so that three are right together: 2.39, the
normal quantile of a two-sided 1 - 0.05 / 3 (Bonferroni), / 1.96."""

TINY = 1e-9
"""A ratio of less is told as this, whose logarithm there is."""


def effect(beside: Comparison | None) -> Effect:
    """What a comparison comes to, by what users feel and the criteria that came out otherwise."""
    if beside is None or beside.why_not:
        return "is open"
    felt = counting(beside)
    found = {change.tendency for change in felt if is_clear(change)}
    turned = {(flip.before, flip.after) for flip in beside.flips if _counts(flip, felt)}
    found |= {"better"} if ("missed", "met") in turned else set()
    found |= {"worse"} if ("met", "missed") in turned else set()
    if {"better", "worse"} <= found:
        return "helps and harms"
    if "better" in found:
        return "helps"
    if "worse" in found:
        return "harms"
    return "does nothing" if any(change.low is not None for change in felt) else "is open"


def counting(beside: Comparison) -> list[Change]:
    """The changes of what users feel that count: of latency where nearly all are served.

    Where more than one in twenty fails, before or after, the p95 of the others is that of who was
    left: to cut slow ones off makes it better.
    """
    felt = [change for change in beside.changes if metrics.plain(change.metric) in FELT]
    failed = [change for change in felt if metrics.plain(change.metric) == "error_rate"]
    if all(max(change.value, change.baseline) <= MOST_FAILED for change in failed):
        return felt
    return [change for change in felt if metrics.plain(change.metric) not in PERCENTILES]


def _counts(flip: Flip, felt: Sequence[Change]) -> bool:
    """Whether a criterion that came out otherwise says how users fare, as `counting`."""
    metric = Criterion.parse(flip.criterion).metric
    of_all = metric == "p95_all" or metric not in PERCENTILES
    return of_all or any(metrics.plain(change.metric) in PERCENTILES for change in felt)


def is_clear(change: Change) -> bool:
    """Whether a change is one for certain, beside two others that are looked at, and matters."""
    if change.low is None or change.high is None or change.tendency not in ("better", "worse"):
        return False
    if change.kind == "ratio":
        ends = log(max(change.low, TINY)), log(max(change.high, TINY))
        least = log(1 + MATTERS)
    else:
        ends, least = (change.low, change.high), SHARE_MATTERS
    middle, half = sum(ends) / 2, WIDER * (ends[1] - ends[0]) / 2
    return abs(middle) > max(half, least)


def change_on(metric: str, beside: Comparison | None) -> Change | None:
    """The change of a metric, with its journey; None where it was not compared."""
    changes = beside.changes if beside else ()
    return next((change for change in changes if change.metric == metric), None)


def before_after(cells: Sequence[CellResult]) -> tuple[Block, ...]:
    """A table for each baseline: itself, and what changed in each cell that is held against it."""
    blocks: list[Block] = []
    for baseline in dict.fromkeys(cell.baseline for cell in cells if cell.baseline):
        after = [cell for cell in cells if cell.baseline == baseline]
        before = [cell for cell in cells if cell.id == baseline]
        blocks.append(_table(before, after))
        blocks += [
            Paragraph(cell.against.why_not, lead=f"{cell.id} is not compared")
            for cell in after
            if cell.against and cell.against.why_not
        ]
    return tuple(blocks)


def _table(before: Sequence[CellResult], after: Sequence[CellResult]) -> Table:
    names = [format.of_main(name, after[0]) for name in FELT]
    scales = {name: _scale(name, after) for name in names}
    heads = ("cell", "so it", *HEADS, "criteria", "limit")
    rows = [_row_before(cell, names) for cell in before]
    rows += [_row_after(cell, scales) for cell in after]
    return Table.of(heads, rows, right=HEADS)


Row = tuple[Value | str, ...]


def _row_before(cell: CellResult, names: Sequence[str]) -> Row:
    figures = (format.metric(metrics.plain(name), cell.metrics.get(name)) for name in names)
    return (phrases.name(cell), "was before", *figures, "", _limit(cell))


def _row_after(cell: CellResult, scales: Mapping[str, float]) -> Row:
    comes_to = effect(cell.against)
    compared = cell.against is not None and not cell.against.why_not
    return (
        phrases.name(cell),
        Value(comes_to if compared else "is not compared", tone=EFFECT_TONES.get(comes_to, "")),
        *(_figure(name, cell, scale) for name, scale in scales.items()),
        "; ".join(told_flips(cell.against)),
        _limit(cell),
    )


def _figure(name: str, cell: CellResult, scale: float) -> Value:
    change = change_on(name, cell.against)
    if change is None:
        return Value(format.metric(metrics.plain(name), cell.metrics.get(name)))
    return figure(change, scale, _tone(change, cell.against))


def figure(change: Change, scale: float, tone: Tone = "") -> Value:
    """A figure with its change, and both as bars of a scale."""
    text, told = format.metric(metrics.plain(change.metric), change.value), format.beside(change)
    return Value(f"{text}: {told}", told, tone=tone, picture=pair(change, scale, tone))


def told_flips(beside: Comparison | None) -> list[str]:
    """The criteria that came out otherwise, by how: ``now met: p95 < 10 s, error_rate < 5 %``.

    One that was undecided has not turned: ``missed (undecided before): p95 < 10 s``.
    """
    by_turn: dict[str, list[str]] = {}
    for flip in beside.flips if beside else ():
        open_before = flip.before == "undecided"
        turn = f"{flip.after} (undecided before)" if open_before else f"now {flip.after}"
        by_turn.setdefault(turn, []).append(flip.criterion)
    return [f"{turn}: {', '.join(criteria)}" for turn, criteria in by_turn.items()]


def _limit(cell: CellResult) -> str:
    if cell.against and cell.against.limit:
        return " -> ".join(cell.against.limit)
    return str(cell.limit.resource) if cell.limit else format.NONE


# Bars.


def _scale(name: str, cells: Sequence[CellResult]) -> float:
    return common_scale([cell.against for cell in cells], name)


def common_scale(told: Sequence[Comparison | None], name: str) -> float:
    """The largest of a figure's values; of the ends of their intervals, those that fit beside."""
    changes = [change for beside in told if (change := change_on(name, beside))]
    largest = max((max(one.value, one.baseline) for one in changes), default=0.0)
    return max((min(ends(one)[1], 2 * largest) for one in changes), default=0.0) or largest


def ends(change: Change) -> tuple[float, float]:
    """Between what a figure lies, in its unit, by the interval of its change; itself, where that is
    not known."""
    if change.low is None or change.high is None:
        return change.value, change.value
    if change.kind == "ratio":
        return change.baseline * change.low, change.baseline * change.high
    return max(0.0, change.baseline + change.low), change.baseline + change.high


def _tone(change: Change, beside: Comparison | None) -> Tone:
    """Whether a change is good news; nothing where it does not count."""
    counts = beside is not None and change in counting(beside)
    return TENDENCY_TONES.get(change.tendency, "") if counts else ""


def pair(change: Change, scale: float, tone: Tone = "") -> Pair | None:
    """A figure before and after as bars of one scale; None where both are nothing."""
    if scale <= 0:
        return None
    low, high = (min(end / scale, 1.0) for end in ends(change))
    return Pair(
        before=min(change.baseline / scale, 1.0),
        after=min(change.value / scale, 1.0),
        low=low,
        high=high,
        tone=tone,
    )


# One cell, whole.


def beside_baseline(cell: CellResult) -> list[Block]:
    """The cell against its baseline: figures, criteria, and the limit; nothing of one without."""
    beside = cell.against
    if beside is None:
        return []
    blocks: list[Block] = [Heading(f"beside {beside.baseline}")]
    if beside.why_not:
        blocks.append(Paragraph(beside.why_not, lead="figures are not compared"))
    if beside.changes:
        heads = ("metric", "here", "baseline", "change", "95 % interval", "result")
        rows = [change_row(change) for change in beside.changes]
        blocks.append(Table.of(heads, rows, right=heads[1:5]))
    told = [f"{flip.criterion}: {flip.before} before, {flip.after} here" for flip in beside.flips]
    if beside.limit:
        told.append("the limit moved from {} to {}".format(*beside.limit))
    return [*blocks, *([Items(tuple(told))] if told else [])]


def change_row(change: Change) -> tuple[Value | str, ...]:
    """A figure's row: here, before, the change, its interval, and what that comes to."""
    metric, tone = metrics.plain(change.metric), TENDENCY_TONES.get(change.tendency, "")
    scale = max(change.value, change.baseline, min(ends(change)[1], 2 * change.value))
    return (
        change.metric,
        Value(format.metric(metric, change.value), picture=pair(change, scale, tone)),
        format.metric(metric, change.baseline),
        format.change(change.kind, change.change),
        format.interval(change),
        Value(change.tendency, tone=tone),
    )
