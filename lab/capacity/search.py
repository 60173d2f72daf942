"""The report's method of finding a threshold, with ends that are certain; pure.

    climb     10, 20, 40, 60, 80, 100 users, then half as many again, until a trial breaks
    halve     the number in the middle, until the interval is 2 users or a tenth wide
    confirm   further trials at both ends, until each is certain; where an end is too near
              the threshold to tell, the interval is moved so as to lie around it

Climbing and halving follow what the trials seem to show, and may err: that costs time and
nothing else. An answer is given where both ends are certain. An end is certain when its
e-value (`lab.capacity.level`) passes 2 / doubt: at any one number of users the chance that it
is ever taken to hold where it breaks, or to break where it holds, is at most doubt / 2. Of
many numbers that are tried only those next to the threshold can well be mistaken; that
all together stay within the doubt is shown by simulation (`benchmarks.threshold`).

The order of trials is of no account: a search that is taken up again from stored trials
goes on as if it had never been interrupted.

The search for a capacity, as the rest of the lab sees it: trials in, a trial or an answer out.

A `Search` is a pure function of the trials so far. What it asks for is made a cell of its own
by `trial_cell`, measured and judged like any other, and read back by `trial_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf
from typing import Literal, Protocol

from lab.capacity.endpoints import Endpoint, Endpoints
from lab.capacity.level import ALIKE, ALIKE_SPLIT, alike_within, confidence
from lab.capacity.state import SearchSettings, SearchState
from lab.errors import UsageError
from lab.model.capacity import CapacityTrial, CriterionCount, Threshold, TrialRequest
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad
from lab.model.physics import service_s, upload_slots
from lab.model.verdict import Finding, Outcome, Verdict
from lab.plan.estimate import INSTANT_S, drain, is_share, tail_of
from lab.plan.expand import seed_of

USUAL_TRIALS = 13
"""The median over 2,000 simulated systems: see `benchmarks.threshold`."""

FEW_BEYOND = 2
"""A trial to steer by is so long that at the threshold this many uploads would be beyond."""

HOPE = 1.0
"""Standard errors by which a share may be better than it seems, before it is given up."""


class CapacitySearch(SearchSettings):
    """The method; its settings are the fields of `Settings`."""

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        bracket = SearchState(self, tuple(sorted(trials, key=lambda t: (t.users, t.id))))
        if bracket.holds >= bracket.breaks:
            why = f"it breaks at {bracket.breaks} users and holds at {bracket.holds}"
            return _answer(cell, bracket, "undecided", f"{why}: more users are not worse")
        if bracket.is_narrow(bracket.holds, bracket.breaks):
            return _answer(cell, bracket, "found", _found(bracket))
        ends = Endpoints(bracket)
        if bracket.is_spent:
            return _stop(cell, bracket, ends)
        return _explore(bracket) or _confirm(bracket, ends) or _give_up(cell, bracket, ends)


def _explore(bracket: SearchState) -> TrialRequest | None:
    """Climb or halve; None where the interval is narrow, or nothing in it can be tried."""
    if bracket.high == bracket.top:
        return _climb(bracket)
    if bracket.is_narrow(bracket.low, bracket.high):
        return None
    return _halve(bracket, bracket.high)


def _climb(bracket: SearchState) -> TrialRequest | None:
    """The next rung; below a wall, the number half-way to it."""
    low, wall = bracket.low, _wall(bracket)
    if low == bracket.settings.most_users:
        return None
    ladder, blocked = bracket.settings.ladder, bracket.blocked
    rung = next((n for n in ladder if n > low and n not in blocked), bracket.top)
    if rung < wall:
        return _visit(bracket, [rung], rung, "climbing")
    return None if bracket.is_narrow(low, wall) else _halve(bracket, wall)


def _wall(bracket: SearchState) -> int:
    """The fewest users from whom on trials tell nothing.

    A single number is passed over, for it may have been a bad hour of the machine. Two in a
    row without a valid trial between them, or the highest there is, are the lab's limit.
    """
    blocked = sorted(n for n in bracket.blocked if n > bracket.low)
    last = blocked[:1] == [bracket.settings.most_users]
    return blocked[0] if last or len(blocked) > 1 else bracket.top


def _halve(bracket: SearchState, high: int) -> TrialRequest | None:
    between = range(bracket.low + 1, high)
    return _visit(bracket, between, (bracket.low + high) / 2, "halving")


def _visit(
    bracket: SearchState, users: Iterable[int], near: float, why: str
) -> TrialRequest | None:
    """A trial at the nearest number that can be tried, the smaller of two."""
    known = bracket.levels.keys() | bracket.blocked
    full = len(known) >= bracket.settings.most_levels
    free = [n for n in users if n not in bracket.blocked and (n in known or not full)]
    if not free:
        return None
    chosen = min(free, key=lambda n: (abs(n - near), n))
    return TrialRequest(users=chosen, window=_window(bracket, chosen), why=why)


def _window(bracket: SearchState, users: int) -> float:
    """Long enough for `Settings.samples` uploads; twice as long as all that told nothing."""
    settings = bracket.settings
    if users in bracket.levels:
        window = 2 * max(trial.window for trial in bracket.levels[users].trials)
    else:
        window = ceil(settings.samples / _rate(bracket, users))
    return float(min(max(window, settings.shortest), settings.longest))


def _rate(bracket: SearchState, users: int) -> float:
    """Uploads a second, at least.

    In a closed network the rate does not fall with the users, nor rise more than in
    proportion to them.
    """
    levels, settings = bracket.levels, bracket.settings
    known = [each.rate * min(1.0, users / n) for n, each in levels.items() if each.sent]
    return max(known, default=settings.rate * min(users, settings.slots))


def _confirm(bracket: SearchState, ends: Endpoints) -> TrialRequest | None:
    """A trial at the end that is more in doubt, of the pair that is soonest certain.

    Where no pair will be that is near enough to one another: a number farther from the
    threshold, or a longer look at one that is near it; and where nothing of that is left,
    the narrowest interval that can be had.
    """
    if ends.cheapest:
        return _assure(ends, ends.cheapest)
    around, hopeful = ends.around(), Endpoints(bracket, HOPE)
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


def _assure(ends: Endpoints, pair: tuple[Endpoint, Endpoint]) -> TrialRequest:
    users, side = max(pair, key=lambda end: ends.price(*end).seconds)
    why = f"making sure that it {'holds' if side == 'held' else 'breaks'}"
    return TrialRequest(users=users, window=ends.price(users, side).window, why=why)


def _give_up(cell: str, bracket: SearchState, ends: Endpoints) -> Threshold:
    wall = _wall(bracket)
    if bracket.high == bracket.top and wall < bracket.top:
        why = f"trials with {wall} users tell nothing: see their verdicts"
        return _answer(cell, bracket, "invalid", why)
    near = sorted(n for n in bracket.open() if ends.is_hopeless(n))
    which = f"at {', '.join(map(str, near))} users it is" if near else "the trials are"
    more = ends.more if ends.more is not None else Endpoints(bracket, HOPE).more
    return _answer(cell, bracket, "undecided", f"{which} too near the threshold to tell", more)


def _stop(cell: str, bracket: SearchState, ends: Endpoints) -> Threshold:
    why = f"the {bracket.settings.most_load:.0f} s of load that it may take are spent"
    more = ends.more if ends.more is not None else Endpoints(bracket, HOPE).more
    return _answer(cell, bracket, "undecided", why, more)


def _found(bracket: SearchState) -> str:
    if bracket.breaks == bracket.top:
        return f"it still holds at {bracket.holds} users, the most that were to be tried"
    if not bracket.holds:
        return "it breaks with a single user"
    return f"it holds at {bracket.holds} users and breaks at {bracket.breaks}"


def _answer(
    cell: str,
    bracket: SearchState,
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


OUTCOMES = {
    "met": Outcome.HELD,
    "missed": Outcome.BROKE,
    "undecided": Outcome.UNDECIDED,
}


class Search(Protocol):
    """A method that finds a cell's threshold."""

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        ...


