"""A diagnosis and its trials: each that it asks for is measured, stored and judged as any cell.

    for cell:  the cell as it is ─> Proof.next(trials so far) ─> a trial: cells/<cell>,relaxed=…/
                                          └─> Diagnosis ─> Mending.next(…) ─> Remedy ─> why.json

What is stored is all that a diagnosis knows, so one that was interrupted goes on where it was. What
the stack could not make is stored too: from the same files always comes the same answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from math import inf
from typing import Protocol, TypeVar

from lab.diagnosis.remedy import Mended, Mending
from lab.diagnosis.trials import as_it_is, name_of, settings_of
from lab.diagnosis.why import Proof, Resources
from lab.errors import MachineError, StoreError
from lab.model.diagnosis import (
    RELAXED,
    STEP,
    WITHOUT,
    Diagnoses,
    Diagnosis,
    Remedy,
)
from lab.model.experiment import Cell
from lab.model.run import CellResult, DamagedCell, Summary
from lab.model.verdict import Outcome, Resource
from lab.plan import estimate
from lab.runner import CellProgress, DamagedEvidence, Lab, damage_apart, settle_cell
from lab.store import RunFolder

Answer = TypeVar("Answer", Diagnosis, Remedy)
Answer_co = TypeVar("Answer_co", Diagnosis, Remedy, covariant=True)

News = CellResult | Diagnosis | Remedy
"""What comes of a diagnosis while it goes on: each trial as it is judged, and then the answers."""


@dataclass
class Budget:
    """So many wall-clock seconds, of which a trial is not begun that would take more.

    Args:
        seconds: in all.
    """

    seconds: float = inf

    def __post_init__(self) -> None:
        self._ends = time.monotonic() + self.seconds

    def allows(self, trial: Cell) -> bool:
        """Whether a trial may still be begun."""
        return time.monotonic() + estimate([trial]) <= self._ends


def explain(
    lab: Lab,
    run: RunFolder,
    cells: Sequence[Cell],
    show: Callable[[News], None] = lambda _news: None,
    seconds: float = inf,
) -> Diagnoses:
    """Diagnose every cell; what is known so far is stored after each.

    One of which something that is stored turns out damaged is told apart, and the next goes on.

    Args:
        lab: the stack, the load and what else a cell is measured with.
        run: where the trials are stored; it says whether remedies are asked for.
        cells: which.
        show: called with every trial, and every answer.
        seconds: the wall-clock time in which it is to end; the answer then is of what was measured.

    Raises:
        LabError: this machine cannot go on; the finished trials are stored.
    """
    budget, diagnoses = Budget(seconds), write_answers(run)
    damaged = list[DamagedCell]()
    for index, cell in enumerate(cells):
        try:
            _explain(Measure(lab, run, (index, cells), budget, show), cell)
        except DamagedEvidence as error:
            damaged.append(DamagedCell(id=cell.id, problem=str(error)))
        diagnoses = write_answers(run, damaged)
    return diagnoses


def _explain(measure: Measure, cell: Cell) -> None:
    """Measure what tells the limit of a cell, and what makes it hold where that is asked for.

    Raises:
        DamagedEvidence: something that is stored of it is damaged.
        LabError: this machine cannot go on.
    """
    run = measure.run
    with damage_apart():
        settled = run.cell(cell.id).settled()
    if not settled:
        measure(as_it_is(cell))
    for trial in filter(measure.budget.allows, _invalid(run, cell)):
        measure(trial)
    measure.show(_carried_out(measure, partial(proof_of, run, cell)))
    if run.info.until_held:
        measure.show(_carried_out(measure, partial(mending_of, run, cell)))


@dataclass(frozen=True)
class Measure:
    """Measures the trials of one cell; what the stack refuses is stored as that."""

    lab: Lab
    run: RunFolder
    place: tuple[int, Sequence[Cell]]
    budget: Budget
    show: Callable[[News], None]

    def __call__(self, trial: Cell) -> None:
        """A trial, measured as any cell is, or refused."""
        index, cells = self.place
        try:
            self.lab.stack.require(trial)
        except MachineError as error:
            name = name_of(cells[index], trial)
            self.run.write_refusals({**self.run.read_refusals(), name: error.what})
            return
        shown = (*cells[:index], trial, *cells[index + 1 :])
        settle_cell(self.lab, self.run, trial, CellProgress(self.lab.show, shown, index, [trial]))
        self.show(self.run.result(trial.id))


class Asking(Protocol[Answer_co]):
    """What asks for trials until it has its answer: a proof, or a mending."""

    def next(self) -> Cell | Answer_co:
        """The next trial to be made, or the answer."""
        ...


class SoFar(Protocol[Answer_co]):
    """The same as far as what is stored has brought it; ``spent``: no further trial is made."""

    def __call__(self, *, spent: bool = False) -> Asking[Answer_co]: ...


def _carried_out(measure: Measure, so_far: SoFar[Answer]) -> Answer:
    """The answer, once each trial that it asks for is made, or no time is left."""
    while isinstance(step := _next(so_far), Cell):
        if not measure.budget.allows(step):
            return _answer(so_far(spent=True))
        measure(step)
    return step


def _next(so_far: SoFar[Answer]) -> Cell | Answer:
    """What follows from what is stored.

    Raises:
        DamagedEvidence: something of that is damaged.
    """
    with damage_apart():
        return so_far().next()


# From what is stored.


def write_answers(run: RunFolder, damaged: Sequence[DamagedCell] = ()) -> Diagnoses:
    """Work out what the stored trials say, and store it as ``why.json``; as `answers`."""
    diagnoses = answers(run, damaged)
    run.write_diagnoses(diagnoses)
    return diagnoses


def answers(run: RunFolder, damaged: Sequence[DamagedCell] = ()) -> Diagnoses:
    """What the stored trials say, of every cell; nothing is measured and nothing written.

    Args:
        run: where they are stored.
        damaged: trials that are known to be damaged, whatever their verdicts say.
    """

    def read(cell_id: str) -> tuple[Diagnosis, Remedy | None] | None:
        cell = run.cell(cell_id).read_cell().as_planned
        if not run.cell(cell_id).finished():
            return None
        return diagnosis_of(run, cell), remedy_of(run, cell) if run.info.until_held else None

    found = run.walk(read, damaged)
    return Diagnoses(
        **run.info.header,
        cells=tuple(diagnosis for diagnosis, _ in found.told),
        remedies=tuple(remedy for _, remedy in found.told if remedy),
        missing=found.missing,
        damaged=found.damaged,
    )


def diagnosis_of(run: RunFolder, cell: Cell) -> Diagnosis:
    """What the stored trials say of a cell's limit."""
    return _answer(proof_of(run, cell, spent=True))


