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
matters is held against a bound (`BOUNDS`): *leak* is all above it, *none* all below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from lab.judge.trial import Window, kills, readings
from lab.model.evidence import DatabaseReading, Observation, WorkerReading
from lab.model.experiment import Cell
from lab.model.load import ClosedLoad, OpenLoad
from lab.model.verdict import Leak

LEAST_S = 300.0
"""The shortest window, in real-world seconds, of which anything is said: a service that began
a minute ago grows whether it leaks or not."""

SETTLING = 1 / 3
BATCHES = 20
FEWEST_LEFT = 3.0
"""However alike neighbours are, so many batches count as independent: one degree of freedom."""

BOUNDS = {
    "rss_slope": 1e6 / 60,
    "connections_slope": 1 / 600,
    "threads_slope": 1 / 600,
    "fds_slope": 1 / 600,
}
"""What matters in practice, a second: 1 MB a minute fills an instance of 256 MiB within an
afternoon; one connection in ten minutes fills 25 slots in one too."""

WHAT = {
    "rss_slope": ("memory", "MB a minute", 60 / 1e6),
    "connections_slope": ("database connections", "an hour", 3600.0),
    "threads_slope": ("threads", "an hour", 3600.0),
    "fds_slope": ("open files", "an hour", 3600.0),
}
"""In words: what grows, the unit that people read, and how many of it one a second are."""

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Slope:
    """A slope a second and its two-sided 95 % confidence interval."""

    low: float
    value: float
    high: float


def leaks(cell: Cell, observation: Observation) -> tuple[Leak, ...]:
    """A statement for each figure that was read; none of a load that is short, or not steady.

    After a worker, or an instance, was killed for its memory nothing is said: what replaced it
    began anew.
    """
    load = cell.load
    if not isinstance(load, ClosedLoad | OpenLoad) or load.window < LEAST_S:
        return ()
    if kills(observation.evidence):
        return ()
    start, end = load.measured
    window = (start + SETTLING * (end - start), end)
    found = []
    for metric, series in _figures(observation, window).items():
        if slope := fit(series, window):
            found.append(_statement(metric, slope, window))
    return tuple(found)


def fit(series: Sequence[Points], window: Window) -> Slope | None:
    """The slope of readings over time; None without readings, or where a batch has none.

    Args:
        series: readings of each worker, which are summed: time in seconds, and the figure.
        window: where the batches begin and end.
    """
    found = [_batches(points, window) for points in series]
    if not found or not all(found):
        return None
    ys = [fsum(batch) for batch in zip(*found, strict=True)]
    x_step, y_mean = (window[1] - window[0]) / BATCHES, _mean(ys)
    xs = [(index - (BATCHES - 1) / 2) * x_step for index in range(BATCHES)]
    spread = fsum(x * x for x in xs)
    slope = fsum(x * y for x, y in zip(xs, ys, strict=True)) / spread
    rest = [y - y_mean - slope * x for x, y in zip(xs, ys, strict=True)]
    unexplained = fsum(r * r for r in rest)
    if unexplained <= 1e-18 * max(1.0, y_mean * y_mean):
        return Slope(slope, slope, slope)
    left = _independent(rest, unexplained)
    half = _t_quantile(left - 2) * sqrt(unexplained / (left - 2) / spread)
    return Slope(slope - half, slope, slope + half)


def _batches(points: Points, window: Window) -> list[float]:
    """The mean of each batch; empty where one has no reading."""
    start, end = window
    parts: list[list[float]] = [[] for _ in range(BATCHES)]
    for t, value in points:
        if start <= t <= end:
            parts[min(BATCHES - 1, int((t - start) / (end - start) * BATCHES))].append(value)
    return [_mean(part) for part in parts] if all(parts) else []


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _independent(rest: Sequence[float], unexplained: float) -> float:
    """How many independent batches these residuals are worth."""
    lag = fsum(a * b for a, b in zip(rest[1:], rest[:-1], strict=True)) / unexplained
    lag = min(0.99, max(0.0, lag + (1 + 4 * lag) / BATCHES))
    return max(FEWEST_LEFT, BATCHES * (1 - lag) / (1 + lag))


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit  # slow to import; many commands never judge

    return float(stdtrit(freedom, 0.975))


def _figures(observation: Observation, window: Window) -> dict[str, list[Points]]:
    """What is looked at, over time, by worker, where it was read."""
    workers = readings(WorkerReading, observation.evidence, window)
    database = readings(DatabaseReading, observation.evidence, window)

    def by_worker(of: Callable[[WorkerReading], float | None]) -> list[Points]:
        found: dict[int, Points] = {reading.pid: [] for reading in workers}
        for reading in workers:
            if (value := of(reading)) is not None:
                found[reading.pid].append((reading.t, value))
        return list(found.values())

    return {
        "rss_slope": by_worker(lambda reading: reading.rss),
        "connections_slope": [[(reading.t, reading.connections) for reading in database]],
        "threads_slope": by_worker(lambda reading: reading.threads),
        "fds_slope": by_worker(lambda reading: reading.fds),
    }


def _statement(metric: str, slope: Slope, window: Window) -> Leak:
    bound, over = BOUNDS[metric], window[1] - window[0]
    name, unit, factor = WHAT[metric]
    low, value, high, much = (x * factor for x in (slope.low, slope.value, slope.high, bound))
    measured = f"{name} grew by {value:.2f} {unit} ({low:.2f} .. {high:.2f} at 95 %)"
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
    """How long it would take to tell: an interval shrinks with the time to the power of 3/2."""
    distance, half = abs(slope.value - bound), (slope.high - slope.low) / 2
    if distance <= half / 30:
        return "undecided, and too near what matters to tell"
    enough = over * (half / distance) ** (2 / 3) / (1 - SETTLING)
    return f"undecided; a window of about {enough / 60:.0f} min would tell"
