"""PgBouncer in a trial: how full it was, how long its clients waited, what an upload had of it.

    readings    clients and connections of Postgres', and running totals of how long clients waited
    a wait      at the head of a stage: its first statement waits until a connection is lent

In pool_mode transaction a connection is lent from a transaction's first statement to its last, so
not for the round trip in which the last answer comes back; in pool_mode session for as long as the
client's own connection is open.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

from lab.judge.delays import only_delay
from lab.judge.statistics import growth, mean, peak
from lab.judge.trial import Trial
from lab.model.evidence import Cause
from lab.model.physics import CHECKOUTS, db_trips
from lab.model.pooler import PoolerReading
from lab.model.replica import POOLER, pooled


def is_full(reading: PoolerReading, size: int) -> bool:
    """Whether clients waited while all of its connections of Postgres' were lent."""
    return reading.clients_waiting > 0 and reading.servers_active >= size


def full_at(trial: Trial) -> Callable[[float], bool]:
    """Tells whether PgBouncer was full at a moment, by its last reading; it never was unread."""
    readings, size = trial.evidence(PoolerReading), trial.knobs.pooler_size
    times, full = [reading.t for reading in readings], [is_full(r, size) for r in readings]

    def at(t: float) -> bool:
        place = bisect_right(times, t) - 1
        return place >= 0 and full[place]

    return at


def beyond_trips(trial: Trial) -> Callable[[str, float], float]:
    """Tells by how much longer a stage took than its round trips: so long it may have waited.

    Of a stage that is not the database's, and where PgBouncer was not read, nothing.
    """
    if not trial.evidence(PoolerReading):
        return lambda _stage, _took: 0.0
    span, trips = only_delay(trial.cell, "db"), db_trips(trial.knobs)
    longest = span.high if span else 0.0

    def beyond(stage: str, took: float) -> float:
        return max(0.0, took - trips[stage] * longest) if stage in trips else 0.0

    return beyond


def transactions(trial: Trial) -> int:
    """How many transactions an upload makes: one in each session."""
    return CHECKOUTS if trial.knobs.db_session == "release" else 1


def by_transaction(total_s: float, trial: Trial) -> float | None:
    """So many seconds of the window, by transaction; None without any."""
    made = growth(reading.transactions for reading in trial.pooler)
    return total_s / made if made else None


def wait_s(trial: Trial) -> float | None:
    """The mean seconds for which a transaction waited for a connection of Postgres'."""
    return by_transaction(growth(reading.wait_s for reading in trial.pooler), trial)


def held_s(trial: Trial) -> float | None:
    """The mean seconds for which a transaction had one, by the utilisation law (Denning and Buzen,
    1978): how many were lent, over the time, by how many transactions there were.

    What PgBouncer adds up as a transaction's time begins with its first statement's coming, so it
    has the wait in it.
    """
    times = [reading.t for reading in trial.pooler]
    active = mean(reading.servers_active for reading in trial.pooler) or 0.0
    return by_transaction(active * (times[-1] - times[0]), trial) if times else None


def upload_wait_s(trial: Trial) -> float:
    """Seconds that an upload waits in PgBouncer, in the mean; none where it was not read."""
    return transactions(trial) * (wait_s(trial) or 0.0)


def upload_held_s(trial: Trial) -> float | None:
    """Seconds for which an upload's transactions have a connection of Postgres', in the mean."""
    held = held_s(trial)
    return None if held is None else transactions(trial) * held


def lent(trial: Trial) -> float:
    """The mean share of its connections that were lent; 0 where it was not read."""
    active = mean(reading.servers_active for reading in trial.pooler)
    return (active or 0.0) / trial.knobs.pooler_size


def waited(trial: Trial) -> float:
    """The share of its readings in which a client waited; 0 where it was not read."""
    return mean(reading.clients_waiting > 0 for reading in trial.pooler) or 0.0


def shields(trial: Trial) -> bool:
    """Whether all that were refused were refused by it: by its own log Postgres refused none."""
    return pooled(trial.knobs) and not trial.metrics.get("db_refusals")


def given_up(trial: Trial) -> int:
    """How many uploads failed with ``db_error`` because it gave up on them, as its own log says.

    A client that it has kept waiting for its ``query_wait_timeout`` sees its connection closed, and
    of the reason the driver tells nothing.
    """
    told = trial.shortages("connections").get(POOLER, 0)
    return min(told, trial.failed(Cause.DB_ERROR))


MEASURES: Mapping[str, Callable[[Trial], float | None]] = {
    "pooler_clients": lambda trial: peak(
        reading.clients_active + reading.clients_waiting for reading in trial.pooler
    ),
    "pooler_waiting": lambda trial: peak(reading.clients_waiting for reading in trial.pooler),
    "pooler_wait": wait_s,
    "pooler_wait_max": lambda trial: peak(reading.longest_wait_s for reading in trial.pooler),
}
"""How its metrics are measured, by name; None where it was not read."""
