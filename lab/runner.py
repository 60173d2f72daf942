"""The story of a run: each cell is applied, armed, loaded, observed, stored, judged.

    for cell:  stack.apply ─> faults.arm ─> load.run ─> observe ─> evidence stored
                                                                   judge ─> verdict stored

The observation is on disk before anyone judges it. Disarming, logs and evidence happen
whatever goes wrong, and never hide the first error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lab.errors import PartFailed
from lab.judge import judge
from lab.load.driver import LoadGenerator, LoadResult, LoadStart
from lab.model.cell import Cell
from lab.model.load import end_of
from lab.model.observation import Injected, LoadDone
from lab.model.progress import LoadTick, Phase, Progress
from lab.model.run import Summary
from lab.model.verdict import Verdict
from lab.observe.observer import Observer
from lab.plan import estimate
from lab.stack.protocol import Replica, Stack
from lab.store import CellFolder, RunFolder


class Injector(Protocol):
    """Whoever arms faults; the adapter of `lab.faults` is one."""

    def armed(self, api_url: str, cell: Cell) -> AbstractContextManager[list[Injected]]:
        """Exactly this cell's faults armed inside, and nothing after; what was read back."""
        ...


class PartDownDuringLoad(PartFailed):
    """Ends a load early: a part died, so the cell is invalid whatever else comes."""


@dataclass
class Lab:
    """The seams of a run, wired by the command line and by tests.

    Args:
        stack: the replica.
        injector: arms the faults.
        generator: offers the load.
        show: told of every step.
    """

    stack: Stack
    injector: Injector
    generator: LoadGenerator
    show: Callable[[Progress], None] = field(default=lambda progress: None)


def run_experiment(lab: Lab, run: RunFolder, cells: Sequence[Cell]) -> Summary:
    """Measure every cell that is not finished, and store a verdict for each.

    Raises:
        LabError: this machine cannot go on; what is finished is stored.
    """
    for index, cell in enumerate(cells):
        folder = run.cell(cell.id)
        if folder.finished():
            continue
        if not folder.observed():
            steps = Steps(lab.show, cells, index)
            run_cell(lab, cell, run.begin(cell), steps)
        judge_cell(folder)
        run.write_summary()
    return run.write_summary()


def run_cell(lab: Lab, cell: Cell, folder: CellFolder, steps: Steps) -> None:
    """One trial, from a replica with this cell's settings to evidence on disk.

    Raises:
        PartFailed: a part did not come up.
        InjectionError: a fault could not be armed.
    """
    steps.phase("applying")
    replica = lab.stack.apply(cell)
    observer = Observer(replica, lab.stack.down_parts, cell.knobs.speed)
    with logs_kept(lab.stack, folder.logs):
        steps.phase("arming")
        with (
            lab.injector.armed(replica.toxiproxy, cell) as injected,
            observer.watch,
            observer.trim,
        ):
            result = offer(lab.generator, cell, replica, observer, folder, steps)
        steps.phase("auditing")
        done = LoadDone(
            t=(time.time() - result.t0) * cell.knobs.speed,
            window=result.window,
            generator_exit=result.exit_code,
        )
        folder.write_evidence(observer.evidence(result.t0, folder.samples, list(injected), done))


def offer(
    generator: LoadGenerator,
    cell: Cell,
    replica: Replica,
    observer: Observer,
    folder: CellFolder,
    steps: Steps,
) -> LoadResult:
    """Offer the load; end it early when a part is seen down, because the cell is invalid then.

    A generator that dies under way makes the cell invalid too; the next one may do better.

    Raises:
        PartFailed: the generator did not start.
    """
    started: list[LoadStart] = []

    def on_start(start: LoadStart) -> None:
        started.append(start)
        observer.watch.generator(start.pid)

    def tick(tick: LoadTick) -> None:
        steps.load(cell, tick)
        down = observer.down()
        if down:
            raise PartDownDuringLoad("; ".join(f"{part}: {why}" for part, why in down.items()))

    log = folder.logs / "generator.log"
    try:
        return generator.run(cell, replica.url, folder.samples, log, tick, on_start)
    except PartDownDuringLoad:
        return LoadResult(started[0].t0, cell.load.measured, 0, started[0].pid)
    except PartFailed as error:
        if not started:
            raise
        observer.watch.note_down("generator", str(error))
        return LoadResult(started[0].t0, cell.load.measured, 1, started[0].pid)


def judge_cell(folder: CellFolder) -> Verdict:
    """Judge what is stored of a cell, and store the verdict."""
    verdict = judge(folder.read_cell(), folder.read_observation())
    folder.finish(verdict)
    return verdict


@contextmanager
def logs_kept(stack: Stack, into: Path) -> Iterator[None]:
    """Copy every part's log when the block ends, also when it fails."""
    try:
        yield
    except BaseException as first:
        try:
            stack.collect_logs(into)
        except OSError as second:
            first.add_note(f"and then the logs could not be kept: {second}")
        raise
    stack.collect_logs(into)


class Steps:
    """Tells whoever shows it where a run is.

    Args:
        show: told of each step.
        cells: all cells of the run.
        index: of this one.
    """

    def __init__(self, show: Callable[[Progress], None], cells: Sequence[Cell], index: int) -> None:
        self._show = show
        self._cells = cells
        self._index = index
        self._began = time.monotonic()

    def phase(self, phase: Phase, tick: LoadTick | None = None) -> None:
        """A new phase has begun, or the load has moved on in it."""
        spent = time.monotonic() - self._began
        left = max(0.0, estimate(self._cells[self._index :]) - spent)
        cell = self._cells[self._index]
        self._show(Progress(cell.id, self._index + 1, len(self._cells), phase, left, tick))

    def load(self, cell: Cell, tick: LoadTick) -> None:
        """The load is at ``tick``."""
        start, _ = cell.load.measured
        ramp = getattr(cell.load, "ramp", 0.0)
        if tick.t >= end_of(cell.load):
            phase: Phase = "drain"
        elif tick.t >= start:
            phase = "window"
        else:
            phase = "ramp" if tick.t < ramp else "warm-up"
        self.phase(phase, tick)
