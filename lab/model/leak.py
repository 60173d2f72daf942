"""What a long trial says of leaks: a slope with its confidence interval, and a bound."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Leak(BaseModel):
    """The growth of one figure in the steady part of a trial.

    Args:
        metric: the slope's name in the metric table, as ``rss_slope``.
        outcome: ``leak``: even the lower end is above the bound; ``none``: even the upper end is
            below it; ``undecided`` between.
        slope: growth in the metric's unit (a second).
        low: lower end of its 95 % confidence interval.
        high: upper end.
        bound: growth that matters in practice.
        over_s: how many real-world seconds it was looked at.
        reason: the same as a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    outcome: Literal["leak", "none", "undecided"]
    slope: float
    low: float
    high: float
    bound: float
    over_s: float
    reason: str
