"""What is read of the database, of a replica's parts and of this machine, as it is stored.

Evidence as all of `lab.model.evidence`, which says of what times and units it is.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lab.model.base import Bytes, Count, Elapsed, Frozen, Moment, Total


class DatabaseReading(Frozen):
    """The application's backends in ``pg_stat_activity``, of the plain role only.

    ``states`` counts them by state as Postgres calls it (``active``, ``idle``, ``idle in
    transaction`` …), those that there are; ``lock_waiting`` those that wait for a lock of another.
    An earlier lab counted neither.
    """

    kind: Literal["database"] = "database"
    t: Moment
    connections: Count
    states: dict[str, Count] = {}
    lock_waiting: Count | None = None


class DatabaseStatements(Frozen):
    """What ``pg_stat_statements`` counted of the application's statements since the load began.

    Args:
        t: when it was read, once the load had ended.
        calls: how many there were, BEGIN, COMMIT and ROLLBACK among them.
        total_s: what they took inside the server together, in seconds; waits for locks are in it,
            the network is not.
        max_s: the longest of them.
    """

    kind: Literal["statements"] = "statements"
    t: Moment
    calls: Count
    total_s: Elapsed
    max_s: Elapsed


class Usage(Frozen):
    """What a part has used so far.

    Args:
        cpu_s: running total of CPU-seconds.
        memory: bytes that it holds now; in a container, its page cache included.
        throttled_s: running total of seconds for which its CPU quota kept it waiting; None
            where there is no quota.
        received, sent: running totals of bytes on the network, headers of every layer included;
            None where they cannot be read: Linux counts them for a network namespace, which a
            container has and a process of the embedded stack has not.
    """

    cpu_s: Total
    memory: Bytes
    throttled_s: Total | None = None
    received: Total | None = None
    sent: Total | None = None


class MachineReading(Frozen):
    """CPU of the whole machine (share in use since the last reading) and of the parts.

    ``cpu_s`` holds running totals of CPU-seconds by part, ``generator`` among them;
    ``lab`` the lab's own process; ``memory`` bytes now, ``throttled_s`` and the bytes ``received``
    and ``sent`` running totals, of the parts that have them. ``cores`` are the machine's, None
    where an earlier lab did not say. ``clock_offset`` is the wall clock minus the monotonic one, in
    seconds, which changes only where somebody sets the clock; None where an earlier lab did not
    look.
    """

    kind: Literal["machine"] = "machine"
    t: Moment
    wall_s: Total
    cpu_share: Total
    cpu_s: dict[str, Total]
    memory: dict[str, Bytes] = {}
    throttled_s: dict[str, Total] = {}
    received: dict[str, Total] = {}
    sent: dict[str, Total] = {}
    clock_offset: Moment | None = None
    cores: Annotated[int | None, Field(ge=1, le=100_000)] = None
