"""Pool: the connections that a worker's QueuePool may have out at once."""

from __future__ import annotations

from lab.judge.limits.case import Case, fullness, percent
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.POOL
CAUSES = (Cause.POOL_TIMEOUT,)


def rule(case: Case) -> Candidate | None:
    """``pool_checked_out`` against pool_size + max_overflow, and who waited or gave up.

    A checkout that timed out is proof that the pool was empty for all of pool_timeout.
    """
    slots = case.connections
    full = fullness(case, lambda r: r.checked_out, lambda r: r.waiting, slots)
    gave_up = case.failed(*CAUSES)
    if full is None and not gave_up:
        return None
    level, peak = (full.level, full.peak) if full else (1.0, slots)
    evidence = f"pool never above {peak} of {slots}"
    if gave_up or peak >= slots:
        evidence = f"pool {percent(level)} checked out, {peak} of {slots} at most"
    if gave_up:
        evidence += f", {case.of_attempts(gave_up)} gave up waiting"
    elif full and peak >= slots:
        evidence += f", checkouts waited {percent(full.waiting)} of the time"
    return Candidate(
        resource=RESOURCE,
        level=1.0 if gave_up else level,
        at_limit=bool(gave_up or (full and full.at_limit)),
        evidence=evidence,
    )
