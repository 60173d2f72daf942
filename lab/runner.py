"""The story of a run: each cell is applied, armed, loaded, observed, stored, judged.

    for cell:  stack.apply ─> faults.arm ─> load.run ─> observe ─> evidence stored
                                            strikes                judge ─> verdict stored

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

from lab.errors import InjectionError, PartFailed
from lab.faults.process import Striker
from lab.judge import judge
from lab.load.driver import LoadGenerator, LoadResult, LoadStart
from lab.model.evidence import Injected, LoadDone, ProcessFaultRecord
from lab.model.experiment import Cell
from lab.model.load import end_of
from lab.model.run import LoadTick, Phase, Progress, Summary
from lab.model.verdict import Verdict
from lab.observe.observer import Observer
from lab.plan import estimate
from lab.stack.base import Replica, Stack
from lab.store import CellFolder, RunFolder


class Injector(Protocol):
    """Whoever arms faults; the adapter of `lab.faults` is one."""

    def armed(self, replica: Replica, cell: Cell) -> AbstractContextManager[list[Injected]]:
        """Exactly this cell's faults armed inside, and nothing after; what was read back."""
        ...


class PartDownError(PartFailed):
    """Ends a load early: a part died, so the cell is invalid whatever else comes."""


class LoadCut(PartFailed):
    """The load ended early, as ``result`` says; what died is among the observer's evidence."""

    def __init__(self, result: LoadResult, why: str) -> None:
        super().__init__(why)
        self.result = result


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
    summary = run.write_summary()
    for index, cell in enumerate(cells):
        folder = run.cell(cell.id)
        if folder.finished():
            continue
        steps = Steps(lab.show, cells, index, [c for c in cells[index:] if _is_missing(run, c)])
        if not folder.observed():
            run_cell(lab, cell, run.begin(cell), steps)
        steps.phase("judging")
        judge_cell(folder)
        summary = run.write_summary()
    return summary


def _is_missing(run: RunFolder, cell: Cell) -> bool:
    return not run.cell(cell.id).observed() and not run.cell(cell.id).finished()


def run_cell(lab: Lab, cell: Cell, folder: CellFolder, steps: Steps) -> None:
    """One trial, from a replica with this cell's settings to evidence on disk.

    Raises:
        PartFailed: a part did not come up.
        InjectionError: a fault could not be armed.
    """
    with logs_kept(lab.stack, folder.logs):
        steps.phase("applying")
        replica = lab.stack.apply(cell)
        striker = Striker(lab.stack, cell)
        observer = Observer(replica, striker.down_parts, cell.knobs.speed)
        steps.phase("arming")
        trial = RunningTrial(cell, folder, replica, observer, striker, steps)
        injected, result = load_under_faults(lab, trial)
        steps.phase("auditing")
        done = LoadDone(
            t=(time.time() - result.t0) * cell.knobs.speed,
            window=result.window,
            generator_exit=result.exit_code,
        )
        done_to_it: list[Injected | ProcessFaultRecord] = [*injected, *striker.evidence]
        folder.write_evidence(observer.evidence(result.t0, folder.samples, done_to_it, done))


@dataclass(frozen=True)
class RunningTrial:
    """One cell's trial under way: what is offered, to whom, and who watches and strikes."""

    cell: Cell
    folder: CellFolder
    replica: Replica
    observer: Observer
    striker: Striker
    steps: Steps


def load_under_faults(lab: Lab, trial: RunningTrial) -> tuple[list[Injected], LoadResult]:
    """Arm, watch, offer the load, strike, and disarm; what was armed, and how the load went.

    Faults that can't be disarmed because a part is dead are no error: the cell is invalid
    by that part, and the next one starts it anew.

    Raises:
        InjectionError: a fault could not be armed, or disarmed in a replica that is whole.
    """
    injected: list[Injected] = []
    result: LoadResult | None = None
    observer = trial.observer
    armed = lab.injector.armed(trial.replica, trial.cell)
    try:
        with armed as read_back, observer.watch, observer.trim, trial.striker:
            injected = list(read_back)
            result = offer(lab.generator, trial)
    except LoadCut as cut:
        result = cut.result
    except InjectionError:
        if result is None or not observer.down():
            raise
    return injected, result


def offer(generator: LoadGenerator, trial: RunningTrial) -> LoadResult:
    """Offer the load; end it early when a part is seen down, because the cell is invalid then.

    A generator that dies under way makes the cell invalid too; the next one may do better.

    Raises:
        LoadCut: a part or the generator died under way.
        PartFailed: the generator did not start.
    """
    cell, observer = trial.cell, trial.observer
    started: list[LoadStart] = []

    def on_start(start: LoadStart) -> None:
        started.append(start)
        observer.watch.generator(start.pid)
        trial.striker.begin(start.t0)

    def tick(tick: LoadTick) -> None:
        trial.steps.load(cell, tick)
        down = observer.down()
        if down:
            raise PartDownError("; ".join(f"{part}: {why}" for part, why in down.items()))

    samples, log = trial.folder.samples, trial.folder.logs / "generator.log"
    try:
        return generator.run(cell, trial.replica.url, samples, log, tick, on_start)
    except PartFailed as error:
        if not started:
            raise
        ours = isinstance(error, PartDownError)  # it was we who ended the generator
        if not ours:
            observer.watch.note_down("generator", str(error))
        start, window = started[0], cell.load.measured
        result = LoadResult(start.t0, window, 0 if ours else 1, start.pid)
        raise LoadCut(result, str(error)) from error


def judge_cell(folder: CellFolder) -> Verdict:
    """Judge what is stored of a cell, and store the verdict."""
    verdict = judge(folder.read_cell(), folder.read_observation())
    folder.finish(verdict)
    return verdict


@contextmanager
def logs_kept(stack: Stack, into: Path) -> Iterator[None]:
    """Copy every part's log when the block ends; when it fails, the error says where they are."""
    try:
        yield
    except BaseException as first:
        try:
            stack.collect_logs(into)
            first.add_note(f"every part's log is in {into}")
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
        missing: this one and those after it that are still to be measured.
    """

    def __init__(
        self,
        show: Callable[[Progress], None],
        cells: Sequence[Cell],
        index: int,
        missing: Sequence[Cell],
    ) -> None:
        self._show = show
        self._cells = cells
        self._index = index
        self._estimate = estimate(missing)
        self._began = time.monotonic()

    def phase(self, phase: Phase, tick: LoadTick | None = None) -> None:
        """A new phase has begun, or the load has moved on in it."""
        spent = time.monotonic() - self._began
        left = max(0.0, self._estimate - spent)
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
