"""Rate limit: so many requests a minute of one address, or uploads of one user."""

from __future__ import annotations

from lab.judge.limits.case import Case, refusals
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.RATE_LIMIT
CAUSES = (Cause.RATE_LIMITED,)


def rule(case: Case) -> Candidate:
    """``errors.rate_limited``, and which limits are set."""
    knobs, limits = case.knobs, []
    if knobs.global_rate_limit:
        shared = ", and all users are one" if knobs.rate_limit_key == "peer" else ""
        limits.append(f"{knobs.global_rate_limit} an address{shared}")
    if knobs.upload_rate_limit:
        limits.append(f"{knobs.upload_rate_limit} a user")
    return refusals(case, RESOURCE, CAUSES, f"the limit is {' and '.join(limits) or 'off'}")
