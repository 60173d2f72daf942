"""Does something grow for as long as the load goes on? A slope, with how certain it is.

    window ─> first third left out ─> 20 batch means ─> least squares ─> slope, 95 % interval

Readings a tenth of a second apart are not independent: memory rises until the collector
runs, and falls. So they are averaged in batches, each long beside most of that, and what
correlation is left between neighbouring batches is paid for: the number of batches is
reduced to n (1 - r) / (1 + r), in the error as in the degrees of freedom (Santer et al.,
J. Geophys. Res. 105, 2000), with r corrected for the bias that it has in short series
(Kendall, 1954). Least squares is the best line for means of many readings, which are near
normal whatever the readings are. A process also grows while it warms up, less and less; the
first third of the window is left to that, beside the load's own warm-up.

What leaks is told by all that grew together: Postgres' connections are the pool's own where as many
were checked out of it and no session has them, and beside it where not; open files are the sockets
of connections that leak; threads have names.

An interval alone would call a byte a minute a leak if only the trial is long enough. What
matters is held against a bound (`QUANTITIES`): *leak* is all above it, *none* all below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, fsum, sqrt
from statistics import fmean

from lab.judge.trial import Trial
from lab.model.evidence import WorkerReading
from lab.model.load import ClosedLoad, OpenLoad, Window
from lab.model.verdict import Leak

MIN_WINDOW_S = 300.0
"""The shortest window, in real-world seconds, of which anything is said: a service that began
a minute ago grows whether it leaks or not."""

SETTLING = 1 / 3
BATCHES = 20
MIN_INDEPENDENT = 3.0
"""So many batches count as independent, however correlated neighbours are: one degree of freedom
is left."""

Points = list[tuple[float, float]]
"""Times in seconds, and a figure then."""


@dataclass(frozen=True)
class Slope:
    """A slope a second and its two-sided 95 % confidence interval."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class Growth:
    """All that grew in the steady part of a trial: what a leak is told by.

    Args:
        steady: that part.
        slopes: by metric, of what was read.
    """

    steady: Trial
    slopes: Mapping[str, Slope]

    def mostly(self, metric: str, of: str) -> bool:
        """Whether at least half of the growth of one figure is that of another."""
        slopes = self.slopes
        return metric in slopes and slopes[metric].value >= slopes[of].value / 2

    def an_upload(self, metric: str) -> float:
        """By how much a figure grew with each upload that was sent; 0 where none was."""
        start, end = self.steady.window
        sent = len(self.steady.sent)
        return self.slopes[metric].value * (end - start) / sent if sent else 0.0


@dataclass(frozen=True)
class Quantity:
    """What may grow.

    Args:
        name: in words.
        unit: that people read, as ``an hour``.
        per_second: how many of that unit one a second is.
        bound: growth a second that matters in practice.
        read: its readings, one series a worker; they are summed.
        what: what it is of which there is ever more, by all that grew.
        lasting: whether one that is there all the time has leaked, however little there is more.
    """

    name: str
    unit: str
    per_second: float
    bound: float
    read: Callable[[Trial], list[Points]]
    what: Callable[[Growth], str]
    lasting: bool = False


def _by_worker(gauge: Callable[[WorkerReading], float | None]) -> Callable[[Trial], list[Points]]:
    return lambda trial: [
        [(reading.t, value) for reading in life if (value := gauge(reading)) is not None]
        for life in trial.by_worker
    ]


NEVER_RETURNED = "connections of the pool that were checked out and never returned"


def _memory(growth: Growth) -> str:
    held = growth.an_upload("rss_slope")
    return f"memory, {held / 1e3:.0f} KB an upload" if held else "memory"


def _connections(growth: Growth) -> str:
    """The pool's own, where no session has about as many; of an earlier lab that is not known."""
    if "pool_slope" not in growth.slopes:
        return "database connections"
    of_pool = growth.mostly("pool_slope", "connections_slope")
    beside = "connections beside the pool, which nobody has closed"
    return (NEVER_RETURNED if of_pool else beside) + _one_in(growth, "connections_slope")


