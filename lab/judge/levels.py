"""How near a resource was to its limit, as the rules of the bottleneck tell it.

slots that are used, and a queue before them     threads, connections
uploads that were turned away                    limits of rate, size and number
time that is taken, with nobody in a queue       storage, database
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import fsum, isfinite
from statistics import fmean
from typing import NamedTuple

from lab.judge.readings import loop_busy
from lab.judge.stages import STAGE_OF
from lab.judge.trial import Trial
from lab.judge.waiting import students_inside
from lab.model.evidence import Cause, WorkerReading
from lab.model.physics import SATURATED, pool_connections
from lab.model.units import percent

QUEUED = 0.5
"""Share of the time for which somebody must be seen waiting before a full resource is a limit.

A resource that is just full holds nobody up: what limits is what others wait for.
"""


TAKEN = 0.5
"""A leak that has taken at least this share of a pool is why it has none left."""


class Level(NamedTuple):
    """How near a resource was to its limit, 1 being there; ``evidence`` is a phrase."""

    level: float
    at_limit: bool
    evidence: str


def processes(trial: Trial) -> float:
    """Workers of the VM, or of the most instances that there were."""
    if trial.cell.target == "vm":
        return trial.knobs.workers
    return instances(trial) * trial.knobs.cloudrun_workers


def instances(trial: Trial) -> float:
    """The most instances that there were at once on Cloud Run; 1 where they were not counted."""
    return trial.metrics.get("instances", 0.0) or 1.0


def of_attempts(trial: Trial, count: int) -> str:
    """A count beside all attempts of the journey: ``41 of 100 uploads``."""
    return f"{count} of {trial.metrics.get('attempts', 0):.0f} {trial.noun}"


def share_of(trial: Trial, count: int) -> float:
    """A count as a share of all attempts."""
    attempts = trial.metrics.get("attempts", 0.0)
    return count / attempts if attempts else 0.0


def times(count: int) -> str:
    """How often: ``once``, ``213 times``."""
    return "once" if count == 1 else f"{count} times"


def refusals(trial: Trial, causes: tuple[Cause, ...], why: str) -> Level:
    """The level of what turns uploads away: the share of them."""
    count = trial.failed(*causes)
    evidence = f"{of_attempts(trial, count)} were refused: {why}" if count else "refused nothing"
    return Level(share_of(trial, count), count > 0, evidence + lost(trial, causes))


def lost(trial: Trial, causes: tuple[Cause, ...]) -> str:
    """A phrase on the refusals that reached their users as something else; empty if none did."""
    counts = (trial.lost_answers.get(cause, Counter()) for cause in causes)
    on_vm = trial.cell.target == "vm"
    seen_as = {
        Cause.BAD_GATEWAY: "nginx's 502" if on_vm else "the platform's 503",
        Cause.CONNECTION: "a broken connection",
    }
    return "".join(
        f", and {count} of them reached their users as {seen_as[error]}"
        for error, count in sum(counts, Counter[Cause]()).items()
    )


class Fullness(NamedTuple):
    """How full one kind of slot was in the worker where it was fullest.

    Args:
        at_limit: whether it was full, and others waited for it.
        level: mean share of the slots in use.
        waiting: share of the readings in which somebody waited for one.
        peak: the most in use at once in any worker, be it another one.
        meanwhile: the level of those readings; 0 where there is none.
    """

    at_limit: bool
    level: float
    waiting: float
    peak: int
    meanwhile: float


Gauge = Callable[[WorkerReading], int]


def fullness(trial: Trial, used: Gauge, waiting: Gauge, slots: float) -> Fullness | None:
    """Fullness of a kind of slot that each worker has ``slots`` of; None without readings.

    It is of the part in which a load in stages was near its most users.
    """
    workers = [fullness_of(life, used, waiting, slots) for life in trial.peak.by_worker]
    if not workers:
        return None
    fullest = max(workers, key=lambda worker: (worker.at_limit, worker.level))
    return fullest._replace(peak=max(worker.peak for worker in workers))


def fullness_of(
    life: Sequence[WorkerReading], used: Gauge, waiting: Gauge, slots: float
) -> Fullness:
    """Fullness of a kind of slot in one worker, by its readings."""
    level = fmean(used(reading) for reading in life) / slots
    queued = [used(reading) / slots for reading in life if waiting(reading) > 0]
    waited = len(queued) / len(life)
    at_limit = level >= SATURATED and waited >= QUEUED
    peak = max(map(used, life))
    return Fullness(at_limit, level, waited, peak, fmean(queued) if queued else 0.0)


def slots_level(name: str, who: str, full: Fullness, slots: int) -> Level:
    """The level of threads, and for how much of the time they had a queue."""
    evidence = f"{name} never above {full.peak} of {slots} threads"
    if full.peak >= slots:
        evidence = f"{name} {percent(full.level)} busy, {slots} threads"
        evidence += f", {who} queued {percent(full.waiting)} of the time"
        if full.waiting and full.level < SATURATED:
            evidence += f", all the while {percent(full.meanwhile)} busy"
    return Level(full.level, full.at_limit, evidence)


def abandoned_level(trial: Trial) -> Level | None:
    """How much of what there is a leak of connections has taken; None where none was abandoned."""
    lives = trial.peak.by_worker
    at_last = [life[-1].abandoned or 0 for life in lives]
    if not any(at_last):
        return None
    slots, cap = pool_connections(trial.knobs), trial.knobs.db_cap
    of_pool = max(map(_taken_while_waited_for, lives)) / slots
    of_cap = sum(at_last) / cap if trial.failed(Cause.DB_REFUSED) else 0.0
    of = f"the pool's {slots:.0f}" if isfinite(slots) else f"Postgres' {cap}"
    evidence = (
        f"{max(at_last)} of {of} connections were checked out and never returned: a leak, which"
        " a larger pool would only put off"
    )
    level = max(max(at_last) / slots, of_cap)
    return Level(min(1.0, level), max(of_pool, of_cap) >= TAKEN, evidence)


def _taken_while_waited_for(life: Sequence[WorkerReading]) -> float:
    """The mean of a worker's abandoned connections while others waited; 0 where nobody did."""
    waited = [reading.abandoned or 0 for reading in life if reading.waiting > 0]
    return fmean(waited) if waited else 0.0


