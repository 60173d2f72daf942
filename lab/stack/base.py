"""The life cycle of a replica, the same on every stack.

    apply(cell) ──> Replica ──> … load, faults, readings … ──> apply(next) ──> … ──> close()

`Stack` is what the rest of the lab sees. `LifeCycle` is the base of the real stacks: from cell
to cell it restarts only the parts whose knobs changed, and those that depend on them. A stack
knows its parts; it knows nothing of a cell's faults, load or verdict.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lab.errors import PartFailed
from lab.model.evidence import Shortage
from lab.model.experiment import Cell
from lab.model.knobs import TABLE, Knobs
from lab.model.pooler import PoolerState
from lab.model.readings import Usage
from lab.model.replica import GATEWAY, POOLER, POSTGRES, Target, parts_of, pooled, services
from lab.stack.health import HealthWatch
from lab.stack.ports import POLL_S

if TYPE_CHECKING:  # what a run is made of shall not cost every command their imports
    from lab.stack.backend import Workers
    from lab.stack.gateway import Burdened, Gateway
    from lab.stack.monitor import Monitor, Query
    from lab.stack.ownership import Guardian
    from lab.stack.storage import Bucket

FREE_SLOTS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Replica:
    """Addresses of a replica that is up, all on 127.0.0.1.

    Args:
        url: where users upload: nginx, or Cloud Run's gateway, as ``http://127.0.0.1:18080``.
        backend: uvicorn itself, behind nginx; on Cloud Run the gateway.
        monitor_dsn: the database as superuser, not through the proxy (libpq URL).
        app_dsn: the database as the application's plain role, through the proxy (libpq URL).
        storage: fake-gcs-server itself, not through the proxy.
        toxiproxy: Toxiproxy's API, as ``http://127.0.0.1:8474``.
        proxies: listening address of each proxy by name, ``gcs``, ``db`` and ``speech``.
        bucket: the bucket that the backend uploads to.
        evidence: folder with the ``worker-<pid>.jsonl`` of each worker and the
            ``front.jsonl`` of Cloud Run's gateway.
        logs: the log file of each part.
        query: runs SQL as superuser over a connection that is kept open for it, so that no
            reading takes one of the application's slots; returns the rows.
        parts: name of each part to a function that returns its process ids now.
        inflight: how many uploads are inside the workers now.
        usage: running totals of CPU and memory of every part; on Cloud Run ``backend`` is all
            instances together.
        refused: connections that Postgres refused with SQLSTATE 53300 since `apply`.
        shortages: what parts ran out of since `apply`.
        round_trip: wall-clock seconds of a round trip from the backend to the database
            through its proxy, and PgBouncer if that stands there, with the toxics of now, which
            delay it by as many as it is told. Holds connections while it measures.
        pooler: what PgBouncer is doing now; None where there is none.
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
    shortages: Callable[[], list[Shortage]] = field(default=list)
    round_trip: Callable[[float], float] = field(default=float)
    pooler: Callable[[], PoolerState] | None = None


@dataclass(frozen=True)
class Reached:
    """Which containers could connect to a listener outside the replica's networks.

    Args:
        control: whether a container that is allowed to could.
        by_part: whether each part could; none should.
    """

    control: bool
    by_part: Mapping[str, bool]


class Confinement(Protocol):
    """Tests whether the running replica's limits on CPU, memory and network hold.

    Attributes:
        cores: of the machine.
    """

    cores: int

    def busy(self, seconds: float) -> tuple[float, float]:
        """Run a busy loop per core under the backend's quota: cores got, and seconds throttled."""
        ...

    def killed_for_memory(self, share: float) -> bool:
        """Whether a process that fills this share of the backend's memory limit is killed."""
        ...

    def reached(self) -> Reached | None:
        """Which parts reach outside; None if that cannot be tested here."""
        ...


