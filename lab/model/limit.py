"""The limiting factor of a cell: which resource was at its limit, and by what evidence."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Resource(StrEnum):
    """What can be at its limit, and the two answers that name no resource."""

    EVENT_LOOP = "event_loop"
    DEFAULT_EXECUTOR = "default_executor"
    OWN_THREADS = "own_threads"
    POOL = "pool"
    DATABASE_SLOTS = "database_slots"
    BODY_LIMIT = "body_limit"
    PROXY_TIMEOUT = "proxy_timeout"
    RATE_LIMIT = "rate_limit"
    BACKPRESSURE = "backpressure"
    INSTANCE_QUEUE = "instance_queue"
    MEMORY = "memory"
    CPU = "cpu"
    NONE = "none"  #: nothing was at its limit
    UNCLEAR = "unclear"  #: two or more were, and the evidence does not say which decided


class Candidate(BaseModel):
    """One resource, held against the evidence.

    ``level`` says how near it was to its limit, 1 being there; ``evidence`` is a phrase.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    resource: Resource
    level: float
    at_limit: bool
    evidence: str


class Limit(BaseModel):
    """The answer, its evidence in words, and every resource that was looked at, fullest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resource: Resource
    evidence: str
    candidates: tuple[Candidate, ...] = ()
