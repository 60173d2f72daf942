"""Each cell's speed: chosen by what work costs this machine, which every finished cell tells anew.

    nothing known ─> probe ──┐
    kept from run to run ────┴─> costs ─> lab.plan.choose_speed ─> the cell at its speed
            ^                                                           │ measured, valid
            └───────────────────────── its own cost <───────────────────┘

The probe is two short trials on the very replica that is up, of small and of large uploads, and is
stored nowhere.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from pathlib import Path

from lab.errors import LabError
from lab.judge.costs import cost_of
from lab.judge.trial import Trial
from lab.model.costs import QUIET, Costs, TrialCost, costs_of
from lab.model.experiment import Cell
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad
from lab.model.verdict import Outcome, Verdict
from lab.plan import SplitModel, choose_speed, with_split
from lab.runner import CellProgress, Lab, run_cell
from lab.store import CellFolder, RunFolder
from lab.store.costs import CostStore

PROBE_S = 15.0
"""Wall seconds that a probe takes at most, on a machine that is not overloaded."""

PROBE_SPEED = 10.0

SIZES = ("50 KB", "1 MB")
"""Of the uploads of a probe: the smallest of the report's, and what nginx as found lets through."""

LOAD = {"users": 12, "ramp": "0 s", "warmup": "12 s", "window": "22 s"}
"""Of a probe: over within four wall seconds; the first of its readings is not of the start."""


class Pace:
    """Chooses the speed of one run's cells.

    Args:
        probe: measures what an upload costs, on the replica that is up.
        run: its finished cells tell what they cost.
        store: where that is kept.
        cores: of this machine.
        say: told, in a line, what a user should know.
        model: of how workers of one socket share.
    """

    def __init__(
        self,
        probe: Callable[[], Iterable[TrialCost]],
        run: RunFolder,
        store: CostStore,
        cores: int,
        say: Callable[[str], None],
        model: SplitModel | None = None,
    ) -> None:
        self._probe, self._run, self._store = probe, run, store
        self._cores, self._say, self._model = cores, say, model
        self._learned = {folder.path for folder in run.cell_folders() if _valid(folder)}
        self._probed: list[TrialCost] | None = None

    def choose(self, cell: Cell, limit: float = inf) -> Cell:
        """The cell at the speed for its next attempt, no higher than the limit.

        Raises:
            LabError: a probe was needed, and the replica did not come up for it.
        """
        self.learn()
        costs = self._costs(cell) if cell.target == "vm" else None
        highest = min(limit, self._run.info.max_speed or inf)
        choice = choose_speed(cell, costs, highest, self._model)
        if choice.too_slow:
            self._say(f"{cell.id}: no speed is true here, and 1 is used: {choice.too_slow}")
        return choice.of(cell)

    def foresee(self, cell: Cell) -> Cell:
        """A cell whose speed was given, with what the model says of it by what is known already."""
        known = costs_of(self._store.read(), self._cores, cell.knobs.workers)
        return with_split(cell, known, self._model)

    def learn(self) -> None:
        """Keep what the cells cost that were finished since, if they are valid.

        And if other programs were quiet: what work costs beside them is another matter.
        """
        new: list[TrialCost] = []
        for folder in self._run.cell_folders():
            if folder.path not in self._learned and (verdict := _valid(folder)):
                self._learned.add(folder.path)
                new += [verdict.cost] if verdict.cost else []
        if quiet := [cost for cost in new if not self._disturbed([cost])]:
            self._store.add(quiet)

    def _costs(self, cell: Cell) -> Costs | None:
        known = self._store.read()
        if not known and self._probed is None:
            self._probed = self._measured()
        return costs_of([*known, *(self._probed or ())], self._cores, cell.knobs.workers)

    def _measured(self) -> list[TrialCost]:
        """Measure what an upload costs; once more where other programs were in the way."""
        self._say(
            "what an upload costs this machine is not known yet: it is measured first, in"
            f" {PROBE_S:.0f} s at most"
        )
        seen = list(self._probe())
        if self._disturbed(seen):
            self._say(f"other programs used {self._others(seen)}: it is measured once more")
            seen = list(self._probe())
        if self._disturbed(seen):
            self._say(
                f"other programs used {self._others(seen)}: speeds are chosen as if they went on,"
                " and it is measured anew in the next run - stop them for higher ones"
            )
        elif seen:
            self._store.add(seen)
        return seen

    def _disturbed(self, seen: Sequence[TrialCost]) -> bool:
        return any(cost.others(self._cores) > QUIET for cost in seen)

    def _others(self, seen: Sequence[TrialCost]) -> str:
        used = max(cost.others(self._cores) for cost in seen)
        return f"{used:.1f} of this machine's {self._cores} cores"


def _valid(folder: CellFolder) -> Verdict | None:
    """The verdict on a cell that is finished and valid; None also where it is damaged."""
    try:
        verdict = folder.read_verdict() if folder.finished() else None
    except LabError:
        return None  # who reports the run says what is wrong
    return verdict if verdict and verdict.outcome != Outcome.INVALID else None


def probed(lab: Lab, faults: Sequence[Fault]) -> Iterator[TrialCost]:
    """Upload small files for a few seconds, then large ones; what an upload of each cost.

    Only what is told: where too few were served, nothing is. The large ones are left out where
    the small ones took so long that there is no time.

    Raises:
        PartFailed: a part did not come up.
        InjectionError: a fault could not be injected.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lab-probe-") as temporary:
        for size in SIZES:
            if time.monotonic() - began > PROBE_S / len(SIZES):
                return
            cell = probe_cell(size, faults)
            folder = CellFolder(Path(temporary) / "run" / "cells" / cell.id)
            folder.begin(cell)
            run_cell(lab, cell, folder, CellProgress(lab.show, [cell], 0, [cell]))
            if cost := cost_of(Trial(cell, folder.read_observation())):
                yield cost


def probe_cell(size: str, faults: Sequence[Fault]) -> Cell:
    """A few users who upload files of this size, and threads enough for all of them."""
    settings = {"gcs_call": "executor", "gcs_threads": 16, "global_rate_limit": "off"}
    knobs = Knobs().with_settings({**settings, "speed": PROBE_SPEED})
    return Cell(
        id=f"probe of {size}",
        axes={},
        knobs=knobs,
        load=ClosedLoad.model_validate({**LOAD, "audio": size}),
        faults=tuple(faults),
        criteria=(),
        seed=1,
    )
