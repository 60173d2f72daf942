"""A claim of the incident report, the cells that decide it, and what came of it.

    claim file ─> ReportClaim ─┐
    stored cells ──────────────┴─> ClaimVerdict, with a ClaimFinding for each condition ─> Ledger

A claim asserts all of its conditions at once: it is confirmed when every one is met, refuted when
one is missed, and undecided otherwise. So what is to be asserted is written as conditions that the
report's statement would have met, whatever anybody expects of them. Where the replica shows too
little for that (a cold start is shorter than the platform's), a claim says by itself what refutes
it, one condition being enough, and what it would take to decide what lies between.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Count, Frozen, Number, Stored
from lab.model.criterion import Criterion
from lab.model.verdict import Resource

LEDGER_SCHEMA = 1
"""The version of a ledger as JSON."""

MAX_CELLS, MAX_CONDITIONS = 20, 20
"""So many a claim may have: more would be several claims."""

ClaimOutcome = Literal["confirmed", "refuted", "undecided", "not measured"]
"""What a claim comes to; the last where nothing is stored by which it could be decided."""

ConditionOutcome = Literal["met", "missed", "undecided", "not measured"]

Label = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]


class ClaimCell(Frozen):
    """A cell of a spec, by the spec's name and the cell's id."""

    spec: Label
    cell: Annotated[str, Field(min_length=1, max_length=200)]

    def __str__(self) -> str:
        return f"{self.spec}/{self.cell}"


class Condition(Frozen):
    """What has to be seen in a cell: a criterion that is met, or the limit that is named.

    Args:
        cell: the cell's label in the claim.
        criterion: as a spec writes it; a relative one is held against the cell ``beside``.
        beside: the other cell's label, of a relative criterion alone.
        limit: in place of a criterion, the resource that the cell's verdict names.
    """

    cell: Label
    criterion: Criterion | None = None
    beside: Label | None = None
    limit: Resource | None = None

    def __str__(self) -> str:
        if self.criterion is None:
            return f"{self.cell}: the limit is {self.limit}"
        return f"{self.cell}: {self.criterion}".replace("x baseline", f"x that of {self.beside}")


class ReportClaim(Frozen):
    """A claim file: what the report says, and by which cells it is judged."""

    claim: Annotated[Label, Field(description="its name, in kebab-case, as its file's")]
    section: Annotated[
        str, Field(min_length=1, max_length=200, description="the section of the report")
    ]
    says: Annotated[
        str, Field(min_length=1, max_length=1000, description="the statement, in own words")
    ]
    cells: Annotated[
        dict[Label, ClaimCell],
        Field(min_length=1, max_length=MAX_CELLS, description="cells of specs, each with a label"),
    ]
    confirmed_if: Annotated[
        tuple[Condition, ...],
        Field(
            min_length=1,
            max_length=MAX_CONDITIONS,
            description="met, all of them, if the statement is true",
        ),
    ]
    refuted_if: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=MAX_CONDITIONS,
            description="one of them met refutes it, where not to meet the others does not",
        ),
    ] = ()
    takes: Annotated[
        str, Field(max_length=500, description="what would decide it where none of both holds")
    ] = ""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Those that confirm it, and those that refute it."""
        return self.confirmed_if + self.refuted_if


class ClaimFinding(Stored):
    """A condition against the evidence.

    Args:
        condition: as a sentence.
        outcome: what came of it.
        value: of the metric, or the ratio; None where nothing was measured, or it is a limit.
        low: lower end of what is known of it at 95 %.
        high: upper end.
        reason: what was measured, as a sentence.
        takes: what it would take to decide it; empty where it is decided, or the reason says it.
        refutes: whether it is one of those that refute the claim when they are met.
    """

    condition: str
    outcome: ConditionOutcome
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    reason: str
    takes: str = ""
    refutes: bool = False


class DecidingCell(Stored):
    """A cell that a claim is judged by, and the stored run that it was found in, if any."""

    label: str
    spec: str
    cell: str
    run: str = ""


class ClaimVerdict(Stored):
    """A claim with its outcome, each condition, and the runs that they rest on.

    ``takes`` is what the claim itself says would decide it, where it is undecided.
    """

    claim: str
    section: str
    says: str
    outcome: ClaimOutcome
    findings: tuple[ClaimFinding, ...]
    cells: tuple[DecidingCell, ...]
    takes: str = ""


class LedgerRun(Stored):
    """A stored run that decides something: when it began, and on which stack and machine."""

    run: str
    started: str
    stack: str
    machine: dict[str, str] = {}
    git: str = ""


class Ledger(Stored):
    """Every claim that was asked for, and the runs that they rest on, by name."""

    schema_version: int = LEDGER_SCHEMA
    claims: tuple[ClaimVerdict, ...]
    runs: tuple[LedgerRun, ...] = ()

    @property
    def counts(self) -> dict[str, Count]:
        """How many claims came to what; only what any came to."""
        outcomes = [claim.outcome for claim in self.claims]
        kinds = ("confirmed", "refuted", "undecided", "not measured")
        return {kind: outcomes.count(kind) for kind in kinds if kind in outcomes}

    @property
    def decided(self) -> bool:
        """Whether every claim is confirmed or refuted."""
        return set(self.counts) <= {"confirmed", "refuted"}
