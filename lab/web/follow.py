"""Reads a run's folder on, a look at a time: only what has changed since the look before.

    cells/               a cell's folder has another time once a file in it was made or replaced
      <cell>/            the newest that is begun and not judged is the one that is measured
        verdict.json     read once, when it is there

Nothing is written, no lock is taken, and no link is followed in a run folder. What cannot be read
is told and never ends a look: files come and go while a run goes on.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from lab.errors import LabError
from lab.files import LOCK, Folder
from lab.store import CellFolder, RunFolder
from lab.store.attempts import ATTEMPTS
from lab.store.runs import CELLS
from lab.store.trial_files import SAMPLES, VERDICT
from lab.web.stored import stored_track
from lab.web.trial import TrialReader
from lab.web.view import CellState, CellView, View

INTERRUPTED = "its trial did not end; `--resume` makes it again"
"""Of a cell that was begun, in a run that nobody writes."""


class RunFollower:
    """A run, looked at again and again.

    Args:
        run: which.
        now: the monotonic clock.
    """

    def __init__(self, run: RunFolder, now: Callable[[], float] = time.monotonic) -> None:
        self.run, self._now = run, now
        self._declared = {run.cell(cell_id).path.name: cell_id for cell_id in run.info.cells}
        self._times: dict[str, int] = {}
        self._states: dict[str, CellState] = {}
        self._begun: set[str] = set()
        self._reader: tuple[str, TrialReader] | None = None
        self._stored: tuple[tuple[str, int], CellView | None] | None = None

    def look(self) -> View:
        """The run as it stands now.

        What cannot be read is told as the view's problem, or the cell's.
        """
        info = self.run.info
        head = info.name, info.experiment.experiment, info.experiment.about
        try:
            self._look_at_cells()
            going_on = is_written(self.run.folder)
            shown = self._measured() if going_on else None
            shown = shown or self._finished()
        except LabError as error:
            gone = not self.run.path.is_dir()
            what = f"{self.run.path} was removed; `lab runs` lists the runs" if gone else str(error)
            return View(*head, problem=what)
        states = [self._state(name, going_on) for name in self._names()]
        if shown and shown.state.phase:
            states = [shown.state if state.id == shown.state.id else state for state in states]
        return View(*head, tuple(states), shown, going_on)

    def _names(self) -> list[str]:
        """The cells' folders in the run's order, then those of trials, as they were begun."""
        trials = [name for name in self._states if name not in self._declared]
        return [*self._declared, *sorted(trials, key=lambda name: (self._times[name], name))]

    def _state(self, name: str, going_on: bool) -> CellState:
        state = self._states.get(name) or CellState(self._declared[name])
        interrupted = name in self._begun and not going_on
        return replace(state, why=INTERRUPTED) if interrupted else state

    def _look_at_cells(self) -> None:
        """Read anew each cell whose folder has changed, and those that are not judged yet."""
        folder, times = self.run.folder, dict[str, int]()
        if CELLS in folder.entries():
            states = folder.below(CELLS).states()
            times = {n: s.st_mtime_ns for n, s in states.items() if stat.S_ISDIR(s.st_mode)}
        for name, at in times.items():
            if self._times.get(name) != at or name in self._begun:
                self._read(name)
        for gone in self._states.keys() - times.keys():
            del self._states[gone]
            self._begun.discard(gone)
        self._times = times

    def _read(self, name: str) -> None:
        """A cell by its files: to come, begun, or judged."""
        folder = self._folder(name)
        cell_id, trial = self._declared.get(name, folder.id), name not in self._declared
        self._begun.discard(name)
        try:
            entries = folder.folder.entries()
            state = CellState(cell_id, trial=trial)
            if VERDICT in entries:
                state = CellState.judged(cell_id, folder.read_verdict(), trial=trial)
            elif SAMPLES in entries:
                self._begun.add(name)
        except LabError as error:
            state = CellState(cell_id, damaged=True, why=str(error), trial=trial)
        self._states[name] = state

    def _folder(self, name: str) -> CellFolder:
        return CellFolder(self.run.path / CELLS / name)

    def _newest(self, names: set[str]) -> str | None:
        return max(names, key=lambda name: (self._times[name], name), default=None)

    def _measured(self) -> CellView | None:
        """The cell that is measured now; None between two, or where it cannot be read now."""
        name = self._newest(self._begun)
        if name is None:
            return None
        try:
            if self._reader is None or self._reader[0] != name:
                self._reader = name, TrialReader(self._folder(name), self._now)
            reader = self._reader[1]
            reader.look()
        except LabError as error:
            self._states[name] = replace(self._states[name], damaged=True, why=str(error))
            return None
        state = replace(self._states[name], phase=reader.phase)
        number, attempt = self._number(name), self._attempt(name)
        return CellView(reader.cell, state, reader.frame(), number, attempt, reader.track.unread)

    def _finished(self) -> CellView | None:
        """The cell that was measured last, as it is stored; None where none was."""
        judged = {name for name, state in self._states.items() if state.verdict is not None}
        name = self._newest(judged or self._begun)
        if name is None:
            return None
        key = name, self._times[name]
        if self._stored is None or self._stored[0] != key:
            self._stored = key, self._as_stored(name)
        return self._stored[1]

    def _as_stored(self, name: str) -> CellView | None:
        state = self._states[name]
        with suppress(LabError):  # the page of the run says what is wrong with it
            track = stored_track(self._folder(name))
            number, attempt = self._number(name), self._attempt(name)
            frame = track.frame(track.full_at) if track.end else None
            return CellView(track.cell, state, frame, number, attempt, track.unread)
        return None

    def _attempt(self, name: str) -> int:
        """Which measurement of it this is, by those that are kept."""
        with suppress(LabError):
            folder = self._folder(name)
            if ATTEMPTS in folder.folder.entries():
                kept = folder.attempts.folder.entries()
                return 1 + sum(number.isdigit() for number in kept)
        return 1

    def _number(self, name: str) -> int:
        names = list(self._declared)
        return names.index(name) + 1 if name in self._declared else 0


KERNEL_LOCKS = Path("/proc/locks")
"""Where Linux lists who holds which file's lock."""


def is_written(folder: Folder) -> bool:
    """Whether a lab holds the run's lock.

    The lock itself is not tried: who holds it for a moment keeps a lab from it. By the kernel's
    list; where there is none, whether the process that the lock names is there since before.
    """
    with suppress(LabError, psutil.Error, ValueError):
        state = folder.states().get(LOCK)
        if state is None:
            return False
        pid = int(folder.read(LOCK).decode(errors="replace").strip() or 0)
        with suppress(OSError):
            locks = KERNEL_LOCKS.read_text().splitlines()
            return any(_is_held(line.split(), pid, state.st_ino) for line in locks)
        return pid > 0 and psutil.Process(pid).create_time() <= state.st_mtime + 1
    return False


def _is_held(lock: list[str], pid: int, inode: int) -> bool:
    """Whether a line, ``1: FLOCK ADVISORY WRITE 4242 fe:01:131 0 EOF``, is of that file's lock.

    The device is of no account: file systems that lie above others tell another one.
    """
    of_file = len(lock) > 5 and lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == str(inode)
    return of_file and lock[4] == str(pid)
