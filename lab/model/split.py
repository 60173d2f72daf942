"""How a speed changes the way in which workers of one socket share uploads.

A worker takes what arrives unless its event loop has something else to do. What it has to do is
work, which no speed divides: at speed s there is s times as much of it to a real-world second, so
that another worker has its turn more often. The higher the speed, the more evenly they share, and
the shorter the queue of the one that has the most.

    a model of the cell ─> Split: for some speeds, how far latency is from that at speed 1, and how
                             │    uneven the uploads inside the workers are
                             ├─> the highest speed that keeps the split    `lab.plan.speed`
                             └─> stored with the cell ─> what was measured  `lab.judge.evenness`

Both ask `lab.model.fidelity.keeps_split`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import sqrt
from typing import Annotated, Self

from pydantic import Field, model_validator

from lab.model.base import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


class SplitEffect(Frozen):
    """What a model of a cell says of one speed.

    Args:
        speed: at which.
        moved: how far latency is from that at speed 1, as a share of it: its mean or its 95th
            percentile, whichever is farther.
        lead: the share of the uploads inside all workers that are inside the fullest one, both in
            the mean over a window; an even split among n workers has 1 / n.
        spread: the standard deviation of that from one window to another.
    """

    speed: Annotated[float, Field(ge=1, le=1000)]
    moved: Annotated[float, Field(ge=0, le=1000)]
    lead: Share
    spread: Share = 0.0


class Split(Frozen):
    """The same for several speeds, the lowest of which is 1.

    Args:
        window: real-world seconds of the window that ``lead`` and ``spread`` are of.
        effects: in the order of their speeds; latency moves the farther, and the lead is the
            smaller, the higher the speed.
    """

    window: Annotated[float, Field(gt=0, le=10**7)]
    effects: Annotated[tuple[SplitEffect, ...], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.effects[0].speed != 1 or self.effects[0].moved != 0:
            raise ValueError("the first effect is of speed 1, which moves nothing")
        for low, high in pairwise(self.effects):
            if not (low.speed < high.speed and low.moved <= high.moved and low.lead >= high.lead):
                raise ValueError("effects are in the order of their speeds, and grow with them")
        return self

    def moved_at(self, speed: float) -> float:
        """How far latency is from that at speed 1, as a share of it."""
        return _between(speed, self._speeds, [effect.moved for effect in self.effects])

    def lead_at(self, speed: float) -> float:
        """The fullest worker's share of the uploads inside, in the mean over windows."""
        return _between(speed, self._speeds, [effect.lead for effect in self.effects])

    def spread_at(self, speed: float, window: float) -> float:
        """Its standard deviation over windows of so many real-world seconds.

        Of a shorter window it is taken to grow as that of independent moments does, which is more
        than it grows: what is inside now is mostly what was inside a moment ago.
        """
        spread = _between(speed, self._speeds, [effect.spread for effect in self.effects])
        return spread * sqrt(max(1.0, self.window / window))

    def speed_of(self, lead: float) -> float:
        """The lowest speed at which workers share so evenly: 1 where they do at any, and the
        highest known where they do at none."""
        falling = [(-effect.lead, effect.speed) for effect in self.effects]
        return _between(-lead, [by for by, _ in falling], [speed for _, speed in falling])

    @property
    def _speeds(self) -> list[float]:
        return [effect.speed for effect in self.effects]


def _between(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """The value at x on the straight lines from point to point; beyond them that of the last."""
    right = bisect_left(xs, x)
    if right == 0:
        return ys[0]
    if right == len(xs):
        return ys[-1]
    share = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + share * (ys[right] - ys[right - 1])
