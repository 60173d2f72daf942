"""The commands that measure, in this process, on fake parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pytest

from lab.cli import session
from lab.load.driver import LoadResult
from lab.model.experiment import Cell
from tests import command
from tests.fakes import FakeStack, InstantLoad, RecordingInjector

Stack = TypeVar("Stack", bound=FakeStack)


class Load(InstantLoad):
    """A load that is interrupted in the trial after so many, once: set ``left``."""

    def __init__(self) -> None:
        super().__init__(uploads=150)
        self.left: int | None = None

    def run(self, cell: Cell, *arguments: Any, **more: Any) -> LoadResult:
        if self.left == 0:
            self.left = None
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        return super().run(cell, *arguments, **more)


class Faked(Generic[Stack]):
    """The fake parts behind a command, and where it leaves what it finds."""

    def __init__(self, folder: Path, stack: Stack, spec: str) -> None:
        self.folder, self.stack, self.load = folder, stack, Load()
        self.results = folder / "results"
        self.spec = command.spec(folder, spec)

    @property
    def path(self) -> Path:
        """The folder of the latest run."""
        return self.results / (self.results / "latest").readlink()

    @contextmanager
    def wired(self, monkeypatch: pytest.MonkeyPatch, *choosing: ModuleType) -> Iterator[None]:
        """Commands have these parts, also those of the modules that choose a stack themselves."""

        @contextmanager
        def open_stack(chosen: tuple[str, str], *_rest: Any) -> Iterator[tuple[Stack, str]]:
            yield self.stack, chosen[1]

        monkeypatch.chdir(self.folder)
        monkeypatch.setattr(session, "open_stack", open_stack)
        for module in (session, *choosing):
            monkeypatch.setattr(module, "choose", lambda *_asked: ("fake", "asked for"))
        monkeypatch.setattr(session, "ToxiproxyInjector", RecordingInjector)
        monkeypatch.setattr(session, "LocustLoad", lambda: nullcontext(self.load))
        yield
        self.stack.close()
