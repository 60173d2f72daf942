"""The command line in this process, and a folder for one that runs in another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_fixture import lab

__all__ = ["lab"]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users may pass: where the lab is root, Postgres and nginx are others."""
    made = Path(tempfile.mkdtemp(prefix="reachable-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)
