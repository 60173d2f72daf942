"""What more than one room takes for true of a replica, and of what samples can show.

    an upload      auth ─> release ─> storage call ─> write       round trips, service time
    its places     connections, threads, event loop               slots
    its evidence   percentiles, shares, the chance of error      order statistics

All of it is pure, and in real-world seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, fsum, inf, log

from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.fault import Fault, Latency
from lab.model.journeys import Journey
from lab.model.knobs import Knobs
from lab.model.replica import POOLER_PATIENCE_S, nginx_limits, pooled

DB_TRIPS = {"auth": 2, "release": 1, "write": 4}
"""An upload's round trips to the database by stage: BEGIN, SELECT; ROLLBACK; BEGIN, INSERT,
UPDATE, COMMIT."""

READ_TRIPS = 3
"""Round trips of a journey that only asks who somebody is, and perhaps what is theirs: BEGIN,
SELECT; ROLLBACK."""

CHECKOUTS = 2
"""How often an upload takes a connection from the pool; one whose session is held, once."""

PING_TRIPS, CONNECT_TRIPS = 1, 4
"""Round trips of a checkout that tries a connection (SELECT 1, in autocommit), and of one that
opens one: SSLRequest, the start-up message, and two of SCRAM-SHA-256 (RFC 5802); measured. That
of TCP itself is not delayed by Toxiproxy."""

SATURATED = 0.90
"""Share of its time for which something is in use from which on it counts as full.

Of an event loop, a core, or slots: below, something else limits what a worker carries, for in a
closed network the busiest station alone sets the rate once there are many more users than
stations (asymptotic bounds; Lazowska et al., Quantitative System Performance, 1984, ch. 5). Of
the generator's one core: from there on it sends late.
"""

STORAGE_TIMEOUT_S, STORAGE_RETRY_S = 60.0, 120.0
"""Seconds after which the storage client gives up on an attempt, and makes no other one."""

ALPHA = 0.05
"""The chance that a one-sided bound is on the wrong side of the truth."""

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "p95_all": 0.95}
"""The metrics that are a quantile of latencies, and which one."""

STATISTICAL = frozenset({"throughput", "error_rate", *PERCENTILES})
"""The figures that are known no better than their scatter over a window says; counts and means are
as they are."""


def db_trips(knobs: Knobs) -> dict[str, int]:
    """Round trips by stage, as an upload makes them at these knobs.

    A session that is held is not released in between, so its transaction goes on: there is no
    ROLLBACK, and no BEGIN to write.
    """
    if knobs.db_session == "release":
        return DB_TRIPS
    return {"auth": DB_TRIPS["auth"], "write": DB_TRIPS["write"] - 1}


def checkout_trips(knobs: Knobs) -> int:
    """Round trips of a checkout that waits for nobody: to try the connection, or to open one."""
    if knobs.pool_class == "NullPool":
        return CONNECT_TRIPS
    return PING_TRIPS if knobs.pool_pre_ping == "on" else 0


def service_s(cell: Cell) -> float:
    """Seconds of an upload that waits for nobody: storage, and all of the database's round trips.

    A guess from above: a session that is held makes two round trips less, and one checkout.
    """
    trips = sum(DB_TRIPS.values()) + CHECKOUTS * checkout_trips(cell.knobs)
    return cell.knobs.gcs_latency.mean + trips * cell.knobs.db_rtt.mean


def request_s(cell: Cell, journey: Journey) -> float:
    """Seconds of a request of a journey that waits for nobody, but for what computing takes."""
    if journey is Journey.UPLOAD:
        return service_s(cell)
    trips = sum(DB_TRIPS.values()) if journey is Journey.ASSESS else READ_TRIPS
    speech = cell.knobs.speech_latency.mean if journey is Journey.ASSESS else 0.0
    return speech + (trips * cell.knobs.db_rtt.mean if journey is not Journey.HEALTH else 0.0)


def attempt_s(cell: Cell) -> float:
    """The same of whatever a user sends, as a mean over the load's mix."""
    shares = cell.load.shares.items()
    return fsum(share * request_s(cell, journey) for journey, share in shares)


def max_processes(cell: Cell) -> int:
    """Processes that can serve at once: workers of the VM, or of all of Cloud Run's instances."""
    if cell.target == "vm":
        return cell.knobs.workers
    return cell.knobs.cloudrun_max_instances * cell.knobs.cloudrun_workers


def worker_storage_slots(cell: Cell) -> int:
    """Uploads that can be inside a storage call at once in one process."""
    if cell.target == "vm":
        return cell.storage_slots // cell.knobs.workers
    return cell.knobs.instance_worker_slots


def at_once(cell: Cell, threads: int) -> int:
    """Of so many threads of one process, those that requests can be in at once: an instance of
    Cloud Run is given no more than its concurrency."""
    return threads if cell.target == "vm" else min(threads, cell.knobs.cloudrun_concurrency)


