"""A part of the embedded replica: what every one of them can do."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from lab.model.knobs import Knobs
from lab.stack.process import Process


class Part(ABC):
    """One real server of the replica.

    A part remembers the settings it was started with; `settings` tells what it would need
    for other knobs, so that a stack can see whether it has to start again.

    Args:
        folder: the replica's folder; the part keeps its files and its log there.
    """

    name: ClassVar[str]
    ask: ClassVar[signal.Signals] = signal.SIGTERM  #: what ends it in good order

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "logs" / f"{self.name}.log"
        self.log.parent.mkdir(exist_ok=True)
        self._process: Process | None = None

    @abstractmethod
    def settings(self, knobs: Knobs) -> object:
        """All that a start with these knobs depends on; compared with ``==``."""

    @abstractmethod
    def start(self, knobs: Knobs) -> None:
        """Start and wait until ready.

        Raises:
            PartFailed: it did not come up.
            MissingComponent: its program is not here.
        """

    def ask_to_stop(self) -> None:
        """Send the signal that ends it, and do not wait."""
        if self._process:
            self._process.send(self.ask)

    def stop(self) -> None:
        """Stop, if it runs, and wait for the end."""
        if self._process:
            self._process.stop(self.ask)
            self._process = None

    def pids(self) -> list[int]:
        """Its processes that are alive."""
        return self._process.pids() if self._process else []

    def down(self) -> str | None:
        """One line that says how it is dead or stopped; None while it runs."""
        return self._process.down() if self._process else "not started"
