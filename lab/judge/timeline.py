"""A trial over time: its stages, its figures by the second, what was crossed and failed when.

    stages      each stage of a load in stages, judged as a cell of its own would be
    series      figures in bins so wide that no trial has more than `POINTS` of them
    crossings   where a criterion's bound was crossed first: when, and at how many users
    failures    what failed, in the order in which it first showed, and at how many users

A stage owns the uploads that were sent in it, its ramp included, however long they took; it
has its own readings. Its rate counts, as a cell's does, each success by the share of its
life that lies in the stage.

A percentile, or a share of failures, is looked at in a window that slides over the uploads in
the order in which they were sent. Each look asks what `lab.judge.criteria` asks of a whole
cell: is the share of bad ones above what the criterion allows, for certain? Because there
are many looks, each must be as many times more certain (Bonferroni, over the windows that do
not overlap), so a trial that never crosses is said to cross in at most one of twenty. What is
read or counted (connections, kills) is crossed by the first reading above the bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from math import ceil, inf

from lab.judge.criteria import decide, outcome_of
from lab.judge.metrics import judged, latencies, measure_all
from lab.judge.readings import PEAKS, running_sum
from lab.judge.statistics import growth, mean, p95
from lab.judge.trial import Trial, successes
from lab.model.criterion import Criterion
from lab.model.evidence import PartDown, Sample, WorkerReading
from lab.model.load import BurstLoad, StagesLoad, Window, end_of
from lab.model.metrics import status_of
from lab.model.physics import ALPHA, PERCENTILES, allowed_share, quantile
from lab.model.readings import DatabaseReading
from lab.model.verdict import POINTS, Crossing, Failure, Series, StageResult, Timeline

BINS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Widths of a bin, in real-world seconds; the last serves a trial of twelve days."""

P95_PARTS = 20
"""The window that p95 is taken of is at least this part of the trial."""

MIN_FOR_P95 = 5
"""Uploads below which a window has no p95."""

KEPT = (
    *("attempts", "succeeded", "error_rate", "throughput", "p50", "p95"),
    *("pg_connections", "pool_checked_out", "uploads_inflight", "loop_busy"),
)
"""The metrics that a stage keeps, beside those that its criteria are about and its failures."""

MIN_UPLOADS = 20
"""Uploads that a window in which a bound is crossed holds at least."""

PARTS = 30
"""A window is at least this part of the trial, so that many uploads a second do not make it blind
to a share only a little too high."""

UPWARD = ("<", "<=", "==")
"""The comparisons whose bound is crossed from below."""


def timeline(trial: Trial) -> Timeline:
    """Everything that is said of a trial over time; stages only of a load that has them."""
    return Timeline(
        stages=stages(trial),
        series=series(trial),
        crossings=crossings(trial),
        failures=failures(trial),
    )


def stages(trial: Trial) -> tuple[StageResult, ...]:
    """A result a stage, in order; empty for a load without stages, and without those of no time."""
    load = trial.cell.load
    if not isinstance(load, StagesLoad):
        return ()
    spans = zip(load.stages, load.spans, strict=True)
    return tuple(
        _stage(trial.restricted(span), index, stage.users)
        for index, (stage, span) in enumerate(spans)
        if span[1] > span[0]
    )


def _stage(part: Trial, index: int, users: int) -> StageResult:
    criteria = part.cell.criteria
    findings = [decide(criterion, part) for criterion in criteria]
    kept = {*KEPT, *(criterion.name for criterion in criteria)}
    return StageResult(
        index=index,
        users=users,
        start=part.window[0],
        end=part.window[1],
        outcome=outcome_of(findings, len(part.main.sent)),
        reasons=tuple(finding.reason for finding in findings if finding.outcome != "met"),
        metrics={
            name: value
            for name, value in measure_all(part).items()
            if name in kept or (name.startswith("errors.") and value)
        },
    )


