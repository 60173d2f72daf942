"""What ``lab predict`` prints: the model's figures of each cell, and what was measured beside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lab.model.prediction import Difference, PredictedFigures, Prediction
from lab.report.blocks import Block, Heading, Items, Paragraph, Table
from lab.report.format import NONE, brief, percent, plural, significant
from lab.report.terminal import Style, blocks_text

ABOUT = (
    "By a model, not measured. It claims throughput within 3 % and p95 within 9 % of the replica,"
    " where few uploads fail; docs/predict.md says what it contains."
)
LEARNS = "the replica, or the model, has something to learn"

FIGURES = ("cell", "users", "up/s", "p50 s", "p95 s", "p99 s", "late", "failed")
LIMITS = ("cell", "limit", "threshold, simulated", "by the laws of queues alone")
BEYOND = "So many users are not simulated; what follows is by the laws of queues alone."
RESOURCES = ("resource", "carries /s", "fails from", "how")


def predictions_data(found: Sequence[Prediction]) -> list[dict[str, Any]]:
    """For ``--json``: a value a cell."""
    return [one.model_dump(mode="json") for one in found]


def predictions_text(found: Sequence[Prediction], style: Style) -> str:
    """For the terminal."""
    return blocks_text(_blocks(found), style)


def _blocks(found: Sequence[Prediction]) -> Iterator[Block]:
    known = [one for one in found if not one.unknown]
    yield Paragraph(ABOUT)
    if any(one.figures for one in known):
        yield Table.of(FIGURES, map(_figures, known), right=FIGURES[1:])
    elif known:
        yield Paragraph(BEYOND)
    if known:
        yield Heading("Where it begins to fail")
        yield Table.of(LIMITS, map(_fails, known))
    for one in known if len(known) == 1 else ():
        yield from _details(one)
    if beside := [one for one in known if one.measured and one.figures]:
        yield Heading("Beside what was measured")
        columns = ("cell", "up/s", "measured", "off", "p95 s", "measured", "off")
        yield Table.of(columns, map(_beside, beside))
        yield from _learning(beside)
    if unknown := [
        f"{one.id}: {one.unknown.removeprefix(f'{one.id}: ')}" for one in found if one.unknown
    ]:
        yield Heading("Not predicted")
        yield Items(tuple(unknown))
    if notes := dict.fromkeys(note for one in known for note in one.notes):
        yield Heading("To be known")
        yield Items(tuple(notes))


def _seconds(value: float | None) -> str:
    return NONE if value is None else brief(value)


def _share(value: float | None) -> str:
    return NONE if value is None else percent(value)


def _figures(one: Prediction) -> tuple[str, ...]:
    seen = one.figures or PredictedFigures(
        throughput=0.0, p50=None, p95=None, p99=None, error_rate=None
    )
    return (
        one.id,
        str(one.users),
        significant(seen.throughput) if one.figures else NONE,
        *map(_seconds, (seen.p50, seen.p95, seen.p99)),
        *map(_share, (seen.late, seen.error_rate)),
    )


def _fails(one: Prediction) -> tuple[str, ...]:
    thresholds = "; ".join(
        f"{crossed.criterion}: {_users(crossed.holds_at, crossed.breaks_at)}"
        for crossed in one.thresholds
    )
    return one.id, one.limit, thresholds or NONE, one.first_failure


def _users(holds: int, breaks: int | None) -> str:
    if breaks is None:
        return f"holds at {holds}, the most that were tried"
    return f"holds at {holds}, breaks at {breaks}" if holds else f"breaks at {breaks}"


def _details(one: Prediction) -> Iterator[Block]:
    """What is only told of a single cell."""
    if one.waits:
        waits = ", ".join(f"{name} {brief(seconds)} s" for name, seconds in one.waits.items())
        yield Paragraph(waits, lead="waits")
    if one.causes:
        causes = ", ".join(f"{name} {percent(share)}" for name, share in one.causes.items())
        yield Paragraph(causes, lead="failures")
    if one.worth:
        worth = one.worth
        yield Paragraph(
            f"at {one.crossed_first} a minute is worth {significant(worth['late'])} independent"
            f" uploads where late ones are counted, and {significant(worth['z'])} by the chance of"
            f" another storage time; the ramp is forgotten after {significant(one.warmup or 0)} s",
            lead="worth",
        )
    rows = [
        (
            bound.resource,
            NONE if bound.rate is None else significant(bound.rate),
            NONE if bound.fails_at is None else plural(round(bound.fails_at), "user"),
            bound.how or NONE,
        )
        for bound in one.bounds
    ]
    yield Heading("By the laws")
    yield Table.of(RESOURCES, rows, right=("carries /s",))


def _beside(one: Prediction) -> tuple[str, ...]:
    predicted, measured = one.figures, one.measured
    if predicted is None or measured is None:
        return ()
    pairs = (
        (predicted.throughput, measured.throughput),
        (predicted.p95, measured.p95),
    )
    return (one.id, *(text for pair in pairs for text in (*map(_seconds, pair), _off(*pair))))


def _off(predicted: float | None, measured: float | None) -> str:
    if not predicted or measured is None:
        return NONE
    return f"{100 * (measured / predicted - 1):+.1f} %"


def _learning(beside: Sequence[Prediction]) -> Iterator[Block]:
    apart = [one for one in beside if one.differs]
    if not apart:
        yield Paragraph(f"{plural(len(beside), 'cell')}: all as near as the model claims to be.")
        return
    yield Items(tuple(f"{one.id}: {'; '.join(map(_difference, one.differs))}" for one in apart))
    yield Paragraph(f"{len(apart)} of {plural(len(beside), 'cell')} differ: {LEARNS}.")


def _difference(one: Difference) -> str:
    unit = " s" if one.metric == "p95" else "/s"
    return (
        f"{one.metric} {brief(one.measured)}{unit} where {brief(one.predicted)}{unit} is predicted,"
        f" more than {percent(one.allowed)} apart"
    )
