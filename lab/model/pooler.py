"""What PgBouncer's admin console says of the application's pool: now, and as evidence."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lab.model.base import Count, Elapsed, Frozen, Moment, Total


class PoolerState(NamedTuple):
    """What a `PoolerReading` says, in wall-clock seconds."""

    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    longest_wait_s: float
    wait_s: float
    transactions: int


class PoolerReading(Frozen):
    """PgBouncer's pool of the application, ten times a second, as its admin console shows it.

    Args:
        clients_active: clients that do not wait: each has one of Postgres', or asks for nothing.
        clients_waiting: those that wait for one.
        servers_active: connections of Postgres' that a client has.
        servers_idle: those that none has.
        longest_wait_s: how long the client has waited that waits longest now.
        wait_s: running total of the time for which clients waited for a connection of Postgres'.
        transactions: running total of those.
    """

    kind: Literal["pooler"] = "pooler"
    t: Moment
    clients_active: Count
    clients_waiting: Count
    servers_active: Count
    servers_idle: Count
    longest_wait_s: Elapsed
    wait_s: Total
    transactions: Count