def series(trial: Trial) -> Series:
    """The trial's figures over time, from the load's start to its last answer."""
    load = trial.load
    samples = sorted(trial.samples, key=lambda sample: sample.sent_at)
    last_sent = 1.0 if isinstance(load, BurstLoad) else end_of(load)
    end = max([last_sent, *(s.sent_at + s.latency_s for s in samples)])
    bins = _Bins(_width(end / POINTS), end)
    window = max(bins.width, _width(end / P95_PARTS))
    good = successes(samples)
    workers, database = trial.evidence(WorkerReading), trial.evidence(DatabaseReading)
    counted = [reading for reading in database if reading.lock_waiting is not None]

    def peaks(gauge: str) -> list[int | None]:
        return bins.peaks(running_sum(workers, PEAKS[gauge], trial.knobs.speed))

    def in_state(state: str) -> list[int | None]:
        """A transaction that has failed is one in which nothing is done, too."""
        return bins.peaks(
            (r.t, sum(n for name, n in r.states.items() if name.partition(" (")[0] == state))
            for r in counted
        )

    return Series(
        start=0.0,
        bin_s=bins.width,
        window_s=window,
        users=[trial.users_at(t - bins.width / 2) for t in bins.ends],
        sent=bins.rates(s.sent_at for s in samples),
        answered=bins.rates(s.sent_at + s.latency_s for s in good),
        errors=bins.rates(s.sent_at + s.latency_s for s in samples if s.error is not None),
        p95=_p95(good, bins.ends, window),
        pg_connections=bins.peaks((r.t, r.connections) for r in database),
        pool_checked_out=peaks("pool_checked_out"),
        uploads_inflight=peaks("uploads_inflight"),
        cpu_backend=bins.shares(_cpu(workers), bins.width / trial.knobs.speed),
        rss_backend=peaks("rss_backend"),
        loop_lag=bins.highest((r.t, r.loop_lag) for r in workers),
        threads_busy=peaks("threads_busy"),
        gcs_latency=_storage(good, bins.ends, window),
        pg_active=in_state("active"),
        pg_idle=in_state("idle"),
        pg_in_transaction=in_state("idle in transaction"),
        loop_busy=_loop_busy(workers, bins, trial.knobs.speed),
        anyio_busy=_anyio_busy(workers, bins, trial.knobs.speed),
        **_at_gateway(trial, bins),
    )


def _width(at_least: float) -> float:
    return float(next((width for width in BINS_S if width >= at_least), BINS_S[-1]))


