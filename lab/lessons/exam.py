"""An examination: a hidden fault is drawn, its symptoms are shown, a name and a change are graded.

    seed ─> a row of `lab.lessons.exam_table` ─> a run ─> what an operator sees of it ─> symptoms
                                                     └─> sealed, until it is graded

Symptoms are what those have who run a service: statuses, latencies, connections by
``pg_stat_activity``, CPU and memory, instances, lines of the parts' logs. What only the lab sees
(which queue was full, what the limit is) is not among them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.errors import UsageError
from lab.judge.criteria import show
from lab.lessons.exam_table import FIXED, HIDDEN_FAULTS, HiddenFault
from lab.lessons.views import LessonPart
from lab.model.criterion import Criterion
from lab.model.metrics import BY_NAME, STATUS, plain
from lab.model.run import CellResult
from lab.model.suggest import suggest
from lab.model.text import clean_line
from lab.model.verdict import Outcome, Resource

NAMES = tuple(str(one) for one in Resource if one not in (Resource.NONE, Resource.UNCLEAR))
"""What may be named."""

SEEN = (
    *("attempts", "succeeded", "attempt_rate", "throughput", "error_rate"),
    *("p50", "p95", "p99"),
    *("pg_connections", "pg_lock_waiting", "db_query", "db_refusals"),
    *("cpu_backend", "cpu_worker_max", "cpu_machine", "rss_backend", "memory_backend"),
    *("threads", "fds", "oom_kills"),
    *("instances", "cold_starts", "cold_start_s", "memory_instance"),
)
"""The metrics that an operator has, without the lab."""

OF_SERVICE = re.compile(r"error|warn|fatal|refus|timed? ?out|limit|too many|kill|traceback", re.I)
"""What makes a line of a log worth reading."""

MAX_LOG_LINES = 8


def draw(seed: int) -> HiddenFault:
    """The row that a seed draws: for everybody the same."""
    digest = hashlib.sha256(f"replica-lab/exam/{seed}".encode()).digest()
    return HIDDEN_FAULTS[int.from_bytes(digest[:8], "big") % len(HIDDEN_FAULTS)]


def words(seed: int) -> str:
    """By which the runs of an examination are sealed."""
    return f"replica-lab/exam/{seed}/{draw(seed).name}"


def criteria(row: HiddenFault) -> tuple[Criterion, ...]:
    """What the service owes."""
    return tuple(map(Criterion.parse, row.criteria))


def read_name(text: str) -> str:
    """The resource that is named.

    Raises:
        UsageError: there is none of that name.
    """
    name = text.strip().lower().replace("-", "_").replace(" ", "_")
    if name not in NAMES:
        what = f"'{text[:40]}' is no limit that could be named"
        raise UsageError(what, suggest(name, NAMES))
    return name


def check_real(settings: Iterable[str]) -> None:
    """Refuse a change that nobody who runs the service can make.

    Raises:
        UsageError: one is none.
    """
    for name in settings:
        if name in FIXED:
            what = f"'{name}' is nothing that who runs the service can change"
            raise UsageError(what, "propose a change of the service, its proxy or its platform")


@dataclass(frozen=True)
class ExamGrade:
    """What came of an answer: is the name right, and did the change hold (None: not decided)?"""

    name_right: bool
    held: bool | None

    @property
    def points(self) -> int:
        """One for each."""
        return int(self.name_right) + int(bool(self.held))


def graded(row: HiddenFault, name: str, result: CellResult) -> ExamGrade:
    """An answer, and the run with the change that goes with it."""
    decided = {Outcome.HELD: True, Outcome.BROKE: False}
    return ExamGrade(name in (row.limit, *row.also), decided.get(result.verdict))


def symptoms(row: HiddenFault, result: CellResult, logs: Sequence[tuple[str, str]]) -> LessonPart:
    """What an operator sees of a run.

    Args:
        row: what was measured, of which the load is no secret.
        result: the run.
        logs: lines of the parts' logs, each with its part.
    """
    owed = ", ".join(f"`{text}`" for text in row.criteria)
    load = ", ".join(
        f"{key} {_value(value)}" for key, value in result.load.items() if _told(key, value)
    )
    where = "the VM, behind nginx" if row.target == "vm" else "the platform that scales to zero"
    sections = [
        f"## What is seen\n\nIt runs on {where}. The load: {load}. Owed is {owed}; {_owed(result)}",
        "### Answers\n\n" + _items(_statuses(result)),
        "### Figures\n\n" + _items(_figures(result)),
    ]
    if states := _states(result):
        sections.append("### pg_stat_activity\n\n" + _items(states))
    if lines := log_lines(logs):
        sections.append("### From the logs\n\n" + _items(lines))
    return LessonPart("symptoms", "\n\n".join(sections) + "\n")


def _told(key: str, value: object) -> bool:
    usual = {"kind", "think", "uplink", "health_every", "health_timeout", "mix"}
    return value not in (None, "off") and not (key in usual and value in ("0 s", None))


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value)


def _owed(result: CellResult) -> str:
    missed = [one.criterion for one in result.findings if one.outcome == "missed"]
    if missed:
        return "it is missed: " + ", ".join(f"`{text}`" for text in missed) + "."
    held = result.verdict is Outcome.HELD
    return "it is kept." if held else "too little was seen to say whether it is kept."


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _statuses(result: CellResult) -> list[str]:
    counts = {
        name: int(value)
        for name, value in result.metrics.items()
        if plain(name).startswith(STATUS) and value
    }
    told = [f"`{name.removeprefix(STATUS)}`: {count}" for name, count in counts.items()]
    sent = int(result.metrics.get("attempts", 0))
    silent = sent - sum(count for name, count in counts.items() if "(" not in name)
    if sent and silent > 0:
        told.append(f"without an answer: {silent}")
    return told or ["none"]


def _figures(result: CellResult) -> list[str]:
    """Those that an operator has, of every journey."""
    return [
        f"{name}: {show(plain(name), value)} ({BY_NAME[plain(name)].help.partition(':')[0]})"
        for name, value in result.metrics.items()
        if plain(name) in SEEN
    ]


def _states(result: CellResult) -> list[str]:
    series = result.course.series if result.course else None
    if series is None:
        return []
    of = {
        "active": series.pg_active,
        "idle": series.pg_idle,
        "idle in transaction": series.pg_in_transaction,
    }
    peaks = {
        state: max((v for v in values if v is not None), default=None)
        for state, values in of.items()
    }
    return [f"{state}: {peak} at most" for state, peak in peaks.items() if peak is not None]


def log_lines(logs: Sequence[tuple[str, str]]) -> list[str]:
    """The commonest lines that say something, one for all that differ in numbers alone."""
    counts, first = Counter[str](), dict[str, str]()
    for part, line in logs:
        if OF_SERVICE.search(line):
            shape = f"{part}: {re.sub(r'[0-9a-f]*[0-9][0-9a-f]*', '#', line)}"
            counts[shape] += 1
            first.setdefault(shape, f"{part}: {clean_line(line)[:160]}")
    return [
        f"`{first[shape].replace('`', chr(39))}` ({count} such)"
        for shape, count in counts.most_common(MAX_LOG_LINES)
    ]


def instructions(seed: int) -> LessonPart:
    """What is asked of the examinee, and how to go on."""
    names = ", ".join(f"`{name}`" for name in NAMES)
    return LessonPart(
        "asked",
        "## What limits it, and what would you change?\n\n"
        "Measure what you like, with other users or settings: `lab learn exam"
        f" --seed {seed} --measure --users … --set knob=…`. Then name the limit, and a change that"
        " an operator can make, with which everything that is owed is kept:\n\n"
        f"`lab learn exam --seed {seed} --answer LIMIT --set knob=…`\n\nLIMIT is one of {names}.\n",
    )


def verdict_part(row: HiddenFault, name: str, told: ExamGrade) -> LessonPart:
    """The answer, once it is graded."""
    right = "is right" if told.name_right else f"is not it: it was **{row.limit}**"
    change = {True: "holds", False: "does not hold", None: "was not decided"}[told.held]
    cure = " ".join(f"--set '{key}={value}'" for key, value in row.cure.items())
    return LessonPart(
        "graded",
        f"## {told.points} of 2\n\nYou named **{name}**, which {right}. {row.says}\n\n"
        f"Your change {change}. One that does: `{cure}`. What was hidden: `{row.name}`, which sets"
        f" {_settings(row)}.\n",
    )


def _settings(row: HiddenFault) -> str:
    told = ", ".join(f"`{key}={value}`" for key, value in row.knobs.items())
    return told or "nothing: it is as it was found"
