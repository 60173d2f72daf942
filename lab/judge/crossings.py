"""Where a criterion's bound was crossed first: when, and at how many users.

A percentile, or a share of failures, is looked at in a window that slides over the uploads in
the order in which they were sent. Each look asks what `lab.judge.criteria` asks of a whole
cell: is the share of bad ones above what the criterion allows, for certain? Because there
are many looks, each must be as many times more certain (Bonferroni, over the windows that do
not overlap), so a trial that never crosses is said to cross in at most one of twenty. What is
read or counted (connections, kills) is crossed by the first reading above the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import ceil, inf

from lab.judge.readings import PEAKS, running_sum
from lab.judge.samples import PERCENTILES, latencies
from lab.judge.statistics import DOUBT, complement, quantile
from lab.judge.users import users_when
from lab.judge.window import kills, readings, sent_in_window, window_of
from lab.model.cell import Cell
from lab.model.course import Crossing
from lab.model.criterion import Criterion
from lab.model.observation import DatabaseReading, Observation, Sample, WorkerReading

FEWEST = 20
"""Uploads that a window holds at least."""

PARTS = 30
"""A window is at least this part of the trial, so that many uploads a second do not make it blind
to a share only a little too high."""

UPWARD = ("<", "<=", "==")
"""The comparisons whose bound is crossed from below."""


def crossings(cell: Cell, observation: Observation) -> tuple[Crossing, ...]:
    """The criteria that were crossed, in the order in which they were."""
    found = [
        crossing
        for criterion in cell.criteria
        if criterion.op in UPWARD and (crossing := _crossing(criterion, cell, observation))
    ]
    return tuple(sorted(found, key=lambda one: one.t))


def _crossing(criterion: Criterion, cell: Cell, observation: Observation) -> Crossing | None:
    if criterion.metric in PERCENTILES or criterion.metric == "error_rate":
        return _by_share(criterion, cell, observation)
    for t, value in _seen(criterion.metric, cell, observation):
        if value > criterion.bound or (value == criterion.bound and criterion.op == "<"):
            return _at(criterion, cell, observation, (t, t), t, value)
    return None


def _at(
    criterion: Criterion,
    cell: Cell,
    observation: Observation,
    stretch: tuple[float, float],
    t: float,
    value: float,
    samples: int | None = None,
) -> Crossing:
    since, until = stretch
    return Crossing(
        criterion=str(criterion),
        t=round(t, 3),
        users=users_when(cell, observation, until),
        since=round(since, 3),
        since_users=users_when(cell, observation, since),
        value=round(value, 6),
        samples=samples,
    )


def _seen(metric: str, cell: Cell, observation: Observation) -> Iterator[tuple[float, float]]:
    """A metric over time, where it is one that is read or counted, of what the verdict is of."""
    window = window_of(cell, observation)
    if metric in PEAKS:
        workers = readings(WorkerReading, observation.evidence, window)
        yield from running_sum(workers, PEAKS[metric], cell.knobs.speed)
    elif metric == "pg_connections":
        for reading in readings(DatabaseReading, observation.evidence, window):
            yield reading.t, reading.connections
    elif metric == "oom_kills":
        yield from ((t, number) for number, t in enumerate(kills(observation.evidence), start=1))
    elif metric.startswith("errors."):
        cause = metric.removeprefix("errors.")
        failed = [s.sent_at for s in sent_in_window(cell, observation) if s.error == cause]
        yield from ((t, number) for number, t in enumerate(sorted(failed), start=1))


def _by_share(criterion: Criterion, cell: Cell, observation: Observation) -> Crossing | None:
    """The first window in which the share of bad uploads is certainly above what is allowed."""
    bad, counts, allowed = _claim(criterion, cell)
    uploads = [s for s in sent_in_window(cell, observation) if counts(s)]
    uploads.sort(key=lambda sample: sample.sent_at)
    before = [0, *accumulate(map(bad, uploads))]  # bad ones among the first so many
    looks = max(1, min(PARTS, ceil(len(uploads) / FEWEST)))
    for first, last in _windows(uploads):
        number, of = before[last] - before[first], last - first
        if _certainly_above(number, of, allowed, DOUBT / looks):
            window = uploads[first:last]
            value = _value(criterion, cell, window)
            bad_ones = [sample for sample in window if bad(sample)]
            stretch = (bad_ones[0].sent_at, window[-1].sent_at)
            t = max(stretch[1], *(_known(criterion, sample) for sample in bad_ones))
            return _at(criterion, cell, observation, stretch, t, value, len(window))
    return None


def _known(criterion: Criterion, sample: Sample) -> float:
    """When an upload was known to be bad: a failure when it came, a slow one at the bound."""
    late = criterion.bound if criterion.metric in PERCENTILES else inf
    return sample.sent_at + min(sample.latency_s, late)


def _claim(
    criterion: Criterion, cell: Cell
) -> tuple[Callable[[Sample], bool], Callable[[Sample], bool], float]:
    """Which uploads are bad, which count, and the share of bad ones that is allowed."""
    if criterion.metric == "error_rate":
        return lambda s: s.error is not None, lambda s: True, criterion.bound
    allowed, bound = complement(PERCENTILES[criterion.metric]), criterion.bound

    def bad(sample: Sample) -> bool:
        return bool(latencies(cell, [sample], criterion.metric)[0] >= bound)

    return bad, lambda s: bool(latencies(cell, [s], criterion.metric)), allowed


def _windows(uploads: Sequence[Sample]) -> Iterator[tuple[int, int]]:
    """Begin and end of the stretch that each next upload ends: 20, or a part of the trial."""
    times = [sample.sent_at for sample in uploads]
    first = 0
    for end in range(FEWEST, len(times) + 1):
        length = (times[-1] - times[0]) / PARTS
        while end - first > FEWEST and times[end - 1] - times[first] > length:
            first += 1
        yield first, end


def _certainly_above(bad: int, of: int, allowed: float, doubt: float) -> bool:
    """Whether so many bad ones come with a chance below ``doubt`` if the share were as allowed."""
    if bad == 0:
        return False
    if allowed <= 0:
        return True
    from scipy.special import bdtrc  # slow to import; many commands never judge

    return bool(bdtrc(bad - 1, of, min(allowed, 1.0)) <= doubt)


def _value(criterion: Criterion, cell: Cell, window: Sequence[Sample]) -> float:
    if criterion.metric == "error_rate":
        return sum(sample.error is not None for sample in window) / len(window)
    return quantile(latencies(cell, window, criterion.metric), PERCENTILES[criterion.metric])
