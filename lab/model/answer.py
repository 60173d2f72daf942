"""The answer of a run: a paragraph in which every claim stands on figures that are stored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal[
    "general",
    "pool_validation",
    "gcs_threshold",
    "spike",
    "endurance",
    "stress",
    "pool_exhaustion",
    "gcs_backlog",
    "cold_start",
    "memory",
]
"""The questions that there is an answer to; ``general`` says which cells held and which broke."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """What a claim stands on: a figure of a cell, in the unit of its metric.

    ``name`` is a metric's, or says what else is stored of the cell: ``verdict``,
    ``finding p95 < 10 s``, ``crossing p95 < 10 s``, ``failure pool_timeout``, ``leak rss_slope``,
    ``limit event_loop``, ``stage 2 p95``. ``value`` is None where that has no number.
    """

    cell: str
    name: str
    value: float | None = None


class Claim(_Part):
    """A sentence or two, and the figures that they stand on; none where nothing is claimed."""

    text: str
    figures: tuple[Figure, ...] = ()


class Answer(_Part):
    """What a run answers: its claims, in the order in which they are read."""

    kind: Kind
    claims: tuple[Claim, ...]

    @property
    def text(self) -> str:
        """The paragraph."""
        return " ".join(claim.text for claim in self.claims)
