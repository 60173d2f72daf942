"""CPU: of one worker, whose Python code runs on one core at a time, or of all that it may use."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.judge.validity import SATURATED
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.CPU
CAUSES: tuple[Cause, ...] = ()


def rule(case: Case) -> Candidate | None:
    """``cpu_worker_max`` against one core, or an instance's share of it, and ``cpu_backend``
    against the cores of the VM, or of all instances."""
    if "cpu_backend" not in case.peak:
        return None
    cores, used = case.cores, case.peak["cpu_backend"]
    busiest = case.peak.get("cpu_worker_max", 0.0)
    share = busiest / case.core
    level = max(share, used / cores)
    of = "its one core" if case.core == 1 else f"its {case.core:g} of a core"
    evidence = f"busiest worker used {busiest:.2f} of {of}"
    if used / cores > share:
        evidence = f"backend used {used:.2f} of {cores:g} cores"
    return Candidate(resource=RESOURCE, level=level, at_limit=level >= SATURATED, evidence=evidence)
