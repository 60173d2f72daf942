"""The searches of a run's cells and their trials: each is measured, stored and judged as any cell.

    stored trials ─> search.next, of every cell ─> Standing … ─> next_search ─> a trial, measured
         ^             └─> Threshold ┬─> threshold.json                             │
         │                           └─ how far the others are                      │
         └──────────────────────────────────────────────────────────────────────────┘

A trial is a cell folder of its own, written at once. What is stored is all that a search
knows, so one that was interrupted goes on where it was; a trial that was under way is made
again. The answers are a function of the trials, and are never read back to go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lab.capacity import MAX_USERS, Search, trial_cell, trial_of
from lab.capacity.methods import EARLIER_METHOD, METHODS
from lab.capacity.schedule import measured_beside, next_search
from lab.errors import LabError
from lab.model.capacity import (
    CapacityTrial,
    Estimate,
    Standing,
    Threshold,
    Thresholds,
    TrialRequest,
)
from lab.model.experiment import Cell
from lab.model.run import DamagedCell
from lab.runner import CellProgress, Lab, settle_cell
from lab.store import CellFolder, RunFolder

Trials = tuple[CapacityTrial, ...]
Show = Callable[[CapacityTrial | None, Thresholds], None]
"""What is called as a search goes on: with the trial that ended, None before the first, and with
what is known then."""


def find_thresholds(
    lab: Lab,
    run: RunFolder,
    cells: Sequence[Cell],
    show: Show = lambda _trial, _so_far: None,
    search_of: Callable[[Cell], Search] | None = None,
) -> Thresholds:
    """Search the threshold of every cell, a trial of each first; stored after each trial.

    Args:
        lab: the stack, the load and what else a cell is measured with.
        run: where the trials are stored.
        cells: whose thresholds are asked for.
        show: called before the first trial and after each.
        search_of: the search for a cell; None: the one that the run asks for.

    Raises:
        UsageError: a cell's load has no users to vary.
        StoreError: something stored of a trial is damaged.
        LabError: this machine cannot go on; the finished trials are stored.
    """
    searches, every = Searches(run, search_of), run.cells()
    places = {cell.id: index for index, cell in enumerate(cells)}
    ended: CapacityTrial | None = None
    while True:
        thresholds = searches.answers(every, places)
        run.write_thresholds(thresholds)
        show(ended, thresholds)
        standing = next_search([s for s in thresholds.searching if s.id in places])
        if standing is None:
            return thresholds
        index = places[standing.id]
        trial = next_trial(cells[index], standing.next, standing.trials)
        shown = (*cells[:index], trial, *cells[index + 1 :])
        ended = measured(lab, run, trial, CellProgress(lab.show, shown, index, [trial]))


def measured(lab: Lab, run: RunFolder, trial: Cell, progress: CellProgress) -> CapacityTrial:
    """A trial, measured as any cell is: again where something disturbed it."""
    verdict = settle_cell(lab, run, trial, progress)
    return trial_of(run.cell(trial.id).read_cell(), verdict)


def next_trial(cell: Cell, request: TrialRequest, trials: Sequence[CapacityTrial]) -> Cell:
    """The cell of a trial that is asked for, numbered after those with as many users."""
    return trial_cell(cell, request, 1 + sum(trial.users == request.users for trial in trials))


def answers(run: RunFolder, damaged: Sequence[DamagedCell] = ()) -> Thresholds:
    """What the stored trials say, of every cell; nothing is measured and nothing written.

    Args:
        run: where they are stored.
        damaged: trials that are known to be damaged, whatever their verdicts say.
    """
    apart = {trial.id: trial for trial in damaged}
    cells = list[Cell]()
    searches = Searches(run, apart=apart)
    for cell_id in run.info.cells:
        try:
            cells.append(run.cell(cell_id).read_cell())
        except LabError as error:
            apart[cell_id] = DamagedCell(id=cell_id, problem=str(error))
    return searches.answers(cells)


def search_in(run: RunFolder, cell: Cell) -> Search:
    """The search for one of a run's cells, as the run asks for it."""
    info = run.info
    method = METHODS[info.method or EARLIER_METHOD]
    return method.make(cell, info.max_users or MAX_USERS, info.max_load, info.within)


def stored_trials(run: RunFolder, cell: Cell) -> Trials:
    """The finished trials of a cell, by their folders' names.

    Raises:
        StoreError: something stored of a trial is damaged.
    """
    return _of(cell, Searches(run).trials())


