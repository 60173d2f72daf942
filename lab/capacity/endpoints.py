"""Which two ends of an interval are soonest certain, and what trials that takes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, inf

from lab.capacity.level import Side
from lab.capacity.state import SearchState, allowed_width

LEAST_GAIN = 1e-3
"""A trial that is expected to add less evidence than this adds none."""

ENOUGH = 3
"""Trials at one number of users from which to believe that it is too near the threshold."""

MANY = 100
"""More trials at one number of users than anybody would wait for."""

Endpoint = tuple[int, Side]


@dataclass(frozen=True)
class Cost:
    """What makes an end certain: so many trials of such a window, in real-world seconds."""

    seconds: float
    window: float = 0.0
    trials: float = 0.0


FREE = Cost(0.0)
NEVER = Cost(inf, trials=inf)


@dataclass(frozen=True)
class Endpoints:
    """The ends that an answer may have.

    Args:
        bracket: what the trials say.
        hope: by how many standard errors the shares are taken for better than they seem: near
            the threshold one that is taken as it seems is given up too soon.
    """

    bracket: SearchState
    hope: float = 0.0

    @cached_property
    def cheapest(self) -> tuple[Endpoint, Endpoint] | None:
        """The pair that is soonest certain, of those that may be tried further."""
        return self._cheapest(limited=True)

    @cached_property
    def narrowest(self) -> tuple[Endpoint, Endpoint] | None:
        """Of all pairs that are not yet certain, but may be: the one least apart."""
        pairs = [
            (b - a, -a)
            for a in (self.bracket.holds, *self.bracket.open())
            for b in (self.bracket.breaks, *self.bracket.open())
            if a < b and 0 < self._seconds(a, b, limited=True) < inf
        ]
        if not pairs:
            return None
        width, low = min(pairs)
        return (-low, "held"), (width - low, "broke")

    @property
    def more(self) -> float | None:
        """Real-world seconds until some pair would be certain, were there no limit to trials."""
        pair = self._cheapest(limited=False)
        return sum(self.price(*end, limited=False).seconds for end in pair) if pair else None

    def price(self, users: int, side: Side, limited: bool = True) -> Cost:
        """Of making an end certain, by trials as those before it were; `NEVER` if none will do."""
        bracket = self.bracket
        if users <= bracket.holds if side == "held" else users >= bracket.breaks:
            return FREE
        level, left = bracket.levels[users], bracket.left(users)
        if level.side != side or (limited and (left <= 0 or users in bracket.blocked)):
            return NEVER
        return self._price(users, side, left if limited else MANY)

    def is_hopeless(self, users: int) -> bool:
        """Whether a number of users is too near the threshold to tell on which side it is."""
        side = self.bracket.levels[users].side
        return side is None or self.price(users, side) == NEVER

    def outward(self) -> int | None:
        """A number of users to try on a side of the hopeless where no end is in sight."""
        bracket, near = self.bracket, self._near()
        if not near:
            return None
        known = (bracket.holds, *bracket.open(), bracket.breaks)
        above = [n for n in known if max(near) < n < bracket.top]
        if all(self.price(n, "broke") == NEVER for n in above):
            rungs = (n for n in bracket.settings.ladder if n > max(near) and self._is_fresh(n))
            if rung := next(rungs, None):
                return rung
        below = [n for n in known if 0 < n < min(near)]
        if all(self.price(n, "held") == NEVER for n in below) and self._is_fresh(min(near) // 2):
            return min(near) // 2
        return None

    def unclear(self) -> int | None:
        """Of the hopeless, one with fewer trials than it takes to say so; None: there is none."""
        found = [(len(self.bracket.levels[n].trials), n) for n in self._near()]
        fewest, users = min(found, default=(ENOUGH, 0))
        return users if fewest < ENOUGH else None

    def _near(self) -> list[int]:
        """The hopeless between what seems to hold and what seems to break."""
        between = (n for n in self.bracket.open() if self.bracket.low <= n <= self.bracket.high)
        return [n for n in between if self.is_hopeless(n)]

    def around(self) -> int | None:
        """A number of users to try, so that the ends lie around those that are hopeless.

        Of all pairs around them that are near enough to one another the one with the most
        room to both sides; None where there is none, or no end of it is new.
        """
        bracket, near = self.bracket, self._near()
        if not near:
            return None
        middle, choices = (bracket.low + bracket.high) / 2, []
        for low in range(max(1, min(near) - allowed_width(min(near))), min(near)):
            high = low + allowed_width(low)
            fresh = [n for n in (low, high) if self._is_fresh(n)]
            if high > max(near) and fresh and self._may_be(low, "held", high, "broke"):
                choices.append((min(middle - low, high - middle), -len(fresh), fresh[0]))
        return max(choices)[2] if choices else None

    def _cheapest(self, limited: bool) -> tuple[Endpoint, Endpoint] | None:
        bracket = self.bracket
        pairs = [
            (self._seconds(a, b, limited), a, b)
            for a in (bracket.holds, *bracket.open())
            for b in (bracket.breaks, *bracket.open())
            if a < b and bracket.is_narrow(a, b)
        ]
        least, low, high = min(pairs, default=(inf, 0, 0))
        return ((low, "held"), (high, "broke")) if least < inf else None

    def _seconds(self, low: int, high: int, limited: bool) -> float:
        return self.price(low, "held", limited).seconds + self.price(high, "broke", limited).seconds

    def _price(self, users: int, side: Side, left: float) -> Cost:
        """The soonest of what at most ``left`` trials do, of windows from shortest to longest."""
        settings, level = self.bracket.settings, self.bracket.levels[users]
        least, lacking = self.bracket.lacking(users), settings.certain - level.log_e(side)
        if lacking <= 0:  # what one trial showed, another of its length has to show again
            window = max(trial.window for trial in level.trials)
            return Cost(least * (window + level.cost), window, least)
        best, window = NEVER, settings.shortest
        while True:
            gain = level.gain(side, window, self.hope)
            trials = max(least, ceil(lacking / gain)) if gain > LEAST_GAIN else inf
            if trials <= left:
                price = Cost(trials * (window + level.cost), window, trials)
                best = min(best, price, key=lambda each: each.seconds)
            if window >= settings.longest:
                return best
            window = min(round(1.5 * window), settings.longest)

    def _is_fresh(self, users: int) -> bool:
        bracket = self.bracket
        return bracket.holds < users < bracket.breaks and users not in bracket.levels

    def _may_be(self, low: int, side: Side, high: int, other: Side) -> bool:
        """Whether both ends exist, and are new or may still become certain."""
        return high < self.bracket.top and all(
            users not in self.bracket.blocked
            and (self._is_fresh(users) or self.price(users, of) != NEVER)
            for users, of in ((low, side), (high, other))
        )