def _open_files(growth: Growth) -> str:
    sockets = growth.mostly("connections_slope", "fds_slope")
    what = "the sockets of database connections" if sockets else "files or sockets left open"
    return what + _one_in(growth, "fds_slope")


def _threads(growth: Growth) -> str:
    """Threads that never ended, with the name of which there are most more."""
    more = _more_threads(growth.steady)
    names = [f" named {name!r}" for name, count in more.most_common(1) if count > 0]
    return "".join(["threads", *names, " that never ended", _one_in(growth, "threads_slope")])


def _more_threads(steady: Trial) -> Counter[str]:
    more: Counter[str] = Counter()
    for life in steady.by_worker:
        more.update(life[-1].threads_named or {})
        more.subtract(life[0].threads_named or {})
    return more


def _one_in(growth: Growth, metric: str) -> str:
    share = growth.an_upload(metric)
    return f", one in {1 / share:.0f} uploads" if 0 < share < 1 else ""


POOLED = ("default", "gcs", "speech", "audio", "AnyIO worker thread")
"""Kinds of threads of which a pool has so many at most, and uses them again: more of them are there
where more were wanted at once, and anyio's end when they were idle for 10 s."""


def _unpooled(reading: WorkerReading) -> int | None:
    """A worker's threads that no pool bounds; all of them where they were not told apart."""
    named = reading.threads_named or {}
    pooled = sum(named.get(kind, 0) for kind in POOLED)
    return None if reading.threads is None else reading.threads - pooled


AN_HOUR = ("an hour", 3600.0, 1 / 600)
"""The unit of what is counted, how many of it one a second is, and the growth that matters."""

QUANTITIES: Mapping[str, Quantity] = {
    "rss_slope": Quantity(
        "memory",
        *("MB a minute", 60 / 1e6, 1e6 / 60),
        _by_worker(lambda reading: reading.rss),
        _memory,
    ),
    "connections_slope": Quantity(
        "database connections",
        *AN_HOUR,
        lambda trial: [[(reading.t, reading.connections) for reading in trial.database]],
        _connections,
    ),
    "pool_slope": Quantity(
        "connections that are checked out and that no session has",
        *AN_HOUR,
        _by_worker(lambda reading: reading.abandoned),
        lambda growth: NEVER_RETURNED + _one_in(growth, "pool_slope"),
        lasting=True,
    ),
    "threads_slope": Quantity("threads", *AN_HOUR, _by_worker(_unpooled), _threads),
    "fds_slope": Quantity(
        "open files", *AN_HOUR, _by_worker(lambda reading: reading.fds), _open_files
    ),
}
"""What is looked at, by the metric that is its slope. What matters in practice: 1 MB a minute fills
an instance of 256 MiB within an afternoon; one connection in ten minutes fills 25 slots in one
too."""


def leaks(trial: Trial) -> tuple[Leak, ...]:
    """A statement for each figure that was read; none of a load that is short, or not steady.

    After a worker, or an instance, was killed for its memory nothing is said: what replaced it
    began anew.
    """
    load = trial.load
    if not isinstance(load, ClosedLoad | OpenLoad) or load.window < MIN_WINDOW_S or trial.kills:
        return ()
    start, end = load.measured
    steady = trial.restricted((start + SETTLING * (end - start), end))
    read = {metric: row.read(steady) for metric, row in QUANTITIES.items()}
    slopes = {metric: fit(series, steady.window) for metric, series in read.items()}
    growth = Growth(steady, {metric: slope for metric, slope in slopes.items() if slope})
    return tuple(_statement(metric, growth, read[metric]) for metric in growth.slopes)


