"""Does what limits an instance of Cloud Run hold: its CPU, and its memory?"""

from __future__ import annotations

from collections.abc import Callable

from lab.calibrate.cell import make_cell
from lab.calibrate.found import Calibration
from lab.stack.base import Stack

NEAR = 0.03
"""Cores. Another program's load can only take away from what a busy loop gets."""


def measure(found: Calibration, stack: Stack, say: Callable[[str], None]) -> None:
    """Burden an instance that is as found, made as those are that serve.

    Raises:
        MissingComponent: instances cannot be limited on this machine.
    """
    cell = make_cell({}, target="cloudrun")
    stack.apply(cell)
    say("an instance: CPU and memory")
    got, cpus = stack.burden(cell), cell.knobs.cloudrun_cpus
    found.add(
        f"cloudrun_cpus {cpus:g}, a busy loop: cores",
        got.cores,
        f"{cpus:g} ± {NEAR:g}",
        round(abs(got.cores - cpus), 6) <= NEAR,
    )
    limit = f"cloudrun_memory {cell.knobs.cloudrun_memory / 1024**2:g} MiB"
    found.add(f"{limit}, {got.first_mib:g} MiB taken: lives", got.lived, "1", got.lived)
    found.add(f"{limit}, {got.more_mib:g} MiB more: killed", got.killed, "1", got.killed)
