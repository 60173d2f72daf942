"""Own threads: the pool that storage calls have to themselves, or share with audio conversion."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.judge.limits.default_executor import in_threads
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.OWN_THREADS
CAUSES: tuple[Cause, ...] = ()

NAMES = {"executor": "storage threads", "audio_pool": "audio threads"}


def rule(case: Case) -> Candidate | None:
    """``threads_busy`` against gcs_threads or audio_threads, and ``threads_queued``."""
    name = NAMES.get(case.knobs.gcs_call)
    return in_threads(case, RESOURCE, name) if name else None
