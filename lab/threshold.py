"""The story of a search: it asks for a trial, which is measured, stored and judged as any cell.

A trial is a cell folder of its own, ``cells/<cell>-u34-1/``, written at once. What is stored
is all that a search knows, so one that was interrupted goes on where it was; a trial that
was under way is made again.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab.model.cell import Cell
from lab.model.threshold import Threshold, Trial
from lab.plan import Search, trial_cell, trial_of
from lab.runner import Lab, Steps, judge_cell, run_cell
from lab.store import CellFolder, RunFolder


def find_threshold(lab: Lab, run: RunFolder, cell: Cell, search: Search) -> Threshold:
    """Measure what the search asks for until it has an answer.

    Raises:
        UsageError: the cell's load has no users to vary.
        LabError: this machine cannot go on; the finished trials are stored.
    """
    while True:
        trials = stored_trials(run, cell)
        step = search.next(cell.id, trials)
        if isinstance(step, Threshold):
            return step
        number = 1 + sum(trial.users == step.users for trial in trials)
        trial = trial_cell(cell, step, number)
        folder = run.cell(trial.id)
        steps = Steps(lab.show, [trial], 0, [trial])
        if not folder.observed():
            run_cell(lab, trial, run.begin(trial), steps)
        steps.phase("judging")
        judge_cell(folder)


def stored_trials(run: RunFolder, cell: Cell) -> tuple[Trial, ...]:
    """The finished trials of a cell, by their folders' names."""
    mine = re.compile(re.escape(cell.id) + r"-u\d+-\d+")
    folders = (CellFolder(path) for path in sorted(_folders(run.path / "cells")))
    finished = [(folder, folder.read_cell()) for folder in folders if folder.finished()]
    return tuple(
        trial_of(each, folder.read_verdict())
        for folder, each in finished
        if mine.fullmatch(each.id)
    )


def _folders(cells: Path) -> list[Path]:
    return [path for path in cells.iterdir() if path.is_dir()] if cells.is_dir() else []