def fit(series: Sequence[Points], window: Window) -> Slope | None:
    """The slope of readings over time; None without readings, or where a batch has none.

    Args:
        series: readings of each worker, which are summed: time in seconds, and the figure.
        window: where the batches begin and end.
    """
    ys = batch_means(series, window)
    if not ys:
        return None
    x_step, y_mean = (window[1] - window[0]) / BATCHES, fmean(ys)
    xs = [(index - (BATCHES - 1) / 2) * x_step for index in range(BATCHES)]
    spread = fsum(x * x for x in xs)
    slope = fsum(x * y for x, y in zip(xs, ys, strict=True)) / spread
    rest = [y - y_mean - slope * x for x, y in zip(xs, ys, strict=True)]
    unexplained = fsum(r * r for r in rest)
    if unexplained <= 1e-18 * max(1.0, y_mean * y_mean):
        return Slope(slope, slope, slope)
    from scipy.special import stdtrit  # slow to import; many commands never judge

    left = _independent(rest, unexplained)
    half = float(stdtrit(left - 2, 0.975)) * sqrt(unexplained / (left - 2) / spread)
    return Slope(slope - half, slope, slope + half)


def batch_means(series: Sequence[Points], window: Window) -> list[float]:
    """The mean of each batch of the window, of all series together; empty as `fit` is None."""
    means = [_batches(points, window) for points in series]
    return [fsum(batch) for batch in zip(*means, strict=True)] if all(means) else []


def _batches(points: Points, window: Window) -> list[float]:
    """The mean of each batch; empty where one has no reading."""
    start, end = window
    parts: list[list[float]] = [[] for _ in range(BATCHES)]
    for t, value in points:
        if start <= t <= end:
            parts[min(BATCHES - 1, int((t - start) / (end - start) * BATCHES))].append(value)
    return [fmean(part) for part in parts] if all(parts) else []


def _independent(rest: Sequence[float], unexplained: float) -> float:
    """How many independent batches these residuals are worth."""
    lag = fsum(a * b for a, b in zip(rest[1:], rest[:-1], strict=True)) / unexplained
    lag = min(0.99, max(0.0, lag + (1 + 4 * lag) / BATCHES))
    return max(MIN_INDEPENDENT, BATCHES * (1 - lag) / (1 + lag))


def _statement(metric: str, growth: Growth, series: Sequence[Points]) -> Leak:
    row, slope, (start, end) = QUANTITIES[metric], growth.slopes[metric], growth.steady.window
    bound, unit, over = row.bound, row.unit, end - start
    low, value, high, much = (
        x * row.per_second for x in (slope.low, slope.value, slope.high, bound)
    )
    measured = f"{row.name} grew by {value:.2f} {unit} ({low:.2f} .. {high:.2f} at 95 %)"
    there = floor(min(batch_means(series, growth.steady.window))) if row.lasting else 0
    what = row.what(growth) if slope.low > bound or there else ""
    if slope.low > bound:
        outcome, verdict = "leak", f"a leak of {what}: more than {much:g} {unit} matters"
    elif there:
        outcome, verdict = "leak", f"a leak of {what}: {there} or more were there all the time"
    elif slope.high < bound:
        outcome, verdict = "none", f"no leak: {much:g} {unit} would matter"
    else:
        outcome, verdict = "undecided", _longer(slope, bound, over)
    return Leak.model_validate(
        {
            "metric": metric,
            "outcome": outcome,
            "slope": round(slope.value, 9),
            "low": round(slope.low, 9),
            "high": round(slope.high, 9),
            "bound": round(bound, 9),
            "over_s": round(over, 3),
            "reason": f"{measured} over {over / 60:.0f} min: {verdict}",
            "what": what,
        }
    )


def _longer(slope: Slope, bound: float, over: float) -> str:
    """How long it would take to decide: an interval shrinks with the time to the power of 3/2."""
    distance, half = abs(slope.value - bound), (slope.high - slope.low) / 2
    if distance <= half / 30:
        return "undecided, and too near what matters to tell"
    enough = over * (half / distance) ** (2 / 3) / (1 - SETTLING)
    return f"undecided; a window of about {enough / 60:.0f} min would tell"
