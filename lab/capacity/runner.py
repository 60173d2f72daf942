"""The story of a search: it asks for a trial, which is measured, stored and judged as any cell.

    for cell:  search.next(trials so far) ─> ask ─> cells/<cell>-u34-1/ measured and judged ─┐
                      ^                                                                      │
                      └──────────────────────────────────────────────────────────────────────┘
                                          └─> answer ─> threshold.json

A trial is a cell folder of its own, written at once. What is stored is all that a search
knows, so one that was interrupted goes on where it was; a trial that was under way is made
again. The answers are a function of the trials, and are never read back to go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.capacity import MOST_USERS, CapacitySearch, Search, search_for, trial_cell, trial_of
from lab.model.capacity import CapacityTrial, Threshold, Thresholds, TrialRequest
from lab.model.experiment import Cell
from lab.runner import CellProgress, Lab, judge_cell, run_cell
from lab.store import CellFolder, RunFolder

News = CapacityTrial | Threshold
"""What comes of a search while it goes on: each trial as it is judged, and then the answer."""


def find_thresholds(
    lab: Lab,
    run: RunFolder,
    cells: Sequence[Cell],
    tell: Callable[[News], None] = lambda news: None,
) -> Thresholds:
    """Search the threshold of every cell; the answers so far are stored after each.

    Raises:
        UsageError: a cell's load has no users to vary.
        LabError: this machine cannot go on; the finished trials are stored.
    """
    found = write_answers(run)
    for index, cell in enumerate(cells):
        if cell.id in found.missing:
            answer = find_threshold(lab, run, cell, search_in(run, cell), (index, cells), tell)
            found = write_answers(run)
            tell(answer)
    return found


def find_threshold(
    lab: Lab,
    run: RunFolder,
    cell: Cell,
    search: Search,
    among: tuple[int, Sequence[Cell]] | None = None,
    tell: Callable[[News], None] = lambda news: None,
) -> Threshold:
    """Measure what the search asks for until it has an answer.

    Args:
        lab: the seams.
        run: where the trials are stored.
        cell: whose threshold it is.
        search: the method.
        among: the cell's place among all cells, to be shown.
        tell: told of every trial.

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
        tell(measured(lab, run, trial, CellProgress(lab.show, shown, index, [trial])))


def measured(lab: Lab, run: RunFolder, trial: Cell, progress: CellProgress) -> CapacityTrial:
    """A trial, measured unless its evidence is stored already, and judged."""
    folder = run.cell(trial.id)
    if not folder.observed():
        run_cell(lab, trial, run.begin(trial), progress)
    progress.phase("judging")
    return trial_of(trial, judge_cell(folder))


def next_trial(cell: Cell, ask: TrialRequest, trials: Sequence[CapacityTrial]) -> Cell:
    """The cell of a trial that is asked for, numbered after those with as many users."""
    return trial_cell(cell, ask, 1 + sum(trial.users == ask.users for trial in trials))


def write_answers(run: RunFolder) -> Thresholds:
    """Work out what the stored trials say, and store it as ``threshold.json``."""
    found = answers(run)
    run.write_thresholds(found)
    return found


def answers(run: RunFolder) -> Thresholds:
    """What the stored trials say, of every cell; nothing is measured and nothing written."""
    cells = run.cells()
    steps = [search_in(run, cell).next(cell.id, stored_trials(run, cell)) for cell in cells]
    pairs = list(zip(cells, steps, strict=True))
    return Thresholds(
        run=run.info.name,
        experiment=run.info.experiment.experiment,
        about=run.info.experiment.about,
        stack=run.info.stack,
        speed=run.info.speed,
        cells=tuple(step for step in steps if isinstance(step, Threshold)),
        missing=tuple(cell.id for cell, step in pairs if not isinstance(step, Threshold)),
    )


def search_in(run: RunFolder, cell: Cell) -> CapacitySearch:
    """The search for one of a run's cells, up to as many users as the run began with."""
    return search_for(cell, run.info.most_users or MOST_USERS, run.info.most_load)


def stored_trials(run: RunFolder, cell: Cell) -> tuple[CapacityTrial, ...]:
    """The finished trials of a cell, by their folders' names."""
    folders = (folder for folder in trial_folders(run) if folder.finished())
    mine = re.compile(re.escape(cell.id) + r"-u\d+-\d+")
    finished = [(folder, folder.read_cell()) for folder in folders]
    return tuple(
        trial_of(each, folder.read_verdict())
        for folder, each in finished
        if mine.fullmatch(each.id)
    )


def trial_folders(run: RunFolder) -> list[CellFolder]:
    """The folders of all trials, by name."""
    declared = {run.cell(cell_id).path for cell_id in run.info.cells}
    return [CellFolder(path) for path in _folders(run.path / "cells") if path not in declared]


def _folders(cells: Path) -> list[Path]:
    return sorted(path for path in cells.iterdir() if path.is_dir()) if cells.is_dir() else []
