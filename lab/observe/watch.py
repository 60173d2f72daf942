"""Looks at the replica while the load runs: connections, CPU, parts that are down.

Each has a thread of the lab's own, so that a database that does not answer hides nothing
else. Readings are kept with the wall clock (seconds since 1970), because t = 0 is known
only once the load has begun.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg2

from lab.model.evidence import Usage

DATABASE_S = 0.1
PARTS_S = 0.25
MACHINE_S = 1.0

GENERATOR = "generator"

CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND usename = %s AND state IS NOT NULL"
)
"""A backend has a state once it is past authentication; one that is being refused has none."""


@dataclass
class Seen:
    """What the watch saw, each with its wall clock."""

    connections: list[tuple[float, int]] = field(default_factory=list)
    machine: list[tuple[float, float, float, Mapping[str, Usage]]] = field(default_factory=list)
    down: dict[str, tuple[float, str]] = field(default_factory=dict)


class Watch:
    """The watching threads; a context manager.

    Args:
        query: SQL over the held superuser connection (`Replica.query`).
        app_role: whose connections are counted.
        usage: CPU and memory by part (`Replica.usage`).
        down_parts: the parts that are down now, with a diagnosis each.
    """

    def __init__(
        self,
        query: Callable[..., list[tuple[Any, ...]]],
        app_role: str,
        usage: Callable[[], Mapping[str, Usage]],
        down_parts: Callable[[], dict[str, str]],
    ) -> None:
        self.seen = Seen()
        self._query = query
        self._role = app_role
        self._usage = usage
        self._generator: psutil.Process | None = None
        self._generator_usage: Usage | None = None
        self._down_parts = down_parts
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=watch, name=watch.__name__, daemon=True)
            for watch in (self._watch_database, self._watch_parts, self._watch_machine)
        ]

    def __enter__(self) -> Watch:
        """Begin to watch."""
        self._look_at_machine(time.time())
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Look once more and end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def generator(self, pid: int) -> None:
        """Count this process's CPU as the generator's from now on."""
        self._generator = psutil.Process(pid)

    def note_down(self, part: str, why: str) -> None:
        """Count a part as down that somebody else saw die."""
        self.seen.down.setdefault(part, (time.time(), why))

    def _keep_looking(self, look: Callable[[float], None], every: float) -> None:
        while not self._stop.wait(every):
            look(time.time())

    def _watch_database(self) -> None:
        self._keep_looking(self._look_at_database, DATABASE_S)

    def _watch_parts(self) -> None:
        self._keep_looking(self._look_at_parts, PARTS_S)
        self._look_at_parts(time.time())

    def _watch_machine(self) -> None:
        psutil.cpu_percent()  # a thread's first call sets the mark that its next one counts from
        self._keep_looking(self._look_at_machine, MACHINE_S)
        self._look_at_machine(time.time())

    def _look_at_database(self, now: float) -> None:
        try:
            rows = self._query(CONNECTIONS, self._role)
        except psycopg2.Error:
            return  # the database is down: the parts say so
        self.seen.connections.append((now, int(rows[0][0])))

    def _look_at_parts(self, now: float) -> None:
        for part, why in self._down_parts().items():
            self.seen.down.setdefault(part, (now, why))

    def _look_at_machine(self, now: float) -> None:
        share = psutil.cpu_percent() / 100
        usage = dict(self._usage())
        if own := self._read_generator():
            usage[GENERATOR] = own
        self.seen.machine.append((now, time.monotonic(), share, usage))

    def _read_generator(self) -> Usage | None:
        """Its CPU and memory; as it was last read, once it has ended."""
        if self._generator:
            try:
                times, memory = self._generator.cpu_times(), self._generator.memory_info().rss
                self._generator_usage = Usage(cpu_s=times.user + times.system, memory=memory)
            except psutil.Error:
                return self._generator_usage
        return self._generator_usage
