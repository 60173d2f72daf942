"""Body limit: what nginx, or Cloud Run, lets through at most."""

from __future__ import annotations

from lab.judge.limits.case import Case, refusals
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.BODY_LIMIT
CAUSES = (Cause.BODY_TOO_LARGE, Cause.TOO_LARGE)

SIZES = {"as-found": "1 MiB", "recommended": "3 MiB"}
"""``client_max_body_size`` of the two nginx configurations."""


def rule(case: Case) -> Candidate:
    """``errors.body_too_large``: told at once, however idle the replica is."""
    limit = SIZES[case.knobs.nginx] if case.failed(Cause.BODY_TOO_LARGE) else "the platform's limit"
    return refusals(case, RESOURCE, CAUSES, f"their body is above {limit}")
