"""What calibration makes of an instance whose limits hold, or do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.calibrate import Calibration
from lab.calibrate.limits import calibrate_instances
from lab.model.experiment import Cell
from lab.stack.base import Replica
from lab.stack.gateway import Burdened
from tests.fakes import FakeStack

SOUND = Burdened(0.5, 200.0, 100.0, lived=True, killed=True)
CORES = "cloudrun_cpus 0.5, a busy loop: cores"
LIVES = "cloudrun_memory 256 MiB, 200 MiB taken: lives"
KILLED = "cloudrun_memory 256 MiB, 100 MiB more: killed"


class BurdenedStack(FakeStack):
    """A fake stack whose instance fares as it is told."""

    def __init__(self, folder: Path, fares: Burdened) -> None:
        super().__init__(folder)
        self.fares = fares
        self.brought_to: list[str] = []

    def apply(self, cell: Cell) -> Replica:
        self.brought_to.append(cell.target)
        return super().apply(cell)

    def burden(self, _cell: Cell) -> Burdened:
        return self.fares


def calibrated(folder: Path, fares: Burdened) -> Calibration:
    stack = BurdenedStack(folder, fares)
    found = calibrate_instances(stack, lambda _step: None)
    stack.close()
    assert stack.brought_to == ["cloudrun"]
    return found


@pytest.mark.parametrize(
    ("fares", "off"),
    [
        (SOUND, []),
        (Burdened(0.47, 200.0, 100.0, lived=True, killed=True), []),
        (Burdened(0.53, 200.0, 100.0, lived=True, killed=True), []),
        (Burdened(0.46, 200.0, 100.0, lived=True, killed=True), [CORES]),
        (Burdened(0.54, 200.0, 100.0, lived=True, killed=True), [CORES]),
        (Burdened(0.5, 200.0, 100.0, lived=False, killed=True), [LIVES]),
        (Burdened(0.5, 200.0, 100.0, lived=True, killed=False), [KILLED]),
    ],
    ids=str,
)
def test_what_does_not_hold_is_off(tmp_path: Path, fares: Burdened, off: list[str]) -> None:
    found = calibrated(tmp_path, fares)
    assert [each.name for each in found.measured] == [CORES, LIVES, KILLED]
    assert [each.name for each in found.measured if not each.ok] == off
    assert found.ok is not bool(off)
