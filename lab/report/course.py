"""A trial over time in words: its stages as rows, and what went first, in order."""

from __future__ import annotations

from collections.abc import Sequence

from lab.model.criterion import Criterion
from lab.model.run import CellResult
from lab.model.verdict import Bottleneck, Crossing, Failure, StageResult, Timeline
from lab.report import figures, words

STAGE_HEADS = ("users", "time", "verdict", "up/s", "p50", "p95", "failed", "led by", "pg")
STAGE_RIGHT = ("users", "up/s", "p50", "p95", "failed", "pg")


def stage_row(stage: StageResult) -> tuple[str, ...]:
    """One stage, under `STAGE_HEADS`."""
    values = stage.metrics
    return (
        str(stage.users),
        f"{stage.start:.0f}-{stage.end:.0f} s",
        f"{words.MARKS[stage.outcome]} {stage.outcome}",
        *(figures.metric(name, values.get(name)) for name in ("throughput", "p50", "p95")),
        figures.metric("error_rate", values.get("error_rate")),
        str(words.leading_error(values) or figures.NONE),
        figures.metric("pg_connections", values.get("pg_connections")),
    )


def story(course: Timeline) -> list[str]:
    """What was crossed and what failed, a line each, in the order in which it showed."""
    told = [(one.t, _crossing(one)) for one in course.crossings]
    told += [(one.t, _failure(one)) for one in course.failures]
    return [text for _, text in sorted(told, key=lambda pair: pair[0])]


def _crossing(one: Crossing) -> str:
    value = figures.metric(Criterion.parse(one.criterion).metric, one.value)
    of = f" of {one.samples} uploads" if one.samples else ""
    return f"{one.criterion} was crossed at {_users(one)}, {one.t:.0f} s: {value}{of}"


def _users(one: Crossing) -> str:
    if one.since_users == one.users:
        return f"{one.users} users"
    return f"{min(one.since_users, one.users)}-{max(one.since_users, one.users)} users"


def _failure(one: Failure) -> str:
    return f"{one.cause} from {one.users} users on, {one.t:.0f} s: {one.count} in all"


def limit_words(limit: Bottleneck) -> str:
    """The limiting factor with its evidence, as a sentence's part."""
    return f"{limit.resource}: {limit.evidence}"


def any_limit(cells: Sequence[CellResult]) -> bool:
    """Whether any cell says what limits it, so that a column for it is worth its room."""
    return any(cell.limit for cell in cells)


def limit_name(cell: CellResult) -> str:
    """The limiting factor's name."""
    return str(cell.limit.resource) if cell.limit else figures.NONE
