"""Does what holds the parts in hold: the CPU quota, the memory limit, and the networks?"""

from __future__ import annotations

from collections.abc import Callable

from lab.calibrate.cell import make_cell
from lab.calibrate.found import Calibration
from lab.stack.base import Confinement, Stack

VM_CPUS = 1.0
VM_MEMORY = "256 MiB"
NEAR = 0.05
BUSY_S = 5.0
"""The quota is granted by periods of 100 ms: one more or less is 2 % of this."""
TRIES = 3
"""What other programs take of the machine's cores is no limit: the greatest try counts."""
LIVES, DIES = 0.9, 1.1
"""Shares of the memory limit: the program itself takes about 3 % of this one."""


def measure(found: Calibration, stack: Stack, say: Callable[[str], None]) -> None:
    """Try the confinement of a stack that has one; where it has none, note that."""
    confinement = stack.confinement
    if confinement is None:
        found.not_measured.append(
            f"CPU quota, memory limit and networks: the {stack.name} stack confines no part"
        )
        return
    say("confinement: CPU quota, memory limit and networks")
    stack.apply(make_cell({"vm_cpus": VM_CPUS, "vm_memory": VM_MEMORY}))
    _cpus(found, confinement)
    _memory(found, confinement)
    _networks(found, confinement)


def _cpus(found: Calibration, confinement: Confinement) -> None:
    if confinement.cores <= VM_CPUS:
        found.not_measured.append(f"CPU quota: the machine has {confinement.cores} core in all")
        return
    low, high = VM_CPUS * (1 - NEAR), VM_CPUS * (1 + NEAR)
    cores, throttled_s = 0.0, 0.0
    for _ in range(TRIES):
        if cores < low:
            cores, throttled_s = max((cores, throttled_s), confinement.busy(BUSY_S))
    what = f"vm_cpus {VM_CPUS:g}, {confinement.cores} busy loops"
    found.add(f"{what}: cores", cores, f"{VM_CPUS:g} ± {100 * NEAR:g} %", low <= cores <= high)
    found.add(f"{what}: throttled (s)", throttled_s, "> 0", throttled_s > 0)


def _memory(found: Calibration, confinement: Confinement) -> None:
    for share, dies in ((LIVES, False), (DIES, True)):
        killed = confinement.killed_for_memory(share)
        name = f"vm_memory {VM_MEMORY}, {100 * share:.0f} % of it filled: killed"
        found.add(name, killed, f"{dies:d}", killed == dies)


def _networks(found: Calibration, confinement: Confinement) -> None:
    reached = confinement.reached()
    if reached is None:
        found.not_measured.append("networks: the engine runs on another machine")
        return
    found.add("outside reached by a container that may", reached.control, "1", reached.control)
    for part, reaches in reached.by_part.items():
        found.add(f"outside reached by {part}", reaches, "0", not reaches)
