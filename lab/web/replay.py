"""A stored run as it went: how it stood at any moment, from its files alone.

A run's moments are real-world seconds of load, cell after cell in the order in which they were
measured; what lay between two cells takes no time. At the end it is the run as it is stored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import accumulate

from lab.errors import LabError, UsageError
from lab.model.load import end_of
from lab.model.run import phase_at
from lab.store import CellFolder, RunFolder
from lab.store.trial_files import SAMPLES
from lab.web.follow import RunFollower
from lab.web.stored import HOSTILE, last_moment, stored_track
from lab.web.track import Track
from lab.web.view import CellState, CellView, View


class Replay:
    """A stored run at any moment.

    Args:
        run: which.

    Attributes:
        length: real-world seconds of load, of all cells together.

    Raises:
        UsageError: nothing of it was measured.
        LabError: it cannot be read.
    """

    def __init__(self, run: RunFolder) -> None:
        self._end = RunFollower(run).look()
        if self._end.problem:
            raise UsageError(self._end.problem)
        by_id = {folder.id: folder for folder in run.cell_folders()}
        folders = [(state, by_id.get(state.id)) for state in self._end.cells]
        self._scenes = [(s, f, n) for s, f in folders if f and (n := _length(f)) is not None]
        if not self._scenes:
            what = f"nothing of {run.info.name} was measured, so there is nothing to replay"
            raise UsageError(what, "`lab runs` lists the runs")
        self._ends = list(accumulate(length for _, _, length in self._scenes))
        self.length = self._ends[-1]
        self._track: tuple[int, Track] | None = None

    def at(self, moment: float) -> View:
        """The run ``moment`` seconds after its first load began; at its end as it is stored."""
        if moment >= self.length:
            return self._end
        moment = max(0.0, moment)
        index = bisect_right(self._ends, moment)
        begun = self._ends[index - 1] if index else 0.0
        shown = self._show(index, moment - begun)
        earlier = {state.id for state, _, _ in self._scenes[:index]}
        cells = tuple(
            shown.state
            if state.id == shown.state.id
            else state
            if state.id in earlier
            else CellState(state.id, trial=state.trial)
            for state in self._end.cells
        )
        return replace(self._end, cells=cells, shown=shown, going_on=False)

    def views(self, pace: float, every: float = 1.0) -> Iterator[View]:
        """The run from its beginning to its end, ``pace`` times as fast as it went.

        Args:
            pace: real-world seconds of the run for one second of who looks on.
            every: seconds between two views.
        """
        moment = 0.0
        while moment < self.length:
            yield self.at(moment)
            moment += pace * every
        yield self.at(self.length)

    def _show(self, index: int, t: float) -> CellView:
        state, folder, _ = self._scenes[index]
        if self._track is None or self._track[0] != index:
            self._track = index, stored_track(folder)
        track = self._track[1]
        phase = phase_at(track.cell.load, t)
        number = 0 if state.trial else 1 + [one.id for one in self._end.cells].index(state.id)
        measured = CellState(state.id, phase=phase, trial=state.trial)
        return CellView(track.cell, measured, track.frame(t), number, 1, track.unread)


def _length(folder: CellFolder) -> float | None:
    """Real-world seconds of a cell's trial; None where none is stored that can be read."""
    with suppress(LabError, *HOSTILE):
        if folder.folder.has(SAMPLES) and (raw := folder.folder.last_line(SAMPLES)):
            load = folder.read_cell().load
            return max(1.0, end_of(load), last_moment(raw))
    return None
