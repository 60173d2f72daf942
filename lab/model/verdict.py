"""A verdict: what the evidence says of a cell, and why."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from lab.model.course import Course
from lab.model.leak import Leak
from lab.model.limit import Limit
from lab.model.outcome import Outcome

__all__ = ["Check", "Finding", "Outcome", "Verdict"]


class Finding(BaseModel):
    """One criterion against the evidence.

    ``value`` is None where nothing was measured; ``low`` and ``high`` are the one-sided 95 %
    bounds of what was tested, where the criterion is statistical.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    criterion: str
    outcome: Literal["met", "missed", "undecided"]
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str


class Check(BaseModel):
    """What was injected against what was measured; ``ok`` is None where there was too little."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    expected: str
    measured: float | None
    ok: bool | None
    reason: str


class Verdict(BaseModel):
    """What is stored as ``verdict.json``: metrics, checks, findings and the outcome.

    ``reasons`` are sentences for people, the deciding one first. ``limit`` is None where the
    cell is invalid, and so are the last three of a verdict that a lab of before stored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cell: str
    outcome: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    findings: tuple[Finding, ...]
    injected: tuple[Check, ...]
    limit: Limit | None = None
    course: Course | None = None
    leaks: tuple[Leak, ...] = ()
