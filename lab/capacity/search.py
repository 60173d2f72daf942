"""The search for a capacity: trials in, the next trial or an answer out; pure.

It is the report's method of finding a threshold, with ends that are certain:

    climb     10, 20, 40, 60, 80, 100 users, then half as many again, until a trial breaks
    halve     the number in the middle, until the interval is 2 users or a tenth wide
    confirm   further trials at both ends, until each is certain; where an end is too near
              the threshold to tell, the interval is moved so as to lie around it

Climbing and halving follow what the trials seem to show, and may err: that costs time and
nothing else. An answer is given where both ends are certain. An end is certain when its
e-value (`lab.model.evalues`) passes 2 / alpha: at any one number of users the chance that it
is ever taken to hold where it breaks, or to break where it holds, is at most alpha / 2. Of
many numbers that are tried only those next to the threshold can well be mistaken; that
all together stay within alpha is shown by simulation (`benchmarks.threshold`).

A `Search` is a function of the trials so far, whose order is of no account: one that is taken
up again from stored trials goes on as if it had never been interrupted. What it asks for is
made a cell of its own by `trial_cell`, measured and judged like any other, and read back by
`trial_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf
from typing import Literal, Protocol

from lab.capacity.aimed import AimedSearch
from lab.capacity.endpoints import Endpoints, Pair
from lab.capacity.level import confidence
from lab.capacity.state import USUAL_WIDTH, SearchSettings, SearchState
from lab.errors import UsageError
from lab.model.capacity import (
    CapacityTrial,
    CriterionCount,
    Estimate,
    Threshold,
    TrialRequest,
)
from lab.model.criterion import Criterion
from lab.model.evalues import SPLIT_CORRELATION, correlation_of, correlation_within
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad
from lab.model.metrics import with_journey
from lab.model.physics import service_s, upload_slots
from lab.model.verdict import Finding, Outcome, Verdict
from lab.plan.estimate import INSTANT_S, drain, is_share, tail_of
from lab.plan.expand import seed_of

MAX_USERS = 200
"""A search goes no higher unless `--most-users` says so: the report's largest load."""

USUAL_TRIALS = 13
"""The median of the lab's halving over 2,000 simulated systems: see `benchmarks.threshold`."""

FEW_VIOLATIONS = 2
"""A trial to steer by is so long that at the threshold this many uploads would violate it."""

HOPE = 1.0
"""Standard errors by which a share may be better than it seems, before it is given up."""

MIN_SPLIT_WINDOW_S, MAX_SPLIT_WINDOW_S = 120.0, 1200.0
"""The shortest and the longest window with several workers, real-world seconds. It takes about
ten times as many of their uploads to show as much (`lab.model.evalues.SPLIT_CORRELATION`), and
a longer trial has its ramp and warm-up only once."""


class Search(Protocol):
    """A method that finds a cell's threshold."""

    @property
    def max_users(self) -> int:
        """It goes no higher."""
        ...

    @property
    def max_window(self) -> float:
        """The longest window that it may ask for, in real-world seconds."""
        ...

    @property
    def max_trials_in_all(self) -> int:
        """How many trials it may take, the invalid ones too."""
        ...

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        ...

    def estimate(self, trials: Sequence[CapacityTrial]) -> Estimate | None:
        """What the trials so far say, to be shown while the search goes on; None before any."""
        ...

    def informed_by(self, beside: Sequence[CapacityTrial], /) -> Search:
        """The same search, that may aim its first trial by those of other cells whose stages take
        as long."""
        ...


