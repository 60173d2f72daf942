"""What calibration makes of a confinement that holds, leaks, or is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.calibrate import Calibration
from lab.calibrate.limits import calibrate_confinement
from lab.model.experiment import Cell
from lab.stack.base import Confinement, Reached, Replica
from tests.fakes import FakeStack

WALLED = Reached(control=True, by_part={"nginx": False, "backend": False})


class FakeConfinement:
    """Says what it is told to; where a list of busy results ends, its last one stays."""

    def __init__(
        self,
        busy: Sequence[tuple[float, float]] = ((1.0, 4.0),),
        killed: Sequence[float] = (1.1,),
        reached: Reached | None = WALLED,
        cores: int = 2,
    ) -> None:
        self.cores = cores
        self.asked = 0
        self._busy = busy
        self._killed = killed
        self._reached = reached

    def busy(self, _seconds: float) -> tuple[float, float]:
        self.asked += 1
        return self._busy[min(self.asked, len(self._busy)) - 1]

    def killed_for_memory(self, share: float) -> bool:
        return share in self._killed

    def reached(self) -> Reached | None:
        return self._reached


class ConfiningStack(FakeStack):
    """A fake stack that has a confinement, and keeps what it was brought to."""

    def __init__(self, folder: Path, confinement: Confinement) -> None:
        super().__init__(folder)
        self.confinement = confinement  # type: ignore[assignment]
        self.cells: list[Cell] = []

    def apply(self, cell: Cell) -> Replica:
        self.cells.append(cell)
        return super().apply(cell)


def calibrated(folder: Path, confinement: FakeConfinement) -> tuple[Calibration, ConfiningStack]:
    stack = ConfiningStack(folder, confinement)
    calibration = Calibration(stack.name, stack.toxiproxy_variant)
    calibrate_confinement(calibration, stack, lambda _step: None)
    stack.close()
    return calibration, stack


@pytest.mark.parametrize(
    ("confinement", "off"),
    [
        (FakeConfinement(), []),
        (FakeConfinement(busy=[(1.04, 0.1)]), []),
        (FakeConfinement(busy=[(0.96, 0.1)]), []),
        (FakeConfinement(busy=[(1.06, 0.1)]), ["vm_cpus 1, 2 busy loops: cores"]),
        (FakeConfinement(busy=[(0.94, 0.1)]), ["vm_cpus 1, 2 busy loops: cores"]),
        (
            FakeConfinement(busy=[(1.99, 0.0)]),
            ["vm_cpus 1, 2 busy loops: cores", "vm_cpus 1, 2 busy loops: throttled (s)"],
        ),
        (FakeConfinement(killed=[]), ["vm_memory 256 MiB, 110 % of it filled: killed"]),
        (FakeConfinement(killed=[0.9, 1.1]), ["vm_memory 256 MiB, 90 % of it filled: killed"]),
        (
            FakeConfinement(reached=Reached(True, {"nginx": True, "backend": False})),
            ["outside reached by nginx"],
        ),
        (
            FakeConfinement(reached=Reached(False, WALLED.by_part)),
            ["outside reached by a container that may"],
        ),
    ],
    ids=[
        "holds",
        "a-little-more",
        "a-little-less",
        "quota-too-wide",
        "quota-too-narrow",
        "no-quota",
        "no-memory-limit",
        "memory-limit-too-low",
        "a-hole",
        "a-listener-that-nobody-reaches",
    ],
)
def test_a_confinement_is_held_against_what_it_should_be(
    tmp_path: Path, confinement: FakeConfinement, off: list[str]
) -> None:
    calibration, _ = calibrated(tmp_path, confinement)
    assert [measurement.name for measurement in calibration.measured if not measurement.ok] == off
    assert len(calibration.measured) == 7
    assert calibration.not_measured == []


@pytest.mark.parametrize(
    ("busy", "value", "ok", "asked"),
    [
        ([(0.98, 1.0), (1.5, 1.0)], 0.98, True, 1),
        ([(0.3, 0.0), (0.99, 1.0)], 0.99, True, 2),
        ([(0.3, 0.0), (1.2, 1.0)], 1.2, False, 2),
        ([(0.5, 0.1), (0.3, 0.0)], 0.5, False, 3),
    ],
)
def test_a_busy_machine_is_tried_again_and_the_greatest_counts(
    tmp_path: Path, busy: list[tuple[float, float]], value: float, ok: bool, asked: int
) -> None:
    confinement = FakeConfinement(busy=busy)
    calibration, _ = calibrated(tmp_path, confinement)
    first = calibration.measured[0]
    assert (first.value, first.ok, confinement.asked) == (value, ok, asked)


def test_the_limits_are_the_knobs_of_a_cell_that_was_applied(tmp_path: Path) -> None:
    _, stack = calibrated(tmp_path, FakeConfinement())
    assert [(cell.knobs.vm_cpus, cell.knobs.vm_memory) for cell in stack.cells] == [(1.0, 2**28)]


@pytest.mark.parametrize(
    ("confinement", "said"),
    [
        (FakeConfinement(cores=1), "CPU quota: the machine has 1 core in all"),
        (FakeConfinement(reached=None), "networks: the engine runs on another machine"),
    ],
)
def test_what_cannot_be_measured_is_said(
    tmp_path: Path, confinement: FakeConfinement, said: str
) -> None:
    calibration, _ = calibrated(tmp_path, confinement)
    assert calibration.not_measured == [said]
    assert calibration.ok


def test_a_stack_that_confines_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    stack = FakeStack(tmp_path)
    calibration = Calibration(stack.name, stack.toxiproxy_variant)
    calibrate_confinement(calibration, stack, lambda _step: None)
    said = "CPU quota, memory limit and networks: the fake stack confines no part"
    assert (calibration.measured, calibration.not_measured, stack.applied) == ([], [said], [])
