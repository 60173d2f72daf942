"""What went on inside the replica and this machine, by what was read in the window.

Of a running total its growth counts, between the first and the last reading. Times in readings
are real-world seconds, CPU is per wall-clock second, so a stretch of time is divided by ``speed``
before CPU is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from lab.judge.statistics import growth, mean, peak, total
from lab.judge.trial import Trial
from lab.judge.workers import STALE_WALL_S, standing
from lab.model.evidence import WorkerReading
from lab.model.metrics import NETWORK_PARTS
from lab.model.readings import DatabaseStatements, MachineReading

BACKEND = "backend"

PEAKS: dict[str, Callable[[WorkerReading], float]] = {
    "pool_checked_out": lambda r: r.checked_out,
    "pool_waiting": lambda r: r.waiting,
    "threads_busy": lambda r: r.threads_busy,
    "threads_queued": lambda r: r.threads_queued,
    "uploads_inflight": lambda r: r.inflight,
    "rss_backend": lambda r: r.rss,
}
"""The metrics that are the peak of a gauge of all workers together."""


def running_sum(
    workers: Iterable[WorkerReading], of: Callable[[WorkerReading], float], speed: float
) -> Iterator[tuple[float, float]]:
    """Time of each reading, and a figure summed over all workers as they stood then."""
    for t, readings in standing(workers, speed):
        yield t, sum(map(of, readings))


def sums_of(gauge: Callable[[WorkerReading], float | None], trial: Trial) -> list[float]:
    """A gauge at each reading, summed over all workers; nothing where one did not read it."""
    if any(gauge(reading) is None for reading in trial.workers):
        return []
    sums = running_sum(trial.workers, lambda reading: gauge(reading) or 0, trial.knobs.speed)
    return [value for _, value in sums]


def peak_of(gauge: Callable[[WorkerReading], float | None], trial: Trial) -> float | None:
    """The peak of a gauge, summed over all workers; None where one did not read it."""
    return peak(sums_of(gauge, trial))


def mean_of(gauge: Callable[[WorkerReading], float | None], trial: Trial) -> float | None:
    """The mean of a gauge over the readings, summed over all workers; None where one is missing."""
    return mean(sums_of(gauge, trial))


def seconds(trial: Trial) -> float:
    """Real-world seconds from the first reading of a worker to the last."""
    return trial.workers[-1].t - trial.workers[0].t if trial.workers else 0.0


def growths(of: Callable[[WorkerReading], float], trial: Trial) -> list[float]:
    """Growth of each worker's running total; empty where no time passed between readings.

    One that was not there when the window began has used all of it since.
    """
    lives = trial.by_worker if seconds(trial) > 0 else []
    was_there = trial.window[0] + STALE_WALL_S * trial.knobs.speed
    return [
        growth([*([0.0] if life[0].t > was_there else []), *(of(reading) for reading in life)])
        for life in lives
    ]


def cores(trial: Trial) -> list[float]:
    """Cores that each worker used."""
    used = growths(lambda reading: reading.cpu_s, trial)
    return [cpu_s * trial.knobs.speed / seconds(trial) for cpu_s in used]


def loop_busy(life: Sequence[WorkerReading], speed: float) -> float | None:
    """Share of its time that one worker's event loop was busy; None where it was not read."""
    lived = life[-1].t - life[0].t
    if lived <= 0 or any(reading.loop_busy_s is None for reading in life):
        return None
    return min(1.0, growth([reading.loop_busy_s or 0.0 for reading in life]) * speed / lived)


def busiest_loop(trial: Trial) -> float | None:
    """The share of the worker whose event loop was busiest, where all were read."""
    shares = [loop_busy(life, trial.knobs.speed) for life in trial.by_worker]
    busy = [share for share in shares if share is not None]
    return max(busy) if busy and len(busy) == len(shares) else None


def grown(of: Callable[[WorkerReading], float | None], trial: Trial) -> float | None:
    """Growth of a running total, all workers together; None where one did not read it."""
    if any(of(reading) is None for reading in trial.workers):
        return None
    return total(growths(lambda reading: of(reading) or 0, trial))


def grown_per_second(of: Callable[[WorkerReading], float | None], trial: Trial) -> float | None:
    """The same a second of real-world time."""
    growth = grown(of, trial)
    return None if growth is None else growth / seconds(trial)


def machine_rate(
    totals: Callable[[MachineReading], Mapping[str, float]], part: str, trial: Trial
) -> float | None:
    """Growth of a part's running total by wall-clock second."""
    read = [(r.t, totals(r)[part]) for r in trial.machine if part in totals(r)]
    if not read or read[-1][0] <= read[0][0]:
        return None
    grown = growth([total for _, total in read])
    return grown * trial.knobs.speed / (read[-1][0] - read[0][0])


def network(
    totals: Callable[[MachineReading], Mapping[str, float]], part: str, trial: Trial
) -> float | None:
    """Bytes a real-world second that a part's container had on the network."""
    rate = machine_rate(totals, part, trial)
    return None if rate is None else rate / trial.knobs.speed


def lock_waiting(trial: Trial) -> list[int]:
    """How many of the application's backends waited for a lock, reading by reading."""
    return [r.lock_waiting for r in trial.database if r.lock_waiting is not None]


def statements(trial: Trial) -> DatabaseStatements | None:
    """What Postgres had counted of the application's statements; None of a part of a trial.

    Nothing is read while the load goes on, so as not to slow down what is measured.
    """
    told = trial.evidence(DatabaseStatements)[-1:]
    return told[0] if told and told[0].calls and trial.part is None else None


def db_query(trial: Trial) -> float | None:
    """Mean seconds of a statement inside the server."""
    counted = statements(trial)
    return counted.total_s / counted.calls if counted else None


def db_query_max(trial: Trial) -> float | None:
    """Seconds of the longest statement."""
    counted = statements(trial)
    return counted.max_s if counted else None


def db_query_rate(trial: Trial) -> float | None:
    """Statements a second, from the load's start until its end, or its last upload's."""
    counted = statements(trial)
    ends = (sample.sent_at + sample.latency_s for sample in trial.observation.samples)
    end = max(trial.window[1], *ends, 0.0)
    return counted.calls / end if counted and end > 0 else None


MEASURES: Mapping[str, Callable[[Trial], float | None]] = {
    "gcs_failures": partial(grown, lambda reading: reading.gcs_failed),
    "gcs_retries": partial(grown, lambda reading: reading.gcs_retried),
    "gcs_acknowledged": partial(grown_per_second, lambda reading: reading.gcs_acknowledged_bytes),
    "pg_lock_waiting": lambda trial: peak(lock_waiting(trial)),
    "pg_lock_share": lambda trial: mean(waiting > 0 for waiting in lock_waiting(trial)),
    "db_query": db_query,
    "db_query_max": db_query_max,
    "db_query_rate": db_query_rate,
    **{
        f"net_in_{name}": partial(network, lambda reading: reading.received, part)
        for name, part in NETWORK_PARTS.items()
    },
    **{
        f"net_out_{name}": partial(network, lambda reading: reading.sent, part)
        for name, part in NETWORK_PARTS.items()
    },
}
"""How the metrics of storage calls, the database and the network are measured."""
