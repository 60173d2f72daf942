"""Backpressure: a worker refuses what is past ``max_inflight_uploads``."""

from __future__ import annotations

from lab.judge.limits.case import Case, refusals
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.BACKPRESSURE
CAUSES = (Cause.OVERLOADED,)


def rule(case: Case) -> Candidate:
    """``errors.overloaded``, and how those fared that were accepted."""
    why = f"a worker takes {case.knobs.max_inflight_uploads} at once"
    if "p95" in case.metrics:
        why += f", and those it took were answered within {case.metrics['p95']:.1f} s (p95)"
    return refusals(case, RESOURCE, CAUSES, why)
