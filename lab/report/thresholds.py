"""A search for thresholds as text: a sentence a cell, and each trial as it comes."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from pathlib import Path

from rich.text import Text

from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, Thresholds
from lab.model.load import ClosedLoad
from lab.model.run import RunInfo
from lab.model.units import format_duration
from lab.model.verdict import Outcome
from lab.report import figures, words
from lab.report.details import table
from lab.report.style import COLOURS, Style

LIKE = {"found": Outcome.HELD, "undecided": Outcome.UNDECIDED, "invalid": Outcome.INVALID}
"""The verdict whose sign and colour an answer has."""

_TIED = "\xa0"
"""Stands between a number and its unit while lines are broken."""

TRIAL_HEADS = ("trial", "users", "window", "uploads", "verdict", "beyond each bound")
TRIAL_RIGHT = ("users", "window", "uploads")


def sentence(found: Threshold) -> str:
    """What a search says of a cell, for whoever has to decide by it."""
    parts = [_between(found)]
    if found.outcome != "found":
        parts = [f"{found.outcome}: {found.reason}", f"for certain: {parts[0]}"]
    if found.crossed_first:
        parts.append(f"{found.crossed_first} is crossed first")
    if found.more is not None:
        parts.append(f"about {figures.clock(found.more)} more of load would probably decide it")
    return "; ".join([*parts, effort(found)])


def _between(found: Threshold) -> str:
    """The interval in words; an open end is told as what it is."""
    sure = f"({figures.percent(found.confidence)} confidence)"
    if found.holds_at and found.breaks_at:
        return f"holds at {people(found.holds_at)}, breaks at {found.breaks_at} {sure}"
    if found.holds_at:
        most = ", the most that were to be tried" if found.outcome == "found" else ""
        return f"holds at {people(found.holds_at)}{most} {sure}"
    if found.breaks_at:
        return f"breaks at {people(found.breaks_at)} {sure}"
    return "nothing"


def people(number: int) -> str:
    """So many users."""
    return f"{number} user" if number == 1 else f"{number} users"


def effort(found: Threshold) -> str:
    """How many trials there were, and how much time under load they took."""
    count = len(found.trials)
    spent = figures.clock(sum(trial.spent for trial in found.trials))
    return f"{count} trial{'' if count == 1 else 's'}, {spent} of load"


def news(trial: CapacityTrial) -> str:
    """A trial on one line, as it ends: ``workers=1-u20-1: 20 users, broke; …``."""
    counts = "; ".join(f"{each.criterion}: {beyond(each)}" for each in trial.criteria)
    return f"{trial.id}: {people(trial.users)}, {trial.outcome}" + (f"; {counts}" if counts else "")


def beyond(tried: CriterionCount) -> str:
    """How many uploads were on the wrong side of a bound; an outcome where none are counted."""
    if tried.violations is None or not tried.samples:
        return str(tried.outcome)
    share = figures.percent(tried.violations / tried.samples)
    return f"{tried.violations} of {tried.samples} ({share})"


def trial_row(trial: CapacityTrial) -> tuple[str, ...]:
    """A trial under `TRIAL_HEADS`."""
    return (
        trial.id,
        str(trial.users),
        format_duration(trial.window),
        str(trial.sent),
        str(trial.outcome),
        "; ".join(f"{each.criterion}: {beyond(each)}" for each in trial.criteria),
    )


def tally(found: Thresholds) -> str:
    """How many cells came to what: ``6 cells: 5 found, 1 undecided``."""
    counts = Counter[str](cell.outcome for cell in found.cells)
    parts = [f"{counts[outcome]} {outcome}" for outcome in LIKE if counts[outcome]]
    if found.missing:
        parts.append(f"{len(found.missing)} not finished")
    total = len(found.cells) + len(found.missing)
    return f"{total} {'cell' if total == 1 else 'cells'}: {', '.join(parts)}"


def asked(info: RunInfo) -> str:
    """When a cell holds, as the spec says it."""
    return f"a cell holds while {' and '.join(map(str, info.experiment.criteria))}"


def searched(info: RunInfo) -> str:
    """What users were tried, and how."""
    load = info.experiment.load
    if not isinstance(load, ClosedLoad):
        return words.load_words(load.model_dump(mode="json"))
    tail = f", {format_duration(load.think)} of thought between" if load.think else ""
    return (
        f"up to {info.max_users} users, closed loop: ramp {format_duration(load.ramp)}, warm-up "
        f"{format_duration(load.warmup)}, windows of {format_duration(load.window)} and longer; "
        f"{load.audio} each{tail}"
    )


def thresholds_text(found: Thresholds, info: RunInfo, where: Path | str, style: Style) -> str:
    """The run as text: a sentence a cell.

    Args:
        found: the answers.
        info: what was decided before the first trial.
        where: the run's folder, as the reader can name it.
        style: width and colour of the place where it is shown.
    """
    title = Text(found.experiment, style="bold")
    if found.about:
        title.append(f": {found.about}", style="not bold")
    lines = [title, *map(Text, (words.stack_words(info), asked(info), searched(info)))]
    lines += [Text(words.CLOSED_NOTE, style="dim"), Text()]
    for cell in found.cells:
        lines += [_mark(cell), *_indented(sentence(cell), style)]
    for cell_id in found.missing:
        lines += [Text(f"- {cell_id}"), *_indented("not finished", style)]
    lines += [Text(), Text(tally(found), style="bold")]
    if found.missing:
        lines.append(Text(f"go on: lab threshold --resume {where}"))
    lines.append(Text(f"stored in {where}"))
    lines.append(Text("see more: lab report RUN [--cell ID | --html | --markdown | --json]"))
    return style.render(*lines)


def _mark(cell: Threshold) -> Text:
    like = LIKE[cell.outcome]
    return Text.assemble((f"{words.MARKS[like]} ", COLOURS[like]), (cell.id, "bold"))


def _indented(text: str, style: Style) -> list[Text]:
    width = max(style.width - 4, 10)
    whole = re.sub(r"(?<=\d) (?=%|(s|min|h|users?)\b)", _TIED, text)
    lines = textwrap.wrap(whole, width, break_on_hyphens=False)
    return [Text("    " + line.replace(_TIED, " ")) for line in lines]


def threshold_details(found: Threshold, style: Style) -> str:
    """One cell's answer with every trial, as text."""
    made = table(TRIAL_HEADS, right=TRIAL_RIGHT)
    for trial in found.trials:
        made.add_row(*trial_row(trial))
    return style.render(
        _mark(found), *_indented(sentence(found), style), Text("\ntrials", style="bold"), made
    )
