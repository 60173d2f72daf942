"""Event loop: one a worker, and whatever runs in it keeps everything else waiting."""

from __future__ import annotations

from collections.abc import Sequence

from lab.judge.limits.case import Case, mean, percent
from lab.judge.metrics import loop_busy
from lab.judge.validity import SATURATED
from lab.model.evidence import Cause, WorkerReading
from lab.model.verdict import Candidate, Resource

RESOURCE = Resource.EVENT_LOOP
CAUSES: tuple[Cause, ...] = ()


def rule(case: Case) -> Candidate | None:
    """``loop_busy`` of the busiest worker, less what it stood still in a checkout for.

    A loop that waits for a connection is as blocked as one at work, but the pool, or Postgres
    that refuses, is why. One with a single upload inside keeps nobody waiting.
    """
    found = [one for life in case.lives if (one := _busy(case, life))]
    if not found:
        return None
    busy, own, inside = max(found, key=lambda one: one[1])
    evidence = f"event loop busy {percent(busy)}"
    if parts := _parts(case):
        evidence += f" ({parts})"
    if busy - own >= 0.05:
        evidence += f", {percent(busy - own)} of the time in wait for a connection"
    at_limit = own >= SATURATED and inside > 1
    return Candidate(resource=RESOURCE, level=own, at_limit=at_limit, evidence=evidence)


def _busy(case: Case, life: Sequence[WorkerReading]) -> tuple[float, float, float] | None:
    """Busy share, the same without the wait for a connection, and mean uploads inside."""
    busy = loop_busy(life, case.knobs.speed)
    if busy is None:
        busy = _by_law(case)
    if busy is None:
        return None
    refused = case.failed(Cause.DB_REFUSED) > 0
    stuck = [float(r.waiting > 0 and (refused or r.checked_out >= case.connections)) for r in life]
    waited = mean(stuck) if case.knobs.db_call == "blocking" else 0.0
    return busy, max(0.0, busy - waited), mean([r.inflight for r in life])


def _by_law(case: Case) -> float | None:
    """Utilisation law (Lazowska et al., 1984, ch. 3): rate times the time that one upload holds
    the loop, all workers alike. For evidence of a lab that did not read the loop itself."""
    if "throughput" not in case.metrics:
        return None
    each = case.peak.get("throughput", 0.0) / case.processes
    return min(1.0, each * (_storage(case) + _database(case)))


def _storage(case: Case) -> float:
    return case.peak.get("gcs_latency", 0.0) if case.knobs.gcs_call == "blocking" else 0.0


def _database(case: Case) -> float:
    if case.knobs.db_call != "blocking":
        return 0.0
    return sum(case.peak.get(stage, 0.0) for stage in ("auth", "release", "write"))


def _parts(case: Case) -> str:
    """How long an upload holds the loop, and in what."""
    held = {"storage": _storage(case), "database": _database(case)}
    return ", ".join(f"{name} {s:.2f} s an upload" for name, s in held.items() if s > 0)
