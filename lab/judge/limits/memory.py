"""Memory: a worker, or an instance, is killed for what it holds, and all in it is lost."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.model.evidence import Cause
from lab.model.units import format_size
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.MEMORY
CAUSES = (Cause.INSTANCE_DIED, Cause.CONNECTION, Cause.BAD_GATEWAY)
"""What those in flight are told when it dies; the last two count only where there was a kill."""


def rule(case: Case) -> Candidate | None:
    """``oom_kills``, and the peak of memory against vm_memory, or cloudrun_memory."""
    kills, died = case.metrics.get("oom_kills", 0.0), case.failed(Cause.INSTANCE_DIED)
    names = ("memory_backend", "rss_backend") if case.on_vm else ("memory_instance",)
    held = next((case.metrics[name] for name in names if name in case.metrics), None)
    limit = case.memory
    if held is None and not kills and not died:
        return None
    evidence = f"memory {(held or 0) / 1e6:.0f} MB at most"
    if limit:
        evidence += f" of {format_size(limit)}"
    if kills or died:
        lost, noun = case.failed(*CAUSES), "kill" if kills == 1 else "kills"
        evidence += f", {kills:.0f} {noun}, {case.of_attempts(lost)} lost with them"
    level = 1.0 if kills or died else (held or 0.0) / limit if limit else 0.0
    return Candidate(
        resource=RESOURCE, level=level, at_limit=bool(kills or died), evidence=evidence
    )