class Stack(Protocol):
    """A way to run the replica.

    Attributes:
        name: ``embedded`` or ``compose``.
        toxiproxy_variant: ``real``, or ``embedded`` for the lab's own server.
        process_faults: what it can do to a part, of ``kill``, ``pause``, ``restart``, ``stop``.
        confinement: tests the limits of its parts; None if they have none.
    """

    name: str
    toxiproxy_variant: str
    process_faults: frozenset[str]

    @property
    def confinement(self) -> Confinement | None: ...

    def require(self, cell: Cell) -> None:
        """Check, before anything is started, that it can run this cell on this machine.

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
        """Test the limits of an extra instance, made with this cell's knobs, and end it.

        Needs a replica that was brought to a cell on Cloud Run.

        Raises:
            PartFailed: it could not be made.
        """
        ...

    def down_parts(self) -> dict[str, str]:
        """The parts that are dead or stopped now, with a line of diagnosis."""
        ...

    def inject_fault(self, part: str, action: str) -> None:
        """Do this to a part now; when it returns the part is dead, frozen or ended.

        The next `apply` restarts the part and those that depend on it, so that nothing the
        fault has left in them reaches the next cell.

        Raises:
            PartFailed: it could not be done.
            MissingComponent: it is none of `process_faults`.
        """
        ...

    def recover(self, part: str, action: str) -> None:
        """Start or resume a part after a process fault, and wait until it serves.

        The part is then no longer in `down_parts`. May be called even if `inject_fault` failed.

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


NEEDS = {
    "backend": {POSTGRES, "toxiproxy", POOLER},
    POOLER: {POSTGRES, "backend", GATEWAY},
}
"""Which part must restart because another did, or is gone: the backend holds connections that a new
Postgres, proxy or PgBouncer does not know, and PgBouncer keeps those of Postgres' that an ended
backend had. Cloud Run's gateway restarts with every cell."""

KEEPERS = frozenset({"postgres", "fake-gcs-server", "toxiproxy"})
"""The parts that hold what is removed between cells, and what is on its way there."""


def settings(part: str, knobs: Knobs) -> dict[str, Any]:
    """The knobs that this part reads when it starts; the table of knobs says which.

    nginx has to know every port that the backend listens on, and so the number of its workers
    where each has one.
    """
    text = knobs.as_text()
    read = {row.name: text[row.name] for row in TABLE if part in (row.part, *row.also)}
    return read | ({"listeners": knobs.listeners} if part == "nginx" else {})


