"""The report's method of finding a threshold, with ends that are certain; pure.

    climb     10, 20, 40, 60, 80, 100 users, then half as many again, until a trial breaks
    halve     the number in the middle, until the interval is 2 users or a tenth wide
    confirm   further trials at both ends, until each is certain; where an end is too near
              the threshold to tell, the interval is moved so as to lie around it

Climbing and halving follow what the trials seem to show, and may err: that costs time and
nothing else. An answer is given where both ends are certain. An end is certain when its
e-value (`lab.plan.evidence`) passes 2 / doubt: at any one number of users the chance that it
is ever taken to hold where it breaks, or to break where it holds, is at most doubt / 2. Of
many numbers that are tried only those next to the threshold can well be mistaken; that
all together stay within the doubt is shown by simulation (`benchmarks.threshold`).

The order of trials is of no account: a search that is taken up again from stored trials
goes on as if it had never been interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Literal

from lab.model.threshold import Ask, Threshold, Trial
from lab.plan.bracket import Bracket, Settings
from lab.plan.ends import End, Ends

USUAL_TRIALS = 13
"""The median over 2,000 simulated systems: see `benchmarks.threshold`."""

FEW_BEYOND = 2
"""A trial to steer by is so long that at the threshold this many uploads would be beyond."""

HOPE = 1.0
"""Standard errors by which a share may be better than it seems, before it is given up."""


class Halving(Settings):
    """The method; its settings are the fields of `Settings`."""

    def next(self, cell: str, trials: Sequence[Trial]) -> Ask | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        bracket = Bracket(self, tuple(sorted(trials, key=lambda t: (t.users, t.id))))
        if bracket.holds >= bracket.breaks:
            why = f"it breaks at {bracket.breaks} users and holds at {bracket.holds}"
            return _answer(cell, bracket, "undecided", f"{why}: more users are not worse")
        if bracket.is_narrow(bracket.holds, bracket.breaks):
            return _answer(cell, bracket, "found", _found(bracket))
        ends = Ends(bracket)
        if bracket.is_spent:
            return _stop(cell, bracket, ends)
        return _explore(bracket) or _confirm(bracket, ends) or _give_up(cell, bracket, ends)


def _explore(bracket: Bracket) -> Ask | None:
    """Climb or halve; None where the interval is narrow, or nothing in it can be tried."""
    if bracket.high == bracket.top:
        return _climb(bracket)
    if bracket.is_narrow(bracket.low, bracket.high):
        return None
    return _halve(bracket, bracket.high)


def _climb(bracket: Bracket) -> Ask | None:
    """The next rung; below a wall, the number half-way to it."""
    low, wall = bracket.low, _wall(bracket)
    if low == bracket.settings.most_users:
        return None
    ladder, blocked = bracket.settings.ladder, bracket.blocked
    rung = next((n for n in ladder if n > low and n not in blocked), bracket.top)
    if rung < wall:
        return _visit(bracket, [rung], rung, "climbing")
    return None if bracket.is_narrow(low, wall) else _halve(bracket, wall)


def _wall(bracket: Bracket) -> int:
    """The fewest users from whom on trials tell nothing.

    A single number is passed over, for it may have been a bad hour of the machine. Two in a
    row without a valid trial between them, or the highest there is, are the lab's limit.
    """
    blocked = sorted(n for n in bracket.blocked if n > bracket.low)
    last = blocked[:1] == [bracket.settings.most_users]
    return blocked[0] if last or len(blocked) > 1 else bracket.top


def _halve(bracket: Bracket, high: int) -> Ask | None:
    between = range(bracket.low + 1, high)
    return _visit(bracket, between, (bracket.low + high) / 2, "halving")


def _visit(bracket: Bracket, users: Iterable[int], near: float, why: str) -> Ask | None:
    """A trial at the nearest number that can be tried, the smaller of two."""
    known = bracket.levels.keys() | bracket.blocked
    full = len(known) >= bracket.settings.most_levels
    free = [n for n in users if n not in bracket.blocked and (n in known or not full)]
    if not free:
        return None
    chosen = min(free, key=lambda n: (abs(n - near), n))
    return Ask(users=chosen, window=_window(bracket, chosen), why=why)


def _window(bracket: Bracket, users: int) -> float:
    """Long enough for `Settings.samples` uploads; twice as long as all that told nothing."""
    settings = bracket.settings
    if users in bracket.levels:
        window = 2 * max(trial.window for trial in bracket.levels[users].trials)
    else:
        window = ceil(settings.samples / _rate(bracket, users))
    return float(min(max(window, settings.shortest), settings.longest))


def _rate(bracket: Bracket, users: int) -> float:
    """Uploads a second, at least.

    In a closed network the rate does not fall with the users, nor rise more than in
    proportion to them.
    """
    levels, settings = bracket.levels, bracket.settings
    known = [each.rate * min(1.0, users / n) for n, each in levels.items() if each.sent]
    return max(known, default=settings.rate * min(users, settings.slots))


def _confirm(bracket: Bracket, ends: Ends) -> Ask | None:
    """A trial at the end that is more in doubt, of the pair that is soonest certain.

    Where no pair will be that is near enough to one another: a number farther from the
    threshold, or a longer look at one that is near it; and where nothing of that is left,
    the narrowest interval that can be had.
    """
    if ends.cheapest:
        return _assure(ends, ends.cheapest)
    around, hopeful = ends.around(), Ends(bracket, HOPE)
    if around is not None and (ask := _visit(bracket, [around], around, "moving the interval")):
        return ask
    if hopeful.cheapest:
        return _assure(hopeful, hopeful.cheapest)
    for users, why in (
        (ends.unclear(), "a longer look"),
        (ends.outward(), "looking farther out"),
    ):
        if users is not None and (ask := _visit(bracket, [users], users, why)):
            return ask
    return _assure(ends, ends.narrowest) if ends.narrowest else None


def _assure(ends: Ends, pair: tuple[End, End]) -> Ask:
    users, side = max(pair, key=lambda end: ends.price(*end).seconds)
    why = f"making sure that it {'holds' if side == 'held' else 'breaks'}"
    return Ask(users=users, window=ends.price(users, side).window, why=why)


def _give_up(cell: str, bracket: Bracket, ends: Ends) -> Threshold:
    wall = _wall(bracket)
    if bracket.high == bracket.top and wall < bracket.top:
        why = f"trials with {wall} users tell nothing: see their verdicts"
        return _answer(cell, bracket, "invalid", why)
    near = sorted(n for n in bracket.open() if ends.is_hopeless(n))
    which = f"at {', '.join(map(str, near))} users it is" if near else "the trials are"
    more = ends.more if ends.more is not None else Ends(bracket, HOPE).more
    return _answer(cell, bracket, "undecided", f"{which} too near the threshold to tell", more)


def _stop(cell: str, bracket: Bracket, ends: Ends) -> Threshold:
    why = f"the {bracket.settings.most_load:.0f} s of load that it may take are spent"
    more = ends.more if ends.more is not None else Ends(bracket, HOPE).more
    return _answer(cell, bracket, "undecided", why, more)


def _found(bracket: Bracket) -> str:
    if bracket.breaks == bracket.top:
        return f"it still holds at {bracket.holds} users, the most that were to be tried"
    if not bracket.holds:
        return "it breaks with a single user"
    return f"it holds at {bracket.holds} users and breaks at {bracket.breaks}"


def _answer(
    cell: str,
    bracket: Bracket,
    outcome: Literal["found", "undecided", "invalid"],
    reason: str,
    more: float | None = None,
) -> Threshold:
    """What is certain, whatever the outcome; of two ends that contradict each other nothing is."""
    sound = bracket.holds < bracket.breaks
    holds = bracket.holds if sound and bracket.holds else None
    breaks = bracket.breaks if sound and bracket.breaks < bracket.top else None
    return Threshold(
        id=cell,
        holds_at=holds,
        breaks_at=breaks,
        crossed_first=None if breaks is None else bracket.levels[breaks].crossed(),
        confidence=1 - bracket.settings.doubt,
        outcome=outcome,
        reason=reason,
        more=more,
        trials=bracket.trials,
    )
