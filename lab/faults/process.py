"""Process faults: carried out during the load; every part is brought back whatever happens.

    t = 0 ──> window begins ──at──> inject ──for──> recover ──> it serves again
                                    └─── it does not count as down ───┘

Durations are real-world time and are divided by ``speed`` here. How long a part takes to
serve again is not divided.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from lab.errors import LabError, MissingComponent
from lab.model.evidence import ProcessFaultRecord
from lab.model.experiment import Cell
from lab.model.fault import ProcessFault


class ProcessControl(Protocol):
    """What process faults need of a stack; ``lab.stack.base.Stack`` describes the members."""

    @property
    def name(self) -> str: ...
    @property
    def process_faults(self) -> frozenset[str]: ...

    def inject_fault(self, part: str, action: str) -> None: ...
    def recover(self, part: str, action: str) -> None: ...
    def down_parts(self) -> dict[str, str]: ...


def require(stack: ProcessControl, cells: Iterable[Cell]) -> None:
    """Check, before anything is measured, that a stack can do the cells' process faults.

    Raises:
        MissingComponent: it cannot do one of them.
    """
    for planned in (fault for cell in cells for fault in cell.process_faults):
        if planned.action not in stack.process_faults:
            raise MissingComponent(
                f"{planned.fault} {planned.action}s a container, and the {stack.name} stack has"
                " none",
                "use --stack compose",
            )


class ProcessInjector:
    """Carries out a cell's process faults; a context manager that ends with every part back.

    Args:
        stack: whose parts are affected.
        cell: gives the process faults, the window and the speed.

    Attributes:
        evidence: the process faults that happened; complete once the block has ended.
    """

    def __init__(self, stack: ProcessControl, cell: Cell) -> None:
        self.evidence: list[ProcessFaultRecord] = []
        self._stack = stack
        self._planned = cell.process_faults
        self._window_start = cell.load.measured[0]
        self._speed = cell.knobs.speed
        self._t0 = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._excused: set[str] = set()
        self._failed: dict[str, str] = {}
        self._threads = ThreadPoolExecutor(max(1, len(self._planned)), "process-fault")
        self._futures: list[Future[None]] = []

    def __enter__(self) -> ProcessInjector:
        """Ready; nothing happens before `begin`."""
        return self

    def begin(self, t0: float) -> None:
        """Carry out every fault at its time; ``t0`` is t = 0, on the monotonic clock."""
        self._t0 = t0
        self._futures = [self._threads.submit(self._carry_out, fault) for fault in self._planned]

    def __exit__(self, kind: object, first: BaseException | None, _trace: object) -> None:
        """End all faults now, and wait until their parts serve again.

        A part that does not come back is in `down_parts`; a defect of the lab is raised, or
        noted on the error that has ended the block.
        """
        self._ended.set()
        self._threads.shutdown()
        defects = [defect for future in self._futures if (defect := future.exception())]
        for defect in defects:
            if first is None:
                raise defect
            first.add_note(f"and then: {defect}")

    def down_parts(self) -> dict[str, str]:
        """The parts that are down for another reason, and those whose process fault failed."""
        # A fault may begin or end while the stack checks: in both cases its part is excused.
        before = self._excused_now()
        down = self._stack.down_parts()
        excused = before | self._excused_now()
        return {part: why for part, why in down.items() if part not in excused} | self._failed

    def _excused_now(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._excused)

    def _carry_out(self, planned: ProcessFault) -> None:
        due = self._t0 + (self._window_start + planned.at) / self._speed
        if self._ended.wait(max(0.0, due - time.monotonic())):
            return  # the load ended first
        with self._excusing(planned.part):
            t, done, back = self._now(), False, False
            try:
                done = self._try(self._stack.inject_fault, planned)
                if done:
                    self._ended.wait(planned.lasts / self._speed)
            finally:
                back = self._try(self._stack.recover, planned)
            until = self._now() if back else None
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

    def _try(self, act: Callable[[str, str], None], planned: ProcessFault) -> bool:
        """Whether the stack could do this to the part; if not, the part counts as down."""
        try:
            act(planned.part, planned.action)
        except LabError as error:
            failures = [self._failed.get(planned.part), f"{planned.fault}: {error}"]
            self._failed[planned.part] = "; and then ".join(filter(None, failures))
            return False
        return True

    @contextmanager
    def _excusing(self, part: str) -> Iterator[None]:
        with self._lock:
            self._excused.add(part)
        try:
            yield
        finally:
            with self._lock:
                self._excused.discard(part)

    def _now(self) -> float:
        """Real-world seconds after t = 0."""
        return round((time.monotonic() - self._t0) * self._speed, 3)
