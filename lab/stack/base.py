"""One replica, one life cycle, on every stack.

    apply(cell) ──> Replica ──> … load, faults, readings … ──> apply(next) ──> … ──> close()

`Stack` is what the rest of the lab sees, `LifeCycle` what the real stacks are made of: it
starts only the parts anew whose knobs changed, and those that need them. A stack knows its
parts; it knows nothing of a cell's faults, load or verdict.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import PartFailed
from lab.model.evidence import Usage
from lab.model.experiment import Cell
from lab.model.knobs import TABLE, Knobs
from lab.model.replica import GATEWAY, PARTS, Target, services

if TYPE_CHECKING:  # they need what stands here
    from lab.stack.backend import Workers
    from lab.stack.gateway import Gateway
    from lab.stack.monitor import Monitor
    from lab.stack.storage import Bucket

Query = Callable[..., list[tuple[Any, ...]]]
"""Runs SQL, with values for its placeholders; the rows."""

FREE_SLOTS_WITHIN_S = 60.0
POLL_S = 0.02


@dataclass(frozen=True)
class Replica:
    """Addresses of a replica that is up, all on 127.0.0.1.

    Args:
        url: where users upload: nginx, or Cloud Run's gateway, as ``http://127.0.0.1:18080``.
        backend: uvicorn itself, behind nginx; the gateway where instances come and go.
        monitor_dsn: the database as superuser, not through the proxy (libpq URL).
        app_dsn: the database as the application's plain role, through the proxy (libpq URL).
        storage: fake-gcs-server itself, not through the proxy.
        toxiproxy: Toxiproxy's API, as ``http://127.0.0.1:8474``.
        proxies: listening address of each proxy by name, ``gcs`` and ``db``.
        bucket: the bucket that the backend uploads to.
        evidence: folder in which each worker writes ``worker-<pid>.jsonl``, and Cloud Run's
            gateway what happens, ``front.jsonl``.
        logs: the log file of each part.
        query: runs SQL as superuser over the one connection that is held for it, so that
            nobody takes a slot of the application's; gives the rows.
        parts: name of each part and a function that gives its process ids now.
        inflight: how many uploads are inside the workers now.
        usage: CPU and memory of every part, running totals; ``backend`` is all instances
            together where they come and go.
        refused: connections that Postgres refused with SQLSTATE 53300 since `apply`.
        round_trip: wall-clock seconds of a round trip to the database through its proxy, as
            that is now, from where the backend is. Holds a connection while it measures.
    """

    url: str
    backend: str
    monitor_dsn: str
    app_dsn: str
    storage: str
    toxiproxy: str
    proxies: Mapping[str, str]
    bucket: str
    evidence: Path
    logs: Mapping[str, Path]
    query: Query
    parts: Mapping[str, Callable[[], list[int]]] = field(default_factory=dict)
    inflight: Callable[[], int] = field(default=int)
    usage: Callable[[], Mapping[str, Usage]] = field(default=dict)
    refused: Callable[[], int] = field(default=int)
    round_trip: Callable[[], float] = field(default=float)


@dataclass(frozen=True)
class Reached:
    """Whether a listener outside a replica's networks answered: a container that may reach
    it, for control, and each part."""

    control: bool
    by_part: Mapping[str, bool]


class Confinement(Protocol):
    """What holds the parts of the replica that is up in, tried out.

    Attributes:
        cores: of the machine.
    """

    cores: int

    def busy(self, seconds: float) -> tuple[float, float]:
        """Cores that as many busy loops get under the backend's quota, and seconds throttled."""
        ...

    def killed_for_memory(self, share: float) -> bool:
        """Whether a process that fills this share of the backend's memory limit is killed."""
        ...

    def reached(self) -> Reached | None:
        """Who reaches outside; None where it cannot be found out."""
        ...


@dataclass(frozen=True)
class Burdened:
    """What an instance of Cloud Run that was burdened got.

    Args:
        cores: of a busy loop, as a share of time.
        first_mib: memory that it took first, and whether it ``lived`` with that.
        more_mib: memory that it took then, and whether it was ``killed`` for that.
    """

    cores: float
    first_mib: float
    more_mib: float
    lived: bool
    killed: bool


class Stack(Protocol):
    """A way to run the replica.

    Attributes:
        name: ``embedded`` or ``compose``.
        toxiproxy_variant: ``real``, or ``embedded`` for the lab's own server.
        process_faults: what it can do to a part: ``kill``, ``pause``, ``restart``, ``stop``, or
            nothing.
        confinement: what holds its parts in; None where nothing does.
    """

    name: str
    toxiproxy_variant: str
    process_faults: frozenset[str]

    @property
    def confinement(self) -> Confinement | None: ...

    def require(self, cell: Cell) -> None:
        """Find out, before anything is started, whether it can run this cell on this machine.

        Raises:
            MissingComponent: its instances cannot be limited here.
        """
        ...

    def apply(self, cell: Cell) -> Replica:
        """Bring the replica to this cell's settings and wait until every part is ready.

        Raises:
            PartFailed: a part did not come up; the message ends with its last log line.
            MissingComponent: a program is not on this machine.
        """
        ...

    def burden(self, cell: Cell) -> Burdened:
        """Burden an instance with this cell's limits, apart from those that serve, and end it.

        The replica has been brought to a cell on Cloud Run.

        Raises:
            PartFailed: it could not be made.
        """
        ...

    def down_parts(self) -> dict[str, str]:
        """The parts that are dead or stopped now, each with one line of diagnosis."""
        ...

    def inject_fault(self, part: str, action: str) -> None:
        """Do this to a part now; when it returns the part is dead, frozen or ended.

        The part, and what needs it, start anew with the next `apply`: what a process fault has
        left in them is not of the next cell.

        Raises:
            PartFailed: it could not be done.
            MissingComponent: it is none of `process_faults`.
        """
        ...

    def recover(self, part: str, action: str) -> None:
        """Start a part again that a process fault has ended, or let it go on; wait until it serves.

        It is then none of the `down_parts`, and it may be called where `inject_fault` has failed.

        Raises:
            PartFailed: it did not come back; the message ends with its last log line.
            MissingComponent: it is none of `process_faults`.
        """
        ...

    def collect_logs(self, into: Path) -> None:
        """Copy every part's log, from this cell's start on, to ``into/<part>.log``."""
        ...

    def about(self) -> dict[str, str]:
        """What a result depends on beside the lab: versions, and where images came from."""
        ...

    def close(self) -> None:
        """Stop every part and remove what the stack made; safe to call twice."""
        ...


