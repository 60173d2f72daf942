"""A verdict: what the evidence says of a cell, and why.

    outcome       held, broke, undecided or invalid
    findings      each criterion against the evidence
    checks        what was injected against what was measured
    bottleneck    what the uploads that missed a criterion waited for or failed by, with evidence
    timeline      by stage, by second, where each bound was crossed, and what failed when
    spreads       how well the figures are known that cells are compared by
    stood         the lines in which the event loop stood, and for how much of the time
    leaks         a slope with its confidence interval, and a bound, in a long trial

Times are real-world seconds after the load started. An upload belongs to the moment at
which it was *sent*, and to the number of users there were then; it is followed to its end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lab.model.base import Count, Elapsed, Frozen, Moment, Number, Sum, Total
from lab.model.costs import TrialCost
from lab.model.criterion import Criterion
from lab.model.distribution import Latencies, SizeClass, TimeSpent
from lab.model.times import TrialTimes


def _readable(text: str) -> str:
    """A criterion as a spec writes it.

    Raises:
        ValueError: it is none.
    """
    Criterion.parse(text)
    return text


CriterionText = Annotated[str, AfterValidator(_readable)]
"""A criterion in words, as a spec writes it: ``p95 < 10 s``."""


class Outcome(StrEnum):
    """``held`` and ``broke`` are results; the other two say that there is none."""

    HELD = "held"
    BROKE = "broke"
    UNDECIDED = "undecided"  #: too little evidence
    INVALID = "invalid"  #: the lab itself was the limit, or a part died


class Resource(StrEnum):
    """What can make uploads late or fail, and the two answers that name no resource.

    Of storage and database it is the time that they take, however few wait for them.
    """

    EVENT_LOOP = "event_loop"
    DEFAULT_EXECUTOR = "default_executor"
    OWN_THREADS = "own_threads"
    SPEECH_THREADS = "speech_threads"
    AUDIO_THREADS = "audio_threads"
    ANYIO_THREADS = "anyio_threads"
    POOL = "pool"
    POOL_LEAK = "pool_leak"
    DATABASE_SLOTS = "database_slots"
    POOLER = "pooler"
    BODY_LIMIT = "body_limit"
    PROXY_TIMEOUT = "proxy_timeout"
    NGINX_CONNECTIONS = "nginx_connections"
    ACCEPT_QUEUE = "accept_queue"
    RATE_LIMIT = "rate_limit"
    BACKPRESSURE = "backpressure"
    INSTANCE_QUEUE = "instance_queue"
    MEMORY = "memory"
    HEALTH_PROBE = "health_probe"
    CPU = "cpu"
    WORKER_SPLIT = "worker_split"
    STORAGE = "storage"
    DATABASE = "database"
    SPEECH = "speech"
    NONE = "none"  #: nothing was at its limit
    UNCLEAR = "unclear"  #: two or more compete: the evidence does not tell their shares apart


class Candidate(Frozen):
    """One resource, held against the evidence.

    Args:
        resource: which.
        level: how near it was to its limit in the mean, 1 being there: evidence, not the test.
        at_limit: whether it was full with a queue, turned uploads away, or is named as the limit.
        evidence: a phrase.
        waited: its share, from 0 to 1, of the seconds by which uploads were late; where what is
            missed is a rate, of those for which they waited. None where there were none, and in
            verdicts of an earlier lab.
    """

    resource: Resource
    level: Number
    at_limit: bool
    evidence: str
    waited: Number | None = None


class Bottleneck(Frozen):
    """The answer, its evidence in words, and every resource that was looked at.

    Those at their limit come first, then the fullest.
    """

    resource: Resource
    evidence: str
    candidates: tuple[Candidate, ...] = ()


class Stood(Frozen):
    """A line of the service in which the event loop stood, and everything else waited.

    Args:
        place: the line, by its file in the service's folder, with the function that it called, or
            that it is in: ``services/audio_upload.py:96 upload_from_string``.
        share: of the time, from 0 to 1.
    """

    place: str
    share: Number


class Leak(Frozen):
    """The growth of one figure in the steady part of a trial.

    Args:
        metric: the slope's name in the metric table, as ``rss_slope``.
        outcome: ``leak``: even the lower end is above the bound; ``none``: even the upper end is
            below it; ``undecided`` between.
        slope: growth in the metric's unit (a second).
        low: lower end of its 95 % confidence interval.
        high: upper end.
        bound: growth that matters in practice.
        over_s: how many real-world seconds it was looked at.
        reason: the same as a sentence.
        what: what it is that leaks, by all that grew; empty where nothing does.
    """

    metric: str
    outcome: Literal["leak", "none", "undecided"]
    slope: Number
    low: Number
    high: Number
    bound: Number
    over_s: Moment
    reason: str
    what: str = ""


POINTS = 300
"""The most points that a series has."""


class StageResult(Frozen):
    """One stage of a load in stages, judged as a cell is: its metrics, and what it missed.

    ``users`` is what the stage goes to, ``start`` and ``end`` are its ramp's begin and its
    hold's end.
    """

    index: Count
    users: Count
    start: Moment
    end: Moment
    outcome: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, Number]


class Series(Frozen):
    """Figures over time, each a list with a value a bin; None where nothing was measured.

    Bin i runs from ``start + i * bin_s`` for ``bin_s`` seconds. By bin: ``users`` at its end,
    ``sent``, ``answered`` (successes, when their answer came) and ``errors`` (failures, when
    they came) a second, ``p95`` of the successes sent in the ``window_s`` seconds up to the
    bin's end, and the peaks of ``pg_connections``, ``pool_checked_out`` and ``uploads_inflight``.
    Of the workers ``cpu_backend``, the cores that all of them used, and the peaks of their
    ``rss_backend``, of ``loop_lag``, of the latest loop, and of ``threads_busy``; ``gcs_latency``,
    the mean of the storage calls of the same successes as ``p95``; and the peaks of the
    application's backends by what Postgres says that they do: ``pg_active``, ``pg_idle`` and
    ``pg_in_transaction`` (idle in one). ``loop_busy`` is the share of the bin for which the busiest
    worker's event loop was not waiting for work, ``anyio_busy`` the peak of anyio's threads in
    use; of Cloud Run's gateway ``gateway_queue`` and ``gateway_inflight`` are the most requests
    that waited for an instance and that instances had, and ``instances`` the most that were ready.
    Those of these that an earlier lab did not store are empty.
    """

    start: Moment
    bin_s: Annotated[float, Field(gt=0, le=1e7)]
    window_s: Elapsed
    users: list[Count]
    sent: list[Total]
    answered: list[Total]
    errors: list[Total]
    p95: list[Total | None]
    pg_connections: list[Sum | None]
    pool_checked_out: list[Sum | None]
    uploads_inflight: list[Sum | None]
    cpu_backend: list[Total | None] = []
    rss_backend: list[Sum | None] = []
    loop_lag: list[Total | None] = []
    threads_busy: list[Sum | None] = []
    gcs_latency: list[Total | None] = []
    pg_active: list[Sum | None] = []
    pg_idle: list[Sum | None] = []
    pg_in_transaction: list[Sum | None] = []
    loop_busy: list[Total | None] = []
    anyio_busy: list[Sum | None] = []
    gateway_queue: list[Sum | None] = []
    gateway_inflight: list[Sum | None] = []
    instances: list[Sum | None] = []


class Crossing(Frozen):
    """Where a criterion's bound was crossed first.

    Args:
        criterion: as the spec writes it.
        t: when the evidence sufficed to say so: the last upload of the stretch that shows it
            was sent, and the bad ones were known to be; or one reading shows it.
        users: how many there were when the last upload of the stretch was sent, or then.
        since: when the first bad upload of the stretch was sent; equal to ``t`` where one
            reading shows it.
        since_users: how many users there were then.
        value: the metric of that stretch, in its own unit.
        samples: how many uploads the stretch holds; None where a reading shows it.
    """

    criterion: CriterionText
    t: Moment
    users: Count
    since: Moment
    since_users: Count
    value: Number
    samples: Count | None = None


class Failure(Frozen):
    """A way to fail, and when it first showed.

    Args:
        cause: the uploads' cause, ``oom_kill``, ``probe_restart``, or the part that went down.
        t: when the first such failure came.
        users: how many users there were when that upload was sent.
        count: how many there were in all.
    """

    cause: str
    t: Moment
    users: Count
    count: Count


class Timeline(Frozen):
    """All that is said of a trial over time; ``failures`` are in the order in which they came."""

    stages: tuple[StageResult, ...] = ()
    series: Series | None = None
    crossings: tuple[Crossing, ...] = ()
    failures: tuple[Failure, ...] = ()


class WorkerShare(Frozen):
    """One of several workers of the VM beside the others, in the window; shares from 0 to 1.

    Args:
        worker: its number, as `lab.model.evidence.UploadRecord.worker`.
        uploads: that were sent and that it had.
        share: of all such uploads.
        rate: its part of the throughput, in successes a second.
        busy: the mean share of its slots for storage calls in use.
        queued: the share of the time for which uploads queued at it.
        idle: the share of the time for which it had a free slot while uploads queued at another.
    """

    worker: Count
    uploads: Count
    share: Number
    rate: Number
    busy: Number
    queued: Number
    idle: Number


class Spread(Frozen):
    """How well a figure of one trial is known: what cells are compared by.

    Args:
        error: its standard error; of a time relative to it, else in its own unit.
        batches: stretches of the window that it was worked out from; they are what its degrees of
            freedom follow from.
        effective: of a share, how many independent uploads it is worth.
    """

    error: Number
    batches: Annotated[int, Field(ge=2, le=10**6)]
    effective: Total | None = None


Tendency = Literal["better", "worse", "no difference", "unclear"]
"""What a comparison comes to; ``unclear`` where nothing is known of how well figures are known."""


class Change(Frozen):
    """A figure of a cell beside the same of its baseline.

    Args:
        metric: with its journey: ``p95``, ``p95(progress)``.
        kind: whether it is their ratio that is told, or, of shares, their difference.
        value: of the cell.
        baseline: of the baseline.
        change: the ratio, or the difference.
        low: lower end of its 95 % confidence interval; None where that could not be told.
        high: upper end.
        tendency: what that comes to, from how the criteria, or the metric, would have it.
    """

    metric: str
    kind: Literal["ratio", "difference"]
    value: Number
    baseline: Number
    change: Number
    low: Number | None = None
    high: Number | None = None
    tendency: Tendency


class Flip(Frozen):
    """A criterion of which a cell and its baseline came to different outcomes."""

    criterion: CriterionText
    before: Literal["met", "missed", "undecided"]
    after: Literal["met", "missed", "undecided"]


class Comparison(Frozen):
    """A cell beside its baseline.

    Args:
        baseline: the baseline's id.
        changes: a figure each; none where figures are not compared.
        flips: criteria that came out differently.
        limit: what the limit was at the baseline, and what it is here; None where it is the same,
            or one of them is not known.
        why_not: why figures are not compared; empty where they are.
    """

    baseline: str
    changes: tuple[Change, ...] = ()
    flips: tuple[Flip, ...] = ()
    limit: tuple[Resource, Resource] | None = None
    why_not: str = ""


class EarlyEnd(Frozen):
    """A window that ended before its time, because every criterion was certain.

    Args:
        uploads: of the window that had been answered when they were.
        after_s: how far into the window that was, in real-world seconds.
        window_s: how long the window was then: until the load generator had heard of it.
        planned_s: how long it was to be.
    """

    uploads: Count
    after_s: Moment
    window_s: Moment
    planned_s: Moment

    def __str__(self) -> str:
        return (
            f"decided after {self.uploads} uploads, {self.after_s:.0f} s of {self.planned_s:.0f} s"
        )


class Finding(Frozen):
    """One criterion against the evidence.

    ``value`` is None where nothing was measured; ``low`` and ``high`` are the one-sided 95 %
    bounds of what was tested, where the criterion is statistical, and the ends between which a
    figure lies of which not all could be seen. A statistical criterion says that of ``samples``
    uploads at most a share ``allowed`` may be on the wrong side of its bound; ``beyond`` counts
    those that are. ``certain_after`` is of a window that ended early: the uploads after which the
    outcome was certain by a test that may be looked at repeatedly (`lab.model.evalues`).
    """

    criterion: CriterionText
    outcome: Literal["met", "missed", "undecided"]
    value: Number | None
    low: Number | None = None
    high: Number | None = None
    samples: Count | None = None
    beyond: Count | None = None
    allowed: Number | None = None
    certain_after: Count | None = None
    reason: str


InvalidityKind = Literal[
    "speed",  # what the lab itself does takes too much of it: a lower one is true
    "machine",  # other programs had too much of this machine
    "generator",  # the load generator was late
    "part",  # a part, or an instance, died or stood still, and no planned fault did it
    "standstill",  # nobody looked for too long
    "clock",  # this machine's clock was set
    "injection",  # what was injected is not what arrived
    "evidence",  # something is missing, or samples and evidence contradict each other
    "descriptors",  # a part had no file descriptor left
    "space",  # a part had no room left to write to
    "defect",  # the replica did what it must never do
]
"""What kind of reason makes a cell invalid: by it is decided whether another attempt may help."""


class Invalidity(Frozen):
    """A reason why a cell shows nothing.

    Args:
        kind: by which is decided whether it is measured again.
        reason: the same as a sentence.
        fitting: the highest speed, in halves, at which it would not have come to this, by the
            cell's own figures; None where no speed has a say, or none would do.
    """

    kind: InvalidityKind
    reason: str
    fitting: Annotated[float | None, Field(ge=1, le=1000)] = None


class Check(Frozen):
    """What was injected against what was measured; ``ok`` is None where there was too little.

    Where it is False, ``kind`` and ``fitting`` are those of the `Invalidity` that follows.
    """

    name: str
    expected: str
    measured: Number | None
    ok: bool | None
    reason: str
    kind: InvalidityKind = "injection"
    fitting: Annotated[float | None, Field(ge=1, le=1000)] = None


class Verdict(Frozen):
    """What is stored as ``verdict.json``: metrics, checks, findings and the outcome.

    ``reasons`` are sentences for people, the deciding one first; where the cell is invalid,
    ``invalid`` has those for which it is, by kind. ``limit`` is None where the cell is invalid,
    and the last are as by default in a verdict that an earlier lab stored. ``decided`` is None
    where the window went on to its end. ``cost`` is what an upload cost this machine; None where
    that could not be told. ``workers`` is empty where there are not several; ``sizes`` are the
    uploads by size of file, none where all files were of one size; ``spreads`` are by metric.
    ``times`` are what a search for a capacity reads of it: None of other loads than a closed one.
    ``time_spent`` and ``latencies`` are of what the load is about.
    """

    # pylint: disable=duplicate-code # a table: `lab.model.run.CellResult` has it on disk too
    cell: str
    outcome: Outcome
    reasons: tuple[str, ...]
    metrics: dict[str, Number]
    findings: tuple[Finding, ...]
    injected: tuple[Check, ...]
    limit: Bottleneck | None = None
    course: Timeline | None = None
    leaks: tuple[Leak, ...] = ()
    decided: EarlyEnd | None = None
    cost: TrialCost | None = None
    invalid: tuple[Invalidity, ...] = ()
    stood: tuple[Stood, ...] = ()
    workers: tuple[WorkerShare, ...] = ()
    sizes: tuple[SizeClass, ...] = ()
    spreads: dict[str, Spread] = {}
    times: TrialTimes | None = None
    time_spent: tuple[TimeSpent, ...] = ()
    latencies: Latencies | None = None
