"""One real replica, of processes, for all tests that need one; each brings it to its settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.stack.embedded import EmbeddedStack
from tests.live import Live


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """A real replica; a test calls ``stack.apply`` with a cell of its own."""
    opened = EmbeddedStack(tmp_path_factory.mktemp("results"))
    yield opened
    opened.close()


@pytest.fixture
def live(stack: EmbeddedStack, tmp_path: Path) -> Live:
    """The real replica, brought to settings by calling it; no fault is injected at first."""
    return Live(stack, tmp_path)
