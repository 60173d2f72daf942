"""The rules of the bottleneck: which resource was at its limit, each asked of one resource.

    rules ─> candidates ─> `lab.judge.decision` ─> one answer

A resource can be full because another is: Postgres refuses connections, so pools cannot
fill; a core is used up, so the event loop is late; uploads queue for something, so nginx
cuts them off. What is left is asked for what the cell missed: failures name the resource that
made them, each by its cause; slowness is made by what uploads queue for. Two answers of like
weight are no answer.

A rule is a function of a `Trial`, and `rule` says all that is to be known of it beside. To add
one, write it here; its resource is a member of `lab.model.verdict.Resource`, since it is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import NamedTuple

from lab.judge.metrics import loop_busy
from lab.judge.trial import Trial
from lab.model.evidence import Cause, WorkerReading
from lab.model.physics import SATURATED, pool_connections, worker_storage_slots
from lab.model.replica import nginx_limits
from lab.model.units import format_size
from lab.model.verdict import Candidate, Resource

QUEUED = 0.5
"""Share of the time for which somebody must be seen waiting before a full resource is a limit.

A resource that is just full holds nobody up: what limits is what others wait for.
"""


class Level(NamedTuple):
    """How near a resource was to its limit, 1 being there; ``evidence`` is a phrase."""

    level: float
    at_limit: bool
    evidence: str


Examine = Callable[[Trial], Level | None]
"""Looks at a trial; None where the resource is not there, or was not read."""


@dataclass(frozen=True)
class Rule:
    """All that is to be known of a resource.

    Args:
        resource: which.
        examine: says how near it was to its limit.
        causes: the failures that name it as what made them.
        queue: whether uploads wait for it; the others turn uploads away, or cut them off.
        explains: what is full because it is.
    """

    resource: Resource
    examine: Examine
    causes: tuple[Cause, ...] = ()
    queue: bool = False
    explains: tuple[Resource, ...] = ()

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
    queue: bool = False,
    explains: tuple[Resource, ...] = (),
    into: Rules = RULES,
) -> Callable[[Examine], Examine]:
    """Registers a function as the rule of a resource; see `Rule`."""

    def register(examine: Examine) -> Examine:
        into[resource] = Rule(resource, examine, causes, queue, explains)
        return examine

    return register


# What several rules use.


def processes(trial: Trial) -> float:
    """Workers of the VM, or of the most instances that there were."""
    if trial.cell.target == "vm":
        return trial.knobs.workers
    return instances(trial) * trial.knobs.cloudrun_workers


def instances(trial: Trial) -> float:
    """The most instances that there were at once on Cloud Run; 1 where they were not counted."""
    return trial.metrics.get("instances", 0.0) or 1.0


def of_attempts(trial: Trial, count: int) -> str:
    """A count beside all attempts: ``41 of 100 uploads``."""
    return f"{count} of {trial.metrics.get('attempts', 0):.0f} uploads"


def share_of(trial: Trial, count: int) -> float:
    """A count as a share of all attempts."""
    attempts = trial.metrics.get("attempts", 0.0)
    return count / attempts if attempts else 0.0


def percent(share: float) -> str:
    """A share as a whole percentage: ``99 %``."""
    return f"{share * 100:.0f} %"


def refusals(trial: Trial, causes: tuple[Cause, ...], why: str) -> Level:
    """The level of what turns uploads away: the share of them."""
    count = trial.failed(*causes)
    evidence = f"{of_attempts(trial, count)} were refused: {why}" if count else "refused nothing"
    return Level(share_of(trial, count), count > 0, evidence)


class Fullness(NamedTuple):
    """How full one kind of slot was in the worker where it was fullest.

    Args:
        at_limit: whether it was full, and others waited for it.
        level: mean share of the slots in use.
        waiting: share of the readings in which somebody waited for one.
        peak: the most in use at once in any worker, be it another one.
    """

    at_limit: bool
    level: float
    waiting: float
    peak: int


Gauge = Callable[[WorkerReading], int]


def fullness(trial: Trial, used: Gauge, waiting: Gauge, slots: float) -> Fullness | None:
    """Fullness of a kind of slot that each worker has ``slots`` of; None without readings.

    It is of the part in which a load in stages was near its most users.
    """
    lives = trial.peak.by_worker
    if not lives:
        return None
    peak = max(used(reading) for life in lives for reading in life)
    workers = []
    for life in lives:
        level = fmean(used(reading) for reading in life) / slots
        waited = fmean(waiting(reading) > 0 for reading in life)
        workers.append(Fullness(level >= SATURATED and waited >= QUEUED, level, waited, peak))
    return max(workers, key=lambda worker: (worker.at_limit, worker.level))


# The rules.


@rule(Resource.EVENT_LOOP, queue=True, explains=(Resource.PROXY_TIMEOUT,))
def event_loop(trial: Trial) -> Level | None:
    """One a worker, and whatever runs in it keeps everything else waiting.

    ``loop_busy`` of the busiest worker, less what it stood still in a checkout for: a loop that
    waits for a connection is as blocked as one at work, but the pool, or Postgres that refuses,
    is why. One with a single upload inside keeps nobody waiting.
    """
    loops = [loop for life in trial.peak.by_worker if (loop := _loop(trial, life))]
    if not loops:
        return None
    busiest = max(loops, key=lambda loop: loop.own)
    evidence = f"event loop busy {percent(busiest.busy)}"
    parts = {"storage": _storage_in_loop(trial), "database": _database_in_loop(trial)}
    if any(parts.values()):
        held = (f"{name} {seconds:.2f} s an upload" for name, seconds in parts.items() if seconds)
        evidence += f" ({', '.join(held)})"
    if busiest.busy - busiest.own >= 0.05:
        evidence += f", {percent(busiest.busy - busiest.own)} of the time in wait for a connection"
    return Level(busiest.own, busiest.own >= SATURATED and busiest.inside > 1, evidence)


class Loop(NamedTuple):
    """Busy share, the same without the wait for a connection, and mean uploads inside."""

    busy: float
    own: float
    inside: float


def _loop(trial: Trial, life: Sequence[WorkerReading]) -> Loop | None:
    knobs, busy = trial.knobs, loop_busy(life, trial.knobs.speed)
    if busy is None:
        busy = _loop_utilisation(trial)
    if busy is None:
        return None
    full = 0 if trial.failed(Cause.DB_REFUSED) else pool_connections(knobs)
    waited = fmean(reading.waiting > 0 and reading.checked_out >= full for reading in life)
    own = busy - waited if knobs.db_call == "blocking" else busy
    return Loop(busy, max(0.0, own), fmean(reading.inflight for reading in life))


def _loop_utilisation(trial: Trial) -> float | None:
    """Utilisation law (Lazowska et al., 1984, ch. 3): rate times the time that one upload holds
    the loop, the same in every worker. For evidence of a lab that did not read the loop itself."""
    if "throughput" not in trial.metrics:
        return None
    rate = trial.peak.metrics.get("throughput", 0.0) / processes(trial)
    return min(1.0, rate * (_storage_in_loop(trial) + _database_in_loop(trial)))


def _storage_in_loop(trial: Trial) -> float:
    blocking = trial.knobs.gcs_call == "blocking"
    return trial.peak.metrics.get("gcs_latency", 0.0) if blocking else 0.0


def _database_in_loop(trial: Trial) -> float:
    if trial.knobs.db_call != "blocking":
        return 0.0
    return sum(trial.peak.metrics.get(stage, 0.0) for stage in ("auth", "release", "write"))


@rule(Resource.DEFAULT_EXECUTOR, queue=True, explains=(Resource.PROXY_TIMEOUT,))
def default_executor(trial: Trial) -> Level | None:
    """min(32, cores + 4) threads a worker that ``gcs_call: to_thread`` shares.

    ``threads_busy`` against the executor's threads, and ``threads_queued`` in front of it.
    """
    return _threads(trial, "default executor") if trial.knobs.gcs_call == "to_thread" else None


@rule(Resource.OWN_THREADS, queue=True, explains=(Resource.PROXY_TIMEOUT,))
def own_threads(trial: Trial) -> Level | None:
    """The pool that storage calls have to themselves, or share with audio conversion.

    ``threads_busy`` against gcs_threads or audio_threads, and ``threads_queued``.
    """
    names = {"executor": "storage threads", "audio_pool": "audio threads"}
    name = names.get(trial.knobs.gcs_call)
    return _threads(trial, name) if name else None


def _threads(trial: Trial, name: str) -> Level | None:
    """How full the threads are that storage calls run in, as many as may be in use."""
    slots = worker_storage_slots(trial.cell)
    full = fullness(trial, lambda r: r.threads_busy, lambda r: r.threads_queued, slots)
    if full is None:
        return None
    evidence = f"{name} never above {full.peak} of {slots} threads"
    if full.peak >= slots:
        evidence = f"{name} {percent(full.level)} busy, {slots} threads"
        evidence += f", uploads queued {percent(full.waiting)} of the time"
    return Level(full.level, full.at_limit, evidence)


@rule(
    Resource.POOL,
    causes=(Cause.POOL_TIMEOUT,),
    queue=True,
    explains=(Resource.PROXY_TIMEOUT,),
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


@rule(Resource.DATABASE_SLOTS, causes=(Cause.DB_REFUSED,), explains=(Resource.POOL,))
def database_slots(trial: Trial) -> Level | None:
    """The connections that Postgres grants the application, all workers together.

    ``errors.db_refused``, and ``pg_connections`` against db_cap.
    """
    refused, cap = trial.failed(Cause.DB_REFUSED), trial.knobs.db_cap
    peak = trial.metrics.get("pg_connections")
    if peak is None and not refused:
        return None
    evidence = f"Postgres granted {peak or 0:.0f} of {cap} connections"
    if refused:
        evidence += f" and refused {of_attempts(trial, refused)}"
    return Level(1.0 if refused else (peak or 0.0) / cap, refused > 0, evidence)


@rule(Resource.BODY_LIMIT, causes=(Cause.BODY_TOO_LARGE, Cause.TOO_LARGE))
def body_limit(trial: Trial) -> Level:
    """What nginx, or Cloud Run, lets through at most, however idle the replica is."""
    limit, nginx = "the platform's limit", nginx_limits(trial.knobs).body
    if nginx is not None and trial.failed(Cause.BODY_TOO_LARGE):
        limit = format_size(nginx)
    causes = (Cause.BODY_TOO_LARGE, Cause.TOO_LARGE)
    return refusals(trial, causes, f"their body is above {limit}")


@rule(Resource.PROXY_TIMEOUT)
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


@rule(Resource.RATE_LIMIT, causes=(Cause.RATE_LIMITED,))
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


@rule(Resource.BACKPRESSURE, causes=(Cause.OVERLOADED,))
def backpressure(trial: Trial) -> Level:
    """A worker refuses uploads past ``max_inflight_uploads``; told with the p95 of the others."""
    why = f"a worker takes {trial.knobs.max_inflight_uploads} at once"
    if "p95" in trial.metrics:
        why += f", and those it took were answered within {trial.metrics['p95']:.1f} s (p95)"
    return refusals(trial, (Cause.OVERLOADED,), why)


@rule(Resource.INSTANCE_QUEUE, causes=(Cause.NO_INSTANCE,))
def instance_queue(trial: Trial) -> Level:
    """Cloud Run keeps a request until an instance is free, and then gives up."""
    why = "no instance was free in time"
    if "instances" in trial.metrics:
        count, places = trial.metrics["instances"], trial.knobs.cloudrun_concurrency
        why += f", of {count:.0f} at most, {places} at once in each"
    return refusals(trial, (Cause.NO_INSTANCE,), why)


DIED_WITH = (Cause.INSTANCE_DIED, Cause.CONNECTION, Cause.BAD_GATEWAY)
"""How uploads in flight fail when a worker or an instance dies; the last two count only where
there was a kill."""


@rule(Resource.MEMORY, causes=DIED_WITH)
def memory(trial: Trial) -> Level | None:
    """A worker, or an instance, is killed for what it holds, and all in it is lost.

    ``oom_kills``, and the peak of memory against vm_memory, or cloudrun_memory.
    """
    metrics, on_vm = trial.metrics, trial.cell.target == "vm"
    kills, died = metrics.get("oom_kills", 0.0), trial.failed(Cause.INSTANCE_DIED)
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


@rule(Resource.CPU, queue=True, explains=(Resource.EVENT_LOOP,))
def cpu(trial: Trial) -> Level | None:
    """CPU of the busiest worker, whose Python code runs on one core at a time, or of all workers.

    ``cpu_worker_max`` against one core, or an instance's share of it, and ``cpu_backend``
    against the cores of the VM, or of all instances.
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