class CapacitySearch(SearchSettings):
    """By e-values, on no model; its settings are the fields of `SearchSettings`."""

    def next(self, cell: str, trials: Sequence[CapacityTrial]) -> TrialRequest | Threshold:
        """The trial to make next, or the answer; the same trials in any order give the same."""
        state = SearchState(self, tuple(sorted(trials, key=lambda t: (t.users, t.id))))
        if state.holds >= state.breaks:
            why = f"it breaks at {state.breaks} users and holds at {state.holds}"
            return _answer(cell, state, "undecided", f"{why}: more users are not worse")
        if state.is_narrow(state.holds, state.breaks):
            return _answer(cell, state, "found", _interval(state))
        endpoints = Endpoints(state)
        if state.is_spent:
            why = f"the {self.max_load:.0f} s of load that it may take are spent"
            return _answer(cell, state, "undecided", why, _more(endpoints))
        return _explore(state) or _confirm(state, endpoints) or _give_up(cell, state, endpoints)

    def estimate(self, trials: Sequence[CapacityTrial]) -> Estimate | None:
        """What is certain by the trials so far; None before any, and where ends contradict."""
        state = SearchState(self, tuple(sorted(trials, key=lambda t: (t.users, t.id))))
        if not trials or state.holds >= state.breaks:
            return None
        return Estimate(
            holds_at=state.holds,
            breaks_at=None if state.breaks == state.top else state.breaks,
            middle=(state.low + state.high) / 2,
            low=state.holds,
            high=state.breaks,
            confidence=1 - self.alpha,
            method="certain",
            basis="counts",
            rests_on="e-values, which rest on no model of the cell",
        )

    def informed_by(self, _beside: Sequence[CapacityTrial], /) -> CapacitySearch:
        """The same search: it climbs as the report does, whatever other cells measured."""
        return self


def search_for(
    cell: Cell,
    max_users: int = MAX_USERS,
    max_load: float | None = None,
    within: float | None = None,
) -> CapacitySearch:
    """The search for a cell: windows no shorter than the load's, the first rate from the knobs.

    Args:
        cell: whose threshold it is.
        max_users: it goes no higher.
        max_load: real-world seconds of load that it may take; None: no limit.
        within: how wide the answer may be, as a share of the users; None: 2 users or a tenth.

    Raises:
        UsageError: the cell's load has no users to vary, or nothing says when it breaks, or
            nothing could show it.
    """
    check_searchable(cell)
    load = _closed(cell)
    strictest = min(_tail_of_all(criterion, load) for criterion in cell.criteria)
    split = correlation_of(cell) == SPLIT_CORRELATION
    max_window = MAX_SPLIT_WINDOW_S if split else CapacitySearch.max_window
    return CapacitySearch(
        rate=1 / max(load.uplink_s + service_s(cell) + load.think.mean, INSTANT_S),
        slots=upload_slots(cell),
        max_users=max_users,
        min_window=max(load.window, MIN_SPLIT_WINDOW_S) if split else load.window,
        max_window=max(max_window, load.window),
        samples=round(FEW_VIOLATIONS / strictest),
        correlation=correlation_of(cell),
        max_load=inf if max_load is None else max_load,
        within=USUAL_WIDTH if within is None else within,
    )


def check_searchable(cell: Cell) -> None:
    """Refuse a cell whose threshold no method could find.

    Raises:
        UsageError: its load has no users to vary, or nothing says when it breaks, or nothing could
            show it.
    """
    _closed(cell)
    if not cell.criteria:
        raise UsageError(
            f"{cell.id}: without criteria there is nothing that more users could break",
            "write them as 'criteria: [p95 < 10 s, error_rate < 5 %]'",
        )
    for criterion in cell.relative:
        raise UsageError(
            f"{cell.id}: '{criterion}' holds a cell against another one, and a search against none",
            "leave it out, or run the spec with `lab run`",
        )
    for criterion in cell.criteria:
        if is_share(criterion) and (criterion.op == "==" or tail_of(criterion) is None):
            raise UsageError(
                f"{cell.id}: no number of uploads shows on which side of '{criterion}' it is",
                "give it a bound that can be passed, such as 'error_rate < 1 %'",
            )


def _tail_of_all(criterion: Criterion, load: ClosedLoad) -> float:
    """The share of all that users send which a criterion lets be beyond its bound: of a tenth of it
    one in twenty is one in two hundred. Health is asked for whatever users send, so there it is
    the share of the probes."""
    return (tail_of(criterion) or 1.0) * load.shares.get(criterion.journey, 1.0)


def aimed_for(
    cell: Cell,
    max_users: int = MAX_USERS,
    max_load: float | None = None,
    within: float | None = None,
) -> AimedSearch:
    """The search for a cell that a model aims; windows no shorter than the load's.

    Args:
        cell: whose threshold it is.
        max_users: it goes no higher.
        max_load: real-world seconds of load that it may take; None: no limit.
        within: how wide an answer may be, as a share of the users; None: 2 users or a tenth.

    Raises:
        UsageError: as `search_for`.
    """
    check_searchable(cell)
    load = _closed(cell)
    return AimedSearch(
        cell,
        max_users,
        inf if max_load is None else max_load,
        within,
        min_window=load.window,
        max_window=max(AimedSearch.max_window, load.window),
    )