MOST_USERS = 200
"""A search goes no higher unless it is told to: the report's largest load."""


SHORTEST_SPLIT_S, LONGEST_SPLIT_S = 120.0, 1200.0
"""The shortest and the longest window with several workers, real-world seconds. It takes about
ten times as many of their uploads to show as much (see `lab.capacity.level.ALIKE_SPLIT`), and a
longer trial has its ramp and warm-up only once."""


def alike(cell: Cell) -> float:
    """The correlation between uploads of one minute that is reckoned with for a cell."""
    return ALIKE_SPLIT if cell.knobs.workers > 1 or cell.target == "cloudrun" else ALIKE


def search_for(
    cell: Cell, most_users: int = MOST_USERS, most_load: float | None = None
) -> CapacitySearch:
    """The search for a cell: windows no shorter than the load's, the first rate from the knobs.

    Raises:
        UsageError: the cell's load has no users to vary, or nothing says when it breaks, or
            nothing could show it.
    """
    load = _closed(cell)
    if not cell.criteria:
        raise UsageError(
            f"{cell.id}: without criteria there is nothing that more users could break",
            "write them as 'criteria: [p95 < 10 s, error_rate < 5 %]'",
        )
    for each in cell.criteria:
        if is_share(each) and (each.op == "==" or tail_of(each) is None):
            raise UsageError(
                f"{cell.id}: no number of uploads shows on which side of '{each}' it is",
                "give it a bound that can be passed, such as 'error_rate < 1 %'",
            )
    strictest = min(tail_of(each) or 1.0 for each in cell.criteria)
    split = alike(cell) == ALIKE_SPLIT
    longest = LONGEST_SPLIT_S if split else CapacitySearch.longest
    return CapacitySearch(
        rate=1 / max(service_s(cell) + load.think, INSTANT_S),
        slots=upload_slots(cell),
        most_users=most_users,
        shortest=max(load.window, SHORTEST_SPLIT_S) if split else load.window,
        longest=max(longest, load.window),
        samples=round(FEW_BEYOND / strictest),
        alike=alike(cell),
        most_load=inf if most_load is None else most_load,
    )


