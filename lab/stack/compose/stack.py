"""The Compose stack: the same replica, each part in a container of its own.

    lab ──docker compose──> makes the containers              compose/compose.yaml
        ──engine's API────> kills and starts those that changed, in place
                            events, usage, logs and process faults, by label

The lab asks a part itself whether it serves, as the part's users would; what happens to a
container it learns from the engine's events. Cloud Run's gateway is a process of the lab's,
and its instances are containers that it makes.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import requests

from lab.errors import LabError, PartFailed
from lab.files import logs_folder
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.replica import APP_ROLE, BUCKET, GATEWAY, HEALTH_PATH, POOLER, SUPERUSER
from lab.stack import ownership, pooler, ports
from lab.stack.backend import Workers, wrote_lately
from lab.stack.base import LifeCycle, Replica
from lab.stack.compose import engine, images, resources
from lab.stack.compose.confinement import ContainerConfinement
from lab.stack.compose.engine import last_lines
from lab.stack.compose.processes import ContainerProcesses
from lab.stack.compose.project import Project
from lab.stack.compose.watch import Events, Statistics
from lab.stack.gateway import Gateway
from lab.stack.monitor import Monitor, RoundTrip, count_refused
from lab.stack.ports import POLL_S
from lab.stack.postgres import ended_first
from lab.stack.process import ProcessUsage
from lab.stack.shortages import Shortages
from lab.stack.speech import speech_answers
from lab.stack.storage import Bucket

COMES_BACK = frozenset({"backend"})
"""The parts that the engine, or their own supervisor, starts again after a kill for memory."""
POSTGRES_PORT = 5432
"""Where it listens in its container."""
SERVES_WITHIN_S = 60.0
ASK_S = 5.0

ACTS = {"kill": "kill", "pause": "pause", "restart": "stop", "stop": "stop"}
"""What the engine does to a container, by what a process fault does to its part."""


class ComposeStack(LifeCycle):
    """The replica as containers.

    Args:
        results: the results folder that the replica belongs to.
        port: where users upload, of nginx or the gateway; None takes a free port.
        stays: whether the replica outlives this process (`lab up`).

    Raises:
        MissingComponent: no engine, no Compose, or an image is missing.
        MachineError: the port is taken.
    """

    name = "compose"
    toxiproxy_variant = "real"
    process_faults = frozenset(ACTS)

    def __init__(self, results: Path, port: int | None = None, stays: bool = False) -> None:
        super().__init__()
        if port:
            ports.check(port)
        self._client = engine.connect()
        with ExitStack() as closing:
            closing.callback(self._client.close)
            self.compose = engine.compose_version()
            self.images = images.require(self._client)
            self.folder, self.ownership = ownership.claim(results, stays, "compose")
            closing.callback(ownership.remove, self.folder, self.ownership)
            if not stays:
                self.guardian = ownership.Guardian(self.folder)
                closing.callback(self.guardian.close)
            closing.callback(resources.remove, self._client, self.ownership.id)
            self.project = Project(
                self._client, self.ownership, self.folder, port, not stays, self.images.values()
            )
            evidence, place = self.project.evidence, self.project.place
            self._events = Events(
                engine.connect(), self.ownership.id, evidence, comes_back=COMES_BACK
            )
            closing.callback(self._events.close)
            self._processes = ContainerProcesses(self._events.exceeded, COMES_BACK, self._explain)
            closing.callback(self._processes.close)
            self.monitor = Monitor(self.project.dsn(SUPERUSER, place.postgres_port))
            closing.callback(self.monitor.release)
            self.console = pooler.Console(self.project.dsn(SUPERUSER, place.pooler_port))
            closing.callback(self.console.release)
            self.gateway = Gateway(self.folder, place.nginx_port, evidence, self._gateway_env)
            closing.callback(self.gateway.stop)
            self._closing = closing.pop_all()
        self.url = _url(place.nginx_port)
        self.bucket = Bucket(_url(place.storage_port))
        self.workers = Workers(evidence, wrote_lately)
        self.confinement = ContainerConfinement(self._client, self.project)
        self._statistics = Statistics(self._client)
        self._workers_wanted = 0
        self._since = datetime.now(UTC)

    def _explain(self, part: str) -> str | None:
        """Whose death had Postgres restart itself, by its log; other parts write down none."""
        if part != "postgres":
            return None
        return ended_first(self.project.log(part, self._since).splitlines())

    def _gateway_env(self, knobs: Knobs) -> dict[str, str]:
        return {
            **engine.client_variables(),
            ownership.MARKER: self.ownership.id,
            "FRONT_DRIVER": "docker",
            "FRONT_CONTAINER": json.dumps(self.project.instance(knobs)),
        }

    def require(self, cell: Cell) -> None:
        if cell.target == "cloudrun":
            engine.require_limits(self._client)

    def _begin_logs(self) -> None:
        self._since = datetime.now(UTC)

    def _retire(self, parts: list[str]) -> None:
        if POOLER in parts:
            self.console.release()
        self._processes.forget(parts)
        self.project.remove(parts)

    def _end(self, parts: list[str]) -> None:
        if "postgres" in parts:
            self.monitor.release()
        if POOLER in parts:
            self.console.release()
        self._processes.forget(parts)
        self.project.kill(parts)

    def _start(self, parts: list[str], knobs: Knobs) -> None:
        containers = self.project.prepare(knobs, parts)
        if "backend" in parts:
            self.workers.forget()
        self._workers_wanted = knobs.workers
        self._events.expect({part: container.id for part, container in containers.items()})
        try:
            self.project.start(containers.values())
        except LabError:
            # A container that exited says more than the engine does.
            for part, why in self._events.down().items():
                if part in parts:
                    raise self._failed(part, why) from None
            raise
        self._wait_until(parts, self._serves_unloaded)
        self._processes.settle(containers)

    def _lead_to(self, part: str) -> None:
        port = pooler.PORT if part == POOLER else POSTGRES_PORT
        pooler.lead_to(_url(self.project.place.toxiproxy_port), f"{part}:{port}")

    def _failed(self, part: str, why: str) -> PartFailed:
        last = last_lines(self.project.log(part))
        return PartFailed(f"{part} {why}: {last}", "see the part's log, and `lab doctor`")

    def _wait_until(self, parts: list[str], serves: Callable[[str], bool]) -> None:
        """Wait until these parts serve.

        Raises:
            PartFailed: a part exited, or did not serve within a minute; with its last log lines.
        """
        deadline = time.monotonic() + SERVES_WITHIN_S
        waiting = parts
        while waiting:
            waiting = [part for part in waiting if not serves(part)]
            for part, why in self._events.down().items():
                if part == "engine" or part in parts:
                    raise self._failed(part, why)
            if waiting and time.monotonic() > deadline:
                raise self._failed(waiting[0], f"did not serve within {SERVES_WITHIN_S:.0f} s")
            time.sleep(POLL_S if waiting else 0)

    def _serves_unloaded(self, part: str) -> bool:
        """Whether a part serves, where no load can keep the backend from answering nginx."""
        if part == "nginx":
            return _answers(self.url + HEALTH_PATH)
        return self._serves(part)

    def _serves(self, part: str, since: float = 0.0) -> bool:
        """Whether a part serves that was started after ``since``, under a load too."""
        if part == "postgres":
            return self.monitor.answers()
        if part == POOLER:
            return self.console.answers()
        if part == "fake-gcs-server":
            return self.bucket.answers()
        if part == "speech":
            return speech_answers(_url(self.project.place.speech_port))
        if part == "backend":
            return len(self.workers.alive(since)) >= self._workers_wanted
        if part == "nginx":
            return _refuses(self.project.place.nginx_port)
        return _answers(f"{_url(self.project.place.toxiproxy_port)}/version")

    def _replica(self) -> Replica:
        self._statistics.follow(self.project.containers())
        since = datetime.now(UTC)
        on_vm = self.target == "vm"
        place = self.project.place
        parts = {} if on_vm else {self.gateway.name: self.gateway.pids}
        processes = ProcessUsage(parts)
        return Replica(
            url=self.url,
            backend=self.url,
            monitor_dsn=self.monitor.dsn,
            app_dsn=self.project.dsn(APP_ROLE, place.db_proxy_port),
            storage=self.bucket.url,
            toxiproxy=_url(place.toxiproxy_port),
            proxies={
                "gcs": f"{ports.HOST}:{place.gcs_proxy_port}",
                "db": f"{ports.HOST}:{place.db_proxy_port}",
                "speech": f"{ports.HOST}:{place.speech_proxy_port}",
            },
            bucket=BUCKET,
            evidence=self.workers.evidence,
            logs={},
            parts=parts,
            query=self.monitor.query,
            inflight=self.workers.inflight if on_vm else self.gateway.instances.inflight,
            usage=(
                self._statistics
                if on_vm
                else self.gateway.usage(lambda: {**self._statistics(), **processes()})
            ),
            refused=lambda: count_refused(self.project.log("postgres", since).splitlines()),
            shortages=Shortages(lambda: self._logged(since)),
            round_trip=RoundTrip(
                self.project.dsn(SUPERUSER, place.db_proxy_port),
                self.monitor.query,
                from_outside=True,
                let_go=self.console.close_idle if self.pooled else None,
            ),
            pooler=self.console.state if self.pooled else None,
        )

    def _logged(self, since: datetime) -> Iterator[tuple[str, bytes]]:
        """What each part has written since then."""
        for part, log in self.project.logs(self.services, since).items():
            yield from ((part, line) for line in log.splitlines())

    def _parts_down(self) -> dict[str, str]:
        known = {*self.services, "engine"}
        told = self._processes.down() | self._events.down()
        down = {part: why for part, why in told.items() if part in known}
        if self.target == "cloudrun" and (why := self.gateway.down()):
            down[GATEWAY] = why
        return down

    def _renew_backend(self, knobs: Knobs) -> None:
        part, containers = "backend", self.project.containers()
        self._workers_wanted = knobs.workers
        self._events.expect({name: one.id for name, one in containers.items() if name == part})
        self._processes.forget([part])
        since = time.monotonic()
        for act in ("stop", "start"):
            self.project.act(part, act)
        self._wait_until([part], partial(self._serves, since=since))
        self._processes.settle({part: containers[part]})
        self._events.arrived([part])

    def inject_fault(self, part: str, action: str) -> None:
        if self._health:
            self._health.pause()
        self._forget([part])
        self._processes.forget([part])
        self.project.act(part, ACTS[action])

    def recover(self, part: str, action: str) -> None:
        containers = self.project.containers()
        if container := containers.get(part):
            self._events.expect({part: container.id})
        since = time.monotonic()
        self.project.act(part, "unpause" if action == "pause" else "start")
        self._wait_until([part], partial(self._serves, since=since))
        self._processes.settle({part: containers[part]})
        self._events.arrived([part])
        if self._health:
            self._health.resume()

    def collect_logs(self, into: Path) -> None:
        kept = logs_folder(into)
        kept.make()
        self.project.collect_logs(self.services, self._since, kept)
        if self.target == "cloudrun":
            self.gateway.keep(kept)

    @property
    def logs_at(self) -> str:
        """The command that shows the parts' logs."""
        return f"docker compose -p {self.ownership.id} logs"

    def detach(self) -> None:
        """Close the connections to the database, to PgBouncer and to the engine; no health is asked
        for any more."""
        self._rest()
        self.monitor.release()
        self.console.release()
        self._events.close()

    @property
    def origins(self) -> str:
        """Where the images came from, in a few words."""
        return images.origins(self.images.values())

    def about(self) -> dict[str, str]:
        """What a result depends on: versions of engine and Compose, and every image."""
        engine_version = str(self._client.version()["Version"])
        stamps = {
            f"{images.short(variable)}-image": f"{image.tag} ({image.about})"
            for variable, image in self.images.items()
        }
        return {"docker": engine_version, "compose": self.compose, **stamps}

    def close(self) -> None:
        self._rest()
        self._closing.close()


def _url(port: int) -> str:
    return f"http://{ports.HOST}:{port}"


def _answers(url: str) -> bool:
    try:
        return bool(ports.http().get(url, timeout=ASK_S).status_code == 200)
    except requests.RequestException:
        return False


def _refuses(port: int) -> bool:
    """Whether nginx itself answers 400 to a malformed request; that needs no backend."""
    try:
        with socket.create_connection((ports.HOST, port), ASK_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return connection.recv(12) == b"HTTP/1.1 400"
    except OSError:
        return False
