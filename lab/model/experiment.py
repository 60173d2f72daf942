"""An experiment, which is what a spec says, typed; and its cells, each ready to be measured.

    spec ─parse─> Experiment ─expand─> Cell, Cell, …

There is a cell for each combination of the matrix, in each repeat.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Frozen, Plain
from lab.model.criterion import Criterion
from lab.model.fault import Fault, ProcessFault
from lab.model.journeys import REQUESTS, Journey
from lab.model.knobs import Knobs, Preset
from lab.model.load import (
    MAX_AUDIO,
    MIN_AUDIO,
    MIN_HEALTH_EVERY_S,
    BurstLoad,
    Load,
    OpenLoad,
    StagesLoad,
)
from lab.model.metrics import is_of_journey, journeys_of, with_journey
from lab.model.replica import STUDENTS, Target
from lab.model.split import Split
from lab.model.units import format_duration, format_size

Question = Literal[
    "general",
    "pool_validation",
    "gcs_threshold",
    "spike",
    "endurance",
    "stress",
    "pool_exhaustion",
    "gcs_backlog",
    "cold_start",
    "memory",
    "advice",
]
"""The questions that there is an answer to; ``general`` says which cells held and which broke."""

SCHEMA = 1
"""The version of the spec's form that this lab reads."""

DEFAULT_FAULTS = ("gcs-latency", "db-distance")
"""Storage is 2-5 s away and the database a round trip: what is always so, unless said otherwise."""

MAX_FAULTS = 50
MAX_CRITERIA = 50
"""So many of a spec are read: more is a slip of the pen, or of a program's."""

Axis = (
    Annotated[list[Plain], Field(min_length=1)]
    | Annotated[dict[str, dict[str, Plain]], Field(min_length=1)]
)


class Experiment(Frozen):
    """A spec as its file says it.

    ``knobs`` and the values of ``matrix`` are kept as written; `lab.plan` turns them into
    typed knobs, cell by cell, where their bounds are checked.
    """

    schema_: Annotated[int, Field(alias="schema", ge=1)] = SCHEMA
    experiment: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
            max_length=60,
            description="its name, in kebab-case",
        ),
    ]
    about: Annotated[str, Field(max_length=2000, description="the question that it answers")] = ""
    target: Annotated[
        Target, Field(description="where the backend runs; to compare both, an axis of `matrix`")
    ] = "vm"
    answers: Annotated[
        Question, Field(description="the question that its answer is about; any spec has `general`")
    ] = "general"
    preset: Preset = Preset.AS_FOUND
    knobs: Annotated[dict[str, Plain], Field(description="knobs that every cell shares")] = {}
    matrix: Annotated[
        dict[str, Axis],
        Field(
            description="axes: a knob with its values, `target` with both targets, `load` with "
            "labelled keys of the load, or a name with labelled sets of knobs"
        ),
    ] = {}
    load: Load
    faults: Annotated[
        tuple[str, ...], Field(max_length=MAX_FAULTS, description="files under faults/, by name")
    ] = DEFAULT_FAULTS
    baseline: Annotated[
        dict[str, Plain] | None,
        Field(
            min_length=1,
            description="the cell that every other one is compared with, by its place on the axes",
        ),
    ] = None
    criteria: Annotated[
        tuple[Criterion, ...],
        Field(min_length=1, max_length=MAX_CRITERIA, description="a cell holds when all are met"),
    ] = (
        Criterion(metric="p95", op="<", bound=10.0),
        Criterion(metric="error_rate", op="<", bound=0.05),
    )
    stop_when_decided: Annotated[
        bool,
        Field(
            description="end a cell's window as soon as every criterion is certain; for verdicts, "
            "not for figures"
        ),
    ] = False
    repeat: Annotated[int, Field(ge=1, le=100, description="trials of each cell")] = 1
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1


MAX_OF_A_CELL = 200
"""So many faults, and criteria, a stored cell may have: each is judged."""

MAX_REASON = 500
"""Characters of the reason for a speed."""


