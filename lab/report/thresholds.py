"""A search for thresholds as blocks: a sentence a cell, and each trial as it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.model.capacity import (
    Basis,
    CapacityTrial,
    CriterionCount,
    Curve,
    Estimate,
    ExpectedThreshold,
    Standing,
    Threshold,
    Thresholds,
    TrialWeight,
)
from lab.model.run import RunInfo
from lab.model.units import format_duration
from lab.model.verdict import Outcome
from lab.report import format
from lab.report.blocks import (
    Block,
    Column,
    Fact,
    Heading,
    Items,
    Matrix,
    MatrixRow,
    Page,
    Section,
    ShareCurve,
    Strip,
    Table,
    Value,
)
from lab.report.run import CLOSED_NOTE, run_facts

AS_GOOD_AS = {"found": Outcome.HELD, "undecided": Outcome.UNDECIDED, "invalid": Outcome.INVALID}
"""The verdict whose sign and colour an answer has."""

METHODS = {
    "aimed": "aimed by a model of the cell",
    "certain": "by e-values, which rest on no model of the cell",
}
"""How a threshold was searched, in words."""

BASES: Mapping[Basis, str] = {
    "model": ", by a simulation with its stage times",
    "bound": ", by its capacity bound",
    "counts": ", by counts alone",
}
"""What an aimed answer rests on, in a few words."""

CHECKED_NOTE = (
    "The confidence of an aimed search is checked by simulation and not proven: each cell says on"
    " which conditions it rests."
)

NOTHING = "nothing"
"""What is known of a threshold with two open ends."""

SO_FAR = Value.verdict(Outcome.UNDECIDED, "so far")
"""What stands for the outcome of a search that goes on."""

BESIDE_NOTHING = 0.005
"""A correction that changes less than this share of an answer is not told."""


@dataclass(frozen=True)
class Known:
    """What is known of a cell's threshold: by an answer, or so far.

    ``holds`` and ``breaks`` are the ends in users; None where an end is open.
    """

    id: str
    outcome: Value
    holds: int | None
    breaks: int | None
    confidence: float
    crossed: str | None
    sentence: str
    trials: tuple[CapacityTrial, ...]
    estimate: Estimate | None

    @classmethod
    def of(cls, cell: Threshold | Standing) -> Known:
        """Of a cell with its answer, or of one that is searched."""
        told, estimate = sentence(cell), cell.estimate
        if isinstance(cell, Threshold):
            ends = (cell.holds_at, cell.breaks_at, cell.confidence, cell.crossed_first)
            return cls(cell.id, _outcome(cell), *ends, told, cell.trials, estimate)
        holds = estimate.holds_at or None if estimate else None
        breaks = estimate.breaks_at if estimate else None
        sure = estimate.confidence if estimate else 0.0
        return cls(cell.id, SO_FAR, holds, breaks, sure, None, told, cell.trials, estimate)


def thresholds_page(thresholds: Thresholds, info: RunInfo) -> Page:
    """The answers of a search, what is known of the others so far, and the trials of each."""
    criteria = " and ".join(map(str, info.experiment.criteria))
    load = info.experiment.load.model_dump(mode="json")
    known = list(map(Known.of, thresholds.known))
    return Page(
        title=thresholds.experiment,
        about=thresholds.about,
        facts=run_facts(
            info,
            Fact("question", f"a cell holds while {criteria}", prominent=True),
            Fact("offered load", format.load(load, info.max_users), prominent=True),
            Fact("method", METHODS[info.method or "certain"]),
            *_limits(info),
        ),
        note=f"{CLOSED_NOTE} {CHECKED_NOTE}" if info.method == "aimed" else CLOSED_NOTE,
        matrix=_matrix(known, _baseline(thresholds, info)),
        sections=tuple(map(_section, known)),
        missing=thresholds.missing,
        damaged=tuple((cell.id, cell.problem) for cell in thresholds.damaged),
        resume="lab threshold --resume",
        begun=frozenset(cell.id for cell in thresholds.begun),
    )


def _limits(info: RunInfo) -> Iterator[Fact]:
    """How wide an answer may be, and what it may take, where that was asked for."""
    if info.within is not None:
        yield Fact("width", f"within {format.percent(info.within)}, or 2 users")
    if info.max_load is not None:
        yield Fact("most load", f"{format.clock(info.max_load)} a cell")


def _baseline(thresholds: Thresholds, info: RunInfo) -> Threshold | None:
    """The threshold of the spec's baseline, which is the first of its cells; None without one."""
    if not info.experiment.baseline or info.experiment.repeat > 1:
        return None
    return next((cell for cell in thresholds.cells if cell.id == info.cells[0]), None)


def _outcome(threshold: Threshold) -> Value:
    return Value.verdict(AS_GOOD_AS[threshold.outcome], threshold.outcome)


