"""What late uploads of a cell wait for, according to the simulation: a resource, or ambiguous.

Of the lab it uses the cell's settings and load, and the round trips of an upload; nothing of how
the lab judges.

An answer is ambiguous where the two largest shares are within `MARGIN` of each other; where
trials of twice or half the CPU, of evenly shared workers, or in which each wait counts where it
is spent, put another resource first or make half as many late; or where twice as much of another
resource that was waited for would do, without touching the first: then either is the limit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from statistics import median

from lab.errors import UsageError
from lab.model.experiment import Cell
from lab.model.knobs import default_executor_threads
from lab.model.load import AnyLoad, BurstLoad, ClosedLoad, OpenLoad
from lab.model.physics import db_trips
from lab.model.replica import nginx_limits
from validation.oracle_waits import Offered, System, simulate
from validation.wait_meter import ANYIO, EVENT_LOOP, POOL, THREADS, Upload, blame

CPU_S, TRIP_CPU_S, PROXY_CPU_S = 0.007, 0.0004, 0.001
"""Wall-clock seconds of CPU of an upload in its worker, of a round trip, and of an upload before
its worker: no speed divides them."""
THREADS_NAMES = {
    "blocking": EVENT_LOOP,
    "to_thread": "default_executor",
    "executor": "own_threads",
    "audio_pool": "own_threads",
}
"""What the lab calls the storage threads, by where the storage call runs."""
SEEDS = (1, 2, 3)
MARGIN = 0.10
"""Two shares nearer than this leave it open which of them it was."""
RELIEVED = 0.10
"""A resource with a smaller share is not asked whether more of it would do."""


@dataclass(frozen=True)
class Expected:
    """What the simulation says of a cell, over `SEEDS`.

    Args:
        seconds: that made uploads late or cut off, by resource as the lab calls it.
        attempts: uploads sent in the window.
        late: of these, answered past the bound.
        cut_off: of these, left by the client or the proxy.
        causes: other failures, by cause.
        median: of the latencies of all, however they ended.
        p95: the median of the seeds' percentiles of successes; infinite where none succeeded.
        length: real-world seconds until the last upload of the window has ended for its user.
        certain: whether one resource stands first in every variation, and alone would do.
    """

    seconds: Mapping[str, float]
    attempts: int
    late: int
    cut_off: int
    causes: Mapping[str, int]
    median: float
    p95: float
    length: float
    certain: bool = True

    @property
    def shares(self) -> dict[str, float]:
        """Of the seconds, by resource, largest first."""
        total = sum(self.seconds.values()) or 1.0
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {name: seconds / total for name, seconds in ordered}

    @property
    def top(self) -> str:
        """The resource with the largest share; ``none`` where nothing was late."""
        return next(iter(self.shares), "none")

    @property
    def margin(self) -> float:
        """By how much its share is above the next one."""
        first, second, *_ = [*self.shares.values(), 0.0, 0.0]
        return first - second

    @property
    def missed(self) -> int:
        """Uploads that were late or cut off."""
        return self.late + self.cut_off

    @property
    def ambiguous(self) -> bool:
        """Whether the evidence of the simulation leaves it open."""
        return self.margin <= MARGIN or not self.certain


def expected(cell: Cell, bound: float) -> Expected:
    """What late uploads of a cell wait for, late being ``bound`` seconds or more.

    Raises:
        UsageError: the simulation does not know such a cell.
    """
    system, offered = system_of(cell), offered_of(cell.load)
    answer = _trial(cell, system, offered, bound)
    others = [_trial(cell, other, offered, bound) for other in _variations(system)]
    others.append(_trial(cell, system, offered, bound, further_down=False))
    same = all(other.top == answer.top and 2 * other.missed >= answer.missed for other in others)
    certain = same and not _another_would_do(cell, answer, system, offered, bound)
    return replace(answer, certain=certain)


def at_a_glance(cell: Cell) -> Expected:
    """What the simulation gives for a cell in which nothing is late: attempts, p95, length."""
    return _trial(cell, system_of(cell), offered_of(cell.load), inf)


def _variations(system: System) -> Iterator[System]:
    """What the simulation does not know exactly: CPU, and how workers share what arrives."""
    for factor in (2, 0.5):
        cpu, trip_cpu, proxy_cpu = system.cpu, system.trip_cpu, system.proxy_cpu
        yield replace(
            system, cpu=cpu * factor, trip_cpu=trip_cpu * factor, proxy_cpu=proxy_cpu * factor
        )
    yield replace(system, lead=0.5)


def _another_would_do(
    cell: Cell, answer: Expected, system: System, offered: Offered, bound: float
) -> bool:
    """Whether more of what was not waited for most would mend the cell alone."""
    for name, share in answer.shares.items():
        more = _with_more(system, name)
        if name != answer.top and share >= RELIEVED and more:
            mended = _trial(cell, more, offered, bound)
            if 2 * mended.missed <= answer.missed:
                return True
    return False


def _with_more(system: System, resource: str) -> System | None:
    """The system with twice as much of a resource; None where no number says how much."""
    if resource == POOL:
        twice = 2 * (system.pool_size + system.max_overflow)
        return replace(system, pool_size=twice, max_overflow=0, db_cap=twice * system.workers)
    if resource == ANYIO:
        return replace(system, anyio_threads=2 * system.anyio_threads)
    if resource in set(THREADS_NAMES.values()) - {EVENT_LOOP}:
        return replace(system, threads=2 * system.threads)
    return None


def _trial(
    cell: Cell, system: System, offered: Offered, bound: float, *, further_down: bool = True
) -> Expected:
    trials = [simulate(system, offered, seed, further_down) for seed in SEEDS]
    uploads = [upload for trial in trials for upload in trial]
    seconds: dict[str, float] = defaultdict(float)
    for name, amount in blame(uploads, bound).items():
        seconds[THREADS_NAMES[cell.knobs.gcs_call] if name == THREADS else name] += amount
    return Expected(
        seconds=seconds,
        attempts=len(uploads),
        late=sum(upload.cause is None and upload.latency >= bound for upload in uploads),
        cut_off=sum(upload.cut_off for upload in uploads),
        causes=Counter(u.cause for u in uploads if u.cause and not u.cut_off),
        median=median(upload.latency for upload in uploads) if uploads else 0.0,
        p95=median(map(_p95, trials)),
        length=max((u.sent + u.latency for u in uploads), default=0.0),
    )


def _p95(uploads: list[Upload]) -> float:
    latencies = sorted(upload.latency for upload in uploads if upload.cause is None)
    return latencies[ceil(0.95 * len(latencies)) - 1] if latencies else inf


def system_of(cell: Cell) -> System:
    """A cell's configuration for the simulation.

    Raises:
        UsageError: it is not on the VM, or its pool has no limit.
    """
    knobs, speed, overflow = cell.knobs, cell.knobs.speed, cell.knobs.max_overflow
    if cell.target != "vm":
        raise UsageError(
            f"cell {cell.id}: the simulation does not know target {cell.target}",
            "give runs of target vm",
        )
    if knobs.pool_class != "QueuePool" or overflow is None:
        raise UsageError(
            f"cell {cell.id}: the simulation does not know a pool without a limit",
            "give runs with pool_class QueuePool and a number for max_overflow",
        )
    threads = {
        "to_thread": default_executor_threads(knobs.vm_cpus),
        "executor": knobs.gcs_threads,
        "audio_pool": knobs.audio_threads,
    }
    return System(
        call="blocking" if knobs.gcs_call == "blocking" else "threads",
        threads=threads.get(knobs.gcs_call, 1),
        workers=knobs.workers,
        database=knobs.db_call,
        anyio_threads=knobs.anyio_threads,
        session=knobs.db_session,
        pool_size=knobs.pool_size,
        max_overflow=overflow,
        pool_timeout=knobs.pool_timeout,
        db_cap=knobs.db_cap,
        trips=db_trips(knobs),
        trip=(knobs.db_rtt.low, knobs.db_rtt.high),
        trip_cpu=TRIP_CPU_S * speed,
        cpu=CPU_S * speed,
        proxy_cpu=PROXY_CPU_S * speed,
        storage=(knobs.gcs_latency.low, knobs.gcs_latency.high),
        max_inflight=knobs.max_inflight_uploads,
        proxy_timeout=nginx_limits(knobs).read_s,
    )


def offered_of(load: AnyLoad) -> Offered:
    """A load for the simulation.

    Raises:
        UsageError: it is an open one.
    """
    window = (0.0, inf) if isinstance(load, BurstLoad) else load.measured
    think, backoff = ((span.low, span.high) for span in (load.think, load.backoff))
    return Offered(_spans(load), window, think, backoff, load.timeout)


def _spans(load: AnyLoad) -> list[list[tuple[float, float]]]:
    """For each user when it begins uploads; of a burst, once."""
    if isinstance(load, OpenLoad):
        raise UsageError(
            "the simulation does not know open loads", "give runs of closed, stages or burst loads"
        )
    if isinstance(load, BurstLoad):
        return [[(0.0, 1e-9)]] * load.burst
    if isinstance(load, ClosedLoad):
        end = load.measured[1]
        return [[(load.ramp * user / load.users, end)] for user in range(load.users)]
    return [load.spans_above(user) for user in range(load.peak_users)]
