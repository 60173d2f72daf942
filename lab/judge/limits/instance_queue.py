"""Instance queue: Cloud Run keeps a request until an instance is free, and then gives up."""

from __future__ import annotations

from lab.judge.limits.case import Case, refusals
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.INSTANCE_QUEUE
CAUSES = (Cause.NO_INSTANCE,)


def rule(case: Case) -> Candidate:
    """``errors.no_instance``: waited in the queue for as long as the platform lets them."""
    why = "no instance was free in time"
    if "instances" in case.metrics:
        most, each = case.metrics["instances"], case.knobs.cloudrun_concurrency
        why += f", of {most:.0f} at most, {each} at once in each"
    return refusals(case, RESOURCE, CAUSES, why)