def _matrix(known: Sequence[Known], baseline: Threshold | None) -> Matrix:
    """A row a cell; its strip is to one scale, up to the most users that any trial had."""
    top = max((trial.users for cell in known for trial in cell.trials), default=1)
    return Matrix(
        columns=(
            Column("cell", names=True),
            Column("outcome"),
            Column("holds at", right=True),
            Column("breaks at", right=True),
            Column("users"),
            Column("crossed first"),
        ),
        rows=tuple(_row(cell, top, baseline) for cell in known),
        legend=f"A strip runs from no user to {format.plural(top, 'user')}: where the cell "
        "holds, nothing where it is not known, and where it breaks.",
        sentences=True,
    )


def _row(cell: Known, top: int, baseline: Threshold | None) -> MatrixRow:
    holds, breaks = (cell.holds or 0) / top, (cell.breaks or top) / top
    ends = (format.NONE if end is None else str(end) for end in (cell.holds, cell.breaks))
    strip = Strip((("holds", 0.0, min(holds, 1.0)), ("breaks", min(breaks, 1.0), 1.0)))
    return MatrixRow(
        cell.id,
        (
            Value(cell.id),
            cell.outcome,
            *map(Value, ends),
            Value("", picture=strip),
            Value(cell.crossed or format.NONE),
        ),
        why=cell.sentence + _before(cell, baseline),
    )


def _before(cell: Known, baseline: Threshold | None) -> str:
    """What the baseline carries, beside another cell."""
    if baseline is None or baseline.id == cell.id:
        return ""
    return f"; the baseline, {baseline.id}: {_interval(baseline)}"


def threshold_section(cell: Threshold | Standing) -> Section:
    """One cell's answer, or what is known of it so far, with every trial."""
    return _section(Known.of(cell))


def _section(cell: Known) -> Section:
    curves = list(_curves(cell))
    drawn: list[Block] = [Heading("share beyond the bound, by users"), *curves] if curves else []
    return Section(
        cell.id,
        cell.outcome,
        (Items((cell.sentence, *_conditions(cell))), *drawn, Heading("trials"), _trials(cell)),
    )


def _trials(cell: Known) -> Table:
    heads = ("trial", "users", "window", "uploads", "verdict", "beyond each bound")
    rows = [
        (
            trial.id,
            str(trial.users),
            format_duration(trial.window),
            str(trial.sent),
            Value.verdict(trial.outcome),
            _counts(trial),
        )
        for trial in cell.trials
    ]
    return Table.of(heads, rows, right=("users", "window", "uploads"))


def _curves(cell: Known) -> Iterator[ShareCurve]:
    """A curve for each criterion that some upload missed; of one that none did there is nothing
    to be seen."""
    estimate = cell.estimate
    fitted = estimate.curves if estimate else ()
    for curve in fitted:
        if any(trial.share for trial in curve.trials):
            predicted = estimate.prediction if estimate else None
            about = _about(cell, curve, predicted)
            ends = curve.low, curve.high
            yield ShareCurve(curve, *ends, cell.confidence, about, predicted)
    for counted in () if fitted else _counted(cell):
        about = _about(cell, counted, None)
        yield ShareCurve(counted, cell.holds, cell.breaks, cell.confidence, about)


def _counted(cell: Known) -> Iterator[Curve]:
    """What was counted of each criterion, by valid trials, where no curve was fitted to it."""
    valid = [trial for trial in cell.trials if trial.outcome is not Outcome.INVALID]
    for counts in zip(*(trial.criteria for trial in valid), strict=True):
        trials = tuple(
            TrialWeight(
                id=trial.id,
                users=trial.users,
                share=count.violations / count.samples,
                minutes=trial.window / 60,
                weight=count.samples,
            )
            for trial, count in zip(valid, counts, strict=True)
            if count.violations is not None and count.samples
        )
        allowed = next((count.allowed for count in counts if count.allowed is not None), None)
        if allowed is not None and any(trial.share for trial in trials):
            low, high = float(cell.holds or 0), float(cell.breaks or cell.holds or 0)
            middle = (low + high) / 2
            yield Curve(
                criterion=counts[0].criterion,
                allowed=allowed,
                low=low,
                middle=middle,
                high=high,
                trials=trials,
            )


def _about(cell: Known, curve: Curve, predicted: ExpectedThreshold | None) -> str:
    """What a curve shows, in words."""
    tried = sorted({trial.users for trial in curve.trials})
    told = [
        f"{format.plural(len(curve.trials), 'trial')} with {tried[0]} to {tried[-1]} users",
        f"{format.percent(curve.allowed)} of the uploads may be beyond the bound",
        *(
            f"{format.plural(trial.users, 'user')}: {format.percent(trial.share)}"
            for trial in curve.trials
        ),
        _interval_of(cell.holds, cell.breaks, f"({format.percent(cell.confidence)} confidence)"),
    ]
    if predicted:
        told.append(_prediction(predicted))
    return "; ".join(told)


