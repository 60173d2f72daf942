"""The fake injector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from lab.errors import InjectionError
from lab.model.evidence import Injected
from lab.model.experiment import Cell
from lab.model.fault import ProxyName
from lab.stack.base import Replica


class RecordingInjector:
    """Injects nothing; reads back what the cell asks for.

    Attributes:
        events: ``injected <cell id>`` and ``removed <cell id>``, in order.
        refuses: what the next injection raises, once.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.refuses: InjectionError | None = None

    @contextmanager
    def injected(self, _replica: Replica, cell: Cell) -> Iterator[list[Injected]]:
        """Exactly this cell's faults, as if injected."""
        if self.refuses:
            refused, self.refuses = self.refuses, None
            raise refused
        self.events.append(f"injected {cell.id}")
        try:
            yield [self._read_back(proxy, cell) for proxy in get_args(ProxyName)]
        finally:
            self.events.append(f"removed {cell.id}")

    def _read_back(self, proxy: str, cell: Cell) -> Injected:
        faults = [fault for fault in cell.faults if fault.proxy == proxy]
        toxics = [toxic for fault in faults for toxic in fault.to_toxics(cell.knobs)]
        return Injected(
            t=0.0,
            proxy=proxy,
            enabled=not any(fault.down for fault in faults),
            toxics=[toxic.model_dump(exclude={"proxy"}) for toxic in toxics],
        )
