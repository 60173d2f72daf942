"""Proxy time-out: nginx gives up on an answer that takes too long."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.PROXY_TIMEOUT
CAUSES = (Cause.GATEWAY_TIMEOUT,)

SECONDS = {"as-found": 60, "recommended": 30}
"""``proxy_read_timeout`` of the two nginx configurations."""


def rule(case: Case) -> Candidate | None:
    """``errors.gateway_timeout``; the limit itself only where nothing else kept them waiting."""
    if not case.on_vm:
        return None
    count, limit = case.failed(*CAUSES), SECONDS[case.knobs.nginx]
    evidence = "nginx cut nothing off"
    if count:
        evidence = f"nginx cut off {case.of_attempts(count)} after {limit} s"
    return Candidate(
        resource=RESOURCE, level=case.share(count), at_limit=count > 0, evidence=evidence
    )
