"""A trial over time, put together: stages, series, where limits were crossed, what failed.

Figures over time, in bins so wide that no trial has more than `POINTS` of them.

Each stage of a load in stages, judged as a cell of its own would be.

A stage owns the uploads that were sent in it, its ramp included, however long they took; it
has its own readings. Its rate counts, as a cell's does, each success by the share of its
life that lies in the stage.

Where a criterion's bound was crossed first: when, and at how many users.

A percentile, or a share of failures, is looked at in a window that slides over the uploads in
the order in which they were sent. Each look asks what `lab.judge.criteria` asks of a whole
cell: is the share of bad ones above what the criterion allows, for certain? Because there
are many looks, each must be as many times more certain (Bonferroni, over the windows that do
not overlap), so a trial that never crosses is said to cross in at most one of twenty. What is
read or counted (connections, kills) is crossed by the first reading above the bound.

What failed, in the order in which it first showed, and at how many users.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import ceil, inf

from lab.judge.criteria import decide, outcome_of
from lab.judge.metrics import (
    DIGITS,
    PEAKS,
    PERCENTILES,
    latencies,
    measure,
    running_sum,
    successes,
    throughput,
)
from lab.judge.statistics import DOUBT, complement, quantile
from lab.judge.trial import Window, kills, readings, restricted, sent_in_window, window_of
from lab.judge.users import stage_spans, users_at, users_when
from lab.model.criterion import Criterion
from lab.model.evidence import DatabaseReading, Observation, PartDown, Sample, WorkerReading
from lab.model.experiment import Cell
from lab.model.load import BurstLoad, StagesLoad, end_of
from lab.model.verdict import POINTS, Crossing, Failure, Series, StageResult, Timeline


def course(cell: Cell, observation: Observation) -> Timeline:
    """Everything that is said of a cell over time; stages only of a load that has them."""
    return Timeline(
        stages=stages(cell, observation),
        series=series(cell, observation),
        crossings=crossings(cell, observation),
        failures=failures(cell, observation),
    )


BINS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a bin, in real-world seconds; the last serves a trial of twelve days."""

SPAN = 20
"""The window that p95 is taken of is at least this part of the trial."""

FEWEST_IN_BIN = 5
"""Uploads below which a window has no p95."""


def series(cell: Cell, observation: Observation) -> Series:
    """The cell's figures over time, from the load's start to its last answer."""
    samples = sorted(observation.samples, key=lambda sample: sample.sent_at)
    end = max([_last_sent(cell), *(s.sent_at + s.latency_s for s in samples)])
    width = _width(end / POINTS)
    count = max(1, ceil(end / width))
    window = max(width, _width(end / SPAN))
    good = successes(samples)
    bad = [sample for sample in samples if sample.error is not None]
    inflight = _inflight(samples)
    ends = [(index + 1) * width for index in range(count)]
    workers = readings(WorkerReading, observation.evidence)

    def peak(of: Callable[[WorkerReading], float]) -> list[int | None]:
        return _peaks(running_sum(workers, of, cell.knobs.speed), width, count)

    database = readings(DatabaseReading, observation.evidence)
    return Series(
        start=0.0,
        bin_s=width,
        window_s=window,
        users=[users_at(cell.load, t - width / 2, inflight(t - width / 2)) for t in ends],
        sent=_rates([s.sent_at for s in samples], width, count),
        answered=_rates([s.sent_at + s.latency_s for s in good], width, count),
        errors=_rates([s.sent_at + s.latency_s for s in bad], width, count),
        p95=_p95(good, ends, window),
        pg_connections=_peaks(((r.t, r.connections) for r in database), width, count),
        pool_checked_out=peak(lambda reading: reading.checked_out),
        uploads_inflight=peak(lambda reading: reading.inflight),
    )


def _last_sent(cell: Cell) -> float:
    return 1.0 if isinstance(cell.load, BurstLoad) else end_of(cell.load)


def _width(least: float) -> float:
    return float(next((width for width in BINS_S if width >= least), BINS_S[-1]))


def _inflight(samples: Sequence[Sample]) -> Callable[[float], int]:
    """How many uploads were sent and not yet answered at a moment."""
    sent = sorted(sample.sent_at for sample in samples)
    ended = sorted(sample.sent_at + sample.latency_s for sample in samples)
    return lambda t: bisect_right(sent, t) - bisect_right(ended, t)


