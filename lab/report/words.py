"""What every form of the report says of a run, found once: words, axes, causes and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from lab.model import metrics
from lab.model.load import BurstLoad, ClosedLoad, Load, OpenLoad, StagesLoad
from lab.model.run import CellResult, RunInfo, Summary
from lab.model.units import format_duration, format_rate
from lab.model.verdict import Outcome
from lab.report import figures

MARKS = {Outcome.HELD: "+", Outcome.BROKE: "x", Outcome.UNDECIDED: "?", Outcome.INVALID: "!"}
"""A sign for each verdict, so that it can be told without colour."""

CLOSED_NOTE = (
    "Closed loop: a user waits for its answer before it uploads again, so a slower server is "
    "sent less. The rate is what got through, not what was wanted."
)
OPEN_NOTE = "Open loop: uploads arrive at their rate however slow the answers are."

BURST_NOTE = "Burst: every user uploads once, so what is offered does not depend on the answers."
_NOTES = {CLOSED_NOTE: {"closed", "stages"}, OPEN_NOTE: {"open"}, BURST_NOTE: {"burst"}}

_LOAD: TypeAdapter[ClosedLoad | StagesLoad | BurstLoad | OpenLoad] = TypeAdapter(Load)
_PREFIX = "errors."


@dataclass(frozen=True)
class Leading:
    """The most frequent cause of failure of a cell."""

    cause: str
    count: int

    def __str__(self) -> str:
        return f"{self.cause} {self.count}"


def varying_axes(cells: Sequence[CellResult]) -> list[str]:
    """The axes that tell the cells apart, in the spec's order; all where there is one cell."""
    names = list(dict.fromkeys(name for cell in cells for name in cell.axes))
    if len(cells) < 2:
        return names
    return [name for name in names if len({cell.axes.get(name) for cell in cells}) > 1]


def leading_error(values: Mapping[str, float]) -> Leading | None:
    """The cause that most uploads failed with; of two alike, the first in the metric table."""
    known = [name for name in metrics.BY_NAME if name.startswith(_PREFIX)]
    found = [(values[name], name) for name in known if values.get(name, 0) > 0]
    if not found:
        return None
    most, name = max(found, key=lambda pair: pair[0])
    return Leading(name.removeprefix(_PREFIX), round(most))


def first_reason(cell: CellResult) -> str:
    """The deciding reason of a verdict; empty where none was given."""
    return cell.reasons[0] if cell.reasons else ""


def load_words(load: Mapping[str, Any]) -> str:
    """An offered load as a person would say it."""
    given = _LOAD.validate_python(dict(load))
    tail = f"{given.audio} each"
    if given.think:
        tail += f", {format_duration(given.think)} of thought between"
    if isinstance(given, ClosedLoad):
        return (
            f"{given.users} users, closed loop: ramp {format_duration(given.ramp)}, warm-up "
            f"{format_duration(given.warmup)}, window {format_duration(given.window)}; {tail}"
        )
    if isinstance(given, OpenLoad):
        return (
            f"{format_rate(given.rate)} arriving, open loop: warm-up "
            f"{format_duration(given.warmup)}, window {format_duration(given.window)}; {tail}"
        )
    if isinstance(given, BurstLoad):
        return f"a burst of {given.burst} users at once, one upload each; {given.audio} each"
    steps = ", ".join(
        f"to {stage.users} over {format_duration(stage.over)}, hold {format_duration(stage.hold)}"
        for stage in given.stages
    )
    return f"users in stages, closed loop: {steps}; {tail}"


def offered(summary: Summary) -> str:
    """The load that every cell was offered, in words."""
    loads = list({str(sorted(cell.load.items())): cell.load for cell in summary.cells}.values())
    if not loads:
        return "no cell is finished"
    return load_words(loads[0]) if len(loads) == 1 else "the load differs from cell to cell"


def loop_note(summary: Summary) -> str:
    """What must be known of the kind of load to read its figures; empty without cells."""
    kinds: set[str] = {_LOAD.validate_python(cell.load).kind for cell in summary.cells}
    return " ".join(note for note, of in _NOTES.items() if kinds & of)


def stack_words(info: RunInfo) -> str:
    """The stack, why it was chosen, and the speed."""
    why = f" ({info.stack_reason})" if info.stack_reason else ""
    speed = f"speed {info.speed:g}"
    if info.speed != 1:
        speed += ", all figures in real-world time"
    return f"{info.stack} stack{why}, {speed}"


def tally(summary: Summary) -> str:
    """How many cells came to which verdict: ``12 cells: 6 held, 6 broke``."""
    counts = Counter(cell.verdict for cell in summary.cells)
    total = len(summary.cells) + len(summary.missing)
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    if summary.missing:
        parts.append(f"{len(summary.missing)} not finished")
    return f"{total} {'cell' if total == 1 else 'cells'}: {', '.join(parts) or 'none measured'}"


def table_metrics(values: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Name, value with unit and meaning of each metric, in the table's order; no zero errors."""
    names = [name for name in metrics.BY_NAME if name in values]
    names += sorted(name for name in values if name not in metrics.BY_NAME)
    return [
        (
            name,
            figures.metric(name, values[name]),
            metrics.BY_NAME[name].help if name in metrics.BY_NAME else "",
        )
        for name in names
        if values[name] or not name.startswith(_PREFIX)
    ]


def check_word(ok: bool | None) -> str:
    """Whether what was injected arrived: ``ok``, ``OFF`` or ``unclear``."""
    return {True: "ok", False: "OFF", None: "unclear"}[ok]