def trial_cell(cell: Cell, request: TrialRequest, number: int) -> Cell:
    """The cell of a trial: this one with the users and the window that are asked for.

    Its window is as long as is asked for, decided or not: the search has a test of its own. Its id
    sets it apart: ``workers=1-u34-2`` is the second trial at 34 users. So does its seed: a second
    trial that met the same sizes again would show less.

    Raises:
        UsageError: the cell's load has no users to vary.
    """
    asked = {"users": request.users, "window": request.window, "warmup": request.warmup}
    given = {name: value for name, value in asked.items() if value is not None}
    load = _closed(cell).model_copy(update=given)
    return cell.model_copy(
        update={
            "id": f"{cell.id}-u{request.users}-{number}",
            "load": load,
            "stop_when_decided": False,
            "seed": seed_of(cell.seed, 1000 * request.users + number),
        }
    )


def longest(cell: Cell, search: Search) -> Cell:
    """The longest trial that a search may ask for."""
    why = "the longest there may be"
    request = TrialRequest(users=search.max_users, window=search.max_window, why=why)
    return trial_cell(cell, request, 1)


def trial_of(cell: Cell, verdict: Verdict) -> CapacityTrial:
    """What a search needs to know of a cell that was measured and judged.

    Raises:
        UsageError: the cell's load has no users.
    """
    start, end = cell.load.measured
    within = correlation_within(end - start, correlation_of(cell))
    times = verdict.times if verdict.outcome != Outcome.INVALID else None
    return CapacityTrial(
        id=cell.id,
        users=_closed(cell).users,
        window=end - start,
        spent=end + (verdict.times.drain if verdict.times else drain(cell)),
        sent=sum(
            int(verdict.metrics.get(with_journey("attempts", journey), 0))
            for journey in cell.load.shares
        ),
        outcome=verdict.outcome,
        criteria=tuple(_count(finding, verdict.outcome, within) for finding in verdict.findings),
        times=times,
    )


def _explore(state: SearchState) -> TrialRequest | None:
    """Climb or halve; None where the interval is narrow, or nothing in it can be tried."""
    if state.high == state.top:
        return _climb(state)
    if state.is_narrow(state.low, state.high):
        return None
    return _halve(state, state.high)


def _climb(state: SearchState) -> TrialRequest | None:
    """The next rung; below a wall, the number half-way to it."""
    low, wall = state.low, _wall(state)
    if low == state.settings.max_users:
        return None
    ladder, blocked = state.settings.ladder, state.blocked
    rung = next((n for n in ladder if n > low and n not in blocked), state.top)
    if rung < wall:
        return _visit(state, [rung], rung, "climbing")
    return None if state.is_narrow(low, wall) else _halve(state, wall)


def _wall(state: SearchState) -> int:
    """The fewest users above whom every trial is invalid.

    A single number is passed over, for it may have been a bad hour of the machine. Two in a
    row without a valid trial between them, or the highest there is, are the lab's limit.
    """
    blocked = sorted(n for n in state.blocked if n > state.low)
    last = blocked[:1] == [state.settings.max_users]
    return blocked[0] if last or len(blocked) > 1 else state.top


def _halve(state: SearchState, high: int) -> TrialRequest | None:
    return _visit(state, range(state.low + 1, high), (state.low + high) / 2, "halving")


def _visit(state: SearchState, users: Iterable[int], near: float, why: str) -> TrialRequest | None:
    """A trial with the number of users that is nearest to ``near`` and may be tried.

    Of two as near it is the smaller; None where none may be tried.
    """
    known = state.levels.keys() | state.blocked
    full = len(known) >= state.settings.max_levels
    free = [n for n in users if n not in state.blocked and (n in known or not full)]
    if not free:
        return None
    chosen = min(free, key=lambda n: (abs(n - near), n))
    return TrialRequest(users=chosen, window=_window(state, chosen), why=why)


def _window(state: SearchState, users: int) -> float:
    """Long enough for `SearchSettings.samples`; twice as long as all that showed nothing."""
    settings = state.settings
    if users in state.levels:
        window = 2 * max(trial.window for trial in state.levels[users].trials)
    else:
        window = ceil(settings.samples / _rate(state, users))
    return float(min(max(window, settings.min_window), settings.max_window))


