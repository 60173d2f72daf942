"""What failed, in the order in which it first showed, and at how many users."""

from __future__ import annotations

from collections import defaultdict

from lab.judge.users import users_when
from lab.judge.window import kills
from lab.model.cell import Cell
from lab.model.course import Failure
from lab.model.observation import Observation, PartDown, Sample


def failures(cell: Cell, observation: Observation) -> tuple[Failure, ...]:
    """Each cause of failed uploads, memory kills and dead parts: first to come first.

    A time-out comes a minute after the upload that it fails was sent; the order is that of
    coming, the users are those of sending, whose load it was that failed.
    """
    by_cause: dict[str, list[Sample]] = defaultdict(list)
    for sample in observation.samples:
        if sample.error is not None:
            by_cause[str(sample.error)].append(sample)
    found = [_uploads(cell, observation, cause, failed) for cause, failed in by_cause.items()]
    if killed := kills(observation.evidence):
        found.append(_event(cell, observation, "oom_kill", killed[0], len(killed)))
    for line in observation.evidence:
        if isinstance(line, PartDown):
            found.append(_event(cell, observation, line.part, line.t, 1))
    return tuple(sorted(found, key=lambda one: (one.t, one.cause)))


def _uploads(cell: Cell, observation: Observation, cause: str, failed: list[Sample]) -> Failure:
    first = min(failed, key=lambda sample: sample.sent_at + sample.latency_s)
    came = first.sent_at + first.latency_s
    users = users_when(cell, observation, first.sent_at)
    return Failure(cause=cause, t=round(came, 3), users=users, count=len(failed))


def _event(cell: Cell, observation: Observation, cause: str, t: float, count: int) -> Failure:
    return Failure(cause=cause, t=t, users=users_when(cell, observation, t), count=count)
