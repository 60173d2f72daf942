"""A run: each cell is applied, its faults are injected, it is loaded, observed and judged.

    for cell:  stack.apply ─> faults.inject ─> load.run ─> observe ─> evidence stored
                  ^                           process faults          judge ─> verdict stored
                  └── attempt kept, machine quiet, speed chosen <── invalid ──┘

The observation is on disk before it is judged. Faults are removed, logs and evidence kept
whatever goes wrong, and an error in that never hides the first error.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Protocol

from lab.errors import InjectionError, PartFailed, StoreError
from lab.faults.process import ProcessInjector
from lab.judge import Reference, all_certain, judge
from lab.load.driver import LoadGenerator, LoadResult, LoadStart, StoodStill
from lab.model.evidence import GENERATOR, Injected, LoadDone, ProcessFaultRecord
from lab.model.experiment import Cell
from lab.model.load import shortened
from lab.model.run import DamagedCell, LoadSoFar, LoadTick, Phase, Progress, Summary, phase_at
from lab.model.verdict import Verdict
from lab.observe.observer import Observer
from lab.plan import earliest_end, estimate
from lab.plan.attempts import again, next_attempt
from lab.stack.base import Replica, Stack
from lab.store import CellFolder, RunFolder


class Injector(Protocol):
    """Injects network faults; the implementation over Toxiproxy is in `lab.cli.wiring`."""

    def injected(self, replica: Replica, cell: Cell) -> AbstractContextManager[list[Injected]]:
        """Exactly this cell's network faults inside the block, none after; what reads back."""
        ...


@dataclass
class Lab:
    """The seams of a run, wired by the command line and by tests.

    Args:
        stack: the replica.
        injector: injects the network faults.
        generator: offers the load.
        show: called at every step.
        retries: how often a cell that something disturbed is measured again.
        choose_speed: the cell at the speed for its next attempt, no higher than the limit; asked
            for cells with ``auto_speed``.
        foresee: the cell with what a model says of it before it is measured; asked for the others.
        wait_quiet: returns when this machine is quiet, or is not going to be, and whether it is;
            calls what it is given with what keeps it busy.
    """

    stack: Stack
    injector: Injector
    generator: LoadGenerator
    show: Callable[[Progress], None] = field(default=lambda _progress: None)
    retries: int = 0
    choose_speed: Callable[[Cell, float], Cell] = field(default=lambda cell, _limit: cell)
    foresee: Callable[[Cell], Cell] = field(default=lambda cell: cell)
    wait_quiet: Callable[[Callable[[str], None]], bool] = field(default=lambda _show: True)

    def at_its_speed(self, cell: Cell, limit: float = inf) -> Cell:
        """The cell at the speed that it was given, or that is chosen for it now."""
        return self.choose_speed(cell, limit) if cell.auto_speed else self.foresee(cell)


def run_experiment(lab: Lab, run: RunFolder, cells: Sequence[Cell]) -> Summary:
    """Measure every cell that has no verdict or is invalid, and store its verdict.

    One of which something that is stored turns out damaged is told apart, and the next goes on.

    Raises:
        LabError: this machine cannot go on; finished cells are stored.
    """
    summary, damaged = run.write_summary(), list[DamagedCell]()
    for index, cell in enumerate(cells):
        if run.cell(cell.id).settled():
            continue
        unmeasured = [later for later in cells[index:] if run.cell(later.id).wants_load()]
        progress = CellProgress(lab.show, cells, index, unmeasured)
        try:
            settle_cell(lab, run, cell, progress)
        except DamagedEvidence as error:
            damaged.append(DamagedCell(id=cell.id, problem=str(error)))
        summary = run.write_summary(damaged)
    if any(cell.relative for cell in cells):
        damaged += _compared_again(run, cells, {cell.id for cell in damaged})
        summary = run.write_summary(damaged)
    return summary


def _compared_again(
    run: RunFolder, cells: Sequence[Cell], apart: AbstractSet[str]
) -> list[DamagedCell]:
    """Judge those again that are held against a baseline: it may have been measured after them.

    Returns:
        What turned out damaged, beside the cells that are known to be.
    """
    damaged = list[DamagedCell]()
    for cell in cells:
        folder = run.cell(cell.id)
        if cell.relative and cell.id not in apart and folder.observed():
            try:
                judge_cell(folder)
            except StoreError as error:
                damaged.append(DamagedCell(id=cell.id, problem=str(error)))
    return damaged


def settle_cell(lab: Lab, run: RunFolder, cell: Cell, progress: CellProgress) -> Verdict:
    """Measure a cell until an attempt is valid, or would not become so, or there were enough.

    The first valid one counts, whatever it says; where none is, the last. Each earlier one is kept
    among the cell's attempts. What stands there already, because a run goes on, is not measured
    again: an observation is judged, and an invalid cell is followed by another attempt.

    Raises:
        DamagedEvidence: what is stored of it is damaged.
        LabError: this machine cannot go on.
    """
    folder = run.cell(cell.id)
    resumed = folder.finished()
    verdict = folder.read_verdict() if resumed else first_verdict(lab, run, cell, progress)
    for repeat in range(lab.retries + resumed):
        verdicts = [*earlier(folder), verdict]
        asked = again(verdicts) if resumed and repeat == 0 else None
        step = asked or next_attempt(folder.read_cell(), verdicts)
        if step is None:
            break
        progress.again()
        quiet = lab.wait_quiet(progress.waiting) if step.quiet else True
        folder.keep_attempt()
        measure(lab, run, cell, step.limit if quiet else step.busy_limit, progress)
        verdict = judged(folder, progress)
    return verdict