def trial_cell(cell: Cell, ask: TrialRequest, number: int) -> Cell:
    """The cell of a trial: this one with the users and the window that are asked for.

    Its id tells it apart: ``workers=1-u34-2`` is the second trial at 34 users. So does its
    seed: a second trial that met the same sizes again would show less.

    Raises:
        UsageError: the cell's load has no users to vary.
    """
    load = _closed(cell).model_copy(update={"users": ask.users, "window": ask.window})
    return cell.model_copy(
        update={
            "id": f"{cell.id}-u{ask.users}-{number}",
            "load": load,
            "seed": seed_of(cell.seed, 1000 * ask.users + number),
        }
    )


def longest(cell: Cell, search: CapacitySearch) -> Cell:
    """The longest trial that a search may ask for."""
    ask = TrialRequest(
        users=search.most_users, window=search.longest, why="the longest there may be"
    )
    return trial_cell(cell, ask, 1)


def trial_of(cell: Cell, verdict: Verdict) -> CapacityTrial:
    """What a search needs to know of a cell that was measured and judged.

    Raises:
        UsageError: the cell's load has no users.
    """
    start, end = cell.load.measured
    likeness = alike_within(end - start, alike(cell))
    return CapacityTrial(
        id=cell.id,
        users=_closed(cell).users,
        window=end - start,
        spent=end + drain(cell),
        sent=int(verdict.metrics.get("attempts", 0)),
        outcome=verdict.outcome,
        criteria=tuple(_tried(finding, verdict.outcome, likeness) for finding in verdict.findings),
    )


def _tried(finding: Finding, outcome: Outcome, likeness: float) -> CriterionCount:
    invalid = outcome == Outcome.INVALID
    tried = CriterionCount(
        criterion=finding.criterion,
        outcome=outcome if invalid else OUTCOMES[finding.outcome],
        samples=finding.samples,
        beyond=finding.beyond,
        allowed=finding.allowed,
    )
    if invalid:
        return tried
    return tried.model_copy(update={"confidence": confidence(tried, likeness)})


def _closed(cell: Cell) -> ClosedLoad:
    if isinstance(cell.load, ClosedLoad):
        return cell.load
    raise UsageError(
        f"{cell.id}: a threshold is searched by the number of users, and a load of kind"
        f" {cell.load.kind} has none to vary",
        "write the load as 'load: {users: 10, warmup: 30 s, window: 60 s}'",
    )