class Cell(Frozen):
    """One trial: settings, load, faults and what it is judged by.

    ``id`` names its folder: ``workers=2,pool=5+5`` and, in a repeat, ``…,repeat=2``;
    ``axes`` is the same as a mapping, for tables. With ``stop_when_decided`` its window ends as
    soon as every criterion is certain. Of a cell with ``auto_speed`` the lab chooses the speed:
    until it has, that is 1, and ``speed_reason`` is empty; then it says what keeps the speed from
    being higher. ``split`` is what a model of the cell said, before it was measured, of how several
    workers share uploads; None where none was asked or knows. ``baseline`` is the id of the cell
    that it is compared with, and the ``relative`` criteria hold it against that one; it is empty
    where there is none, as of the baseline itself.
    """

    id: str
    axes: dict[str, str]
    target: Target = "vm"
    knobs: Knobs
    load: Load
    faults: Annotated[tuple[Fault, ...], Field(max_length=MAX_OF_A_CELL)]
    criteria: Annotated[tuple[Criterion, ...], Field(max_length=MAX_OF_A_CELL)]
    stop_when_decided: bool = False
    baseline: str = ""
    relative: Annotated[tuple[Criterion, ...], Field(max_length=MAX_OF_A_CELL)] = ()
    seed: Annotated[int, Field(ge=0, le=2**64)]
    auto_speed: bool = False
    speed_reason: Annotated[str, Field(max_length=MAX_REASON)] = ""
    split: Split | None = None

    def at_speed(self, speed: float, reason: str = "") -> Cell:
        """The same cell at a speed, and why it was chosen."""
        knobs = self.knobs.model_copy(update={"speed": speed})
        return self.model_copy(update={"knobs": knobs, "speed_reason": reason[:MAX_REASON]})

    @property
    def as_planned(self) -> Cell:
        """The same before its speed was chosen, if it is one that is chosen, and without what a
        model said of it."""
        planned = self.model_copy(update={"split": None}) if self.split else self
        return planned.at_speed(1.0) if self.auto_speed else planned

    @property
    def storage_slots(self) -> int:
        """How many storage calls can run at once, all workers or all instances together."""
        on_vm = self.target == "vm"
        return self.knobs.storage_slots if on_vm else self.knobs.instance_slots

    @property
    def process_faults(self) -> tuple[ProcessFault, ...]:
        """What is to happen to the parts themselves."""
        return tuple(planned for fault in self.faults if (planned := fault.process_fault))


def unasked(criterion: Criterion, load: Load) -> tuple[str, str] | None:
    """Why a load leaves a criterion without evidence: what, and the remedy; None: it does not."""
    journey = criterion.journey
    if journey in load.journeys or not is_of_journey(criterion.metric):
        return None
    what = f"criterion '{criterion}': the load has no {REQUESTS[journey].noun}s"
    if journey is Journey.HEALTH:
        return what, "give it a health_every, as 10 s, or leave the criterion out"
    instead = f"write {with_journey(criterion.metric, load.main)}"
    could = load.main is not journey and load.main in journeys_of(criterion.metric)
    return what, f"give {journey} a share of its mix, or {instead if could else 'leave it out'}"


def _audio_problem(load: Load) -> tuple[str, str] | None:
    low, high = load.audio.low, load.audio.high
    if low < MIN_AUDIO:
        what = f"audio of {format_size(low)} is not a WAV file"
        return what, f"ask for {MIN_AUDIO} B or more"
    if high > MAX_AUDIO:
        what = f"audio of {format_size(high)} cannot be held ready"
        return what, f"ask for {format_size(MAX_AUDIO)} or less"
    return None


def _health_problem(load: Load) -> tuple[tuple[str], str, str] | None:
    if load.health_every and load.health_every < MIN_HEALTH_EVERY_S:
        what = f"health every {format_duration(load.health_every)} is a load of its own"
        return ("health_every",), what, f"ask for {format_duration(MIN_HEALTH_EVERY_S)} or more"
    if load.health_timeout and not load.health_every:
        return ("health_timeout",), "nobody asks for health", "set health_every, as to 10 s"
    return None


def load_problem(load: Load) -> tuple[tuple[str | int, ...], str, str] | None:
    """Why the test students cannot offer a load: where in it, what, and the remedy; None: they can.

    What its type cannot say: an open load's users at once follow from its rate and timeout,
    of stages one has to take time, and one to have users, and a WAV file has a header.
    """
    if problem := _audio_problem(load):
        return ("audio",), *problem
    if unheard := _health_problem(load):
        return unheard
    if load.peak_users > STUDENTS:
        what = f"the load may have {load.peak_users} users at once; there are {STUDENTS} students"
        if isinstance(load, OpenLoad):
            return (), what, "lower the rate or the timeout, or set max_in_flight"
        key = "burst" if isinstance(load, BurstLoad) else "users"
        return (), what, f"set {key} to {STUDENTS} or fewer"
    if not isinstance(load, StagesLoad):
        return None
    if load.measured[1] <= 0:
        return ("stages",), "the stages take no time at all", "give a stage `over` or `hold`"
    for index, stage in enumerate(load.stages):
        if stage.over + stage.hold <= 0:
            what = f"stage {index + 1} of {len(load.stages)} takes no time"
            return ("stages", index), what, "give it `over` or `hold`"
    if load.peak_users == 0:
        return ("stages",), "no stage has any users", "give a stage `users` of 1 or more"
    return None