def first_verdict(lab: Lab, run: RunFolder, cell: Cell, progress: CellProgress) -> Verdict:
    """Of an attempt that is made now, unless it was made and is only to be judged.

    It may follow others, after which the lab was interrupted.
    """
    folder = run.cell(cell.id)
    if not folder.observed():
        measure(lab, run, cell, again(earlier(folder)).limit, progress)
    return judged(folder, progress)


def measure(lab: Lab, run: RunFolder, cell: Cell, limit: float, progress: CellProgress) -> None:
    """An attempt at a cell, at its speed, or at one up to the limit that is chosen for it."""
    paced = lab.at_its_speed(cell, limit)
    progress.begin(paced)
    run_cell(lab, paced, run.begin(paced), progress)


def judged(folder: CellFolder, progress: CellProgress) -> Verdict:
    """Judge what was measured, and store the verdict.

    Raises:
        DamagedEvidence: something that is stored of it is damaged.
    """
    progress.phase("judging")
    with damage_apart():
        verdict = judge_stored(folder)
    folder.finish(verdict)
    return verdict


def earlier(folder: CellFolder) -> list[Verdict]:
    """The verdicts on a cell's earlier attempts, in order.

    Raises:
        DamagedEvidence: something that is stored of one is damaged.
    """
    with damage_apart():
        return [verdict for _, verdict in folder.attempts.read()]


@contextmanager
def damage_apart() -> Iterator[None]:
    """Tell what cannot be read of one cell from what keeps the run from going on."""
    try:
        yield
    except StoreError as error:
        raise DamagedEvidence(error.what, error.remedy) from error


class DamagedEvidence(StoreError):
    """A cell cannot be judged: the others can."""


def run_cell(lab: Lab, cell: Cell, folder: CellFolder, progress: CellProgress) -> None:
    """A trial: from applying this cell's settings to its evidence on disk.

    Raises:
        PartFailed: a part did not come up.
        InjectionError: a fault could not be injected.
    """
    with logs_kept(lab.stack, folder.logs):
        progress.phase("applying")
        replica = lab.stack.apply(cell)
        folder.note_replica(replica.evidence)
        process_faults = ProcessInjector(lab.stack, cell)
        observer = Observer(replica, process_faults.down_parts, cell.knobs.speed)
        trial = RunningTrial(cell, folder, replica, process_faults, observer, progress)
        progress.phase("arming")
        injected, result = load_under_faults(lab, trial)
        progress.phase("auditing")
        done = LoadDone(
            t=(time.monotonic() - result.t0) * cell.knobs.speed,
            window=result.window,
            generator_exit=result.exit_code,
            dropped=result.dropped,
            beat_s=result.beat_s,
            decided_at=result.decided_at,
        )
        faults: list[Injected | ProcessFaultRecord] = [*injected, *process_faults.evidence]
        with no_collections():
            # All is read before anything is written: what cannot be read is told by its own name.
            evidence = list(observer.evidence(result.t0, folder.samples, faults, done))
            folder.write_evidence(evidence)


def judge_cell(folder: CellFolder) -> Verdict:
    """Judge a cell from what is stored of it, and store the verdict."""
    verdict = judge_stored(folder)
    folder.finish(verdict)
    return verdict


def judge_stored(folder: CellFolder) -> Verdict:
    """The verdict on what is stored of a cell.

    Raises:
        StoreError: something of it is damaged.
    """
    cell = folder.read_cell()
    with no_collections():
        return judge(cell, folder.read_observation(), reference_of(cell, folder))


@contextmanager
def no_collections() -> Iterator[None]:
    """Look for no garbage meanwhile: what is read of a cell is none, and so much of it has Python
    look through all that the lab has imported, which takes almost as long as to judge it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def reference_of(cell: Cell, folder: CellFolder) -> Reference | None:
    """What a cell's relative criteria are held against: its baseline as it was judged last."""
    if not cell.relative:
        return None
    baseline = folder.beside(cell.baseline)
    try:
        return Reference(cell.baseline, baseline.read_verdict() if baseline.finished() else None)
    except StoreError:
        return Reference(cell.baseline, damaged=True)


@dataclass(frozen=True)
class RunningTrial:
    """A cell's trial under way: its load, replica, process faults, observer and progress."""

    cell: Cell
    folder: CellFolder
    replica: Replica
    process_faults: ProcessInjector
    observer: Observer
    progress: CellProgress