class Loop(NamedTuple):
    """An event loop: its busy share, the same without the wait for a connection, and the mean
    of the students' requests inside."""

    busy: float
    own: float
    inside: float


def loop_of(trial: Trial, life: Sequence[WorkerReading]) -> Loop | None:
    """How busy a worker's event loop was by its readings; None where nothing tells."""
    knobs, busy = trial.knobs, loop_busy(life, trial.knobs.speed)
    if busy is None:
        busy = _loop_utilisation(trial)
    if busy is None:
        return None
    full = 0 if trial.failed(Cause.DB_REFUSED) else pool_connections(knobs)
    waited = fmean(reading.waiting > 0 and reading.checked_out >= full for reading in life)
    own = busy - waited if knobs.db_call == "blocking" else busy
    return Loop(busy, max(0.0, own), fmean(map(students_inside, life)))


def _loop_utilisation(trial: Trial) -> float | None:
    """Utilisation law (Lazowska et al., 1984, ch. 3): rate times the time that one upload holds
    the loop, the same in every worker. For evidence of a lab that did not read the loop itself."""
    if "throughput" not in trial.metrics:
        return None
    rate = trial.peak.metrics.get("throughput", 0.0) / processes(trial)
    return min(1.0, rate * (storage_in_loop(trial) + database_in_loop(trial)))


def storage_in_loop(trial: Trial) -> float:
    """Seconds for which an upload's storage call holds the event loop."""
    blocking = trial.knobs.gcs_call == "blocking"
    return trial.peak.metrics.get("gcs_latency", 0.0) if blocking else 0.0


def database_in_loop(trial: Trial) -> float:
    """Seconds for which an upload's queries hold the event loop."""
    if trial.knobs.db_call != "blocking":
        return 0.0
    return sum(trial.peak.metrics.get(stage, 0.0) for stage in ("auth", "release", "write"))


def recorded(trial: Trial, stages: Sequence[str]) -> list[float]:
    """The mean seconds in these stages by the workers' records, where no upload succeeded."""
    stages = [STAGE_OF.get(stage, stage) for stage in stages]
    spent = [
        fsum(span.took for span in record.spans if span.stage in stages)
        for record in trial.records.values()
        if any(span.stage in stages for span in record.spans)
    ]
    return [fmean(spent)] if spent else []


def served(trial: Trial, name: str, stages: tuple[str, ...], count: int) -> Level | None:
    """The level of what only takes its time: its share of an upload's, at no limit but if it
    failed some, which is the ``count``."""
    times = [trial.metrics[stage] for stage in stages if stage in trial.metrics]
    times = times or recorded(trial, stages)
    if not times and not count:
        return None
    evidence = f"{name} took {sum(times):.2f} s of {trial.one}"
    if "p50" in trial.metrics:
        evidence += f" of {trial.metrics['p50']:.2f} s (p50)"
    if count:
        return Level(1.0, True, f"{name} failed {of_attempts(trial, count)}")
    level = sum(times) / trial.metrics["p50"] if trial.metrics.get("p50") else 0.0
    return Level(min(1.0, level), False, evidence)
