"""A search and its trials: each that it asks for is measured, stored and judged as any cell.

    for cell:  search.next(trials so far) ─> TrialRequest ─> cells/<cell>-u34-1/ measured, judged
                 ^        │                                               │
                 │        └─> Threshold ─> threshold.json                 │
                 └────────────────────────────────────────────────────────┘

A trial is a cell folder of its own, written at once. What is stored is all that a search
knows, so one that was interrupted goes on where it was; a trial that was under way is made
again. The answers are a function of the trials, and are never read back to go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from lab.capacity import MAX_USERS, CapacitySearch, Search, search_for, trial_cell, trial_of
from lab.errors import LabError
from lab.model.capacity import CapacityTrial, Threshold, Thresholds, TrialRequest
from lab.model.experiment import Cell
from lab.model.run import DamagedCell
from lab.model.verdict import Verdict
from lab.runner import CellProgress, Lab, settle_cell
from lab.store import CellFolder, RunFolder

News = CapacityTrial | Threshold
"""What comes of a search while it goes on: each trial as it is judged, and then the answer."""


def find_thresholds(
    lab: Lab,
    run: RunFolder,
    cells: Sequence[Cell],
    show: Callable[[News], None] = lambda _news: None,
) -> Thresholds:
    """Search the threshold of every cell; the answers so far are stored after each.

    Raises:
        UsageError: a cell's load has no users to vary.
        LabError: this machine cannot go on; the finished trials are stored.
    """
    thresholds = write_answers(run)
    for index, cell in enumerate(cells):
        if cell.id in thresholds.missing:
            answer = find_threshold(lab, run, cell, search_in(run, cell), (index, cells), show)
            thresholds = write_answers(run)
            show(answer)
    return thresholds


def find_threshold(
    lab: Lab,
    run: RunFolder,
    cell: Cell,
    search: Search,
    among: tuple[int, Sequence[Cell]] | None = None,
    show: Callable[[News], None] = lambda _news: None,
) -> Threshold:
    """Measure what the search asks for until it has an answer.

    Args:
        lab: the stack, the load and what else a cell is measured with.
        run: where the trials are stored.
        cell: whose threshold it is.
        search: the method.
        among: the cell's place among all cells, to be shown.
        show: called with every trial.

    Raises:
        UsageError: the cell's load has no users to vary.
        LabError: this machine cannot go on; the finished trials are stored.
    """
    index, cells = among or (0, (cell,))
    while True:
        trials = stored_trials(run, cell)
        step = search.next(cell.id, trials)
        if isinstance(step, Threshold):
            return step
        trial = next_trial(cell, step, trials)
        shown = (*cells[:index], trial, *cells[index + 1 :])
        show(measured(lab, run, trial, CellProgress(lab.show, shown, index, [trial])))


def measured(lab: Lab, run: RunFolder, trial: Cell, progress: CellProgress) -> CapacityTrial:
    """A trial, measured as any cell is: again where something disturbed it."""
    verdict = settle_cell(lab, run, trial, progress)
    return trial_of(run.cell(trial.id).read_cell(), verdict)


def next_trial(cell: Cell, request: TrialRequest, trials: Sequence[CapacityTrial]) -> Cell:
    """The cell of a trial that is asked for, numbered after those with as many users."""
    return trial_cell(cell, request, 1 + sum(trial.users == request.users for trial in trials))


def write_answers(run: RunFolder) -> Thresholds:
    """Work out what the stored trials say, and store it as ``threshold.json``."""
    thresholds = answers(run)
    run.write_thresholds(thresholds)
    return thresholds


def answers(run: RunFolder, damaged: Sequence[DamagedCell] = ()) -> Thresholds:
    """What the stored trials say, of every cell; nothing is measured and nothing written.

    Args:
        run: where they are stored.
        damaged: trials that are known to be damaged, whatever their verdicts say.
    """
    apart = {trial.id: trial for trial in damaged}
    cells, trials = [], list(_sound(run, apart))
    for cell_id in run.info.cells:
        try:
            cells.append(run.cell(cell_id).read_cell())
        except LabError as error:
            apart[cell_id] = DamagedCell(id=cell_id, problem=str(error))
    steps = [search_in(run, cell).next(cell.id, _of(cell, trials)) for cell in cells]
    pairs = list(zip(cells, steps, strict=True))
    return Thresholds(
        **run.info.header,
        cells=tuple(step for step in steps if isinstance(step, Threshold)),
        missing=tuple(cell.id for cell, step in pairs if not isinstance(step, Threshold)),
        damaged=tuple(apart.values()),
    )


def search_in(run: RunFolder, cell: Cell) -> CapacitySearch:
    """The search for one of a run's cells, up to as many users as the run began with."""
    return search_for(cell, run.info.max_users or MAX_USERS, run.info.max_load)


def stored_trials(run: RunFolder, cell: Cell) -> tuple[CapacityTrial, ...]:
    """The finished trials of a cell, by their folders' names.

    Raises:
        StoreError: something stored of a trial is damaged.
    """
    return _of(cell, [stored for folder in run.undeclared() if (stored := _stored(folder))])


def _of(cell: Cell, trials: Iterable[tuple[Cell, Verdict]]) -> tuple[CapacityTrial, ...]:
    """Those of them that are trials of the cell."""
    mine = re.compile(re.escape(cell.id) + r"-u\d+-\d+")
    return tuple(trial_of(trial, verdict) for trial, verdict in trials if mine.fullmatch(trial.id))


def _sound(run: RunFolder, apart: dict[str, DamagedCell]) -> Iterator[tuple[Cell, Verdict]]:
    """The finished trials that can be read; the others are put ``apart``."""
    for folder in run.undeclared():
        try:
            stored = _stored(folder)
        except LabError as error:
            apart.setdefault(folder.id, DamagedCell(id=folder.id, problem=str(error)))
            continue
        if stored and stored[0].id not in apart:
            yield stored


def _stored(folder: CellFolder) -> tuple[Cell, Verdict] | None:
    return (folder.read_cell(), folder.read_verdict()) if folder.finished() else None
