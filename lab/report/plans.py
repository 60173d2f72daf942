"""What a dry run shows: what would be measured, and for how long; all times in wall seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.model.experiment import Cell
from lab.model.speed import AUTO
from lab.model.units import format_duration, format_number
from lab.report.format import clock, plural


@dataclass(frozen=True)
class PlannedSpeed:
    """The speed of a cell; ``speed`` is None where it is still to be chosen."""

    cell: str
    speed: float | None
    reason: str

    @classmethod
    def of(cls, cell: Cell) -> PlannedSpeed:
        """That of a cell as it is planned."""
        if not cell.auto_speed:
            return cls(cell.id, cell.knobs.speed, "given")
        if not cell.speed_reason:
            return cls(cell.id, None, "chosen once it is measured what an upload costs here")
        return cls(cell.id, cell.knobs.speed, f"chosen: {cell.speed_reason}")

    def text(self) -> str:
        """Without the cell's id."""
        return f"speed {AUTO if self.speed is None else format_number(self.speed)}, {self.reason}"


@dataclass(frozen=True)
class RunPlan:
    """A run: each cell that is missing, and why a load is too small for a criterion of it.

    ``idle`` has a sentence for each knob that was set and that cells do not feel, ``speeds`` the
    speed of each cell, ``only`` the patterns by which cells were taken; one that something
    disturbs is measured again up to ``retries`` times. ``never_early`` says of cells that are to
    stop when they are decided why they never do.
    """

    experiment: str
    estimate_s: int
    cells: Mapping[str, Sequence[str]]
    idle: Sequence[str] = ()
    speeds: Sequence[PlannedSpeed] = ()
    only: Sequence[str] = ()
    retries: int = 0
    never_early: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "experiment": self.experiment,
            "cells": list(self.cells),
            "estimate_s": self.estimate_s,
            "speeds": [asdict(speed) for speed in self.speeds],
            "undecidable": [reason for reasons in self.cells.values() for reason in reasons],
            "without_effect": list(self.idle),
            "only": list(self.only),
            "retries": self.retries,
            "never_early": [reason for reasons in self.never_early.values() for reason in reasons],
        }

    def text(self) -> str:
        """For the terminal."""
        cells = plural(len(self.cells), "cell")
        if self.only:
            cells += f" (only {', '.join(self.only)})"
        head = f"{self.experiment}: {cells}, about {clock(self.estimate_s)}"
        if self.cells and self.retries:
            head += f"; each again up to {plural(self.retries, 'time')}, if something disturbs it"
        lines = [head]
        speeds = {speed.cell: speed.text() for speed in self.speeds}
        for cell, reasons in self.cells.items():
            told = [speeds[cell]] if cell in speeds else []
            notes = (*told, *reasons, *self.never_early.get(cell, ()))
            lines += [f"  {cell}", *(f"    {note.removeprefix(f'{cell}: ')}" for note in notes)]
        lines += self.idle
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class CellProof:
    """The diagnosis of a cell: what there may be more of, and what a trial takes."""

    id: str
    may_be: Sequence[str]
    trial_s: float
    speed: str = ""

    @property
    def least_s(self) -> float:
        """The cell as it is: where it holds there is nothing to prove."""
        return self.trial_s

    @property
    def most_s(self) -> float:
        """The cell as it is, and with more of everything, each alone."""
        return (1 + len(self.may_be)) * self.trial_s

    def text(self) -> str:
        """Without the cell's id."""
        return (
            f"{clock(self.trial_s)} a trial, as a rule 3 to 6 if it breaks, never more than"
            f" {1 + len(self.may_be)} without pairs; {self.speed}"
        )


@dataclass(frozen=True)
class ProofPlan:
    """Diagnoses; with ``until_held`` each goes on for as many trials as it takes."""

    experiment: str
    cells: Sequence[CellProof]
    idle: Sequence[str] = ()
    until_held: bool = False

    @property
    def least_s(self) -> int:
        """What all take at the least, in wall seconds."""
        return round(sum(cell.least_s for cell in self.cells))

    @property
    def most_s(self) -> int:
        """What all take where no pair has to be tried."""
        return round(sum(cell.most_s for cell in self.cells))

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "experiment": self.experiment,
            "least_s": self.least_s,
            "most_s": self.most_s,
            "until_held": self.until_held,
            "cells": [asdict(cell) for cell in self.cells],
            "without_effect": list(self.idle),
        }

    @property
    def head(self) -> str:
        """How many cells, and how long they take."""
        cells = plural(len(self.cells), "cell")
        return f"{self.experiment}: {cells}, {clock(self.least_s)} to {clock(self.most_s)}"

    def text(self) -> str:
        """For the terminal."""
        more = [
            "each as it is, and if it breaks with more of each resource that is near its limit,",
            "and of two together where no single one moves what was missed",
        ]
        if self.until_held:
            more.append("--until-held goes on until the cell holds; --most-time bounds it")
        lines = [self.head, *(f"  {line}" for line in more)]
        for cell in self.cells:
            lines += [f"  {cell.id}", f"    {cell.text()}"]
        return "\n".join([*lines, *self.idle]) + "\n"


@dataclass(frozen=True)
class NextTrial:
    """The trial that a search would make next, and at which speed."""

    users: int
    window_s: float
    estimate_s: int
    speed: str = ""


@dataclass(frozen=True)
class LongestSearch:
    """What a search may take at most."""

    trials: int
    estimate_s: int


@dataclass(frozen=True)
class CellSearch:
    """The search of a cell after so many trials; ``next`` is None where it is answered."""

    id: str
    trials: int
    next: NextTrial | None = None
    longest: LongestSearch | None = None

    def text(self) -> str:
        """Without the cell's id."""
        if self.next is None or self.longest is None:
            return f"answered by {self.trials} trials"
        users = plural(self.next.users, "user")
        return (
            f"{'next' if self.trials else 'first'} {users} for"
            f" {format_duration(self.next.window_s)}, {clock(self.next.estimate_s)} on the clock;"
            f" never more than {self.longest.trials} trials, {clock(self.longest.estimate_s)}\n"
            f"    {self.next.speed}"
        )


@dataclass(frozen=True)
class SearchPlan:
    """Searches for thresholds up to ``max_users``; one takes so many ``trials``.

    That is as a rule where it is ``usual``, else at the least. ``idle`` has a sentence for each
    knob that was set and that cells do not feel.
    """

    experiment: str
    max_users: int
    trials: int
    cells: Sequence[CellSearch]
    idle: Sequence[str] = ()
    usual: bool = True

    @property
    def estimate_s(self) -> int:
        """What all take as a rule, or at the least."""
        return sum(self.trials * cell.next.estimate_s for cell in self.cells if cell.next)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        cells = [asdict(cell) for cell in self.cells]
        return {
            "experiment": self.experiment,
            "usual_s" if self.usual else "least_s": self.estimate_s,
            "cells": cells,
            "without_effect": list(self.idle),
        }

    def text(self) -> str:
        """For the terminal."""
        head = (
            f"{self.experiment}: {plural(len(self.cells), 'cell')}, up to {self.max_users} users;"
            f" {'as a rule' if self.usual else 'at least'} {self.trials} trials a cell,"
            f" {clock(self.estimate_s)}"
        )
        lines = [head, *(f"  {cell.id}: {cell.text()}" for cell in self.cells), *self.idle]
        return "\n".join(lines) + "\n"
