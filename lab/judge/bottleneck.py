"""The rules of the bottleneck: how near each resource was to its limit, and what would name it.

    rules ─> candidates ─> `lab.judge.decision` ─> one answer

A resource can be full because another is: Postgres refuses connections, so pools cannot fill; a
core is used up, so the event loop is late. A level is evidence, not the test: what uploads were
late for, or failed by, names the limit, and a rule says which waits, failures and figures are its
resource's.

A rule is a function of a `Trial`, and `rule` says all that is to be known of it beside. To add
one, write it here; its resource is a member of `lab.model.verdict.Resource`, since it is stored.
It is longer than 500 lines because the rules are a table, in whose order they are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from lab.judge import pooler, threads
from lab.judge.gateway import places_taken, queued_share
from lab.judge.levels import (
    QUEUED,
    Level,
    abandoned_level,
    database_in_loop,
    fullness,
    instances,
    loop_of,
    of_attempts,
    refusals,
    served,
    share_of,
    slots_level,
    storage_in_loop,
    times,
)
from lab.judge.pooler_level import pooler_level
from lab.judge.probes import probed
from lab.judge.split import split_level
from lab.judge.trial import Trial
from lab.judge.waiting import WAITS, Station
from lab.model.evidence import Cause
from lab.model.journeys import Journey
from lab.model.metrics import with_percentiles
from lab.model.physics import SATURATED, pool_connections
from lab.model.relaxation import (
    EVEN_SPLIT,
    FREE_LOOP,
    LARGER_POOL,
    MORE_CPU,
    MORE_EXECUTOR,
    MORE_INSTANCES,
    MORE_MEMORY,
    MORE_SLOTS,
    MORE_THREADS,
    NEARER_DATABASE,
    NEARER_SPEECH,
    NEARER_STORAGE,
    NO_BACKPRESSURE,
    NO_BODY_LIMIT,
    NO_LEAK,
    NO_PROBE,
    NO_RATE_LIMIT,
    NO_TIMEOUT,
    Relaxation,
    doubled,
)
from lab.model.replica import nginx_limits
from lab.model.units import format_size, percent
from lab.model.verdict import Candidate, Resource

ACCEPTED_S = 0.1
"""The shortest mean wait to be accepted that is worth a word."""

OF_LOOP = ("loop_busy", "loop_stood", "loop_lag", "accept_wait")
OF_THREADS = ("gcs_queue", "threads_busy", "threads_queued")
OF_QUERIES = ("auth", "release", "write", "read")
OF_INSTANCES = (
    *("queue_depth", "queue_wait", "queue_wait_refused", "instances"),
    *("cold_starts", "cold_start_s", "cold_start_made", "cold_start_max", "cold_uploads"),
)
"""The metrics of the event loop, storage's threads, the database's round trips, and Cloud Run's
instances and their queue."""

Examine = Callable[[Trial], Level | None]
"""Looks at a trial; None where the resource is not there, or was not read."""


@dataclass(frozen=True)
class Rule:
    """All that is to be known of a resource.

    Args:
        resource: which.
        examine: says how near it was to its limit.
        causes: the failures that name it as what made them.
        stations: where uploads are while they wait for it, or while it serves them.
        metrics: the figures that are its own, a stage's percentiles with its mean: a missed
            criterion on one names it.
        explains: what is full because it is.
        relaxation: how there is more of it, and of nothing else; None where nobody can give it
            more, as of the kernel's queue.
    """

    resource: Resource
    examine: Examine
    causes: tuple[Cause, ...] = ()
    stations: tuple[Station, ...] = ()
    metrics: tuple[str, ...] = ()
    explains: tuple[Resource, ...] = ()
    relaxation: Relaxation | None = None

    @property
    def queue(self) -> bool:
        """Whether uploads queue for it; the others turn uploads away, or take their time."""
        return any(station in WAITS for station in self.stations)

    def candidate(self, trial: Trial) -> Candidate | None:
        """The resource, held against the evidence."""
        level = self.examine(trial)
        return level and Candidate(resource=self.resource, **level._asdict())


Rules = dict[Resource, Rule]
RULES: Rules = {}
"""Every rule; of two that are as full the first is named first."""


def rule(
    resource: Resource,
    *,
    causes: tuple[Cause, ...] = (),
    stations: tuple[Station, ...] = (),
    metrics: tuple[str, ...] = (),
    explains: tuple[Resource, ...] = (),
    relaxation: Relaxation | None = None,
    into: Rules = RULES,
) -> Callable[[Examine], Examine]:
    """Registers a function as the rule of a resource; see `Rule`."""

    def register(examine: Examine) -> Examine:
        own = with_percentiles(*metrics)
        into[resource] = Rule(resource, examine, causes, stations, own, explains, relaxation)
        return examine

    return register


# The rules.


@rule(Resource.EVENT_LOOP, relaxation=FREE_LOOP, stations=(Station.LOOP,), metrics=OF_LOOP)
def event_loop(trial: Trial) -> Level | None:
    """One a worker, and whatever runs in it keeps everything else waiting.

    ``loop_busy`` of the busiest worker, less what it stood still in a checkout for: a loop that
    waits for a connection is as blocked as one at work, but the pool, or Postgres that refuses,
    is why. One with a single upload inside keeps nobody waiting.
    """
    loops = [loop for life in trial.peak.by_worker if (loop := loop_of(trial, life))]
    if not loops:
        return None
    busiest = max(loops, key=lambda loop: loop.own)
    evidence = f"event loop busy {percent(busiest.busy)}"
    parts = {"storage": storage_in_loop(trial), "database": database_in_loop(trial)}
    if any(parts.values()):
        held = (f"{name} {seconds:.2f} s an upload" for name, seconds in parts.items() if seconds)
        evidence += f" ({', '.join(held)})"
    if busiest.busy - busiest.own >= 0.05:
        evidence += f", {percent(busiest.busy - busiest.own)} of the time in wait for a connection"
    evidence += "".join(
        f", {percent(row.share)} of the time in {row.place}" for row in trial.peak.stood[:1]
    )
    accepted = trial.metrics.get("accept_wait", 0.0)
    if accepted >= ACCEPTED_S:
        evidence += f", uploads waited {accepted:.1f} s in the mean to be accepted"
    return Level(busiest.own, busiest.own >= SATURATED and busiest.inside > 1, evidence)


@rule(
    Resource.DEFAULT_EXECUTOR,
    relaxation=MORE_EXECUTOR,
    stations=(Station.THREADS,),
    metrics=OF_THREADS,
)
def default_executor(trial: Trial) -> Level | None:
    """min(32, cores + 4) threads a worker that ``gcs_call: to_thread`` shares.

    ``threads_busy`` against the executor's threads, and ``threads_queued`` in front of it.
    """
    is_used = trial.knobs.gcs_call == "to_thread"
    return threads.of_storage(trial, "default executor") if is_used else None


@rule(
    Resource.OWN_THREADS, relaxation=MORE_THREADS, stations=(Station.THREADS,), metrics=OF_THREADS
)
def own_threads(trial: Trial) -> Level | None:
    """The pool that storage calls have to themselves, or that of audio conversion.

    ``threads_busy`` against gcs_threads or audio_threads, and ``threads_queued``. Where recordings
    are converted in the same threads, these are both journeys': see `audio_threads`.
    """
    names = {"executor": "storage threads", "audio_pool": "audio threads"}
    name = names.get(trial.knobs.gcs_call)
    return threads.of_storage(trial, name) if name and not threads.shared(trial) else None


@rule(
    Resource.SPEECH_THREADS,
    relaxation=doubled("twice the speech threads", "speech_threads"),
    stations=(Station.SPEECH_THREADS,),
    metrics=("speech_queue",),
)
def speech_threads(trial: Trial) -> Level | None:
    """The threads in which a worker waits for the speech service, of assessments alone.

    ``speech_busy`` against speech_threads, and ``speech_queued`` in front of them.
    """
    return threads.of_speech(trial) if Journey.ASSESS in trial.cell.load.shares else None


@rule(
    Resource.AUDIO_THREADS,
    relaxation=doubled("twice the audio threads", "audio_threads"),
    stations=(Station.AUDIO_THREADS, Station.THREADS),
    metrics=("convert_queue",),
)
def audio_threads(trial: Trial) -> Level | None:
    """The threads in which recordings are converted; storage calls may share them.

    ``audio_busy`` against audio_threads, and ``audio_queued`` in front of them; under
    ``gcs_call: audio_pool`` with ``threads_busy`` and ``threads_queued``.
    """
    return threads.of_conversion(trial) if threads.converts(trial) else None


@rule(
    Resource.ANYIO_THREADS,
    relaxation=doubled("twice anyio's threads", "anyio_threads"),
    stations=(Station.ANYIO,),
)
def anyio_threads(trial: Trial) -> Level | None:
    """The threads of each event loop that ``db_call: threadpool`` shares with the framework.

    anyio's limiter: ``anyio_busy`` against anyio_threads, and ``anyio_queued`` in front of it.
    """
    if trial.knobs.db_call != "threadpool":
        return None
    if any(reading.anyio_busy is None for reading in trial.peak.workers):
        return None
    slots = trial.knobs.anyio_threads
    full = fullness(trial, lambda r: r.anyio_busy or 0, lambda r: r.anyio_queued or 0, slots)
    return full and slots_level("anyio's threads", "calls", full, slots)


@rule(
    Resource.POOL,
    relaxation=LARGER_POOL,
    causes=(Cause.POOL_TIMEOUT,),
    stations=(Station.POOL,),
    metrics=("pg_connections", "pool_checked_out", "pool_waiting", "pool_wait"),
)
def pool(trial: Trial) -> Level | None:
    """The connections that a worker's QueuePool may have out at once.

    ``pool_checked_out`` against pool_size + max_overflow, and who waited or gave up. A checkout
    that timed out is proof that the pool was empty for all of pool_timeout. A pool without a
    limit is never at it.
    """
    slots = pool_connections(trial.knobs)
    if not isfinite(slots):
        return None
    full = fullness(trial, lambda r: r.checked_out, lambda r: r.waiting, slots)
    gave_up = trial.failed(Cause.POOL_TIMEOUT)
    if full is None and not gave_up:
        return None
    level, peak = (full.level, full.peak) if full else (1.0, slots)
    evidence = f"pool never above {peak} of {slots}"
    if gave_up or peak >= slots:
        evidence = f"pool {percent(level)} checked out, {peak} of {slots} at most"
    if gave_up:
        evidence += f", {of_attempts(trial, gave_up)} gave up waiting"
    elif full and peak >= slots:
        evidence += f", checkouts waited {percent(full.waiting)} of the time"
    at_limit = bool(gave_up or (full and full.at_limit))
    return Level(1.0 if gave_up else level, at_limit, evidence)


@rule(
    Resource.POOL_LEAK,
    relaxation=NO_LEAK,
    metrics=("pool_abandoned", "pool_slope"),
    explains=(Resource.POOL, Resource.DATABASE_SLOTS),
)
def pool_leak(trial: Trial) -> Level | None:
    """Connections of the pool that were checked out and never returned, and so have used it up.

    ``abandoned`` against what a worker's pool may have, while others waited for a connection; of
    all workers against db_cap, where Postgres refused. It is why none is left where it took half of
    them: if less, there are too few even without it.
    """
    return abandoned_level(trial)


@rule(
    Resource.DATABASE_SLOTS,
    relaxation=MORE_SLOTS,
    causes=(Cause.DB_REFUSED,),
    metrics=("pg_connections", "db_refusals", "connections_slope"),
    explains=(Resource.POOL,),
)
def database_slots(trial: Trial) -> Level | None:
    """The connections that Postgres grants the application, all workers together.

    ``errors.db_refused``, and ``pg_connections`` against db_cap; PgBouncer has no more than
    these, so behind it they are no limit, if Postgres' own log does not say that it refused some.
    """
    refused, cap = trial.failed(Cause.DB_REFUSED), trial.knobs.db_cap
    if pooler.shields(trial):
        return None
    peak = trial.metrics.get("pg_connections")
    if peak is None and not refused:
        return None
    evidence = f"Postgres granted {peak or 0:.0f} of {cap} connections"
    if refused:
        evidence += f" and refused {of_attempts(trial, refused)}"
    return Level(1.0 if refused else (peak or 0.0) / cap, refused > 0, evidence)


@rule(
    Resource.POOLER,
    relaxation=doubled("twice PgBouncer's connections", "pooler_size"),
    causes=(Cause.DB_REFUSED, Cause.DB_ERROR),
    stations=(Station.POOLER,),
    metrics=tuple(pooler.MEASURES),
)
def pooler_connections(trial: Trial) -> Level | None:
    """The connections of Postgres' that PgBouncer shares among all clients, ``pooler_size``.

    Those lent, and who waited for one or gave up (``pooler_waiting``, ``pooler_wait``).
    """
    return pooler_level(trial)


OF_BODIES = (Cause.BODY_TOO_LARGE, Cause.TOO_LARGE, Cause.UPLOAD_TOO_LARGE)
"""The refusals of a body's size: nginx's, Cloud Run's, and the backend's own."""


@rule(Resource.BODY_LIMIT, relaxation=NO_BODY_LIMIT, causes=OF_BODIES, metrics=("oversize",))
def body_limit(trial: Trial) -> Level:
    """What nginx, Cloud Run or the backend lets through at most, however idle the replica is."""
    nginx, backend = nginx_limits(trial.knobs).body, trial.knobs.backend_body
    limits = (
        "nginx's limit" if nginx is None else format_size(nginx),
        "the platform's limit",
        "backend_body" if backend is None else f"{format_size(backend)} (backend_body)",
    )
    met = [of for cause, of in zip(OF_BODIES, limits, strict=True) if trial.failed(cause)]
    why = f"their body is above {' or '.join(met)}"
    if oversize := trial.metrics.get("oversize"):
        why += f", as {percent(oversize)} of those sent are"
    return refusals(trial, OF_BODIES, why)


@rule(
    Resource.NGINX_CONNECTIONS,
    relaxation=doubled("twice nginx's connections", "nginx_connections"),
    causes=(Cause.PROXY_ERROR, Cause.CONNECTION),
    explains=(Resource.ACCEPT_QUEUE,),
)
def nginx_connections(trial: Trial) -> Level | None:
    """nginx's ``worker_connections``, of which an upload that it passes on takes two.

    At the limit where nginx's own log says so (`Shortage`): it then closes connections whose
    request it has not read yet, and lets others wait to be accepted, which keeps the accept queue
    full; ``errors.connection`` counts both, and ``errors.proxy_error`` those it had accepted.
    """
    if trial.cell.target != "vm":
        return None
    limits, said = nginx_limits(trial.knobs), trial.shortages("connections").get("nginx", 0)
    at_once = max((trial.inflight(sample.sent_at) for sample in trial.sent), default=0)
    if not said:
        evidence = f"at most {at_once} at once, of {limits.uploads} uploads that nginx can pass on"
        return Level(min(1.0, at_once / limits.uploads), False, evidence)
    lost = of_attempts(trial, trial.failed(Cause.PROXY_ERROR, Cause.CONNECTION))
    evidence = (
        f"nginx's {limits.connections} connections, enough for {limits.uploads} uploads at once,"
        f" were used up by {at_once} (its log says so {times(said)}), {lost} cut off"
    )
    return Level(1.0, True, evidence)


@rule(Resource.ACCEPT_QUEUE, stations=(Station.ELSEWHERE,))
def accept_queue(trial: Trial) -> Level | None:
    """The kernel's queue of connections that nginx, or the gateway, has not accepted yet.

    Where it overflows (``ListenOverflows``), the client tries again after 1 s, 2 s more, 4 s more
    of this machine's time (tcp(7), RFC 6298), which no ``speed`` divides: an upload that waited
    so was neither at a worker nor on its way.
    """
    dropped = sum(trial.shortages("accept_queue").values())
    if not dropped:
        return None
    evidence = f"the kernel's queue of new connections overflowed {times(dropped)}"
    if trial.knobs.speed != 1:
        evidence += f", and at speed {trial.knobs.speed:g} its retries come that much too late"
    return Level(1.0, True, evidence)


@rule(Resource.PROXY_TIMEOUT, relaxation=NO_TIMEOUT, causes=(Cause.GATEWAY_TIMEOUT,))
def proxy_timeout(trial: Trial) -> Level | None:
    """nginx gives up on an answer that takes too long (``errors.gateway_timeout``).

    The limit itself only where nothing else kept uploads waiting.
    """
    if trial.cell.target != "vm":
        return None
    count, limit = trial.failed(Cause.GATEWAY_TIMEOUT), nginx_limits(trial.knobs).patience_s
    evidence = "nginx cut nothing off"
    if count:
        evidence = f"nginx cut off {of_attempts(trial, count)} after {limit:g} s"
    return Level(share_of(trial, count), count > 0, evidence)


@rule(Resource.RATE_LIMIT, relaxation=NO_RATE_LIMIT, causes=(Cause.RATE_LIMITED,))
def rate_limit(trial: Trial) -> Level:
    """So many requests a minute of one address, or uploads of one user."""
    knobs, limits = trial.knobs, []
    if knobs.global_rate_limit:
        shared = ", and all users are one" if knobs.rate_limit_key == "peer" else ""
        limits.append(f"{knobs.global_rate_limit} an address{shared}")
    if knobs.upload_rate_limit:
        limits.append(f"{knobs.upload_rate_limit} a user")
    why = f"the limit is {' and '.join(limits) or 'off'}"
    return refusals(trial, (Cause.RATE_LIMITED,), why)


@rule(Resource.BACKPRESSURE, relaxation=NO_BACKPRESSURE, causes=(Cause.OVERLOADED,))
def backpressure(trial: Trial) -> Level:
    """A worker refuses uploads past ``max_inflight_uploads``; told with the p95 of the others."""
    why = f"a worker takes {trial.knobs.max_inflight_uploads} at once"
    if "p95" in trial.metrics:
        why += f", and those it took were answered within {trial.metrics['p95']:.1f} s (p95)"
    return refusals(trial, (Cause.OVERLOADED,), why)


@rule(
    Resource.INSTANCE_QUEUE,
    relaxation=MORE_INSTANCES,
    causes=(Cause.NO_INSTANCE,),
    stations=(Station.GATEWAY,),
    metrics=OF_INSTANCES,
)
def instance_queue(trial: Trial) -> Level | None:
    """Cloud Run keeps a request until an instance is free, and in the end gives up.

    ``errors.no_instance``; where none was refused, the places that were taken, and for how much
    of the time requests waited for one.
    """
    if trial.cell.target == "vm":
        return None
    places = ""
    if "instances" in trial.metrics:
        count, at_once = trial.metrics["instances"], trial.knobs.cloudrun_concurrency
        places = f", of {count:.0f} at most, {at_once} at once in each"
    if trial.failed(Cause.NO_INSTANCE):
        return refusals(trial, (Cause.NO_INSTANCE,), f"no instance was free in time{places}")
    taken, queued = places_taken(trial.peak), queued_share(trial.peak)
    if taken is None or not queued:
        return refusals(trial, (Cause.NO_INSTANCE,), "")
    evidence = f"requests waited for an instance {percent(queued)} of the time{places}"
    if "queue_wait" in trial.metrics:
        evidence += f", those answered {trial.metrics['queue_wait']:.1f} s in the mean"
    return Level(taken, taken >= SATURATED and queued >= QUEUED, evidence)


DIED_WITH = (Cause.INSTANCE_DIED, Cause.CONNECTION, Cause.BAD_GATEWAY)
"""How uploads in flight fail when a worker or an instance dies; the last two count only where
there was a kill."""


@rule(
    Resource.MEMORY,
    relaxation=MORE_MEMORY,
    causes=DIED_WITH,
    metrics=("oom_kills", "memory_backend", "memory_instance", "rss_backend", "rss_slope"),
)
def memory(trial: Trial) -> Level | None:
    """A worker, or an instance, is killed for what it holds, and all in it is lost.

    ``oom_kills``, and the peak of memory against vm_memory, or cloudrun_memory.
    """
    metrics, on_vm = trial.metrics, trial.cell.target == "vm"
    kills, died = metrics.get("oom_kills", 0.0), trial.failed(Cause.INSTANCE_DIED)
    if any(fault.part == "backend" for fault in trial.cell.process_faults):
        died = 0  # they were ended on purpose
    if trial.probes("ended"):
        died = 0  # by the probes that they did not answer
    names = ("memory_backend", "rss_backend") if on_vm else ("memory_instance",)
    held = next((metrics[name] for name in names if name in metrics), None)
    limit = trial.knobs.vm_memory if on_vm else trial.knobs.cloudrun_memory
    if held is None and not kills and not died:
        return None
    evidence = f"memory {(held or 0) / 1e6:.0f} MB at most"
    if limit:
        evidence += f" of {format_size(limit)}"
    if kills or died:
        noun = "kill" if kills == 1 else "kills"
        lost = of_attempts(trial, trial.failed(*DIED_WITH))
        evidence += f", {kills:.0f} {noun}, {lost} lost with them"
        return Level(1.0, True, evidence)
    return Level((held or 0.0) / limit if limit else 0.0, False, evidence)


@rule(
    Resource.HEALTH_PROBE,
    relaxation=NO_PROBE,
    causes=DIED_WITH,
    metrics=("probe_failures", "probe_restarts"),
)
def health_probe(trial: Trial) -> Level | None:
    """A backend, or an instance, is ended for what it does not answer, and all in it is lost.

    ``probe_restarts``, and the most probes in a row that failed against health_failures.
    """
    return probed(trial, DIED_WITH)


@rule(
    Resource.CPU,
    relaxation=MORE_CPU,
    stations=(Station.CONVERSION,),
    metrics=("convert_time", "cpu_backend", "cpu_worker_max", "throttled_backend"),
    explains=(Resource.EVENT_LOOP,),
)
def cpu(trial: Trial) -> Level | None:
    """CPU of the busiest worker, whose Python code runs on one core at a time, or of all workers.

    Conversion is nothing but that. ``cpu_worker_max`` against one core, or an instance's share of
    it, and ``cpu_backend`` against the cores of the VM, or of all instances.
    """
    metrics, knobs = trial.peak.metrics, trial.knobs
    if "cpu_backend" not in metrics:
        return None
    on_vm = trial.cell.target == "vm"
    cores = knobs.vm_cpus if on_vm else instances(trial) * knobs.cloudrun_cpus
    core = 1.0 if on_vm else min(1.0, knobs.cloudrun_cpus)
    used, busiest = metrics["cpu_backend"], metrics.get("cpu_worker_max", 0.0)
    level = max(busiest / core, used / cores)
    of = "its one core" if core == 1 else f"its {core:g} of a core"
    evidence = f"busiest worker used {busiest:.2f} of {of}"
    if used / cores > busiest / core:
        evidence = f"backend used {used:.2f} of {cores:g} cores"
    return Level(level, level >= SATURATED, evidence)


@rule(
    Resource.WORKER_SPLIT,
    relaxation=EVEN_SPLIT,
    metrics=("worker_share_max", "split_idle", "capacity_split"),
    explains=(
        *(Resource.EVENT_LOOP, Resource.DEFAULT_EXECUTOR, Resource.OWN_THREADS),
        *(Resource.ANYIO_THREADS, Resource.POOL),
    ),
)
def worker_split(trial: Trial) -> Level | None:
    """One worker is full, another is not, and with an even split they would carry more.

    ``worker_share_max``, and ``throughput`` against ``capacity``.
    """
    return split_level(trial.peak)


@rule(
    Resource.STORAGE,
    relaxation=NEARER_STORAGE,
    causes=(Cause.GCS_ERROR,),
    stations=(Station.STORAGE,),
    metrics=(
        *("gcs_latency", "gcs_attempts", "gcs_failures", "gcs_retries"),
        *("net_to_gcs", "gcs_acknowledged"),
    ),
)
def storage(trial: Trial) -> Level | None:
    """What a storage call takes, with nobody waiting; and the calls that failed.

    ``gcs_latency`` as a share of an upload's life, and ``errors.gcs_error``.
    """
    return served(trial, "storage", ("gcs_latency",), trial.failed(Cause.GCS_ERROR))


@rule(
    Resource.DATABASE,
    relaxation=NEARER_DATABASE,
    causes=(Cause.DB_ERROR,),
    stations=(Station.DATABASE,),
    metrics=(
        *OF_QUERIES,
        *("db_query", "db_query_max", "pg_lock_waiting", "pg_lock_share"),
    ),
)
def database(trial: Trial) -> Level | None:
    """What queries take: round trips, and what Postgres and its locks add; and those that failed.

    ``auth``, ``release``, ``write`` and ``read`` as a share of a request's life, and
    ``errors.db_error``.
    """
    failed = trial.failed(Cause.DB_ERROR) - pooler.given_up(trial)
    return served(trial, "the database", OF_QUERIES, failed)


@rule(
    Resource.SPEECH,
    relaxation=NEARER_SPEECH,
    causes=(Cause.SPEECH_ERROR,),
    stations=(Station.SPEECH,),
    metrics=("speech_latency",),
)
def speech(trial: Trial) -> Level | None:
    """What the speech service takes, with nobody waiting; and the assessments that it failed.

    ``speech_latency`` as a share of an assessment's life, and ``errors.speech_error``.
    """
    if Journey.ASSESS not in trial.cell.load.shares:
        return None
    of = trial.of(Journey.ASSESS)
    return served(of, "speech", ("speech_latency",), of.failed(Cause.SPEECH_ERROR))
