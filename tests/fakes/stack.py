"""The fake replica behind the protocol of a stack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from lab.errors import PartFailed
from lab.files import logs_folder
from lab.model.evidence import Cause
from lab.model.experiment import Cell
from lab.model.fault import Action
from lab.stack.base import Replica
from lab.stack.gateway import Burdened
from tests.fakes.server import Server


class FakeStack:
    """A replica in this process, behind the protocol `lab.stack.base.Stack`.

    Args:
        folder: for its evidence and its log.
        fails: the cause that the n-th upload since `apply` fails with, from 0; None: none.

    Attributes:
        applied: ids of the cells that it was brought to, in order.
        down: what `down_parts` says; a test puts a dead part in.
        refuses: what the next `apply` raises, once.
        acts: ``kill backend`` and ``recover backend``, in order.
        closed: how often it was closed.
    """

    name = "fake"
    toxiproxy_variant = "none"
    process_faults: frozenset[str] = frozenset(get_args(Action))
    confinement = None

    def __init__(self, folder: Path, fails: Callable[[int], Cause | None] | None = None) -> None:
        self.applied: list[str] = []
        self.down: dict[str, str] = {}
        self.refuses: PartFailed | None = None
        self.acts: list[str] = []
        self.closed = 0
        self._folder = folder
        self._fails = fails or (lambda _number: None)
        self._server: Server | None = None
        self._log_start = 0

    def require(self, cell: Cell) -> None:
        pass

    def apply(self, cell: Cell) -> Replica:
        if self.refuses:
            refused, self.refuses = self.refuses, None
            raise refused
        if self._server is None:
            self._server = Server(self._folder, self._fails)
        self._server.empty()
        self._log_start = self._server.log.stat().st_size
        self.applied.append(cell.id)
        return self._server.replica()

    def burden(self, cell: Cell) -> Burdened:
        """As an instance should fare."""
        limit = cell.knobs.cloudrun_memory / 1024**2
        return Burdened(cell.knobs.cloudrun_cpus, limit * 0.8, limit * 0.4, lived=True, killed=True)

    def down_parts(self) -> dict[str, str]:
        return dict(self.down)

    def inject_fault(self, part: str, action: str) -> None:
        self.acts.append(f"{action} {part}")
        self.down[part] = f"struck: {action}"

    def recover(self, part: str, _action: str) -> None:
        self.acts.append(f"recover {part}")
        self.down.pop(part, None)

    def collect_logs(self, into: Path) -> None:
        kept = logs_folder(into)
        kept.make()
        if self._server is None:
            return
        with self._server.log.open("rb") as source:
            source.seek(self._log_start)
            kept.keep("server.log", source)

    def about(self) -> dict[str, str]:
        return {"toxiproxy": self.toxiproxy_variant}

    def close(self) -> None:
        self.closed += 1
        if self._server:
            self._server.close()
            self._server = None
