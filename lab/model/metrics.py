"""The metric table: each figure the lab reports, declared once, here.

Criteria, verdicts and reports use these names and no others. Durations are real-world
seconds (wall-clock time multiplied by ``speed``); a figure without evidence is absent,
never zero.

    Metric    a figure, or a family of figures with a name each: ``status.413``, ``status.503`` …
    StageRow  a time that many uploads have each: a mean, and ``_p50``, ``_p95``, ``_p99`` of it

It is longer than 500 lines because a table in two places is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.model.evidence import CLOUDRUN_CAUSES, NGINX_CAUSES, Cause
from lab.model.journeys import Journey

Unit = Literal["count", "seconds", "share", "per second", "cores", "bytes", "bytes per second"]


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Args:
        name: as criteria write it.
        unit: what its number counts; shares run from 0 to 1, cores are CPU-seconds a second.
        source: the evidence it is computed from.
        help: the meaning, for a reader who has not seen the code.
        members: of a family, the names of its metrics, which alone criteria may use; else empty.
        form: of a family, the regular expression of these names.
    """

    name: str
    unit: Unit
    source: str
    help: str
    members: tuple[str, ...] = ()
    form: str = ""

    @property
    def rows(self) -> tuple[Metric, ...]:
        """Itself: what it adds to the table."""
        return (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that criteria and results may have of it."""
        return self.members or (self.name,)


QUANTILES = {"_p50": 0.50, "_p95": 0.95, "_p99": 0.99}
"""The percentiles that there are of each stage: how their names end, and which quantile."""

_NTH = {"_p50": "median", "_p95": "95th percentile", "_p99": "99th percentile"}


@dataclass(frozen=True)
class StageRow:
    """A time that many requests have each, of which the table has a mean and percentiles.

    Args:
        name: of the mean; the percentiles' names are this and `QUANTILES`.
        source: the evidence.
        help: what takes the time, to follow on "mean of".
        timings: the stages of `Sample.stages` whose seconds are added up; empty for a time that
            the judge works out of other evidence.
        of: whose time it is: of ``successes`` alone, for whom something was done to its end, or of
            ``all``, because who gave up waiting has waited longest.
        journey: the one journey that has it, other than uploads, of which it is even without a
            word; None where uploads have it.
    """

    name: str
    source: str
    help: str
    timings: tuple[str, ...] = ()
    of: Literal["successes", "all"] = "successes"
    journey: Journey | None = None

    @property
    def rows(self) -> tuple[Metric, ...]:
        """The mean and the percentiles, in this order."""
        mean = Metric(self.name, "seconds", self.source, f"mean of {self.help}")
        return mean, *(
            Metric(name, "seconds", self.source, f"{_NTH[end]} of {self.help}")
            for end, name in zip(QUANTILES, self.percentiles, strict=True)
        )

    @property
    def percentiles(self) -> tuple[str, ...]:
        """The names of its percentiles."""
        return tuple(self.name + end for end in QUANTILES)


STATUS = "status."
"""The metrics that count answers by their HTTP status have names that begin so."""

NETWORK_PARTS = {
    "nginx": "nginx",
    "backend": "backend",
    "postgres": "postgres",
    "storage": "fake-gcs-server",
}
"""The parts whose bytes on the network are metrics: in their names, and as readings call them."""

OF_POOLER = "PgBouncer"
"""The source of what only a cell with knob ``pooler`` has."""

_ROWS: tuple[Metric | StageRow, ...] = (
    Metric("attempts", "count", "samples", "uploads sent in the window"),
    Metric("succeeded", "count", "samples", "of these, answered 200"),
    Metric("attempt_rate", "per second", "samples", "attempts a second of the window"),
    Metric(
        "dropped",
        "count",
        "load generator",
        "arrivals of the window that an open load's max_in_flight kept from being sent",
    ),
    Metric("error_rate", "share", "samples", "failed / attempts"),
    Metric(
        "throughput",
        "per second",
        "samples",
        "successes a second: each counts by the share of its life that lies in the window",
    ),
    Metric(
        "capacity",
        "per second",
        "Server-Timing",
        "capacity bound: slots / time a slot is held, from its own stage times",
    ),
    Metric("utilisation", "share", "samples", "throughput / capacity"),
    Metric(
        "capacity_split",
        "per second",
        "Server-Timing and workers",
        "the same with the VM's workers sharing uploads as they did: the rate at which the busiest "
        "worker's slots are full",
    ),
    Metric("utilisation_split", "share", "samples", "throughput / capacity_split"),
    Metric(
        "worker_share_max",
        "share",
        "samples and workers",
        "share of the window's uploads that the busiest of several workers had",
    ),
    Metric(
        "connections_reused",
        "share",
        "workers",
        "uploads that came to their worker over a connection that had brought it another request "
        "before, by its port, of those whose connection is known; below a tenth none is kept",
    ),
    Metric(
        "split_idle",
        "share",
        "workers",
        "share of the time for which a worker had a free slot while uploads queued at another",
    ),
    Metric("p50", "seconds", "samples", "median latency of successful uploads"),
    Metric("p95", "seconds", "samples", "95th percentile latency of successful uploads"),
    Metric("p99", "seconds", "samples", "99th percentile latency of successful uploads"),
    Metric(
        "p95_all",
        "seconds",
        "samples",
        "95th percentile latency of all uploads that were answered or timed out",
    ),
    *(
        Metric(
            f"errors.{cause}", "count", "samples", f"uploads of the window that failed with {cause}"
        )
        for cause in Cause
    ),
    Metric(
        "oversize",
        "share",
        "samples",
        "uploads whose body is above what nginx, the platform or the backend takes, of those sent: "
        "the share that errors.body_too_large is to be held against",
    ),
    Metric(
        "unseen_failures",
        "count",
        "workers",
        "uploads of the window that the service failed, but that were cut off before their "
        "client was told so",
    ),
    Metric(
        "status.NNN",
        "count",
        "samples",
        "uploads of the window that were answered with this HTTP status, from 100 to 599, whoever "
        "answered: status.200, status.413, status.503",
        members=tuple(f"{STATUS}{code}" for code in range(100, 600)),
        form=r"status\.[1-5][0-9]{2}",
    ),
    StageRow(
        "queue_wait",
        "Server-Timing",
        "the wait of successful uploads for an instance, its start-up included",
    ),
    StageRow(
        "accept_wait",
        "workers",
        "the wait from nginx's, or the gateway's, passing an upload on until its worker had it",
        of="all",
    ),
    StageRow(
        "pool_wait",
        "Server-Timing",
        "the wait for a connection, both checkouts, of failed uploads too",
        timings=("pool_wait", "pool_wait2"),
        of="all",
    ),
    StageRow(
        "auth",
        "Server-Timing",
        "the auth stage (BEGIN, SELECT) of successful uploads",
        timings=("auth",),
    ),
    StageRow(
        "release",
        "Server-Timing",
        "closing the session (ROLLBACK), likewise",
        timings=("release",),
    ),
    StageRow(
        "gcs_queue",
        "Server-Timing",
        "the wait for a thread to upload with, of failed uploads too",
        timings=("gcs_queue",),
        of="all",
    ),
    StageRow(
        "gcs_latency",
        "Server-Timing",
        "the storage call of successful uploads, its retries included",
        timings=("gcs",),
    ),
    StageRow(
        "speech_queue",
        "Server-Timing",
        "the wait for a thread to ask the speech service with, of failed assessments too",
        timings=("speech_queue",),
        of="all",
        journey=Journey.ASSESS,
    ),
    StageRow(
        "speech_latency",
        "Server-Timing",
        "the call of the speech service, of successful assessments",
        timings=("speech",),
        journey=Journey.ASSESS,
    ),
    StageRow(
        "convert_queue",
        "Server-Timing",
        "the wait for a thread to convert with, of failed conversions too",
        timings=("convert_queue",),
        of="all",
        journey=Journey.CONVERT,
    ),
    StageRow(
        "convert_time",
        "Server-Timing",
        "decoding and resampling, of successful conversions",
        timings=("convert",),
        journey=Journey.CONVERT,
    ),
    StageRow(
        "read",
        "Server-Timing",
        "the read stage (BEGIN to ROLLBACK) of successful progress requests",
        timings=("read",),
        journey=Journey.PROGRESS,
    ),
    StageRow(
        "write",
        "Server-Timing",
        "the write stage (BEGIN to COMMIT) of successful uploads",
        timings=("write",),
    ),
    StageRow(
        "wait",
        "samples",
        "what successful uploads only waited: their latency less that of their stages and of the "
        "user's uplink",
    ),
    Metric("pg_connections", "count", "pg_stat_activity", "peak of the application's backends"),
    Metric(
        "pg_lock_waiting",
        "count",
        "pg_stat_activity",
        "peak of the application's backends that waited for a lock of another",
    ),
    Metric(
        "pg_lock_share",
        "share",
        "pg_stat_activity",
        "share of the readings in which one waited for a lock",
    ),
    Metric(
        "db_query",
        "seconds",
        "pg_stat_statements",
        "mean time inside the server of the application's statements, BEGIN and COMMIT among "
        "them, since the load began: without the network, waits for locks included",
    ),
    Metric("db_query_max", "seconds", "pg_stat_statements", "the longest of these times"),
    Metric(
        "db_query_rate",
        "per second",
        "pg_stat_statements",
        "such statements a second, from the load's start until it had ended",
    ),
    Metric("pooler_clients", "count", OF_POOLER, "peak of the connections to PgBouncer"),
    Metric("pooler_waiting", "count", OF_POOLER, "peak of those that waited for Postgres"),
    Metric(
        "pooler_wait",
        "seconds",
        OF_POOLER,
        "mean wait of a transaction for a connection of Postgres', in PgBouncer",
    ),
    Metric("pooler_wait_max", "seconds", OF_POOLER, "the longest such wait that was seen"),
    Metric("db_refusals", "count", "Postgres log", "connections refused with SQLSTATE 53300"),
    Metric("pool_checked_out", "count", "workers", "peak of connections checked out, all workers"),
    Metric("pool_waiting", "count", "workers", "peak of checkouts waiting, all workers"),
    Metric(
        "pool_abandoned",
        "count",
        "workers",
        "mean of connections that are checked out and that no session has, all workers",
    ),
    Metric(
        "threads_busy", "count", "workers", "peak of threads inside a storage call, all workers"
    ),
    Metric("threads_queued", "count", "workers", "peak of storage calls waiting for a thread"),
    Metric("uploads_inflight", "count", "workers", "peak of uploads inside the workers"),
    Metric(
        "loop_busy",
        "share",
        "workers",
        "share of the time that the busiest worker's event loop was not waiting for work",
    ),
    Metric(
        "loop_stood",
        "share",
        "workers",
        "share of the time that the event loop which stood most stood in lines of the service: "
        "in calls that keep all else waiting",
    ),
    Metric("loop_lag", "seconds", "workers", "95th percentile of how late the event loop ran"),
    Metric("cpu_backend", "cores", "process times", "mean CPU of all workers"),
    Metric("cpu_worker_max", "cores", "process times", "mean CPU of the busiest worker"),
    Metric("cpu_generator", "cores", "process times", "mean CPU of the load generator"),
    Metric("cpu_machine", "share", "process times", "mean share of this machine's CPU in use"),
    Metric("rss_backend", "bytes", "process table", "peak resident memory of all workers"),
    Metric(
        "memory_backend",
        "bytes",
        "process table or engine",
        "peak memory of the backend: resident, or all that its container is charged with",
    ),
    Metric(
        "throttled_backend",
        "share",
        "engine",
        "share of the time for which its CPU quota kept the backend's processes waiting; on Cloud "
        "Run, of the instances' time",
    ),
    Metric("threads", "count", "process table", "peak of all threads of all workers"),
    Metric("fds", "count", "process table", "peak of open files and sockets of all workers"),
    Metric(
        "rss_slope",
        "bytes per second",
        "process table",
        "growth of the workers' resident memory in the steady part of the window",
    ),
    Metric(
        "connections_slope",
        "per second",
        "pg_stat_activity",
        "growth of the application's backends, likewise",
    ),
    Metric("pool_slope", "per second", "workers", "growth of abandoned connections, likewise"),
    Metric(
        "threads_slope", "per second", "process table", "growth of threads of no pool, likewise"
    ),
    Metric("fds_slope", "per second", "process table", "growth of open files, likewise"),
    Metric("gcs_attempts", "count", "workers", "HTTP requests to storage, retries included"),
    Metric(
        "gcs_failures",
        "count",
        "workers",
        "of these attempts, answered with an error (4xx, 5xx), or not at all",
    ),
    Metric(
        "gcs_retries",
        "count",
        "workers",
        "of these attempts, made because an earlier one of the same storage call had failed",
    ),
    Metric("net_to_gcs", "bytes per second", "workers", "audio sent to storage a second"),
    Metric(
        "gcs_acknowledged",
        "bytes per second",
        "workers",
        "of this, what storage answered without an error",
    ),
    *(
        Metric(
            f"net_{way}_{name}",
            "bytes per second",
            "engine",
            f"bytes that {name}'s container {verb} a second, headers of every layer included",
        )
        for name in NETWORK_PARTS
        for way, verb in (("in", "received"), ("out", "sent"))
    ),
    Metric(
        "oom_kills",
        "count",
        "stack or gateway",
        "workers killed for passing vm_memory, or instances for passing cloudrun_memory",
    ),
    Metric(
        "probe_failures",
        "count",
        "stack or gateway",
        "health probes that were not answered well in time, of all workers or instances",
    ),
    Metric(
        "probe_restarts",
        "count",
        "stack or gateway",
        "backends, or instances, that were ended because health_failures probes in a row failed",
    ),
    Metric("cold_starts", "count", "gateway", "instances started since the load began"),
    Metric("cold_start_s", "seconds", "gateway", "mean time until such an instance listened"),
    Metric("cold_start_made", "seconds", "gateway", "of that, the mean until its program ran"),
    Metric("cold_start_max", "seconds", "gateway", "the longest of these times"),
    Metric(
        "cold_uploads",
        "count",
        "Server-Timing",
        "uploads that waited while the instance that took them was starting",
    ),
    Metric("instances", "count", "gateway", "peak of the instances that started or served"),
    Metric(
        "memory_instance",
        "bytes",
        "gateway",
        "peak memory of an instance, its temporary files and page cache included",
    ),
    Metric("queue_depth", "count", "gateway", "peak of the requests that waited for an instance"),
    Metric(
        "queue_wait_refused",
        "seconds",
        "Server-Timing",
        "mean wait of the uploads that were refused with no_instance",
    ),
    Metric(
        "orphans",
        "count",
        "audit",
        "objects without a row, those of uploads still in flight not counted",
    ),
    Metric(
        "unheard",
        "count",
        "audit",
        "uploads stored, with row and object, whose client was never told so",
    ),
    Metric(
        "wasted",
        "share",
        "workers",
        "storage calls that ended in the window for clients who had given up by then, or been cut "
        "off, of all that ended in it",
    ),
    Metric("lost", "count", "audit", "uploads answered 200 whose row or object is missing"),
    Metric("lateness", "seconds", "samples", "95th percentile of sent_at - planned_at"),
)

TABLE: tuple[Metric, ...] = tuple(metric for row in _ROWS for metric in row.rows)
"""Every row, in the order in which results and reports have them."""

BY_NAME: dict[str, Metric] = {name: metric for metric in TABLE for name in metric.names}
"""The row of each name; a family's is the same for all of its members."""

STAGES: dict[str, StageRow] = {row.name: row for row in _ROWS if isinstance(row, StageRow)}
"""The times of which there are percentiles, by the name of their mean."""


def with_percentiles(*names: str) -> tuple[str, ...]:
    """These metrics, each that is a stage's mean with its percentiles after it."""
    of = {name: STAGES[name].percentiles for name in names if name in STAGES}
    return tuple(each for name in names for each in (name, *of.get(name, ())))


def status_of(name: str) -> int | None:
    """The HTTP status that a metric, of whatever journey, counts the answers of; None of others."""
    return int(name.removeprefix(STATUS)[:3]) if name.startswith(STATUS) else None


AUTHENTICATED = tuple(journey for journey in Journey if journey is not Journey.HEALTH)
"""The journeys that ask the database who somebody is."""

_STAGES_OF: Mapping[str, tuple[Journey, ...]] = {
    "accept_wait": tuple(Journey),
    **dict.fromkeys(("pool_wait", "auth", "release"), AUTHENTICATED),
    "write": (Journey.UPLOAD, Journey.ASSESS),
    **{name: (row.journey,) for name, row in STAGES.items() if row.journey},
}

OF_JOURNEYS: Mapping[str, tuple[Journey, ...]] = {
    **dict.fromkeys(
        (
            *("attempts", "succeeded", "error_rate", "throughput"),
            *("p50", "p95", "p99", "p95_all"),
            *(f"errors.{cause}" for cause in Cause),
            "unseen_failures",
            *(name for name in BY_NAME if name.startswith(STATUS)),
        ),
        tuple(Journey),
    ),
    **{each: journeys for name, journeys in _STAGES_OF.items() for each in with_percentiles(name)},
    **dict.fromkeys(("capacity", "utilisation"), (Journey.UPLOAD, Journey.ASSESS, Journey.CONVERT)),
}
"""The metrics that a criterion may ask for of a journey, as ``p95(progress)``, and of which."""

_OF_UPLOADS = ("samples", "Server-Timing")
_OF_ALL = ("lateness",)
"""The sources of figures that are of one journey, of uploads where none is named; and the figures
from there that are of whatever was sent."""

_WITH_JOURNEY = re.compile(rf"([^()]+)\(({'|'.join(Journey)})\)")

_HOMES: Mapping[str, Journey] = {
    each: row.journey
    for name, row in STAGES.items()
    if row.journey
    for each in with_percentiles(name)
}


def journeys_of(name: str) -> tuple[Journey, ...]:
    """The journeys that a metric may be asked for of; none where it is of no single one."""
    return OF_JOURNEYS.get(name, ())


def is_of_journey(name: str) -> bool:
    """Whether a metric is of one journey, so that without its requests there is no evidence."""
    return name in OF_JOURNEYS or (BY_NAME[name].source in _OF_UPLOADS and name not in _OF_ALL)


def home_of(name: str) -> Journey:
    """The journey that a metric is of where none is named: uploads, or the one that has it."""
    return _HOMES.get(name, Journey.UPLOAD)


def with_journey(name: str, journey: Journey) -> str:
    """A metric's name with its journey, ``p95(progress)``; the plain one where that says it."""
    return name if journey is home_of(name) else f"{name}({journey})"


def journey_in(name: str) -> Journey:
    """The journey of a metric's name as `with_journey` writes it."""
    with_one = _WITH_JOURNEY.fullmatch(name)
    return Journey(with_one[2]) if with_one else home_of(name)


def plain(name: str) -> str:
    """The metric of a name as `with_journey` writes it, without the journey."""
    with_one = _WITH_JOURNEY.fullmatch(name)
    return with_one[1] if with_one else name


def row_of(name: str) -> Metric | None:
    """The row of a metric, with a journey or without; None of one that is not in the table."""
    return BY_NAME.get(plain(name))


_OF_CLOUDRUN = (
    *("cold_starts", "cold_start_s", "cold_start_made", "cold_start_max", "cold_uploads"),
    *("instances", "memory_instance"),
    *("queue_depth", *with_percentiles("queue_wait"), "queue_wait_refused"),
)

_OF_WORKERS = ("capacity_split", "utilisation_split", "worker_share_max", "split_idle")

_ONLY: dict[str, Literal["vm", "cloudrun"]] = {
    **{f"errors.{cause}": "vm" for cause in NGINX_CAUSES},
    **{f"errors.{cause}": "cloudrun" for cause in CLOUDRUN_CAUSES},
    **dict.fromkeys(_OF_CLOUDRUN, "cloudrun"),
    **dict.fromkeys(_OF_WORKERS, "vm"),
}

_INSTEAD = {
    "errors.gateway_timeout": "errors.request_timeout",
    "errors.request_timeout": "errors.gateway_timeout",
    "errors.body_too_large": "errors.too_large",
    "errors.too_large": "errors.body_too_large",
    "errors.instance_died": "errors.bad_gateway",
    "memory_instance": "memory_backend",
}


def only_on(name: str) -> Literal["vm", "cloudrun"] | None:
    """The one target that has a metric; None where both have it."""
    return _ONLY.get(name)


def nearest_elsewhere(name: str) -> str | None:
    """The metric of the other target that comes nearest to one which only one has; None: none."""
    return _INSTEAD.get(name)
