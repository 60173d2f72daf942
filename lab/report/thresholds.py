"""A search for thresholds as blocks: a sentence a cell, and each trial as it ends."""

from __future__ import annotations

from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, Thresholds
from lab.model.run import RunInfo
from lab.model.units import format_duration
from lab.model.verdict import Outcome
from lab.report import format
from lab.report.blocks import (
    Column,
    Fact,
    Heading,
    Items,
    Matrix,
    MatrixRow,
    Page,
    Section,
    Strip,
    Table,
    Value,
)
from lab.report.run import CLOSED_NOTE, run_facts

AS_GOOD_AS = {"found": Outcome.HELD, "undecided": Outcome.UNDECIDED, "invalid": Outcome.INVALID}
"""The verdict whose sign and colour an answer has."""


def thresholds_page(thresholds: Thresholds, info: RunInfo) -> Page:
    """The answers of a search, and the trials that they rest on."""
    criteria = " and ".join(map(str, info.experiment.criteria))
    load = info.experiment.load.model_dump(mode="json")
    return Page(
        title=thresholds.experiment,
        about=thresholds.about,
        facts=run_facts(
            info,
            Fact("question", f"a cell holds while {criteria}", prominent=True),
            Fact("offered load", format.load(load, info.max_users), prominent=True),
        ),
        note=CLOSED_NOTE,
        matrix=_matrix(thresholds, _baseline(thresholds, info)),
        sections=tuple(map(threshold_section, thresholds.cells)),
        missing=thresholds.missing,
        damaged=tuple((cell.id, cell.problem) for cell in thresholds.damaged),
        resume="lab threshold --resume",
    )


def _baseline(thresholds: Thresholds, info: RunInfo) -> Threshold | None:
    """The threshold of the spec's baseline, which is the first of its cells; None without one."""
    if not info.experiment.baseline or info.experiment.repeat > 1:
        return None
    return next((cell for cell in thresholds.cells if cell.id == info.cells[0]), None)


def _outcome(threshold: Threshold) -> Value:
    return Value.verdict(AS_GOOD_AS[threshold.outcome], threshold.outcome)


def _matrix(thresholds: Thresholds, baseline: Threshold | None) -> Matrix:
    """A row a cell; its strip is to one scale, up to the most users that any trial had."""
    top = max((trial.users for cell in thresholds.cells for trial in cell.trials), default=1)
    return Matrix(
        columns=(
            Column("cell", names=True),
            Column("outcome"),
            Column("holds at", right=True),
            Column("breaks at", right=True),
            Column("users"),
            Column("crossed first"),
        ),
        rows=tuple(_row(cell, top, baseline) for cell in thresholds.cells),
        legend=f"A strip runs from no user to {format.plural(top, 'user')}: where the cell "
        "certainly holds, nothing where it is not known, and where it certainly breaks.",
        sentences=True,
    )


def _row(cell: Threshold, top: int, baseline: Threshold | None) -> MatrixRow:
    holds, breaks = (cell.holds_at or 0) / top, (cell.breaks_at or top) / top
    ends = (format.NONE if end is None else str(end) for end in (cell.holds_at, cell.breaks_at))
    strip = Strip((("holds", 0.0, holds), ("breaks", breaks, 1.0)))
    return MatrixRow(
        cell.id,
        (
            Value(cell.id),
            _outcome(cell),
            *map(Value, ends),
            Value("", picture=strip),
            Value(cell.crossed_first or format.NONE),
        ),
        why=sentence(cell) + _before(cell, baseline),
    )


def _before(cell: Threshold, baseline: Threshold | None) -> str:
    """What the baseline carries, beside another cell."""
    if baseline is None or baseline.id == cell.id:
        return ""
    return f"; the baseline, {baseline.id}: {_interval(baseline)}"


def threshold_section(threshold: Threshold) -> Section:
    """One cell's answer with every trial."""
    rows = [
        (
            trial.id,
            str(trial.users),
            format_duration(trial.window),
            str(trial.sent),
            Value.verdict(trial.outcome),
            _counts(trial),
        )
        for trial in threshold.trials
    ]
    heads = ("trial", "users", "window", "uploads", "verdict", "beyond each bound")
    return Section(
        threshold.id,
        _outcome(threshold),
        (
            Items((sentence(threshold),)),
            Heading("trials"),
            Table.of(heads, rows, right=("users", "window", "uploads")),
        ),
    )


def sentence(threshold: Threshold) -> str:
    """A cell's answer, for whoever has to decide by it."""
    parts = [_interval(threshold)]
    if threshold.outcome != "found":
        parts = [f"{threshold.outcome}: {threshold.reason}", f"for certain: {parts[0]}"]
    if threshold.crossed_first:
        parts.append(f"{threshold.crossed_first} is crossed first")
    if threshold.more is not None:
        parts.append(f"about {format.clock(threshold.more)} more of load would probably decide it")
    spent = format.clock(sum(trial.spent for trial in threshold.trials))
    parts.append(f"{format.plural(len(threshold.trials), 'trial')}, {spent} of load")
    return "; ".join(parts)


def _interval(threshold: Threshold) -> str:
    """The interval in words; an open end is given as what it is."""
    holds_at, breaks_at = threshold.holds_at, threshold.breaks_at
    sure = f"({format.percent(threshold.confidence)} confidence)"
    if holds_at and breaks_at:
        return f"holds at {format.plural(holds_at, 'user')}, breaks at {breaks_at} {sure}"
    if holds_at:
        top = ", the most that were to be tried" if threshold.outcome == "found" else ""
        return f"holds at {format.plural(holds_at, 'user')}{top} {sure}"
    return f"breaks at {format.plural(breaks_at, 'user')} {sure}" if breaks_at else "nothing"


def news(step: CapacityTrial | Threshold) -> str:
    """A trial, or a cell's answer, on a line: ``workers=1-u20-1: 20 users, broke; …``."""
    if isinstance(step, Threshold):
        return f"{step.id}: {sentence(step)}"
    parts = [f"{step.id}: {format.plural(step.users, 'user')}, {step.outcome}", _counts(step)]
    return "; ".join(filter(None, parts))


def _counts(trial: CapacityTrial) -> str:
    return "; ".join(f"{count.criterion}: {_beyond(count)}" for count in trial.criteria)


def _beyond(count: CriterionCount) -> str:
    """How many uploads were on the wrong side of a bound; an outcome where none are counted."""
    if count.violations is None or not count.samples:
        return str(count.outcome)
    share = format.percent(count.violations / count.samples)
    return f"{count.violations} of {count.samples} ({share})"
