"""The embedded stack: real servers from wheels, as child processes, on 127.0.0.1.

    users ──> nginx ──> uvicorn × workers ──> :gcs proxy ──> fake-gcs-server
                                          └─> :db proxy  ──> Postgres
    users ──> front ──> instances ──> …                      on Cloud Run

It needs neither Docker nor root, but for Cloud Run's instances, which are processes in
cgroups. A cell's target says which parts there are. They start in the order in which they
need each other; from cell to cell only those start anew whose settings changed, and those
that need them: a backend holds connections that a new Postgres, or a new proxy, does not know.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path

from lab.errors import MissingComponent, PartFailed
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.replica import PARTS, Target
from lab.stack import ownership, ports
from lab.stack.backend import Backend
from lab.stack.base import Burdened, Replica
from lab.stack.gateway import Gateway, check
from lab.stack.monitor import APP_ROLE, SUPERUSER, RoundTrip
from lab.stack.nginx import Nginx
from lab.stack.postgres import Postgres
from lab.stack.process import Part, ProcessUsage
from lab.stack.storage import BUCKET, Storage
from lab.stack.toxiproxy import ToxiproxyPart

NEEDS = {name: {"postgres", "toxiproxy"} for name in ("backend", "front")}
"""Which part must start anew because another one did."""


class EmbeddedStack:
    """The replica as child processes of the lab.

    Args:
        results: the results folder that the replica belongs to.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        port: where users upload: nginx, or the front; None finds a free port.
        stays: whether the replica outlives this process (`lab up`).

    Raises:
        MachineError: the port is taken.
        MissingComponent: the real Toxiproxy was asked for and is not here.
    """

    name = "embedded"
    strikes: frozenset[str] = frozenset()
    confinement = None

    def __init__(
        self,
        results: Path,
        toxiproxy: str = "auto",
        port: int | None = None,
        stays: bool = False,
    ) -> None:
        door = ports.check(port) if port else None
        self.folder, self.owner = ownership.claim(results, stays)
        os.environ[ownership.MARKER] = self.owner.id  # all children carry it, the generator too
        with ExitStack() as closing:
            closing.callback(self._remove)
            if stays:
                closing.callback(ownership.end, self.folder, self.owner)
            else:
                closing.callback(ownership.Guardian(self.folder).close)
            self._make_parts(toxiproxy, door, monitored=not stays)
            self._closing = closing.pop_all()
        self.toxiproxy_variant = self.toxiproxy.variant
        self.target: Target = "vm"
        self._limited = False
        self._running: dict[str, object] = {}
        self._log_starts: dict[Path, int] = {}
        self.restarted: list[str] = []

    def _make_parts(self, toxiproxy: str, door: int | None, monitored: bool) -> None:
        found = ports.free(7)
        door = door or found[6]
        self.postgres = Postgres(self.folder, found[0], monitored=monitored)
        self.storage = Storage(self.folder, found[1], f"http://{ports.HOST}:{found[3]}")
        self.toxiproxy = ToxiproxyPart(
            self.folder,
            found[2],
            {"gcs": (found[3], found[1]), "db": (found[4], found[0])},
            toxiproxy,
        )
        self.backend = Backend(
            self.folder,
            found[5],
            self.postgres.dsn(APP_ROLE, port=found[4]),
            f"http://{ports.HOST}:{found[3]}",
            BUCKET,
        )
        self.nginx = Nginx(self.folder, door, found[5])
        self.front = Gateway(
            self.folder, door, self.backend.evidence, lambda knobs: self.backend.addresses
        )
        self._all: list[Part] = [
            self.postgres,
            self.storage,
            self.toxiproxy,
            self.backend,
            self.nginx,
            self.front,
        ]

    @property
    def parts(self) -> list[Part]:
        """The parts that the target has."""
        return [part for part in self._all if part.name in PARTS[self.target]]

    def require(self, cell: Cell) -> None:
        if cell.target == "cloudrun" and not self._limited:
            check(cell.knobs)
            self._limited = True

    def apply(self, cell: Cell) -> Replica:
        self.require(cell)
        self.target = cell.target
        self._log_starts = {path: _size(path) for path in self._logs().values()}
        self.restarted = self._stale(cell.knobs)
        for part in reversed(self._all):
            if part.name in self.restarted or part not in self.parts:
                part.stop()
                self._running.pop(part.name, None)
        for part in self.parts:
            if part.name in self.restarted:
                self._start(part, cell.knobs)
        self._empty()  # a Postgres that started anew has its files from before
        return self._replica()

    def _stale(self, knobs: Knobs) -> list[str]:
        """The parts that must start: not running, changed, or in need of one that must."""
        stale = {
            part.name
            for part in self.parts
            if part.name not in self._running
            or self._running[part.name] != part.settings(knobs)
            or part.down()
        }
        if (
            self.target == "vm" and self.backend.watched.busy()
        ):  # with uploads of the last cell, that nobody waits for
            stale.add(self.backend.name)
        stale |= {name for name, needed in NEEDS.items() if needed & stale}
        return [part.name for part in self.parts if part.name in stale]

    def _start(self, part: Part, knobs: Knobs) -> None:
        if part in (self.backend, self.front):
            self._wait_for_free_slots()
        part.start(knobs)
        self._running[part.name] = part.settings(knobs)

    def _wait_for_free_slots(self) -> None:
        """Until the last backend's connections are gone, so that the new one finds db_cap."""
        deadline = time.monotonic() + 10
        while self.postgres.monitor.app_connections():
            if time.monotonic() > deadline:
                raise PartFailed(
                    "postgres still has connections of a backend that was ended",
                    f"its log is {self.postgres.log}",
                )
            time.sleep(0.02)

    def _empty(self) -> None:
        self.postgres.monitor.empty()
        self.storage.bucket.empty()

    def _logs(self) -> dict[str, Path]:
        logs = {part.name: part.log for part in self.parts}
        return logs | ({"nginx-access": self.nginx.access_log} if self.target == "vm" else {})

    def _replica(self) -> Replica:
        log_start = _size(self.postgres.log)
        parts = {part.name: part.pids for part in self.parts}
        on_vm = self.target == "vm"
        proxy_port = int(self.toxiproxy.listens["db"].split(":")[1])
        return Replica(
            url=self.nginx.url if on_vm else self.front.url,
            backend=self.backend.url if on_vm else self.front.url,
            monitor_dsn=self.postgres.dsn(SUPERUSER),
            app_dsn=self.postgres.dsn(APP_ROLE, proxy_port),
            storage=self.storage.url,
            toxiproxy=self.toxiproxy.url,
            proxies=self.toxiproxy.listens,
            bucket=BUCKET,
            evidence=self.backend.evidence,
            logs=self._logs(),
            parts=parts,
            query=self.postgres.query,
            inflight=self.backend.inflight if on_vm else self.front.instances.inflight,
            usage=ProcessUsage(parts) if on_vm else self.front.usage(ProcessUsage(parts)),
            refused=lambda: self.postgres.refused(log_start),
            round_trip=RoundTrip(self.postgres.dsn(SUPERUSER, proxy_port), self.postgres.query),
        )

    def burden(self, cell: Cell) -> Burdened:
        return self.front.burden(cell.knobs)

    def down_parts(self) -> dict[str, str]:
        return {part.name: why for part in self.parts if (why := part.down())}

    def strike(self, part: str, action: str) -> None:
        raise MissingComponent(
            f"to {action} {part} strikes a container, and the embedded stack has none",
            "use --stack compose",
        )

    def recover(self, part: str, action: str) -> None:
        self.strike(part, action)

    def collect_logs(self, into: Path) -> None:
        into.mkdir(parents=True, exist_ok=True)
        for name, path in self._logs().items():
            if not path.exists():
                continue
            with path.open("rb") as source, (into / f"{name}.log").open("wb") as target:
                source.seek(self._log_starts.get(path, 0))
                shutil.copyfileobj(source, target)

        if self.target == "cloudrun":
            self.front.keep(into)

    @property
    def origins(self) -> str:
        """Where the parts came from, in a few words."""
        return f"{self.toxiproxy_variant} Toxiproxy"

    @property
    def logs_at(self) -> str:
        """Where a person finds the parts' logs."""
        return str(self.folder / "logs")

    def let_go(self) -> None:
        """Hold no connection to the database any more."""
        self.postgres.monitor.release()

    def about(self) -> dict[str, str]:
        return {"toxiproxy": self.toxiproxy_variant}

    def close(self) -> None:
        # All are asked first and waited for after, so that it takes as long as the slowest.
        for part in reversed(self._all):
            part.ask_to_stop()
        for part in reversed(self._all):
            part.stop()
        self._closing.close()

    def _remove(self) -> None:
        os.environ.pop(ownership.MARKER, None)
        ownership.remove(self.folder)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
