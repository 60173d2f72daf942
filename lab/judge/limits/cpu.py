"""CPU: of one worker, whose Python code runs on one core at a time, or of all the VM's cores."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.judge.scaling import SATURATED
from lab.model.causes import Cause
from lab.model.limit import Candidate, Resource

RESOURCE = Resource.CPU
CAUSES: tuple[Cause, ...] = ()


def rule(case: Case) -> Candidate | None:
    """``cpu_worker_max`` against one core, and ``cpu_backend`` against vm_cpus."""
    if "cpu_backend" not in case.peak:
        return None
    cores, used = case.cores, case.peak["cpu_backend"]
    busiest = case.peak.get("cpu_worker_max", 0.0)
    level = max(busiest, used / cores)
    evidence = f"busiest worker used {busiest:.2f} of its one core"
    if used / cores > busiest:
        evidence = f"backend used {used:.2f} of {cores:g} cores"
    return Candidate(resource=RESOURCE, level=level, at_limit=level >= SATURATED, evidence=evidence)