def pool_connections(knobs: Knobs) -> float:
    """Connections that one process's pool may have out at once; infinite without a limit.

    A pool that keeps none (``NullPool``) has none, nor has one whose overflow is unlimited.
    """
    if knobs.pool_class == "NullPool" or knobs.max_overflow is None:
        return inf
    return knobs.pool_size + knobs.max_overflow


def upload_slots(cell: Cell) -> int:
    """Uploads that can be inside a storage call at once: threads, or connections held for them.

    A held session's transaction goes on meanwhile, so PgBouncer has lent it a connection.
    """
    slots, connections = cell.storage_slots, max_processes(cell) * pool_connections(cell.knobs)
    if pooled(cell.knobs):
        connections = min(connections, cell.knobs.pooler_size)
    held = cell.knobs.db_session == "hold"
    return int(connections) if held and connections < slots else slots


def quantile(ordered: Sequence[float], p: float) -> float:
    """The p-quantile: the smallest value that a share p of the samples does not exceed.

    This is the order statistic of rank ceil(p n), the inverse of the empirical
    distribution (type 1 of Hyndman and Fan, 1996): always a value that was measured.
    """
    # 0.95 * 20 is 19.000000000000004 in binary: a share is written with few decimals.
    return ordered[max(1, ceil(round(p * len(ordered), 9))) - 1]


def complement(p: float) -> float:
    """1 - p as it is written: 0.05 for 0.95, where binary floats leave 0.050000000000000044."""
    return round(1 - p, 9)


def bounds_of_others(cell: Cell) -> list[Criterion]:
    """The criteria on how long other journeys than uploads take."""
    return [
        criterion
        for criterion in cell.criteria
        if criterion.metric in PERCENTILES and criterion.journey is not Journey.UPLOAD
    ]


def allowed_share(criterion: Criterion) -> float | None:
    """The share of uploads that a criterion lets be on the wrong side of its bound.

    ``error_rate < 5 %`` allows 0.05 of them to fail, ``p95 < 10 s`` allows 0.05 of them to take
    10 s or more. None where the criterion is no claim about a share.
    """
    if criterion.metric == "error_rate":
        return criterion.bound
    p = PERCENTILES.get(criterion.metric)
    return None if p is None else complement(p)


def countable_share(criterion: Criterion, timeout: float) -> float | None:
    """The share of uploads that may be on the wrong side of a criterion's bound, where a number
    of uploads can show whether they are.

    ``p95 > 10 s`` allows 0.95 of them to take less. None of a claim of equality, of one that allows
    none or all to be wrong, of what is no share, and of a bound beyond the client's ``timeout``
    where those that timed out count, for on which side of it they are nobody knows.
    """
    share = allowed_share(criterion)
    beyond = criterion.metric == "p95_all" and criterion.bound > timeout
    if share is None or not 0 < share < 1 or criterion.op == "==" or beyond:
        return None
    return complement(share) if criterion.op in (">", ">=") else share


def longest_timeout(cell: Cell) -> float:
    """The longest that an upload, or what it holds in the service, can wait for a time-out.

    A user has an answer after the client's time-out, or the proxy's, which runs from when the
    user's line has carried the file. A checkout from the pool gives up after its own, and so does
    PgBouncer on a client that waits for a connection of Postgres'. Storage does
    where something can keep it from answering: the client library gives up on an attempt after 60 s
    and makes no new one after 120 s (google-cloud-storage's DEFAULT_RETRY).
    """
    knobs, load = cell.knobs, cell.load
    line = load.audio.high / load.uplink if load.uplink else 0.0
    proxy = nginx_limits(knobs).read_s if cell.target == "vm" else knobs.cloudrun_timeout
    pool = knobs.pool_timeout if knobs.pool_class == "QueuePool" else 0.0
    pooler = POOLER_PATIENCE_S if pooled(knobs) else 0.0
    stalls = any(_may_stall(fault, knobs) for fault in cell.faults if fault.proxy == "gcs")
    storage = STORAGE_RETRY_S + STORAGE_TIMEOUT_S if stalls else 0.0
    return max(min(load.timeout, line + proxy), pool, pooler, storage)


def _may_stall(fault: Fault, knobs: Knobs) -> bool:
    """Whether storage behind this fault may take longer than its client waits, or fail."""
    return fault.down or any(
        toxic.span(knobs).high >= STORAGE_TIMEOUT_S if isinstance(toxic, Latency) else True
        for toxic in fault.toxics
    )


def straight_successes(bound: float) -> int:
    """Samples, none of them bad, that it takes to show that the share of bad ones is below a bound.

    Of n without a bad one the upper 95 % bound of the share is 1 - 0.05^(1/n) (Clopper and
    Pearson, 1934): 59 for a bound of 5 %, 299 for 1 %.

    Args:
        bound: strictly between 0 and 1.
    """
    return ceil(log(ALPHA) / log(1 - bound))
