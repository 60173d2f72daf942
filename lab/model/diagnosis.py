"""What the limit of a cell is, proven by giving it more; and the least that makes the cell hold.

Diagnosis    the limit that the judge named: more of it moved what was missed, and more of
             anything else did not
Remedy       change upon change until every criterion holds, and which of them it takes
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Number, Plain, Stored
from lab.model.run import DamagedCell, RunHeader
from lab.model.verdict import Change, Outcome, Resource

RELAXED, STEP, WITHOUT = "relaxed", "step", "without"
"""The axes that the trials of a diagnosis add to those of their cell."""

Effect = Literal["moved", "unmoved", "unclear", "unmeasured"]
"""What more of a resource did to what was missed; ``unmeasured`` where the trial is invalid."""

Settings = Annotated[dict[str, Plain], Field(max_length=200)]


class RelaxedTrial(Stored):
    """The cell again, with more of one resource, or of two.

    Args:
        id: of the trial.
        relaxed: the resources.
        what: what was done, in words.
        settings: the knobs that did it, as a spec writes them.
        outcome: of the trial.
        limit: what its own limit is; None where it is not known.
        effect: what it did to the criteria that were missed.
        changes: their figures beside those of the cell as it is.
        reason: the effect as a sentence.
    """

    id: str
    relaxed: tuple[Resource, ...]
    what: str
    settings: Settings
    outcome: Outcome
    limit: Resource | None
    effect: Effect
    changes: tuple[Change, ...] = ()
    reason: str


class Untried(Stored):
    """A resource of which nobody tried whether more of it helps, and why."""

    resource: Resource
    why: str


class Diagnosis(Stored):
    """What the limit of one cell is.

    Args:
        id: of the cell.
        outcome: ``proven``: more of the named limit moves what was missed, and more of anything
            else does not; ``withdrawn``: more of it does not; ``shared``: only more of two does, or
            more of either; ``undecided``: the trials do not tell; ``unbroken``: nothing was missed;
            ``invalid``: the cell itself shows nothing.
        verdict: of the cell as it is.
        named: the limit that the judge named; None where it named none.
        limit: what the trials make of it.
        missed: the criteria that were missed.
        trials: in the order in which they were made.
        untried: what was not tried.
        text: all of it in a paragraph.
    """

    id: str
    outcome: Literal["proven", "withdrawn", "shared", "undecided", "unbroken", "invalid"]
    verdict: Outcome
    named: Resource | None
    limit: tuple[Resource, ...]
    missed: tuple[str, ...]
    trials: tuple[RelaxedTrial, ...]
    untried: tuple[Untried, ...]
    text: str


class Step(Stored):
    """The cell with all changes so far.

    Args:
        id: of the trial.
        added: what was changed last, in words; empty in the first, which is the cell as it is.
        settings: all that was changed so far.
        outcome: of the trial.
        limit: what its limit is.
        reason: what decided, in the verdict's own words.
        price: what it takes of what costs money, by metric.
    """

    id: str
    added: str
    settings: Settings
    outcome: Outcome
    limit: Resource | None
    reason: str
    price: dict[str, Number] = {}


class TakenBack(Stored):
    """A change taken back while the others stay: without it, does the cell still hold?

    Args:
        id: of the trial.
        change: the knobs that were taken back, with what they were changed to.
        outcome: of the trial; it is needed where that is ``broke``, and stays unless it ``held``.
        reason: what decided.
    """

    id: str
    change: Settings
    outcome: Outcome
    reason: str

    @property
    def needed(self) -> bool:
        """Whether the cell does not hold without it."""
        return self.outcome is Outcome.BROKE

    @property
    def spared(self) -> bool:
        """Whether the cell holds without it; where it is neither, the trial did not tell."""
        return self.outcome is Outcome.HELD


class Remedy(Stored):
    """The least that makes one cell hold.

    Args:
        id: of the cell.
        outcome: ``held``: with these settings every criterion is met; ``out of reach``: nothing
            that can be changed moves it further; ``undecided``: a trial did not tell.
        settings: the knobs that it takes.
        steps: from the cell as it is.
        taken_back: each change on trial, in the order in which it was taken back.
        text: all of it in a paragraph.
    """

    id: str
    outcome: Literal["held", "out of reach", "undecided"]
    settings: Settings
    steps: tuple[Step, ...]
    taken_back: tuple[TakenBack, ...]
    text: str

    @property
    def path(self) -> tuple[str, ...]:
        """Where the limit went: ``own_threads``, ``event_loop``, ``none``."""
        return tuple(str(step.limit or step.outcome) for step in self.steps)


class Refusals(Stored):
    """``refused.json``: the trials that the stack cannot make, by id, and why."""

    trials: Annotated[dict[str, str], Field(max_length=10_000)]


class Diagnoses(RunHeader):
    """``why.json``: the diagnosis of every cell, and its remedy where one was asked for.

    ``missing`` names the cells without one yet, and of what is ``damaged`` nothing is told.
    """

    cells: tuple[Diagnosis, ...]
    remedies: tuple[Remedy, ...] = ()
    missing: tuple[str, ...]
    damaged: tuple[DamagedCell, ...] = ()