def load_under_faults(lab: Lab, trial: RunningTrial) -> tuple[list[Injected], LoadResult]:
    """Inject the faults, observe, offer the load, let uploads end, and remove the faults.

    Faults that cannot be removed because a part is dead are no error: the cell is invalid
    because of that part, and the next cell restarts it.

    Returns:
        The network faults as they were read back, and how the load went.

    Raises:
        InjectionError: a fault could not be injected, or not removed although every part is up.
    """
    injected: list[Injected] = []
    result: LoadResult | None = None
    observer = trial.observer
    try:
        with (
            lab.injector.injected(trial.replica, trial.cell) as injected,
            observer.watch,
            observer.retention,
            trial.process_faults,
        ):
            result = offer(lab.generator, trial)
            observer.settle()
    except InjectionError:
        if result is None or not observer.down():
            raise
    return injected, result


class PartDied(PartFailed):
    """Ends a load early: a part died, so the cell is invalid whatever follows."""


def offer(generator: LoadGenerator, trial: RunningTrial) -> LoadResult:
    """Offer the load; end it early when a part is seen down, because the cell is invalid then.

    Its window ends early where the cell is to stop when it is decided, and is.
    A generator that dies or stands still makes the cell invalid too, and the run goes on.

    Raises:
        PartFailed: the generator did not start.
    """
    cell, observer = trial.cell, trial.observer
    started: list[LoadStart] = []

    def on_start(start: LoadStart) -> None:
        started.append(start)
        observer.watch.generator(start.pid)
        trial.process_faults.begin(start.t0)

    def on_tick(tick: LoadTick) -> None:
        trial.progress.load(tick)
        if down := observer.down():
            raise PartDied("; ".join(f"{part}: {why}" for part, why in down.items()))

    def is_decided(so_far: LoadSoFar) -> bool:
        return earliest is not None and so_far.at >= earliest and all_certain(cell, so_far)

    earliest = earliest_end(cell)
    ask = None if earliest is None else is_decided
    samples, log = trial.folder.samples, trial.folder.logs / "generator.log"
    try:
        return generator.run(cell, trial.replica.url, samples, log, on_tick, on_start, ask)
    except PartFailed as error:
        if not started:
            raise
        exit_code = 0  # if a part died or stood still, the lab itself ended the generator
        if not isinstance(error, PartDied):
            observer.watch.note_down(GENERATOR, str(error))
            exit_code = int(not isinstance(error, StoodStill))
        start, window = started[0], cell.load.measured
        return LoadResult(start.t0, window, exit_code, start.pid, beat_s=start.beat_s)


@contextmanager
def logs_kept(stack: Stack, into: Path) -> Iterator[None]:
    """Copy every part's log when the block ends; an error in it gets a note of where they are."""
    try:
        yield
    except BaseException as first:
        try:
            stack.collect_logs(into)
            first.add_note(f"every part's log is in {into}")
        except (OSError, StoreError) as second:
            first.add_note(f"and then the logs could not be kept: {second}")
        raise
    stack.collect_logs(into)


class CellProgress:
    """Shows how far a run is while it measures a cell.

    Args:
        show: called at each step.
        cells: all cells of the run.
        index: of the cell that is measured.
        unmeasured: that cell and the later ones that are still to be measured.
    """

    def __init__(
        self,
        show: Callable[[Progress], None],
        cells: Sequence[Cell],
        index: int,
        unmeasured: Sequence[Cell],
    ) -> None:
        self._show = show
        self._cells = cells
        self._index = index
        self._cell = cells[index]
        self._later = estimate([cell for cell in unmeasured if cell.id != self._cell.id])
        self._estimate = estimate(unmeasured)
        self._spared = 0.0  # of the window, in wall-clock seconds, where it ended early
        self._began = time.monotonic()
        self._attempt = 1

    def begin(self, cell: Cell) -> None:
        """An attempt begins, at this cell's speed."""
        self._cell, self._spared = cell, 0.0
        self._estimate = self._spent + estimate([cell]) + self._later

    @property
    def _spent(self) -> float:
        return time.monotonic() - self._began

    def phase(self, phase: Phase, tick: LoadTick | None = None, busy: str = "") -> None:
        """A new phase has begun, or the load has moved on in it, or a wait goes on."""
        left = max(0.0, self._estimate - self._spared - self._spent)
        place = self._cells[self._index].id, self._index + 1, len(self._cells)
        self._show(Progress(*place, phase, left, tick, self._attempt, busy))

    def waiting(self, busy: str) -> None:
        """The next attempt waits until this machine is quiet; ``busy`` says what it does."""
        self.phase("waiting", busy=busy)

    def again(self) -> None:
        """Another attempt at the cell follows."""
        self._attempt += 1
        self.begin(self._cell)

    def load(self, tick: LoadTick) -> None:
        """The load is at ``tick``."""
        cell = self._cell
        load = cell.load if tick.ended_at is None else shortened(cell.load, tick.ended_at)
        self._spared = estimate([cell]) - estimate([cell.model_copy(update={"load": load})])
        self.phase(phase_at(load, tick.t), tick)
