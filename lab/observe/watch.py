"""Watches the replica during the load: connections, PgBouncer, CPU and memory, parts that are down.

Each of these has its own thread, so that a database that does not answer delays no other
reading, and one more notices where all of the lab stood still. Readings are kept with the
monotonic clock, because t = 0 is known only once the load has begun.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil
import psycopg2

from lab.model.clock import BEAT_S, STILL_S, USUAL_S, wall_offset
from lab.model.evidence import GENERATOR, LAB
from lab.model.pooler import PoolerState
from lab.model.processes import how_held
from lab.model.readings import Usage
from lab.model.replica import APP_ROLE
from lab.observe import Query, statements
from lab.observe.statements import Statements

DATABASE_S = 0.1
PARTS_S = 0.25
MACHINE_S = 1.0

RECENT_S = 10.0
"""Wall-clock seconds in which the lab may not stand still for longer than `STILL_S` in all."""

CONNECTIONS = (
    "SELECT state, coalesce(wait_event_type, '') = 'Lock', count(*) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND usename = %s AND state IS NOT NULL GROUP BY 1, 2"
)
"""The application's backends by state, and by whether they wait for a lock of another.

A backend has a state once it is authenticated; a connection being refused has none. That one waits
for a lock is told at every reading, however short the wait is; ``log_lock_waits`` tells only of
waits longer than ``deadlock_timeout``, a second.
"""


class Backends(NamedTuple):
    """The application's backends at a moment: by state, and how many wait for a lock."""

    at: float
    states: Mapping[str, int]
    lock_waiting: int


class MachineUsage(NamedTuple):
    """CPU of the machine since the last reading, as a share, and running totals by part.

    ``clock_offset`` and ``cores`` as in `MachineReading`.
    """

    at: float
    wall_s: float
    cpu_share: float
    usage: Mapping[str, Usage]
    clock_offset: float | None = None
    cores: int | None = None


@dataclass
class Seen:
    """What the watch saw, with the monotonic clock: connections, PgBouncer, usage, and parts down
    with why.

    ``statements`` is what the database counted while the watch went on; None where it counts none.
    """

    connections: list[Backends] = field(default_factory=list)
    statements: Statements | None = None
    pooler: list[tuple[float, PoolerState]] = field(default_factory=list)
    machine: list[MachineUsage] = field(default_factory=list)
    down: dict[str, tuple[float, str]] = field(default_factory=dict)


class Stills:
    """Times in which nothing of the lab ran, of late, in wall-clock seconds."""

    def __init__(self) -> None:
        self._lasted: list[tuple[float, float]] = []

    def add(self, last: float, now: float) -> str:
        """Take a time between two signs of life; how long it stood still, if that is too long."""
        if now - last <= USUAL_S:
            return ""
        recent = [(at, lasted) for at, lasted in self._lasted if now - at <= RECENT_S]
        self._lasted = [*recent, (now, now - last)]
        total, count = sum(lasted for _, lasted in self._lasted), len(self._lasted)
        if total <= STILL_S:
            return ""
        times = f"{count} times, " if count > 1 else ""
        return f"it stood still {times}for {total:.1f} s of wall time"


class Watch:
    """The watching threads; a context manager.

    Args:
        query: runs SQL over the superuser connection that is kept open.
        usage: returns running totals of CPU and memory by part.
        down_parts: returns the parts that are down now, with their diagnosis.
        pooler: returns what PgBouncer is doing now; None where there is none.
    """

    def __init__(
        self,
        query: Query,
        usage: Callable[[], Mapping[str, Usage]],
        down_parts: Callable[[], dict[str, str]],
        pooler: Callable[[], PoolerState] | None = None,
    ) -> None:
        self.seen = Seen()
        self._query = query
        self._pooler = pooler
        self._usage = usage
        self._generator: psutil.Process | None = None
        self._generator_usage: Usage | None = None
        self._down_parts = down_parts
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=watch, name=watch.__name__, daemon=True)
            for watch in (
                *(self._watch_database, self._watch_parts, self._watch_machine),
                *(self._watch_the_lab, self._watch_pooler),
            )
        ]

    def __enter__(self) -> Watch:
        """Start the threads."""
        self._read_machine()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Read parts and machine once more, and end the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def generator(self, pid: int) -> None:
        """Count this process's CPU as the generator's from now on."""
        self._generator = psutil.Process(pid)

    def note_down(self, part: str, why: str) -> None:
        """Count a part as down whose death was seen elsewhere."""
        self.seen.down.setdefault(part, (time.monotonic(), why))

    def _watch_database(self) -> None:
        statements.reset(self._query)
        while not self._stop.wait(DATABASE_S):
            self._read_database()
        self.seen.statements = statements.read(self._query)

    def _watch_pooler(self) -> None:
        while self._pooler and not self._stop.wait(DATABASE_S):
            now = time.monotonic()
            with suppress(psycopg2.Error):  # it is down: `down_parts` says so
                self.seen.pooler.append((now, self._pooler()))

    def _watch_parts(self) -> None:
        while not self._stop.wait(PARTS_S):
            self._read_parts()
        self._read_parts()

    def _watch_machine(self) -> None:
        psutil.cpu_percent()  # a thread's first call sets the mark that its next one counts from
        while not self._stop.wait(MACHINE_S):
            self._read_machine()
        self._read_machine()

    def _watch_the_lab(self) -> None:
        """Notice, while the load runs, that nothing of the lab ran: it was stopped, or starved."""
        last, gaps = time.monotonic(), Stills()
        while not self._stop.wait(BEAT_S):
            now = time.monotonic()
            if self._generator and (still := gaps.add(last, now)):
                self.note_down(LAB, still)
            last = now

    def _read_database(self) -> None:
        now = time.monotonic()
        try:
            rows = self._query(CONNECTIONS, APP_ROLE)
        except psycopg2.Error:
            return  # the database is down: `down_parts` says so
        self.seen.connections.append(_backends(now, rows))

    def _read_parts(self) -> None:
        now = time.monotonic()
        for part, why in self._down_parts().items():
            self.seen.down.setdefault(part, (now, why))
        # That it has ended, who started it knows first.
        if self._generator and (held := how_held(self._generator.pid)):
            self.note_down(GENERATOR, f"it was {held}")

    def _read_machine(self) -> None:
        now = time.monotonic()
        share = psutil.cpu_percent() / 100
        usage = dict(self._usage())
        if own := self._read_generator():
            usage[GENERATOR] = own
        usage[LAB] = _own_usage()
        offset, cores = round(wall_offset(), 6), psutil.cpu_count()
        self.seen.machine.append(MachineUsage(now, time.monotonic(), share, usage, offset, cores))

    def _read_generator(self) -> Usage | None:
        """The generator's CPU and memory; the last reading once it has ended."""
        if self._generator:
            with suppress(psutil.Error):
                times, memory = self._generator.cpu_times(), self._generator.memory_info().rss
                self._generator_usage = Usage(cpu_s=times.user + times.system, memory=memory)
        return self._generator_usage


def _backends(at: float, rows: Iterable[tuple[str, bool, int]]) -> Backends:
    states: Counter[str] = Counter()
    waiting = 0
    for state, waits, count in rows:
        states[state] += count
        waiting += count if waits else 0
    return Backends(at, dict(states), waiting)


def _own_usage() -> Usage:
    """CPU and memory of this process."""
    times = os.times()
    return Usage(cpu_s=times.user + times.system, memory=psutil.Process().memory_info().rss)
