"""The share of uploads beyond a bound against the users: one drawing in a page, lines in text.

Users are on a logarithmic scale, because a threshold is known to a share of itself. Shares are by
their square root, so that a bound of 5 % is seen beside trials in which nearly all were late. Only
geometry is here, in the units of the drawing: the template holds the shapes and the style sheet
their colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import exp, log, sqrt

from lab.model.capacity import CurvePoint, TrialWeight
from lab.report import format
from lab.report.blocks import ShareCurve

WIDTH, HEIGHT = 860, 320
LEFT, RIGHT = 56, WIDTH - 20
TOP, BASE = 44, HEIGHT - 46

MARGIN = 0.06
"""Of the scale, left free at both of its ends."""

MIN_SPREAD = log(1.5)
"""The scale of users spans at the least this much, in logarithms: trials may be all alike."""

FEWEST = 0.7
"""Users at the left end of the scale at the least: it has no 0."""

SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""What ticks of a share may stand at; one of them is the scale's end."""

STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
"""What ticks of users may stand at, and their tenfolds."""

TICK_WIDTH, TICK_HEIGHT = 36.0, 15.0
"""The room that a tick's label takes."""

MIN_RADIUS, MAX_RADIUS = 3.0, 11.0
"""Of a trial: the area beyond the least is in proportion to its weight."""

LABEL_WIDTH = 150.0
"""The room for a label beside an upright line, else it stands to the left of it."""


@dataclass(frozen=True)
class Tick:
    """A place of a scale and what stands there."""

    at: float
    label: str


@dataclass(frozen=True)
class Upright:
    """A line across the drawing; its label stands to the left of it where ``left`` is set."""

    x: float
    label: str = ""
    left: bool = False


@dataclass(frozen=True)
class Dot:
    """A trial; ``label`` says all of it. One of no account is hollow."""

    x: float
    y: float
    radius: float
    over: bool
    counts: bool
    label: str


@dataclass(frozen=True)
class Band:
    """The interval, from ``x`` on."""

    x: float
    width: float
    label: Upright


@dataclass(frozen=True)
class CurveDrawing:
    """A curve of a cell: its frame, what was measured and what is known."""

    title: str
    about: str
    users: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    bound: Tick
    band: Band | None
    predicted: Upright | None
    line: str  #: the path of the curve; empty where there is none
    doubt: str  #: the outline of what the trials leave open of it; likewise
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    base: int = BASE


Scale = Callable[[float], float]


def curve_drawing(block: ShareCurve) -> CurveDrawing:
    """The drawing of a cell's curve with its trials, bound, interval and prediction."""
    curve = block.curve
    first, last = _range(block)
    end = _end(block, first, last)

    def across(users: float) -> float:
        place = log(max(users, FEWEST) / first) / log(last / first)
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, place)), 1)

    def down(share: float) -> float:
        return round(BASE - (BASE - TOP) * sqrt(min(1.0, max(0.0, share) / end)), 1)

    seen = [point for point in curve.points if first <= point.users <= last]
    return CurveDrawing(
        title=f"{curve.criterion}: share of uploads beyond the bound, against users",
        about=block.about,
        users=_user_ticks(first, last, across),
        shares=_share_ticks(end, down),
        dots=_dots(block, across, down),
        bound=Tick(down(curve.allowed), f"{format.percent(curve.allowed)} may be beyond"),
        band=_band(block, across),
        predicted=_predicted(block, across),
        line=_path((across(point.users), down(point.share)) for point in seen),
        doubt=_outline(seen, across, down),
    )


def trial_shares(trials: Iterable[TrialWeight]) -> list[TrialWeight]:
    """The trials at each number of users as one: their weights and minutes added up, their share
    the mean by weight."""
    merged = []
    ordered = sorted(trials, key=lambda trial: trial.users)
    for users, group in groupby(ordered, key=lambda trial: trial.users):
        at = list(group)
        weight = sum(trial.weight for trial in at)
        parts = [(trial.weight if weight else 1.0, trial.share) for trial in at]
        share = sum(part * value for part, value in parts) / sum(part for part, _ in parts)
        minutes = sum(trial.minutes for trial in at)
        told = {"users": users, "share": share, "minutes": minutes, "weight": weight}
        merged.append(at[0].model_copy(update=told))
    return merged


