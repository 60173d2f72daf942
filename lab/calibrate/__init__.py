"""Is what is injected what arrives, and does what limits the replica hold?

Measured on a replica, at speed 1, part by part:

    storage      draws through the gcs proxy, against uniform 2-5 s
    database     the backend's own stages, against 50 ms and 100 ms
    connections  opened as the application's role until refused, against db_cap
    body limit   1 MiB and one byte more, as found and as recommended
    confinement  vm_cpus, vm_memory, and whether a part reaches outside its networks;
                 only where the parts are confined, in containers
    instances    cloudrun_cpus and cloudrun_memory, where the target is Cloud Run
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.calibrate import confined, injected, instances
from lab.calibrate.found import Calibration, Measured
from lab.model.fault import Fault
from lab.runner import Injector
from lab.stack.base import Stack

__all__ = ["Calibration", "Measured", "calibrate_instances", "calibrate_replica"]


def calibrate_replica(
    stack: Stack,
    injector: Injector,
    faults: Mapping[str, Fault],
    draws: int,
    say: Callable[[str], None],
) -> Calibration:
    """Measure everything with this stack's Toxiproxy; takes about a minute.

    Args:
        stack: not applied yet.
        injector: arms the faults.
        faults: those under ``faults/``.
        draws: how many storage latencies; the mean of 1500 is known to 0.7 %.
        say: told of each step.
    """
    found = Calibration(stack.name, stack.toxiproxy_variant)
    injected.measure(found, stack, injector, faults, draws, say)
    confined.measure(found, stack, say)
    return found


def calibrate_instances(stack: Stack, say: Callable[[str], None]) -> Calibration:
    """Measure the limits of an instance of Cloud Run; takes half a minute at most.

    Args:
        stack: not applied yet.
        say: told of each step.

    Raises:
        MissingComponent: instances cannot be limited on this machine.
    """
    found = Calibration(stack.name, stack.toxiproxy_variant)
    instances.measure(found, stack, say)
    return found
