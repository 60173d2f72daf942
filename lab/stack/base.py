"""The replica's one protocol: what every stack offers to the rest of the lab.

    apply(cell) ──> Replica ──> … load, faults, readings … ──> apply(next) ──> … ──> close()

`apply` restarts only the parts whose settings changed. A stack knows its parts; it knows
nothing of faults, load or verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lab.errors import PartFailed
from lab.model.evidence import Usage
from lab.model.experiment import Cell

Query = Callable[..., list[tuple[Any, ...]]]


def no_query(sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Stands where no lab holds a connection to the database."""
    raise PartFailed("no connection to the database is held here", "use monitor_dsn")


@dataclass(frozen=True)
class Replica:
    """Addresses of a replica that is up, all on 127.0.0.1.

    Args:
        url: where users upload: nginx, or Cloud Run's front, as ``http://127.0.0.1:18080``.
        backend: uvicorn itself, behind nginx; the front where instances come and go.
        monitor_dsn: the database as superuser, not through the proxy (libpq URL).
        app_dsn: the database as the application's plain role, through the proxy (libpq URL).
        storage: fake-gcs-server itself, not through the proxy.
        toxiproxy: Toxiproxy's API, as ``http://127.0.0.1:8474``.
        proxies: listening address of each proxy by name, ``gcs`` and ``db``.
        bucket: the bucket that the backend uploads to.
        evidence: folder in which each worker writes ``worker-<pid>.jsonl``, and Cloud Run's
            front what happens, ``front.jsonl``.
        logs: the log file of each part.
        parts: name of each part and a function that gives its process ids now.
        query: runs SQL as superuser over the one connection that is held for it, so that
            nobody takes a slot of the application's; gives the rows.
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
    parts: Mapping[str, Callable[[], list[int]]] = field(default_factory=dict)
    query: Query = field(default=no_query)
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
    """What an instance of Cloud Run got that was burdened.

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
        strikes: what it can do to a part: ``kill``, ``pause``, ``restart``, ``stop``, or nothing.
        confinement: what holds its parts in; None where nothing does.
    """

    name: str
    toxiproxy_variant: str
    strikes: frozenset[str]

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

    def strike(self, part: str, action: str) -> None:
        """Do this to a part now; when it returns the part is dead, frozen or ended.

        The part, and what needs it, start anew with the next `apply`: what a strike has left
        in them is not of the next cell.

        Raises:
            PartFailed: it could not be done.
            MissingComponent: it is none of `strikes`.
        """
        ...

    def recover(self, part: str, action: str) -> None:
        """Start a struck part again, or let it go on, and wait until it serves.

        It is then none of the `down_parts`, and it may be called where `strike` has failed.

        Raises:
            PartFailed: it did not come back; the message ends with its last log line.
            MissingComponent: it is none of `strikes`.
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
