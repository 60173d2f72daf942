"""Default executor: min(32, cores + 4) threads a worker that ``gcs_call: to_thread`` shares."""

from __future__ import annotations

from lab.judge.limits.case import Case, fullness, percent
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.DEFAULT_EXECUTOR
CAUSES: tuple[Cause, ...] = ()


def rule(case: Case) -> Candidate | None:
    """``threads_busy`` against the executor's threads, and ``threads_queued`` in front of it."""
    if case.knobs.gcs_call != "to_thread":
        return None
    return in_threads(case, RESOURCE, "default executor")


def in_threads(case: Case, resource: Resource, name: str) -> Candidate | None:
    """How full the threads are that storage calls run in."""
    slots = case.threads
    full = fullness(case, lambda r: r.threads_busy, lambda r: r.threads_queued, slots)
    if full is None:
        return None
    evidence = f"{name} never above {full.peak} of {slots} threads"
    if full.peak >= slots:
        evidence = f"{name} {percent(full.level)} busy, {slots} threads"
        evidence += f", uploads queued {percent(full.waiting)} of the time"
    return Candidate(resource=resource, level=full.level, at_limit=full.at_limit, evidence=evidence)
