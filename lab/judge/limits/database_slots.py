"""Database slots: the connections that Postgres grants the application, all workers together."""

from __future__ import annotations

from lab.judge.limits.case import Case
from lab.model.evidence import Cause
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.DATABASE_SLOTS
CAUSES = (Cause.DB_REFUSED,)


def rule(case: Case) -> Candidate | None:
    """``errors.db_refused``, and ``pg_connections`` against db_cap."""
    refused, cap = case.failed(*CAUSES), case.knobs.db_cap
    peak = case.metrics.get("pg_connections")
    if peak is None and not refused:
        return None
    granted = f"Postgres granted {peak or 0:.0f} of {cap} connections"
    if refused:
        granted += f" and refused {case.of_attempts(refused)}"
    level = 1.0 if refused else (peak or 0.0) / cap
    return Candidate(resource=RESOURCE, level=level, at_limit=refused > 0, evidence=granted)