@dataclass(frozen=True)
class SearchStep:
    """Where a search stands by its trials, and by those ``beside`` it before it has any: what it
    says next, and of its threshold so far."""

    trials: Trials
    next: TrialRequest | Threshold
    estimate: Estimate | None
    beside: Trials = ()


@dataclass
class Searches:
    """The searches of a run, by what is stored of it.

    A finished trial is read once, and no search is asked again about the trials that it knows.

    Args:
        run: where the trials are stored.
        search_of: the search for a cell; None: the one that the run asks for.
        apart: where to put the trials that cannot be read, by id; None: they are an error.
    """

    run: RunFolder
    search_of: Callable[[Cell], Search] | None = None
    apart: dict[str, DamagedCell] | None = None
    _known: dict[str, CapacityTrial] = field(default_factory=dict)
    _steps: dict[str, SearchStep] = field(default_factory=dict)

    def answers(self, cells: Sequence[Cell], asked: Collection[str] | None = None) -> Thresholds:
        """What the trials stored until now say of these cells.

        Args:
            cells: which.
            asked: ids of those that are to be searched further; None: all.

        Raises:
            StoreError: something stored of a trial is damaged, and no place is given for it.
        """
        steps = dict(self._all_steps(cells, asked))
        answered = [step.next for step in steps.values() if isinstance(step.next, Threshold)]
        done = {answer.id for answer in answered}
        return Thresholds(
            **self.run.info.header,
            cells=tuple(answered),
            missing=tuple(cell.id for cell in cells if cell.id not in done),
            searching=tuple(
                Standing(
                    id=name, estimate=step.estimate, next=step.next, trials=_brief(step.trials)
                )
                for name, step in steps.items()
                if isinstance(step.next, TrialRequest)
            ),
            damaged=tuple((self.apart or {}).values()),
        )

    def _all_steps(
        self, cells: Sequence[Cell], asked: Collection[str] | None
    ) -> Iterator[tuple[str, SearchStep]]:
        """Where the search of each cell stands, by its id; of those without a trial the first
        alone: what the others ask for may depend on what that one measures."""
        trials, waits = self.trials(), False
        for cell in cells:
            own = _of(cell, trials)
            if own or not (waits or (asked is not None and cell.id not in asked)):
                beside = () if own else measured_beside(cell, [(c, _of(c, trials)) for c in cells])
                step = self._step(cell, own, beside)
                waits = waits or (not own and isinstance(step.next, TrialRequest))
                yield cell.id, step

    def trials(self) -> list[CapacityTrial]:
        """Every finished trial of the run, by the folders' names.

        Raises:
            StoreError: something stored of one is damaged, and no place is given for it.
        """
        return list(self._read())

    def _read(self) -> Iterator[CapacityTrial]:
        for folder in self.run.undeclared():
            name = folder.path.name
            try:
                if name not in self._known and folder.finished():
                    self._known[name] = _trial(folder)
            except LabError as error:
                if self.apart is None:
                    raise
                self.apart.setdefault(folder.id, DamagedCell(id=folder.id, problem=str(error)))
            trial = self._known.get(name)
            if trial and trial.id not in (self.apart or {}):
                yield trial

    def _step(self, cell: Cell, trials: Trials, beside: Trials) -> SearchStep:
        known = self._steps.get(cell.id)
        if known is None or (known.trials, known.beside) != (trials, beside):
            search = self.search_of(cell) if self.search_of else search_in(self.run, cell)
            search = search.informed_by(beside)
            step, estimate = search.next(cell.id, trials), search.estimate(trials)
            known = SearchStep(trials, step, estimate, beside)
            self._steps[cell.id] = known
        return known


def _of(cell: Cell, trials: Iterable[CapacityTrial]) -> Trials:
    """Those of them that are trials of the cell."""
    mine = re.compile(re.escape(cell.id) + r"-u\d+-\d+")
    return tuple(trial for trial in trials if mine.fullmatch(trial.id))


def _trial(folder: CellFolder) -> CapacityTrial:
    return trial_of(folder.read_cell(), folder.read_verdict())


def _brief(trials: Trials) -> Trials:
    """The trials by users, as an answer has them: without what their uploads took one by one."""
    brief = (trial.without_times() for trial in trials)
    return tuple(sorted(brief, key=lambda trial: (trial.users, trial.id)))