NEEDS = {"backend": {"postgres", "toxiproxy"}}
"""Which part must start anew because another one did: the backend holds connections that a new
Postgres, or a new proxy, does not know. Cloud Run's gateway starts anew with every cell."""


def settings(part: str, knobs: Knobs) -> dict[str, Any]:
    """The knobs that a start of this part depends on: the table says which part each restarts.

    ``speed``, one of the backend's, divides nginx's timeouts too.
    """
    text = knobs.as_text()
    return {
        row.name: text[row.name]
        for row in TABLE
        if row.part == part or (part == "nginx" and row.name == "speed")
    }


class LifeCycle(ABC):
    """A replica from one cell to the next, whatever its parts are made of.

        end the gateway ─> end parts that the target has none of ─> end and start stale parts
        ─> wait for free slots ─> empty table and bucket ─> start the gateway (Cloud Run)

    A stack says how it ends and starts its parts, and where they are.

    Attributes:
        target: of the cell that the replica was brought to last.
        restarted: the parts that this cell has started anew, in their order.
        gateway, monitor, bucket, workers: what holds instances, and what the database, storage
            and the backend are asked by; a stack makes them.
    """

    gateway: Gateway
    monitor: Monitor
    bucket: Bucket
    workers: Workers

    def __init__(self) -> None:
        self.target: Target = "vm"
        self.restarted: list[str] = []
        self._running: dict[str, dict[str, Any]] = {}

    @abstractmethod
    def require(self, cell: Cell) -> None: ...

    @abstractmethod
    def down_parts(self) -> dict[str, str]: ...

    @abstractmethod
    def _begin_logs(self) -> None:
        """From here on, what the parts of the target write is this cell's."""

    def _retire(self, parts: list[str]) -> None:
        """End these parts, of which the next target has none."""
        self._end(parts)

    @abstractmethod
    def _end(self, parts: list[str]) -> None:
        """End these parts, in whatever state each is."""

    @abstractmethod
    def _start(self, parts: list[str], knobs: Knobs) -> None:
        """Start these parts, all of them ended, and wait until each serves.

        Raises:
            PartFailed: one did not come up; the message ends with its last log line.
        """

    @abstractmethod
    def _replica(self) -> Replica:
        """Where everything is now."""

    def apply(self, cell: Cell) -> Replica:
        self.require(cell)
        self.gateway.stop()  # with its instances, which hold connections
        retired = [part for part in services(self.target) if part not in PARTS[cell.target]]
        self._forget(retired)
        self._retire(retired)
        self.target = cell.target
        self._begin_logs()
        self.restarted = self._stale(cell.knobs)
        self._restart(cell.knobs)
        if "backend" in self.restarted or cell.target == "cloudrun":
            self._wait_for_free_slots()
        self.monitor.empty()  # what started anew has its data from before
        self.bucket.empty()
        if cell.target == "cloudrun":
            self.gateway.start(cell.knobs)
            self.restarted.append(GATEWAY)
        return self._replica()

    def _stale(self, knobs: Knobs) -> list[str]:
        """The parts that must start: not running, changed, busy, or in need of one that must."""
        wanted = {part: settings(part, knobs) for part in services(self.target)}
        down = self.down_parts()
        stale = {part for part in wanted if part in down or self._running.get(part) != wanted[part]}
        if "backend" in wanted.keys() - stale and self.workers.busy():
            stale.add("backend")  # with uploads of the last cell, that nobody waits for
        stale |= {part for part, needed in NEEDS.items() if needed & stale}
        return [part for part in wanted if part in stale]

    def _restart(self, knobs: Knobs) -> None:
        """Start the stale parts anew; one that does not come up will be stale again."""
        self._forget(self.restarted)
        if self.restarted:
            self._end(self.restarted)
            self._start(self.restarted, knobs)
        self._running |= {part: settings(part, knobs) for part in self.restarted}

    def _forget(self, parts: Iterable[str]) -> None:
        """Have these parts start anew with the next cell, whatever state they are in."""
        for part in parts:
            self._running.pop(part, None)

    def _wait_for_free_slots(self) -> None:
        """Until the last backend's connections are gone, so that the new one finds db_cap.

        The new one has none yet: its pools connect when an upload first asks.
        """
        deadline = time.monotonic() + FREE_SLOTS_WITHIN_S
        while self.monitor.app_connections():
            if time.monotonic() > deadline:
                raise PartFailed(
                    "postgres still has connections of a backend that was ended",
                    "see Postgres' and Toxiproxy's logs",
                )
            time.sleep(POLL_S)

    def burden(self, cell: Cell) -> Burdened:
        return self.gateway.burden(cell.knobs)
