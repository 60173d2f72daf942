"""The metric table: each figure the lab reports, declared once, here.

Criteria, verdicts and reports use these names and no others. Durations are real-world
seconds (wall-clock time multiplied by ``speed``); a figure without evidence is absent,
never zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.model.evidence import CLOUDRUN_CAUSES, NGINX_CAUSES, Cause

Unit = Literal["count", "seconds", "share", "per second", "cores", "bytes", "bytes per second"]


@dataclass(frozen=True)
class Metric:
    """A row of the table.

    Args:
        name: as criteria write it.
        unit: what its number counts; shares run from 0 to 1, cores are CPU-seconds a second.
        source: the evidence it is computed from.
        help: the meaning, for a reader who has not seen the code.
    """

    name: str
    unit: Unit
    source: str
    help: str


OF_POOLER = "PgBouncer"
"""The source of what only a cell with knob ``pooler`` has."""

TABLE: tuple[Metric, ...] = (
    Metric("attempts", "count", "samples", "uploads sent in the window"),
    Metric("succeeded", "count", "samples", "of these, answered 200"),
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
        "unseen_failures",
        "count",
        "workers",
        "uploads of the window that the service failed, but that were cut off before their "
        "client was told so",
    ),
    Metric(
        "auth",
        "seconds",
        "Server-Timing",
        "mean of the auth stage (BEGIN, SELECT) of successful uploads",
    ),
    Metric(
        "release",
        "seconds",
        "Server-Timing",
        "mean of closing the session (ROLLBACK), likewise",
    ),
    Metric(
        "write",
        "seconds",
        "Server-Timing",
        "mean of the write stage (BEGIN to COMMIT), likewise",
    ),
    Metric(
        "accept_wait",
        "seconds",
        "workers",
        "mean wait from nginx's, or the gateway's, passing an upload on until its worker had it",
    ),
    Metric("pool_wait", "seconds", "Server-Timing", "mean wait for a connection, both checkouts"),
    Metric("gcs_queue", "seconds", "Server-Timing", "mean wait for a thread to upload with"),
    Metric(
        "gcs_latency",
        "seconds",
        "Server-Timing",
        "mean of the storage call of successful uploads, its retries included",
    ),
    Metric("pg_connections", "count", "pg_stat_activity", "peak of the application's backends"),
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
    Metric("threads_slope", "per second", "process table", "growth of the threads, likewise"),
    Metric("fds_slope", "per second", "process table", "growth of open files, likewise"),
    Metric(
        "wait",
        "seconds",
        "samples",
        "mean of what successful uploads only waited: their latency less that of their stages and "
        "of the user's uplink",
    ),
    Metric("wait_p95", "seconds", "samples", "95th percentile of these waits"),
    Metric("gcs_attempts", "count", "workers", "HTTP requests to storage, retries included"),
    Metric("net_to_gcs", "bytes per second", "workers", "audio sent to storage a second"),
    Metric(
        "oom_kills",
        "count",
        "stack or gateway",
        "workers killed for passing vm_memory, or instances for passing cloudrun_memory",
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
        "queue_wait",
        "seconds",
        "Server-Timing",
        "mean wait of successful uploads for an instance, its start-up included",
    ),
    Metric("queue_wait_p95", "seconds", "Server-Timing", "95th percentile of these waits"),
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
    Metric("lost", "count", "audit", "uploads answered 200 whose row or object is missing"),
    Metric("lateness", "seconds", "samples", "95th percentile of sent_at - planned_at"),
)

BY_NAME: dict[str, Metric] = {metric.name: metric for metric in TABLE}

_OF_CLOUDRUN = (
    *("cold_starts", "cold_start_s", "cold_start_made", "cold_start_max", "cold_uploads"),
    *("instances", "memory_instance"),
    *("queue_depth", "queue_wait", "queue_wait_p95", "queue_wait_refused"),
)

_ONLY: dict[str, Literal["vm", "cloudrun"]] = {
    **{f"errors.{cause}": "vm" for cause in NGINX_CAUSES},
    **{f"errors.{cause}": "cloudrun" for cause in CLOUDRUN_CAUSES},
    **dict.fromkeys(_OF_CLOUDRUN, "cloudrun"),
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
