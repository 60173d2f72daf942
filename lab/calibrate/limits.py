"""Do the replica's limits hold: its parts' confinement, and those of a Cloud Run instance?"""

from __future__ import annotations

from collections.abc import Callable

from lab.calibrate import Calibration, calibration_cell
from lab.stack.base import Confinement, Stack

VM_CPUS = 1.0
VM_MEMORY = "256 MiB"
NEAR = 0.05
BUSY_S = 5.0
"""The quota is granted in periods of 100 ms: a period more or less is 2 % of this."""
TRIES = 3
"""The greatest try counts: other programs on the machine can only lower the figure."""
LIVES, DIES = 0.9, 1.1
"""Shares of the memory limit; the program itself takes about 3 % of it."""
NEAR_CORES = 0.03
"""Tolerance for an instance. Other programs can only lower what a busy loop gets."""


def calibrate_confinement(
    calibration: Calibration, stack: Stack, show: Callable[[str], None]
) -> None:
    """Test the confinement of a stack; if its parts are not confined, note that."""
    confinement = stack.confinement
    if confinement is None:
        calibration.not_measured.append(
            f"CPU quota, memory limit and networks: the {stack.name} stack confines no part"
        )
        return
    show("confinement: CPU quota, memory limit and networks")
    stack.apply(calibration_cell({"vm_cpus": VM_CPUS, "vm_memory": VM_MEMORY}))
    _check_cpus(calibration, confinement)
    _check_memory(calibration, confinement)
    _check_networks(calibration, confinement)


def _check_cpus(calibration: Calibration, confinement: Confinement) -> None:
    if confinement.cores <= VM_CPUS:
        machine = f"the machine has {confinement.cores} core in all"
        calibration.not_measured.append(f"CPU quota: {machine}")
        return
    low, high = VM_CPUS * (1 - NEAR), VM_CPUS * (1 + NEAR)
    cores, throttled_s = 0.0, 0.0
    for _ in range(TRIES):
        if cores < low:
            cores, throttled_s = max((cores, throttled_s), confinement.busy(BUSY_S))
    name, bound = f"vm_cpus {VM_CPUS:g}, {confinement.cores} busy loops", f"{VM_CPUS:g}"
    calibration.add(f"{name}: cores", cores, f"{bound} ± {100 * NEAR:g} %", low <= cores <= high)
    calibration.add(f"{name}: throttled (s)", throttled_s, "> 0", throttled_s > 0)


def _check_memory(calibration: Calibration, confinement: Confinement) -> None:
    for share, dies in ((LIVES, False), (DIES, True)):
        killed = confinement.killed_for_memory(share)
        name = f"vm_memory {VM_MEMORY}, {100 * share:.0f} % of it filled: killed"
        calibration.add(name, killed, f"{dies:d}", killed == dies)


def _check_networks(calibration: Calibration, confinement: Confinement) -> None:
    reached = confinement.reached()
    if reached is None:
        calibration.not_measured.append("networks: the engine runs on another machine")
        return
    control = reached.control
    calibration.add("outside reached by a container that may", control, "1", control)
    for part, reaches in reached.by_part.items():
        calibration.add(f"outside reached by {part}", reaches, "0", not reaches)


def calibrate_instances(stack: Stack, show: Callable[[str], None]) -> Calibration:
    """Test the limits of an instance with the preset as-found, made like those that serve.

    Takes half a minute at most.

    Args:
        stack: not applied yet.
        show: called at each step.

    Raises:
        MissingComponent: instances cannot be limited on this machine.
    """
    calibration = Calibration(stack.name, stack.toxiproxy_variant)
    cell = calibration_cell({}, target="cloudrun")
    stack.apply(cell)
    show("an instance: CPU and memory")
    got, cpus = stack.burden(cell), cell.knobs.cloudrun_cpus
    calibration.add(
        f"cloudrun_cpus {cpus:g}, a busy loop: cores",
        got.cores,
        f"{cpus:g} ± {NEAR_CORES:g}",
        round(abs(got.cores - cpus), 6) <= NEAR_CORES,
    )
    limit = f"cloudrun_memory {cell.knobs.cloudrun_memory / 1024**2:g} MiB"
    calibration.add(f"{limit}, {got.first_mib:g} MiB taken: lives", got.lived, "1", got.lived)
    calibration.add(f"{limit}, {got.more_mib:g} MiB more: killed", got.killed, "1", got.killed)
    return calibration
