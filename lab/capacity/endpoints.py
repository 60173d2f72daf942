"""Which two endpoints of an interval are soonest certain, and what trials that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf

from lab.capacity.state import SearchState
from lab.model.evalues import Side

MIN_GAIN = 1e-3
"""A trial that is expected to add less evidence than this adds none."""

ENOUGH = 3
"""Trials at one number of users from which to believe that it is too near the threshold."""

MANY = 100
"""More trials at one number of users than anybody would wait for."""

Endpoint = tuple[int, Side]
Pair = tuple[Endpoint, Endpoint]
"""Where a cell holds, and where it breaks."""


@dataclass(frozen=True)
class Cost:
    """What makes an endpoint certain: so many trials of such a window, in real-world seconds."""

    seconds: float
    window: float = 0.0
    trials: float = 0.0


FREE = Cost(0.0)
NEVER = Cost(inf, trials=inf)


@dataclass(frozen=True)
class Endpoints:
    """The endpoints that an answer may have.

    Args:
        state: what the trials say.
        hope: by how many standard errors the shares are taken for better than they seem: near
            the threshold one that is taken as it seems is given up too soon.
    """

    state: SearchState
    hope: float = 0.0

    @cached_property
    def cheapest(self) -> Pair | None:
        """The pair that is soonest certain, of those that may be tried further."""
        return self._cheapest(limited=True)

    @cached_property
    def narrowest(self) -> Pair | None:
        """Of all pairs that are not yet certain, but may be: the one least apart."""
        pairs = [
            (high - low, -low)
            for low, high in self._pairs()
            if 0 < self._seconds(low, high, limited=True) < inf
        ]
        if not pairs:
            return None
        width, low = min(pairs)
        return (-low, "held"), (width - low, "broke")

    @property
    def more(self) -> float | None:
        """Real-world seconds until some pair would be certain, were there no limit to trials."""
        pair = self._cheapest(limited=False)
        return sum(self.cost(*end, limited=False).seconds for end in pair) if pair else None

    def cost(self, users: int, side: Side, limited: bool = True) -> Cost:
        """Of making an end certain, by trials as those before it were; `NEVER` if none will do."""
        state = self.state
        if users <= state.holds if side == "held" else users >= state.breaks:
            return FREE
        left = state.left(users)
        if state.levels[users].side != side:
            return NEVER
        if limited and (left <= 0 or users in state.blocked):
            return NEVER
        return self._cost(users, side, left if limited else MANY)

    def is_hopeless(self, users: int) -> bool:
        """Whether a number of users is too near the threshold to tell on which side it is."""
        side = self.state.levels[users].side
        return side is None or self.cost(users, side) == NEVER

    def outward(self) -> int | None:
        """A number of users beyond those too near to tell, on a side that has no endpoint yet."""
        state, hopeless = self.state, self._hopeless()
        if not hopeless:
            return None
        known = (state.holds, *state.open(), state.breaks)
        above = [n for n in known if max(hopeless) < n < state.top]
        if all(self.cost(n, "broke") == NEVER for n in above):
            rungs = (n for n in state.settings.ladder if n > max(hopeless) and state.is_fresh(n))
            if rung := next(rungs, None):
                return rung
        below, half = [n for n in known if 0 < n < min(hopeless)], min(hopeless) // 2
        if all(self.cost(n, "held") == NEVER for n in below) and state.is_fresh(half):
            return half
        return None

    def unclear(self) -> int | None:
        """A number too near to tell, of which fewer trials were made than it takes to say so."""
        trials = [(len(self.state.levels[n].trials), n) for n in self._hopeless()]
        fewest, users = min(trials, default=(ENOUGH, 0))
        return users if fewest < ENOUGH else None

    def around(self) -> int | None:
        """A number of users to try, so that the ends lie around those that are hopeless.

        Of all pairs around them that are near enough to one another the one with the most
        room to both sides; None where there is none, or no end of it is new.
        """
        state, hopeless = self.state, self._hopeless()
        if not hopeless:
            return None
        middle, choices = (state.low + state.high) / 2, []
        least = min(hopeless) - state.allowed_width(min(hopeless))
        for low in range(max(1, least), min(hopeless)):
            high = low + state.allowed_width(low)
            fresh = [n for n in (low, high) if state.is_fresh(n)]
            if high > max(hopeless) and fresh and self._may_be(low, high):
                choices.append((min(middle - low, high - middle), -len(fresh), fresh[0]))
        return max(choices)[2] if choices else None

    def _hopeless(self) -> list[int]:
        """The hopeless between what seems to hold and what seems to break."""
        between = (n for n in self.state.open() if self.state.low <= n <= self.state.high)
        return [n for n in between if self.is_hopeless(n)]

    def _pairs(self) -> Iterator[tuple[int, int]]:
        state = self.state
        for low in (state.holds, *state.open()):
            yield from ((low, high) for high in (state.breaks, *state.open()) if low < high)

    def _cheapest(self, limited: bool) -> Pair | None:
        costs = [
            (self._seconds(low, high, limited), low, high)
            for low, high in self._pairs()
            if self.state.is_narrow(low, high)
        ]
        least, low, high = min(costs, default=(inf, 0, 0))
        return ((low, "held"), (high, "broke")) if least < inf else None

    def _seconds(self, low: int, high: int, limited: bool) -> float:
        return self.cost(low, "held", limited).seconds + self.cost(high, "broke", limited).seconds

    def _cost(self, users: int, side: Side, left: float) -> Cost:
        """The soonest of what at most ``left`` trials do, of windows from shortest to longest."""
        settings, level = self.state.settings, self.state.levels[users]
        least, lacking = self.state.lacking(users), settings.certain - level.log_e(side)
        if lacking <= 0:  # what one trial showed, another of its length has to show again
            window = max(trial.window for trial in level.trials)
            return Cost(least * (window + level.overhead), window, least)
        best, window = NEVER, settings.min_window
        while True:
            gain = level.gain(side, window, self.hope)
            trials = max(least, ceil(lacking / gain)) if gain > MIN_GAIN else inf
            if trials <= left:
                cost = Cost(trials * (window + level.overhead), window, trials)
                best = min(best, cost, key=lambda cost: cost.seconds)
            if window >= settings.max_window:
                return best
            window = min(round(1.5 * window), settings.max_window)

    def _may_be(self, low: int, high: int) -> bool:
        """Whether both endpoints can be tried, and each is new or may still become certain."""
        ends: Pair = ((low, "held"), (high, "broke"))
        return high < self.state.top and all(
            users not in self.state.blocked
            and (self.state.is_fresh(users) or self.cost(users, side) != NEVER)
            for users, side in ends
        )