def remedy_of(run: RunFolder, cell: Cell) -> Remedy:
    """What the stored trials say of how a cell can be made to hold."""
    return _answer(mending_of(run, cell, spent=True))


def _answer(asking: Asking[Answer]) -> Answer:
    """The answer of what makes no further trial."""
    step = asking.next()
    if isinstance(step, Cell):
        raise TypeError(f"{step.id} is asked for although no trial is to be made")
    return step


def proof_of(run: RunFolder, cell: Cell, *, spent: bool = False) -> Proof:
    """The proof of a cell's limit, as far as it has come."""
    trials = {
        _resources(trial.axes[RELAXED]): run.result(trial.id)
        for trial in _trials(run, cell, RELAXED)
    }
    refused = run.read_refusals()
    mine = f"{cell.id},{RELAXED}="
    by_resources = {
        _resources(name.removeprefix(mine)): why
        for name, why in refused.items()
        if name.startswith(mine)
    }
    return Proof(as_it_is(cell), run.result(cell.id), trials, by_resources, spent)


def mending_of(run: RunFolder, cell: Cell, *, spent: bool = False) -> Mending:
    """The remedy of a cell, as far as it has come."""
    steps = sorted(_trials(run, cell, STEP), key=_number)
    return Mending(
        as_it_is(cell),
        run.result(cell.id),
        [Mended(settings_of(cell, step), run.result(step.id)) for step in steps],
        {trial.axes[WITHOUT]: run.result(trial.id) for trial in _trials(run, cell, WITHOUT)},
        run.read_refusals(),
        spent,
    )


def _resources(label: str) -> Resources:
    """The resources by which a trial is named.

    Raises:
        StoreError: one of them is not known.
    """
    try:
        return tuple(Resource(name) for name in label.split("+"))
    except ValueError:
        raise _no_trial(RELAXED, label) from None


def _number(trial: Cell) -> int:
    """Which step a trial is.

    Raises:
        StoreError: it has no number.
    """
    label = trial.axes[STEP]
    if not label.isdecimal():
        raise _no_trial(STEP, label)
    return int(label)


def _no_trial(axis: str, label: str) -> StoreError:
    what = f"a trial is named {axis}={label[:100]}, and no diagnosis makes one of that name"
    return StoreError(what, "move its folder away")


def _trials(run: RunFolder, cell: Cell, axis: str) -> Iterator[Cell]:
    """The finished trials of a cell that add this axis to its own.

    Those of other cells are not read: what is damaged of them is theirs.
    """
    others = tuple(f"{cell_id}," for cell_id in run.info.cells if cell_id != cell.id)
    for folder in run.undeclared():
        if folder.finished() and not folder.id.startswith(others):
            trial = folder.read_cell()
            rest = {name: label for name, label in trial.axes.items() if name != axis}
            if axis in trial.axes and rest == cell.axes:
                yield trial


def _invalid(run: RunFolder, cell: Cell) -> list[Cell]:
    """The trials of a cell that were invalid when they were made, as they were planned.

    Raises:
        DamagedEvidence: something that is stored of one is damaged.
    """
    with damage_apart():
        made = chain.from_iterable(_trials(run, cell, axis) for axis in (RELAXED, STEP, WITHOUT))
        return [trial.as_planned for trial in made if not run.cell(trial.id).settled()]


def broke(run: RunFolder, summary: Summary) -> tuple[Cell, ...]:
    """The cells of a stored run that broke, as they were planned; damaged ones are left out."""
    ids = [cell.id for cell in summary.cells if cell.verdict is Outcome.BROKE]
    return tuple(run.cell(cell_id).read_cell().as_planned for cell_id in ids)
