"""What the model says of cells before, or beside, their measurement.

Times are real-world seconds. What the model cannot say is None, and why is told beside it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Count, Number, Stored
from lab.model.verdict import CriterionText

Share = Annotated[float, Field(ge=0, le=1)]


class PredictedFigures(Stored):
    """Of a load, whether predicted or measured.

    Args:
        throughput: successes a second.
        p50, p95, p99: of the latencies of successes.
        error_rate: the share of uploads that failed.
        late: the share of successes that take as long as a criterion's bound, or longer; None
            where no criterion has a bound of latency.
    """

    throughput: Number
    p50: Number | None
    p95: Number | None
    p99: Number | None
    error_rate: Share | None
    late: Share | None = None


class PredictedThreshold(Stored):
    """The users at which a criterion is crossed.

    Args:
        criterion: as a spec writes it.
        holds_at: the most users at whom it is met; 0: it is missed by a single one.
        breaks_at: one more; None where it is met by the most that were tried.
    """

    criterion: CriterionText
    holds_at: Count
    breaks_at: Count | None


class Difference(Stored):
    """A figure that was measured, beside what the model says of it, where they are far apart."""

    metric: Literal["throughput", "p95"]
    predicted: Number
    measured: Number
    allowed: Share

    @property
    def share(self) -> float:
        """By how much what was measured differs, as a share of what is predicted."""
        return self.measured / self.predicted - 1


class Bound(Stored):
    """What a resource carries at most, by the laws of operational analysis.

    Args:
        resource: as a limit is called.
        rate: uploads a second; None where it has no say.
        fails_at: users from whom on uploads fail, or are late, by it; None: never.
        how: what happens then.
    """

    resource: str
    rate: Number | None
    fails_at: Number | None
    how: str


class Prediction(Stored):
    """What the model says of one cell.

    Args:
        id: of the cell.
        users: that the figures are of.
        figures: of its load, in the mean over replications; None where it is too large to be
            simulated, or unknown to the model.
        low, high: between which p95 lies in nine of ten replications.
        causes: the share of uploads that fail by each cause.
        waits: seconds that late uploads wait for each resource, or all uploads where none is late.
        limit: the resource that is waited for most; ``none`` where nobody waits.
        thresholds: of each criterion that more users could cross.
        crossed_first: the criterion whose threshold is the least.
        first_failure: what fails first as users grow.
        worth: how many independent uploads a minute at the threshold is worth, by what is counted.
        warmup: seconds until the ramp is forgotten.
        bounds: of each resource.
        notes: sentences on what the answer rests on.
        measured: the same of a stored cell, if there is one.
        differs: where the two are far apart.
        unknown: why nothing is predicted; empty where it is.
    """

    id: str
    users: Count
    figures: PredictedFigures | None = None
    low: Number | None = None
    high: Number | None = None
    causes: dict[str, Share] = {}
    waits: dict[str, Number] = {}
    limit: str = ""
    thresholds: tuple[PredictedThreshold, ...] = ()
    crossed_first: str | None = None
    first_failure: str = ""
    worth: dict[str, Number] = {}
    warmup: Number | None = None
    bounds: tuple[Bound, ...] = ()
    notes: tuple[str, ...] = ()
    measured: PredictedFigures | None = None
    differs: tuple[Difference, ...] = ()
    unknown: str = ""
