"""Instance queue: Cloud Run keeps a request until an instance is free, and then gives up."""

from __future__ import annotations

from lab.judge.limits.case import Case, refusals
from lab.model.causes import Cause
from lab.model.limit import Candidate, Resource

RESOURCE = Resource.INSTANCE_QUEUE
CAUSES = (Cause.NO_INSTANCE,)


def rule(case: Case) -> Candidate:
    """``errors.no_instance``: waited in the queue for as long as the platform lets them."""
    return refusals(case, RESOURCE, CAUSES, "no instance was free in time")
