"""The embedded stack: real servers from wheels, as child processes, on 127.0.0.1.

    users ──> nginx ──> uvicorn × workers ──> :gcs proxy    ──> fake-gcs-server
                                          ├─> :db proxy     (──> PgBouncer) ──> Postgres
                                          └─> :speech proxy ──> the speech service
    users ──> gateway ──> instances ──> …                      on Cloud Run

It needs neither Docker nor root, but for Cloud Run's instances, which are processes in
cgroups. The parts start one after the other, in the order in which they need each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from lab.errors import MissingComponent
from lab.files import logs_folder
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.replica import APP_ROLE, BUCKET, POOLER, SUPERUSER, parts_of, pooled
from lab.stack import cleanup, gateway, ownership, pooler, ports, shortages
from lab.stack.backend import Backend
from lab.stack.base import LifeCycle, Replica
from lab.stack.gateway import Gateway
from lab.stack.monitor import RoundTrip
from lab.stack.nginx import Nginx
from lab.stack.pooler import Pooler
from lab.stack.postgres import Postgres
from lab.stack.process import Part, ProcessUsage
from lab.stack.shortages import Shortages
from lab.stack.speech import Speech
from lab.stack.storage import Storage, server_version
from lab.stack.toxiproxy import ToxiproxyPart


class EmbeddedStack(LifeCycle):
    """The replica as child processes of the lab.

    Args:
        results: the results folder that the replica belongs to.
        toxiproxy: ``auto``, ``real`` or ``embedded``.
        port: where users upload, of nginx or the gateway; None takes a free port.
        stays: whether the replica outlives this process (`lab up`).

    Raises:
        MachineError: the port is taken.
        MissingComponent: the real Toxiproxy was asked for and is not here.
    """

    name = "embedded"
    process_faults: frozenset[str] = frozenset()
    confinement = None

    def __init__(
        self,
        results: Path,
        toxiproxy: str = "auto",
        port: int | None = None,
        stays: bool = False,
    ) -> None:
        super().__init__()
        shortages.allow_files()
        if port:
            ports.check(port)
        self.folder, self.ownership = ownership.claim(results, stays)
        os.environ[ownership.MARKER] = self.ownership.id  # all children carry it, the generator too
        with ExitStack() as closing:
            closing.callback(os.environ.pop, ownership.MARKER, None)
            closing.callback(ownership.remove, self.folder, self.ownership)
            if stays:
                closing.callback(cleanup.end, self.folder, self.ownership)
            else:
                self.guardian = ownership.Guardian(self.folder)
                closing.callback(self.guardian.close)
            self._make_parts(toxiproxy, port, monitored=not stays)
            self._closing = closing.pop_all()
        self.toxiproxy_variant = self.toxiproxy.variant
        self._instances_limited = False
        self._log_starts: dict[Path, int] = {}

    def _make_parts(self, toxiproxy: str, port: int | None, monitored: bool) -> None:
        database, pools, storage, recogniser, *others = ports.free(10, but=port)
        proxies, gcs, db, speech, backend, free = others
        port = port or free
        storage_url = f"http://{ports.HOST}:{gcs}"
        self.postgres = Postgres(self.folder, database, monitored=monitored)
        self.pooler = Pooler(self.folder, pools, self.postgres)
        self.storage = Storage(self.folder, storage, storage_url)
        self.speech = Speech(self.folder, recogniser)
        behind = {"gcs": (gcs, storage), "db": (db, database), "speech": (speech, recogniser)}
        self.toxiproxy = ToxiproxyPart(self.folder, proxies, behind, toxiproxy)
        self.backend = Backend(
            self.folder,
            backend,
            self.postgres.dsn(APP_ROLE, db),
            storage_url,
            f"http://{ports.HOST}:{speech}",
            BUCKET,
        )
        self.nginx = Nginx(self.folder, port, self.backend.listens_on)
        self.gateway = Gateway(
            self.folder, port, self.backend.evidence, lambda _knobs: self.backend.addresses
        )
        self.monitor = self.postgres.monitor
        self.bucket = self.storage.bucket
        self.workers = self.backend.workers
        self._all: tuple[Part, ...] = (
            *(self.postgres, self.pooler, self.storage, self.speech, self.toxiproxy),
            *(self.backend, self.nginx, self.gateway),
        )

    @property
    def parts(self) -> list[Part]:
        """The parts that the cell has."""
        wanted = parts_of(self.target, self.pooled)
        return [part for part in self._all if part.name in wanted]

    def require(self, cell: Cell) -> None:
        if pooled(cell.knobs):
            pooler.program()
        if cell.target == "cloudrun" and not self._instances_limited:
            gateway.check(cell.knobs, self.gateway.logs)
            self._instances_limited = True

    def _begin_logs(self) -> None:
        self._log_starts = {path: _size(path) for path in self._logs().values()}

    def _end(self, parts: list[str]) -> None:
        for part in reversed(self._all):
            if part.name in parts:
                part.stop()

    def _start(self, parts: list[str], knobs: Knobs) -> None:
        if self.backend.name in parts:
            self.backend.warm_up(knobs)  # while the parts before it start
        for part in self.parts:
            if part.name in parts:
                part.start(knobs)

    def _renew_backend(self, knobs: Knobs) -> None:
        self.backend.relaunch(knobs)

    def _lead_to(self, part: str) -> None:
        port = self.pooler.port if part == POOLER else self.postgres.port
        pooler.lead_to(self.toxiproxy.url, f"{ports.HOST}:{port}")

    def _logs(self) -> dict[str, Path]:
        logs = {part.name: part.log for part in self.parts}
        return logs | ({"nginx-access": self.nginx.access_log} if self.target == "vm" else {})

    def _replica(self) -> Replica:
        log_start = _size(self.postgres.log)
        parts = {part.name: part.pids for part in self.parts}
        on_vm = self.target == "vm"
        through_proxy = self.toxiproxy.port_of("db")
        usage = ProcessUsage(parts)
        return Replica(
            url=self.nginx.url if on_vm else self.gateway.url,
            backend=self.backend.url if on_vm else self.gateway.url,
            monitor_dsn=self.monitor.dsn,
            app_dsn=self.postgres.dsn(APP_ROLE, through_proxy),
            storage=self.bucket.url,
            toxiproxy=self.toxiproxy.url,
            proxies=self.toxiproxy.listens,
            bucket=BUCKET,
            evidence=self.workers.evidence,
            logs=self._logs(),
            parts=parts,
            query=self.monitor.query,
            inflight=self.workers.inflight if on_vm else self.gateway.instances.inflight,
            usage=usage if on_vm else self.gateway.usage(usage),
            refused=lambda: self.postgres.refused(log_start),
            shortages=Shortages(self._logs_of_cell, shortages.overflows),
            round_trip=RoundTrip(
                self.postgres.dsn(SUPERUSER, through_proxy),
                self.monitor.query,
                let_go=self.pooler.console.close_idle if self.pooled else None,
            ),
            pooler=self.pooler.console.state if self.pooled else None,
        )

    def _parts_down(self) -> dict[str, str]:
        return {part.name: why for part in self.parts if (why := part.down())}

    def inject_fault(self, part: str, action: str) -> None:
        raise MissingComponent(
            f"to {action} {part} takes a container, and the embedded stack has none",
            "use --stack compose",
        )

    def recover(self, part: str, action: str) -> None:
        self.inject_fault(part, action)

    def _logs_of_cell(self) -> Iterator[tuple[str, bytes]]:
        """What each part has written since the cell began."""
        for part in self.parts:
            with part.log.open("rb") as log:
                log.seek(self._log_starts.get(part.log, 0))
                yield from ((part.name, line) for line in log)

    def collect_logs(self, into: Path) -> None:
        kept = logs_folder(into)
        kept.make()
        for name, path in self._logs().items():
            if not path.exists():
                continue
            with path.open("rb") as source:
                source.seek(self._log_starts.get(path, 0))
                kept.keep(f"{name}.log", source)
        if self.target == "cloudrun":
            self.gateway.keep(kept)

    @property
    def origins(self) -> str:
        """Where the parts came from, in a few words."""
        return f"{self.toxiproxy_variant} Toxiproxy"

    @property
    def logs_at(self) -> str:
        """Where the parts' logs are, for a person to read."""
        return str(self.folder / "logs")

    def detach(self) -> None:
        """Close the connections to the database and to PgBouncer, and ask for nobody's health any
        more."""
        self._rest()
        self.monitor.release()
        self.pooler.console.release()

    def about(self) -> dict[str, str]:
        return {
            "toxiproxy": self.toxiproxy_variant,
            "fake-gcs-server": server_version(),
            **pooler.versions(),
        }

    def close(self) -> None:
        self._rest()
        # Signal all parts before waiting for any: it takes only as long as the slowest.
        for part in reversed(self._all):
            part.ask_to_stop()
        for part in reversed(self._all):
            part.stop()
        self.backend.cool_down()
        self._closing.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