def share_at(points: Sequence[CurvePoint], users: float) -> float | None:
    """The curve's share at a number of users, straight between its points in the logarithm of the
    users; None beyond its ends."""
    for before, after in pairwise(points):
        if before.users <= users <= after.users:
            span = log(after.users / before.users) if after.users > before.users else 1.0
            part = log(users / before.users) / span
            return before.share + part * (after.share - before.share)
    return None


USERS_COLUMNS, SHARE_COLUMNS, WEIGHT_COLUMNS = 6, 8, 8
SIDE_COLUMNS = len(" breaks")
NARROW = 56
"""Columns below which a curve in text leaves out what each trial counts for."""


def curve_lines(block: ShareCurve, width: int) -> list[str]:
    """The curve in ASCII under its criterion, a line for each number of users that was tried, in
    ``width`` columns at most: ``*`` what was measured, ``-`` the curve, ``|`` the bound."""
    curve, rows = block.curve, trial_shares(block.curve.trials)
    fitted = [share_at(curve.points, row.users) for row in rows]
    known = [row.share for row in rows] + [share for share in fitted if share is not None]
    end = _scale_end([*known, 2 * curve.allowed])
    weighs = WEIGHT_COLUMNS if width >= NARROW else 0
    heads = f"{'users':>{USERS_COLUMNS}}{'beyond':>{SHARE_COLUMNS}}{'weight'[:weighs]:>{weighs}}  "
    columns = max(16, width - len(heads) - SIDE_COLUMNS)

    def column(share: float) -> int:
        return round((columns - 1) * sqrt(min(1.0, share / end)))

    bound = column(curve.allowed)
    lines = [f"{heads}0 %{format.percent(curve.allowed):>{max(1, bound - 2)}}"]
    lines[0] = f"{lines[0]:<{len(heads) + columns - 6}}{format.percent(end):>6}"
    for row, share in zip(rows, fitted, strict=True):
        plot = [" "] * columns
        if share is not None:
            plot[column(share)] = "-"
        plot[bound] = "|"
        plot[column(row.share)] = "*"
        told = f"{row.users:>{USERS_COLUMNS}}{format.percent(row.share):>{SHARE_COLUMNS}}"
        counts_for = format.count(round(row.weight)) if weighs else ""
        told += f"{counts_for:>{weighs}}  {''.join(plot)}"
        lines.append(f"{told.rstrip()}{_side(block, row.users)}")
    fitted_too = ", - the curve" if curve.points else ""
    return [f"{curve.criterion}: * measured{fitted_too}, | what may be beyond", *lines]


def _side(block: ShareCurve, users: int) -> str:
    """On which side of the interval a number of users is."""
    if block.low is not None and users <= block.low:
        return " holds"
    return " breaks" if block.high is not None and users >= block.high else ""


def _range(block: ShareCurve) -> tuple[float, float]:
    """The users at both ends of the scale: all that is to be seen, with some room."""
    curve = block.curve
    shown: list[float] = [trial.users for trial in curve.trials]
    shown += [end for end in (block.low, block.high) if end]
    if block.prediction:
        shown.append(block.prediction.users)
    if not shown:
        shown = [point.users for point in curve.points] or [1.0]
    low, high = log(max(min(shown), FEWEST)), log(max(*shown, FEWEST))
    lacking = max(0.0, MIN_SPREAD - (high - low)) / 2
    room = MARGIN * (high - low + 2 * lacking) + lacking
    return exp(low - room), exp(high + room)


def _end(block: ShareCurve, first: float, last: float) -> float:
    """The share at the upper end of the scale."""
    shown = [trial.share for trial in block.curve.trials]
    shown += [point.share for point in block.curve.points if first <= point.users <= last]
    return _scale_end([*shown, 2 * block.curve.allowed])


