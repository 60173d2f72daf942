"""Strikes a cell's parts while its load runs, and brings each back whatever happens.

    t = 0 ──> window begins ──at──> strike ──for──> recover ──> it serves again
                                    └─── it does not count as down ───┘

Each duration is real-world time and is divided by ``speed`` here. How long a part takes
to serve again is its own affair, which no speed divides.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from lab.errors import LabError, MissingComponent
from lab.model.evidence import ProcessFaultRecord
from lab.model.experiment import Cell
from lab.model.fault import ProcessFault
from lab.stack.base import Stack


def require(stack: Stack, cells: Iterable[Cell]) -> None:
    """Find out before anything is measured that a stack cannot strike as the cells plan.

    Raises:
        MissingComponent: one of their strikes is beyond it.
    """
    for planned in (strike for cell in cells for strike in cell.strikes):
        if planned.action not in stack.process_faults:
            raise MissingComponent(
                f"{planned.fault} {planned.action}s a container, and the {stack.name} stack has"
                " none",
                "use --stack compose",
            )


class Striker:
    """Carries out one cell's strikes; a context manager, which ends with every part brought back.

    Args:
        stack: whose parts are struck.
        cell: whose strikes, window and speed.

    Attributes:
        evidence: the strikes that happened; whole once the block has ended.
    """

    def __init__(self, stack: Stack, cell: Cell) -> None:
        self.evidence: list[ProcessFaultRecord] = []
        self._stack = stack
        self._planned = cell.strikes
        self._begins = cell.load.measured[0]
        self._speed = cell.knobs.speed
        self._t0 = 0.0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._struck: set[str] = set()
        self._failed: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(max(1, len(self._planned)), "strike")
        self._under_way: list[Future[None]] = []

    def __enter__(self) -> Striker:
        """Ready; nothing is struck before `begin`."""
        return self

    def begin(self, t0: float) -> None:
        """Wait for each strike's time from now on; ``t0`` is t = 0, in seconds since 1970."""
        self._t0 = t0
        self._under_way = [self._threads.submit(self._carry_out, each) for each in self._planned]

    def __exit__(self, kind: object, first: BaseException | None, trace: object) -> None:
        """End all strikes now and wait until their parts serve again.

        What a strike could not do is in `down_parts`; a defect is raised, or noted on the
        error that has ended the block.
        """
        self._over.set()
        self._threads.shutdown()
        defects = [defect for each in self._under_way if (defect := each.exception())]
        for defect in defects:
            if first is None:
                raise defect
            first.add_note(f"and then: {defect}")

    def down_parts(self) -> dict[str, str]:
        """The parts that are down and not by a strike, and those that a strike failed on."""
        # A part may be struck, or be back, while the stack looks: neither makes it down.
        before = self._struck_now()
        down = self._stack.down_parts()
        excused = before | self._struck_now()
        return {part: why for part, why in down.items() if part not in excused} | self._failed

    def _struck_now(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._struck)

    def _carry_out(self, planned: ProcessFault) -> None:
        due = self._t0 + (self._begins + planned.at) / self._speed
        if self._over.wait(max(0.0, due - time.time())):
            return  # the load ended before
        with self._excused(planned.part):
            t, done, back = self._t(), False, False
            try:
                done = self._did(self._stack.inject_fault, planned)
                if done:
                    self._over.wait(planned.lasts / self._speed)
            finally:
                back = self._did(self._stack.recover, planned)
            until = self._t() if back else None
        if done:
            self.evidence.append(
                ProcessFaultRecord(
                    t=t,
                    fault=planned.fault,
                    part=planned.part,
                    action=planned.action,
                    until=until,
                )
            )

    def _did(self, act: Callable[[str, str], None], planned: ProcessFault) -> bool:
        """Whether a part was struck, or brought back; where not, it counts as down."""
        try:
            act(planned.part, planned.action)
        except LabError as error:
            said = [self._failed.get(planned.part), f"{planned.fault}: {error}"]
            self._failed[planned.part] = "; and then ".join(filter(None, said))
            return False
        return True

    @contextmanager
    def _excused(self, part: str) -> Iterator[None]:
        with self._lock:
            self._struck.add(part)
        try:
            yield
        finally:
            with self._lock:
                self._struck.discard(part)

    def _t(self) -> float:
        return round((time.time() - self._t0) * self._speed, 3)