def sentence(cell: Threshold | Standing) -> str:
    """A cell's answer, or what is known of it so far, for whoever has to decide by it."""
    if isinstance(cell, Standing):
        return _so_far(cell)
    estimate, parts = cell.estimate, [_interval(cell)]
    if cell.outcome != "found":
        known = "so far" if estimate else "for certain"
        parts = [f"{cell.outcome}: {cell.reason}", f"{known}: {parts[0]}"]
    elif estimate and not estimate.is_narrow:
        parts.append(cell.reason)
    if cell.crossed_first:
        parts.append(f"{cell.crossed_first} is crossed first")
    if estimate and estimate.prediction:
        parts.append(_prediction(estimate.prediction))
    if cell.more is not None:
        aim = "narrow" if cell.outcome == "found" else "decide"
        parts.append(f"about {format.clock(cell.more)} more of load would probably {aim} it")
    return "; ".join((*parts, _effort(cell.trials)))


def _so_far(standing: Standing) -> str:
    """What is known while a search goes on, what it tries next and what it took."""
    estimate, request = standing.estimate, standing.next
    known = "nothing is known"
    if estimate:
        ends = estimate.holds_at or None, estimate.breaks_at
        known = _interval_of(*ends, f"({format.percent(estimate.confidence)} confidence)")
        if ends == (None, None):
            near = format.plural(max(1, round(estimate.middle)), "user")
            known = f"nothing is certain, but it seems to lie near {near}"
    users, window = format.plural(request.users, "user"), format_duration(round(request.window))
    parts = [f"so far {known}", f"next {users} for {window} ({request.why})"]
    return "; ".join((*parts, _effort(standing.trials)))


def _effort(trials: Sequence[CapacityTrial]) -> str:
    spent = format.clock(sum(trial.spent for trial in trials))
    return f"{format.plural(len(trials), 'trial')}, {spent} of load"


def _conditions(cell: Known) -> Iterator[str]:
    """What an interval rests on, and what it was corrected by."""
    estimate = cell.estimate
    if estimate is None:
        return
    if estimate.rests_on:
        yield f"rests on {estimate.rests_on}"
    if abs(estimate.correction - 1) > BESIDE_NOTHING:
        factor = format.significant(estimate.correction)
        yield f"corrected: times {factor}, because the speed moves the threshold"


def _prediction(expected: ExpectedThreshold) -> str:
    low, high = f"{expected.low:.0f}", f"{expected.high:.0f}"
    users = format.plural(round(expected.users), "user")
    return f"predicted were {users} ({low} to {high})"


def _interval(threshold: Threshold) -> str:
    """The interval in words; an open end is given as what it is."""
    top = threshold.outcome == "found" and threshold.breaks_at is None
    by = BASES[threshold.estimate.basis] if threshold.estimate else ""
    sure = f"({format.percent(threshold.confidence)} confidence{by})"
    ends = threshold.holds_at, threshold.breaks_at
    return _interval_of(*ends, sure, ", the most that were to be tried" if top else "")


def _interval_of(holds: int | None, breaks: int | None, sure: str, top: str = "") -> str:
    if holds and breaks:
        return f"holds at {format.plural(holds, 'user')}, breaks at {breaks} {sure}"
    if holds:
        return f"holds at {format.plural(holds, 'user')}{top} {sure}"
    return f"breaks at {format.plural(breaks, 'user')} {sure}" if breaks else NOTHING


def news(trial: CapacityTrial) -> str:
    """A trial on a line: ``workers=1-u20-1: 20 users, broke; …``."""
    parts = [f"{trial.id}: {format.plural(trial.users, 'user')}, {trial.outcome}", _counts(trial)]
    return "; ".join(filter(None, parts))


def standings(thresholds: Thresholds) -> Mapping[str, str]:
    """A line for each cell, by its id: its answer, or what is known of it so far, if anything is.

    ``workers=1: so far holds at 12 users, breaks at 17 (96 % confidence); next 14 users for …``
    """
    told = {cell.id: sentence(cell) for cell in thresholds.cells}
    told |= {cell.id: sentence(cell) for cell in thresholds.searching}
    told |= {cell_id: "no trial yet" for cell_id in thresholds.missing if cell_id not in told}
    return {cell_id: f"{cell_id}: {text}" for cell_id, text in told.items()}


def _counts(trial: CapacityTrial) -> str:
    return "; ".join(f"{count.criterion}: {_beyond(count)}" for count in trial.criteria)


def _beyond(count: CriterionCount) -> str:
    """How many uploads were on the wrong side of a bound; an outcome where none are counted."""
    if count.violations is None or not count.samples:
        return str(count.outcome)
    share = format.percent(count.violations / count.samples)
    return f"{count.violations} of {count.samples} ({share})"