def _rate(state: SearchState, users: int) -> float:
    """Uploads a second, at least.

    In a closed network the rate does not fall with the users, nor rise more than in
    proportion to them.
    """
    levels, settings = state.levels, state.settings
    known = [level.rate * min(1.0, users / n) for n, level in levels.items() if level.sent]
    return max(known, default=settings.rate * min(users, settings.slots))


def _confirm(state: SearchState, endpoints: Endpoints) -> TrialRequest | None:
    """A trial at the end that is less certain, of the pair that is soonest certain.

    Where no pair will be that is near enough to one another: a number farther from the
    threshold, or a longer look at one that is near it; and where nothing of that is left,
    the narrowest interval that can be had.
    """
    if endpoints.cheapest:
        return _assure(endpoints, endpoints.cheapest)
    around, hopeful = endpoints.around(), Endpoints(state, HOPE)
    if around is not None and (request := _visit(state, [around], around, "moving the interval")):
        return request
    if hopeful.cheapest:
        return _assure(hopeful, hopeful.cheapest)
    for users, why in (
        (endpoints.unclear(), "a longer look"),
        (endpoints.outward(), "looking farther out"),
    ):
        if users is not None and (request := _visit(state, [users], users, why)):
            return request
    return _assure(endpoints, endpoints.narrowest) if endpoints.narrowest else None


def _assure(endpoints: Endpoints, pair: Pair) -> TrialRequest:
    """A trial at that endpoint of a pair which takes longer to become certain."""
    users, side = max(pair, key=lambda end: endpoints.cost(*end).seconds)
    why = f"making sure that it {'holds' if side == 'held' else 'breaks'}"
    return TrialRequest(users=users, window=endpoints.cost(users, side).window, why=why)


def _give_up(cell: str, state: SearchState, endpoints: Endpoints) -> Threshold:
    wall = _wall(state)
    if state.high == state.top and wall < state.top:
        why = f"trials with {wall} users tell nothing: see their verdicts"
        return _answer(cell, state, "invalid", why)
    near = sorted(n for n in state.open() if endpoints.is_hopeless(n))
    which = f"at {', '.join(map(str, near))} users it is" if near else "the trials are"
    why = f"{which} too near the threshold to tell"
    return _answer(cell, state, "undecided", why, _more(endpoints))


def _more(endpoints: Endpoints) -> float | None:
    """Real-world seconds of load that would decide it, if need be with some hope."""
    if endpoints.more is not None:
        return endpoints.more
    return Endpoints(endpoints.state, HOPE).more


def _interval(state: SearchState) -> str:
    if state.breaks == state.top:
        return f"it still holds at {state.holds} users, the most that were to be tried"
    if not state.holds:
        return "it breaks with a single user"
    return f"it holds at {state.holds} users and breaks at {state.breaks}"


def _answer(
    cell: str,
    state: SearchState,
    outcome: Literal["found", "undecided", "invalid"],
    reason: str,
    more: float | None = None,
) -> Threshold:
    """What is certain, whatever the outcome; of two ends that contradict each other nothing is."""
    sound = state.holds < state.breaks
    holds = state.holds if sound and state.holds else None
    breaks = state.breaks if sound and state.breaks < state.top else None
    return Threshold(
        id=cell,
        holds_at=holds,
        breaks_at=breaks,
        crossed_first=None if breaks is None else state.levels[breaks].crossed(),
        confidence=1 - state.settings.alpha,
        outcome=outcome,
        reason=reason,
        more=more,
        trials=tuple(trial.without_times() for trial in state.trials),
    )


_OUTCOMES = {"met": Outcome.HELD, "missed": Outcome.BROKE, "undecided": Outcome.UNDECIDED}


def _count(finding: Finding, outcome: Outcome, within: float) -> CriterionCount:
    """A criterion in one trial; of an invalid one its confidence is none."""
    invalid = outcome == Outcome.INVALID
    count = CriterionCount(
        criterion=finding.criterion,
        outcome=outcome if invalid else _OUTCOMES[finding.outcome],
        samples=finding.samples,
        violations=finding.beyond,
        allowed=finding.allowed,
    )
    if invalid:
        return count
    return count.model_copy(update={"confidence": confidence(count, within)})


def _closed(cell: Cell) -> ClosedLoad:
    if isinstance(cell.load, ClosedLoad):
        return cell.load
    raise UsageError(
        f"{cell.id}: a threshold is searched by the number of users, and a load of kind"
        f" {cell.load.kind} has none to vary",
        "write the load as 'load: {users: 10, warmup: 30 s, window: 60 s}'",
    )