class LifeCycle(ABC):
    """Brings a replica from one cell to the next, whatever its parts are made of.

        end the gateway ─> end parts that the target does not have, and stale ones
        ─> start stale parts; wait for free slots ─> empty table and bucket
        ─> lead the database's proxy to PgBouncer or past it ─> start the gateway (Cloud Run)

    A stack implements how its parts end and start, and where they are.

    Attributes:
        target: of the last cell that was applied.
        pooled: whether it has PgBouncer.
        guardian: ends the replica if the lab is killed; None for one that stays up.
        restarted: the parts that were restarted for that cell, in their order.
        gateway, monitor, bucket, workers: what holds instances, and what the database, storage
            and the backend are asked by; a stack makes them.
    """

    gateway: Gateway
    monitor: Monitor
    bucket: Bucket
    workers: Workers

    def __init__(self) -> None:
        self.target: Target = "vm"
        self.pooled = False
        self.guardian: Guardian | None = None
        self.restarted: list[str] = []
        self._running: dict[str, dict[str, Any]] = {}
        self._health: HealthWatch | None = None
        self._leads_to = POSTGRES

    @property
    def services(self) -> tuple[str, ...]:
        """The parts of the last cell but the gateway."""
        return services(self.target, self.pooled)

    @abstractmethod
    def require(self, cell: Cell) -> None: ...

    def down_parts(self) -> dict[str, str]:
        down = self._parts_down()
        if self.guardian and (why := self.guardian.down()):
            down["guardian"] = why
        if self._health and self._health.failed:
            down.setdefault("backend", self._health.failed)
        return down

    @abstractmethod
    def _parts_down(self) -> dict[str, str]:
        """The parts of which a process is dead or was stopped, with a line of diagnosis."""

    @abstractmethod
    def _begin_logs(self) -> None:
        """Note where the logs are: what the target's parts write from now on is this cell's."""

    def _retire(self, parts: list[str]) -> None:
        """End these parts, which the next target does not have."""
        self._end(parts)

    @abstractmethod
    def _end(self, parts: list[str]) -> None:
        """End these parts, whatever state they are in."""

    @abstractmethod
    def _start(self, parts: list[str], knobs: Knobs) -> None:
        """Start these parts, which have all ended, and wait until they serve.

        Raises:
            PartFailed: one did not come up; the message ends with its last log line.
        """

    @abstractmethod
    def _renew_backend(self, knobs: Knobs) -> None:
        """End the backend, which runs, and start it anew; until it serves it is no part down.

        Raises:
            PartFailed: it did not come up.
        """

    @abstractmethod
    def _lead_to(self, part: str) -> None:
        """Have the database's proxy lead to this part.

        Raises:
            PartFailed: it does not.
        """

    @abstractmethod
    def _replica(self) -> Replica:
        """The addresses and readings of the replica as it is now."""

    def apply(self, cell: Cell) -> Replica:
        self.require(cell)
        self._rest()
        if self.guardian:
            self.guardian.renew()
        self.gateway.stop()  # with its instances, which hold connections
        wanted = parts_of(cell.target, pooled(cell.knobs))
        retired = [part for part in self.services if part not in wanted]
        gone = self._running.keys() & retired
        self._forget(retired)
        self._retire(retired)
        self.target, self.pooled = cell.target, pooled(cell.knobs)
        self._begin_logs()
        self.restarted = self._stale(cell.knobs, gone)
        self._restart(cell.knobs)
        self._lead()
        if cell.target == "cloudrun":
            self.gateway.start(cell.knobs)
            self.restarted.append(GATEWAY)
        replica = self._replica()
        if cell.target == "vm" and cell.knobs.health_probe is not None:
            self._ask_for_health(replica, cell.knobs)
        return replica

    def _ask_for_health(self, replica: Replica, knobs: Knobs) -> None:
        renew = partial(self._renew_backend, knobs)
        self._health = HealthWatch(replica.url, knobs, replica.evidence, renew)
        self._health.start()

    def _rest(self) -> None:
        """Ask for nobody's health any more."""
        if self._health:
            self._health.stop()
            self._health = None

    def _stale(self, knobs: Knobs, gone: AbstractSet[str]) -> list[str]:
        """Parts to restart: down, with changed knobs, still busy, or dependent on such a part.

        Args:
            knobs: of the cell.
            gone: parts that ran, and that the cell does not have.
        """
        wanted = {part: settings(part, knobs) for part in self.services}
        down = self.down_parts()
        stale = {part for part in wanted if part in down or self._running.get(part) != wanted[part]}
        if "backend" in wanted.keys() - stale and self.workers.busy():
            stale.add("backend")  # it still works on uploads of the last cell
        struck = stale | gone | ({GATEWAY} if self.target == "cloudrun" else set())
        while more := {part for part, needed in NEEDS.items() if needed & struck} - struck:
            struck |= more
        stale |= struck
        return [part for part in wanted if part in stale]

    def _restart(self, knobs: Knobs) -> None:
        """Restart the stale parts, and empty table and bucket, at once where that can be.

        A part keeps its data over a restart. One that does not come up stays stale.
        """
        self._forget(self.restarted)
        if self.restarted:
            self._end(self.restarted)
        with ThreadPoolExecutor(1, "emptying") as beside:
            stay = KEEPERS.isdisjoint(self.restarted)
            emptying = beside.submit(self._empty) if stay else None
            if self.restarted:
                self._start(self.restarted, knobs)
        self._running |= {part: settings(part, knobs) for part in self.restarted}
        if emptying:
            emptying.result()
        else:
            self._empty()

    def _lead(self) -> None:
        """Have the database's proxy lead to PgBouncer where there is one; anew it leads past it."""
        if "toxiproxy" in self.restarted:
            self._leads_to = POSTGRES
        wanted = POOLER if self.pooled else POSTGRES
        if wanted != self._leads_to:
            self._lead_to(wanted)
            self._leads_to = wanted

    def _empty(self) -> None:
        """Remove all rows and objects, once nobody is left who might write another."""
        if "backend" in self.restarted or self.target == "cloudrun":
            self._wait_for_free_slots()
        self.monitor.empty()
        self.bucket.empty()

    def _forget(self, parts: Iterable[str]) -> None:
        """Have the next cell restart these parts, whatever state they are in."""
        for part in parts:
            self._running.pop(part, None)

    def _wait_for_free_slots(self) -> None:
        """Wait until the last backend's connections are gone, so that all db_cap slots are free.

        The new backend holds none yet: its pools connect on the first upload.
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