class _Bins:
    """So many stretches of time of one width, from the load's start to its last answer."""

    def __init__(self, width: float, end: float) -> None:
        self.width = width
        self.count = max(1, ceil(end / width))
        self.ends = [(index + 1) * width for index in range(self.count)]

    def rates(self, times: Iterable[float]) -> list[float]:
        """How many events there were a second, bin by bin."""
        counts = [0] * self.count
        for t in times:
            if (index := self._index(t)) is not None:
                counts[index] += 1
        return [round(count / self.width, 3) for count in counts]

    def peaks(self, values: Iterable[tuple[float, float]]) -> list[int | None]:
        """The largest count bin by bin; None where there is none."""
        return [None if value is None else int(value) for value in self.highest(values)]

    def highest(self, values: Iterable[tuple[float, float]]) -> list[float | None]:
        """The largest value bin by bin; None where there is none."""
        highest: list[float | None] = [None] * self.count
        for t, value in values:
            if (index := self._index(t)) is not None:
                highest[index] = max(highest[index] or 0, value)
        return highest

    def shares(self, amounts: Iterable[tuple[float, float]], of: float) -> list[float | None]:
        """What there was of something bin by bin, as a share; None where nothing tells."""
        sums: list[float | None] = [None] * self.count
        for t, amount in amounts:
            if (index := self._index(t)) is not None:
                sums[index] = (sums[index] or 0.0) + amount
        return [None if amount is None else round(amount / of, 3) for amount in sums]

    def standing(self, values: Iterable[tuple[float, int]]) -> list[int | None]:
        """The largest count bin by bin, of one that stands until the next is told."""
        highest: list[int | None] = [None] * self.count
        stood: int | None = None
        told = sorted(values)
        first = 0
        for index, end in enumerate(self.ends):
            after = bisect_left(told, (end,))
            new = [value for _, value in told[first:after]]
            highest[index] = max((*new, *([] if stood is None else [stood])), default=None)
            stood, first = new[-1] if new else stood, after
        return highest

    def parts(self, start: float, end: float) -> Iterator[tuple[int, float]]:
        """The bins that a stretch of time lies in, with the seconds of it in each."""
        first, last = (int(t // self.width) for t in (max(start, 0.0), end))
        for index in range(first, min(last, self.count - 1) + 1):
            inside = min(end, (index + 1) * self.width) - max(start, index * self.width)
            if inside > 0:
                yield index, inside

    def _index(self, t: float) -> int | None:
        inside = 0 <= t <= self.count * self.width
        return min(int(t // self.width), self.count - 1) if inside else None


def _lives(workers: Iterable[WorkerReading]) -> dict[int, list[WorkerReading]]:
    """The readings of each worker."""
    lives: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in workers:
        lives[reading.pid].append(reading)
    return lives


def _cpu(workers: Iterable[WorkerReading]) -> Iterator[tuple[float, float]]:
    """CPU-seconds that each worker used until each of its readings, since the one before."""
    for life in _lives(workers).values():
        yield from ((now.t, growth((last.cpu_s, now.cpu_s))) for last, now in pairwise(life))


def _loop_busy(workers: Iterable[WorkerReading], bins: _Bins, speed: float) -> list[float | None]:
    """The share of each bin for which the busiest loop was busy: from reading to reading, as a held
    loop's own readings come late."""
    busiest: list[float | None] = [None] * bins.count
    for life in _lives(workers).values():
        busy: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for last, now in pairwise(life):
            if last.loop_busy_s is None or now.loop_busy_s is None or now.t <= last.t:
                continue
            share = growth((last.loop_busy_s, now.loop_busy_s)) * speed / (now.t - last.t)
            for index, seconds in bins.parts(last.t, now.t):
                busy[index][0] += min(1.0, share) * seconds
                busy[index][1] += seconds
        for index, (amount, seconds) in busy.items():
            busiest[index] = max(busiest[index] or 0.0, round(amount / seconds, 3))
    return busiest


def _anyio_busy(workers: Sequence[WorkerReading], bins: _Bins, speed: float) -> list[int | None]:
    if any(reading.anyio_busy is None for reading in workers):
        return []
    return bins.peaks(running_sum(workers, lambda reading: reading.anyio_busy or 0, speed))


def _at_gateway(trial: Trial, bins: _Bins) -> dict[str, list[int | None]]:
    """What the gateway had, bin by bin; nothing on the VM."""
    readings = trial.gateway_readings
    if not readings:
        return {}
    return {
        "gateway_queue": bins.standing((r.t, r.queue) for r in readings),
        "gateway_inflight": bins.standing((r.t, r.in_flight) for r in readings),
        "instances": bins.standing((r.t, r.ready) for r in readings),
    }


def _p95(good: Sequence[Sample], ends: Sequence[float], window: float) -> list[float | None]:
    def of(part: Sequence[Sample]) -> float | None:
        return p95(sample.latency_s for sample in part) if len(part) >= MIN_FOR_P95 else None

    return _sliding(of, good, ends, window)


def _storage(good: Sequence[Sample], ends: Sequence[float], window: float) -> list[float | None]:
    def of(part: Sequence[Sample]) -> float | None:
        return mean(sample.stages["gcs"] for sample in part if "gcs" in sample.stages)

    return _sliding(of, good, ends, window)


def _sliding(
    of: Callable[[Sequence[Sample]], float | None],
    good: Sequence[Sample],
    ends: Sequence[float],
    window: float,
) -> list[float | None]:
    """A figure of the uploads of a window that slides over them.

    By the time of sending, as everywhere: a slow answer belongs to the load that it met.
    """
    sent = [sample.sent_at for sample in good]
    values = (of(good[bisect_left(sent, end - window) : bisect_left(sent, end)]) for end in ends)
    return [None if value is None else round(value, 3) for value in values]


def crossings(trial: Trial) -> tuple[Crossing, ...]:
    """The criteria that were crossed, in the order in which they were."""
    upward = [criterion for criterion in trial.cell.criteria if criterion.op in UPWARD]
    pairs = [(criterion, trial.of(criterion.journey)) for criterion in upward]
    crossed = [crossing for criterion, of in pairs if (crossing := _crossing(criterion, of))]
    return tuple(sorted(crossed, key=lambda crossing: crossing.t))


def _crossing(criterion: Criterion, trial: Trial) -> Crossing | None:
    if allowed_share(criterion) is not None:
        return _of_share(criterion, trial)
    for t, value in _over_time(criterion.metric, trial):
        if value > criterion.bound or (value == criterion.bound and criterion.op == "<"):
            return _crossed(criterion, trial, (t, t), t, value)
    return None


def _crossed(
    criterion: Criterion,
    trial: Trial,
    stretch: Window,
    t: float,
    value: float,
    samples: int | None = None,
) -> Crossing:
    since, until = stretch
    users_at = trial.users_at if samples is None else partial(_users_sending, trial)
    return Crossing(
        criterion=str(criterion),
        t=round(t, 3),
        users=users_at(until),
        since=round(since, 3),
        since_users=users_at(since),
        value=round(value, 6),
        samples=samples,
    )


def _over_time(metric: str, trial: Trial) -> Iterator[tuple[float, float]]:
    """A metric over time, where it is one that is read or counted, of what the verdict is of."""
    if metric in PEAKS:
        yield from running_sum(trial.workers, PEAKS[metric], trial.knobs.speed)
    elif metric == "pg_connections":
        yield from ((reading.t, reading.connections) for reading in trial.database)
    elif metric == "oom_kills":
        yield from ((t, number) for number, t in enumerate(trial.kills, start=1))
    elif metric.startswith("errors."):
        cause = metric.removeprefix("errors.")
        failed = sorted(sample.sent_at for sample in trial.failed_of(cause))
        yield from ((t, number) for number, t in enumerate(failed, start=1))
    elif status := status_of(metric):
        answered = sorted(sample.sent_at for sample in trial.sent if sample.status == status)
        yield from ((t, number) for number, t in enumerate(answered, start=1))


def _of_share(criterion: Criterion, trial: Trial) -> Crossing | None:
    """The first window in which the share of bad uploads is certainly above what is allowed."""
    timeout, allowed = trial.timeout, allowed_share(criterion) or 0.0
    of = sorted(judged(criterion, trial.sent, timeout), key=lambda pair: pair[0].sent_at)
    uploads = [sample for sample, _ in of]
    before = [0, *accumulate(bad for _, bad in of)]  # bad ones among the first so many
    looks = max(1, min(PARTS, ceil(len(uploads) / MIN_UPLOADS)))
    for first, last in _windows(uploads):
        if _certainly_above(before[last] - before[first], last - first, allowed, ALPHA / looks):
            window = uploads[first:last]
            bad_ones = [sample for sample, bad in of[first:last] if bad]
            stretch = (bad_ones[0].sent_at, window[-1].sent_at)
            t = max(stretch[1], *(_known(criterion, sample) for sample in bad_ones))
            value = len(bad_ones) / len(window)
            if p := PERCENTILES.get(criterion.metric):
                value = quantile(latencies(window, criterion.metric, timeout), p)
            return _crossed(criterion, trial, stretch, t, value, len(window))
    return None


def _known(criterion: Criterion, sample: Sample) -> float:
    """When an upload was known to be bad: a failure when it came, a slow one at the bound."""
    late = criterion.bound if criterion.metric in PERCENTILES else inf
    return sample.sent_at + min(sample.latency_s, late)


def _windows(uploads: Sequence[Sample]) -> Iterator[tuple[int, int]]:
    """Begin and end of the stretch that each next upload ends: 20, or a part of the trial."""
    times = [sample.sent_at for sample in uploads]
    first = 0
    for end in range(MIN_UPLOADS, len(times) + 1):
        length = (times[-1] - times[0]) / PARTS
        while end - first > MIN_UPLOADS and times[end - 1] - times[first] > length:
            first += 1
        yield first, end


def _certainly_above(bad: int, of: int, allowed: float, alpha: float) -> bool:
    """Whether so many bad ones come with a chance below ``alpha`` if the share were as allowed."""
    if bad == 0 or allowed <= 0:
        return bad > 0
    from scipy.special import bdtrc  # slow to import; many commands never judge

    return bool(bdtrc(bad - 1, of, min(allowed, 1.0)) <= alpha)


def failures(trial: Trial) -> tuple[Failure, ...]:
    """Each cause of failed uploads, memory kills, restarts by a probe and dead parts: first to come
    first.

    A time-out comes a minute after the upload that it fails was sent; the order is that of
    coming, the users are those of sending, whose load it was that failed.
    """
    by_cause: dict[str, list[Sample]] = defaultdict(list)
    for sample in trial.samples:
        if cause := trial.cause_of(sample):
            by_cause[str(cause)].append(sample)
    failed = []
    for name, samples in by_cause.items():
        first = min(samples, key=lambda sample: sample.sent_at + sample.latency_s)
        t, users = round(first.sent_at + first.latency_s, 3), _users_sending(trial, first.sent_at)
        failed.append(Failure(cause=name, t=t, users=users, count=len(samples)))
    if trial.kills:
        failed.append(_of_part(trial, "oom_kill", trial.kills[0], len(trial.kills)))
    if restarts := trial.probes("ended"):
        failed.append(_of_part(trial, "probe_restart", restarts[0].t, len(restarts)))
    failed += [_of_part(trial, down.part, down.t, 1) for down in trial.evidence(PartDown)]
    return tuple(sorted(failed, key=lambda failure: (failure.t, failure.cause)))


def _users_sending(trial: Trial, t: float) -> int:
    """Users when an upload was sent at ``t``, its own included: at 0 a ramp has its first one.

    Those of a burst send at once, however long the generator takes to write it all.
    """
    load = trial.cell.load
    return load.burst if isinstance(load, BurstLoad) else max(1, trial.users_at(t))


def _of_part(trial: Trial, cause: str, t: float, count: int) -> Failure:
    return Failure(cause=cause, t=t, users=trial.users_at(t), count=count)