def _scale_end(shares: Sequence[float]) -> float:
    most = max(shares)
    return next((share for share in SHARES[2:] if share >= most), 1.0)


def _share_ticks(end: float, down: Scale) -> tuple[Tick, ...]:
    ticks = list[Tick]()
    for share in (share for share in SHARES if share <= end):
        at = down(share)
        if not ticks or ticks[-1].at - at >= TICK_HEIGHT:
            ticks.append(Tick(at, format.percent(share)))
    return tuple(ticks)


def _user_ticks(first: float, last: float, across: Scale) -> tuple[Tick, ...]:
    """Whole numbers of users, as many as have room."""
    rows = [[step * 10**power for step in STEPS] for power in range(7)]
    near = [float(users) for users in range(1, 21)]  # where a scale is short, every user
    wanted = near if last / first < 4 and last < near[-1] else [u for row in rows for u in row]
    if last / first < 2:
        step = max(1, round((last - first) / 8))
        wanted = [float(users) for users in range(0, int(last) + 1, step)]
    ticks = list[Tick]()
    for users in (users for users in wanted if first <= users <= last and users == int(users)):
        at = across(users)
        if not ticks or at - ticks[-1].at >= TICK_WIDTH:
            ticks.append(Tick(at, f"{users:.0f}"))
    return tuple(ticks)


def _dots(block: ShareCurve, across: Scale, down: Scale) -> tuple[Dot, ...]:
    """The trials, the heaviest first, so that a light one is not hidden behind it."""
    trials = sorted(block.curve.trials, key=lambda trial: (-trial.weight, trial.id))
    most = max((trial.weight for trial in trials), default=0.0) or 1.0
    return tuple(
        Dot(
            x=across(trial.users),
            y=down(trial.share),
            radius=round(MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * sqrt(trial.weight / most), 1),
            over=trial.share > block.curve.allowed,
            counts=trial.weight > 0,
            label=f"{trial.id}: {format.plural(trial.users, 'user')}, {format.percent(trial.share)}"
            f" beyond the bound, counts for {format.count(round(trial.weight))} uploads",
        )
        for trial in trials
    )


def _band(block: ShareCurve, across: Scale) -> Band | None:
    """The interval; to the end of the scale where an end is open."""
    if block.low is None and block.high is None:
        return None
    start = LEFT if block.low is None else across(block.low)
    end = RIGHT if block.high is None else across(block.high)
    label = f"{format.percent(block.confidence)}: {_ends(block)}"
    left = start > RIGHT - 2 * LABEL_WIDTH
    return Band(start, round(end - start, 1), Upright(end if left else start, label, left))


def _ends(block: ShareCurve) -> str:
    low, high = (None if end is None else _users(end) for end in (block.low, block.high))
    if low is None:
        return f"up to {high} users"
    return f"{low} users and more" if high is None else f"{low} to {high} users"


def _users(users: float) -> str:
    """Users, with one decimal where they are no whole number."""
    return f"{users:.0f}" if users == int(users) else f"{users:.1f}"


def _predicted(block: ShareCurve, across: Scale) -> Upright | None:
    if block.prediction is None:
        return None
    x = across(block.prediction.users)
    return Upright(x, f"predicted {_users(block.prediction.users)}", x > RIGHT - LABEL_WIDTH)


def _path(places: Iterable[tuple[float, float]]) -> str:
    pieces = [f"{x:g} {y:g}" for x, y in places]
    return f"M{' L'.join(pieces)}" if len(pieces) > 1 else ""


def _outline(points: Sequence[CurvePoint], across: Scale, down: Scale) -> str:
    """Along the lower ends, and back along the upper ones."""
    there = [(across(point.users), down(point.low)) for point in points]
    back = [(across(point.users), down(point.high)) for point in reversed(points)]
    path = _path([*there, *back])
    return f"{path} Z" if path else ""
