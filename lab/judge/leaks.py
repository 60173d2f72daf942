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

An interval alone would call a byte a minute a leak if only the trial is long enough. What
matters is held against a bound (`QUANTITIES`): *leak* is all above it, *none* all below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
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
class Quantity:
    """What may grow.

    Args:
        name: in words.
        unit: that people read, as ``an hour``.
        per_second: how many of that unit one a second is.
        bound: growth a second that matters in practice.
        read: its readings, one series a worker; they are summed.
    """

    name: str
    unit: str
    per_second: float
    bound: float
    read: Callable[[Trial], list[Points]]


def _by_worker(gauge: Callable[[WorkerReading], float | None]) -> Callable[[Trial], list[Points]]:
    return lambda trial: [
        [(reading.t, value) for reading in life if (value := gauge(reading)) is not None]
        for life in trial.by_worker
    ]


QUANTITIES: Mapping[str, Quantity] = {
    "rss_slope": Quantity(
        "memory", "MB a minute", 60 / 1e6, 1e6 / 60, _by_worker(lambda reading: reading.rss)
    ),
    "connections_slope": Quantity(
        "database connections",
        "an hour",
        3600.0,
        1 / 600,
        lambda trial: [[(reading.t, reading.connections) for reading in trial.database]],
    ),
    "threads_slope": Quantity(
        "threads", "an hour", 3600.0, 1 / 600, _by_worker(lambda reading: reading.threads)
    ),
    "fds_slope": Quantity(
        "open files", "an hour", 3600.0, 1 / 600, _by_worker(lambda reading: reading.fds)
    ),
}
"""What is looked at, by the metric that is its slope. What matters in practice: 1 MB a minute fills
an instance of 256 MiB within an afternoon; one connection in ten minutes fills 25 slots in one
too."""


@dataclass(frozen=True)
class Slope:
    """A slope a second and its two-sided 95 % confidence interval."""

    low: float
    value: float
    high: float


def leaks(trial: Trial) -> tuple[Leak, ...]:
    """A statement for each figure that was read; none of a load that is short, or not steady.

    After a worker, or an instance, was killed for its memory nothing is said: what replaced it
    began anew.
    """
    load = trial.load
    if not isinstance(load, ClosedLoad | OpenLoad) or load.window < MIN_WINDOW_S or trial.kills:
        return ()
    start, end = load.measured
    settled = (start + SETTLING * (end - start), end)
    steady = trial.restricted(settled)
    slopes = {metric: fit(row.read(steady), settled) for metric, row in QUANTITIES.items()}
    return tuple(_statement(name, slope, settled) for name, slope in slopes.items() if slope)


def fit(series: Sequence[Points], window: Window) -> Slope | None:
    """The slope of readings over time; None without readings, or where a batch has none.

    Args:
        series: readings of each worker, which are summed: time in seconds, and the figure.
        window: where the batches begin and end.
    """
    means = [_batches(points, window) for points in series]
    if not means or not all(means):
        return None
    ys = [fsum(batch) for batch in zip(*means, strict=True)]
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


def _statement(metric: str, slope: Slope, window: Window) -> Leak:
    row, over = QUANTITIES[metric], window[1] - window[0]
    bound, unit = row.bound, row.unit
    low, value, high, much = (
        x * row.per_second for x in (slope.low, slope.value, slope.high, bound)
    )
    measured = f"{row.name} grew by {value:.2f} {unit} ({low:.2f} .. {high:.2f} at 95 %)"
    if slope.low > bound:
        outcome, verdict = "leak", f"a leak: more than {much:g} {unit} matters"
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
        }
    )


def _longer(slope: Slope, bound: float, over: float) -> str:
    """How long it would take to decide: an interval shrinks with the time to the power of 3/2."""
    distance, half = abs(slope.value - bound), (slope.high - slope.low) / 2
    if distance <= half / 30:
        return "undecided, and too near what matters to tell"
    enough = over * (half / distance) ** (2 / 3) / (1 - SETTLING)
    return f"undecided; a window of about {enough / 60:.0f} min would tell"