def _bin(t: float, width: float, count: int) -> int | None:
    index = int(t // width)
    return min(index, count - 1) if 0 <= t <= count * width else None


def _rates(times: Iterable[float], width: float, count: int) -> list[float]:
    found = [0] * count
    for t in times:
        index = _bin(t, width, count)
        if index is not None:
            found[index] += 1
    return [round(number / width, 3) for number in found]


def _peaks(seen: Iterable[tuple[float, float]], width: float, count: int) -> list[int | None]:
    found: list[int | None] = [None] * count
    for t, value in seen:
        index = _bin(t, width, count)
        if index is not None:
            found[index] = max(found[index] or 0, int(value))
    return found


def _p95(good: Sequence[Sample], ends: Sequence[float], window: float) -> list[float | None]:
    """By the time of sending, as everywhere: a slow answer belongs to the load that it met."""
    sent = [sample.sent_at for sample in good]
    found: list[float | None] = []
    for end in ends:
        part = good[bisect_left(sent, end - window) : bisect_left(sent, end)]
        ordered = sorted(sample.latency_s for sample in part)
        found.append(round(quantile(ordered, 0.95), 3) if len(ordered) >= FEWEST_IN_BIN else None)
    return found


KEPT = (
    *("attempts", "succeeded", "error_rate", "throughput", "p50", "p95"),
    *("pg_connections", "pool_checked_out", "uploads_inflight", "loop_busy"),
)
"""The metrics that a stage keeps, beside those that its criteria are about and its failures."""


def stages(cell: Cell, observation: Observation) -> tuple[StageResult, ...]:
    """A result a stage, in order; empty for a load without stages."""
    if not isinstance(cell.load, StagesLoad):
        return ()
    spans = zip(cell.load.stages, stage_spans(cell.load), strict=True)
    return tuple(
        _stage(cell, observation, index, stage.users, span)
        for index, (stage, span) in enumerate(spans)
        if span[1] > span[0]
    )


def _stage(
    cell: Cell, observation: Observation, index: int, users: int, span: Window
) -> StageResult:
    part = restricted(observation, span)
    metrics = measure(cell, part)
    if "throughput" in metrics:
        metrics["throughput"] = round(throughput(cell, observation, span), DIGITS)
    findings = [decide(criterion, cell, part, metrics) for criterion in cell.criteria]
    kept = {*KEPT, *(criterion.metric for criterion in cell.criteria)}
    return StageResult(
        index=index,
        users=users,
        start=span[0],
        end=span[1],
        outcome=outcome_of(findings, len(sent_in_window(cell, part))),
        reasons=tuple(one.reason for one in findings if one.outcome != "met"),
        metrics={
            name: value
            for name, value in metrics.items()
            if name in kept or (name.startswith("errors.") and value)
        },
    )


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


def failures(cell: Cell, observation: Observation) -> tuple[Failure, ...]:
    """Each cause of failed uploads, memory kills and dead parts: first to come first.

    A time-out comes a minute after the upload that it fails was sent; the order is that of
    coming, the users are those of sending, whose load it was that failed.
    """
    by_cause: dict[str, list[Sample]] = defaultdict(list)
    for sample in observation.samples:
        if sample.error is not None:
            by_cause[str(sample.error)].append(sample)
    found = [_uploads(cell, observation, cause, failed) for cause, failed in by_cause.items()]
    if killed := kills(observation.evidence):
        found.append(_event(cell, observation, "oom_kill", killed[0], len(killed)))
    for line in observation.evidence:
        if isinstance(line, PartDown):
            found.append(_event(cell, observation, line.part, line.t, 1))
    return tuple(sorted(found, key=lambda one: (one.t, one.cause)))


def _uploads(cell: Cell, observation: Observation, cause: str, failed: list[Sample]) -> Failure:
    first = min(failed, key=lambda sample: sample.sent_at + sample.latency_s)
    came = first.sent_at + first.latency_s
    users = users_when(cell, observation, first.sent_at)
    return Failure(cause=cause, t=round(came, 3), users=users, count=len(failed))


def _event(cell: Cell, observation: Observation, cause: str, t: float, count: int) -> Failure:
    return Failure(cause=cause, t=t, users=users_when(cell, observation, t), count=count)
