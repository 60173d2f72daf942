"""The Compose stack: the same replica, each part in a container of its own.

    lab ──docker compose──> makes the parts                  compose/compose.yaml
        ──engine's API────> makes anew those that changed    as Compose would (succession)
                            events, usage, logs, strikes     found by label

Compose makes the parts and nothing more: whether one is ready the lab asks the part
itself, and what happens to one the engine tells as it happens. Cloud Run's front is a
process of the lab's, and its instances are containers that it makes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from lab.errors import LabError, PartFailed
from lab.model.evidence import Usage
from lab.model.experiment import Cell
from lab.model.knobs import Knobs
from lab.model.replica import Target
from lab.stack import ownership, ports
from lab.stack.backend import Workers, wrote_lately
from lab.stack.base import Burdened, Replica
from lab.stack.compose import engine, images, resources
from lab.stack.compose.confinement import ContainerConfinement
from lab.stack.compose.engine import last_lines
from lab.stack.compose.environment import settings
from lab.stack.compose.project import Project, collect_instances, collect_logs
from lab.stack.compose.readiness import Readiness, url
from lab.stack.compose.resources import services
from lab.stack.compose.watch import Events, Statistics
from lab.stack.gateway import Gateway
from lab.stack.monitor import APP_ROLE, SUPERUSER, Monitor, RoundTrip, count_refused
from lab.stack.process import ProcessUsage
from lab.stack.storage import BUCKET, Bucket

NEEDS = {"backend": {"postgres", "toxiproxy"}}
"""Which part must start anew because another one did: it holds connections to it."""

ACTIONS = frozenset({"kill", "pause", "restart", "stop"})


class ComposeStack:
    """The replica as containers.

    Args:
        results: the results folder that the replica belongs to.
        port: where users upload: nginx, or the front; None finds a free port.
        stays: whether the replica outlives this process (`lab up`).

    Raises:
        MissingComponent: no engine, no Compose, or an image is missing.
        MachineError: the port is taken.
    """

    name = "compose"
    toxiproxy_variant = "real"
    strikes = ACTIONS

    def __init__(self, results: Path, port: int | None = None, stays: bool = False) -> None:
        door = ports.check(port) if port else None
        self._client = engine.connect()
        self.restarted: list[str] = []
        with ExitStack() as closing:
            closing.callback(self._client.close)
            self.compose = engine.compose_version()
            self.images = images.require(self._client)
            self.folder, self.owner = ownership.claim(results, stays, self.name)
            closing.callback(ownership.remove, self.folder)
            evidence = self.folder / "evidence"
            evidence.mkdir()
            evidence.chmod(0o1777)  # the workers run as another user
            if not stays:
                closing.callback(ownership.Guardian(self.folder).close)
            closing.callback(resources.remove, self._client, self.owner.id)
            self.project = Project(
                self._client, self.owner, evidence, door, not stays, self.images.values()
            )
            self._events = Events(
                engine.connect(), self.owner.id, evidence, comes_back=frozenset({"backend"})
            )
            closing.callback(self._events.close)
            place = self.project.place
            self.monitor = Monitor(self.project.dsn(SUPERUSER, place.postgres_port))
            closing.callback(self.monitor.release)
            self.front = Gateway(self.folder, place.nginx_port, evidence, self._front_env)
            closing.callback(self.front.stop)
            self._closing = closing.pop_all()
        self.target: Target = "vm"
        self.url = url(place.nginx_port)
        self.bucket = Bucket(url(place.storage_port))
        self.confinement = ContainerConfinement(self._client, self.project)
        self._statistics = Statistics(self._client)
        self.workers = Workers(evidence, wrote_lately)
        self._ready = Readiness(
            lambda: self.project.place,
            self.monitor,
            self.bucket,
            self.workers,
            self._events.down,
            self._failed,
        )
        self._running: dict[str, object] = {}
        self._workers_wanted = 0
        self._since = datetime.now(UTC)

    def _front_env(self, knobs: Knobs) -> dict[str, str]:
        where = engine.host()
        return {
            ownership.MARKER: self.owner.id,
            "FRONT_DRIVER": "docker",
            "FRONT_CONTAINER": json.dumps(self.project.instance(knobs)),
            **({"DOCKER_HOST": where} if where else {}),
        }

    def require(self, cell: Cell) -> None:
        if cell.target == "cloudrun":
            engine.require_limits(self._client)

    def apply(self, cell: Cell) -> Replica:
        self.require(cell)
        self._since = datetime.now(UTC)
        self.target = cell.target
        self.front.stop()  # with its instances, which hold connections
        self._retire()
        self.restarted = self._stale(cell.knobs)
        if self.restarted:
            self._recreate(cell.knobs)
        self.monitor.empty()  # what started anew has its volume from before
        self.bucket.empty()
        if cell.target == "cloudrun":
            self._ready.wait_for_free_slots()
            self.front.start(cell.knobs)
            self.restarted.append(self.front.name)
        return self._replica()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the target that are containers."""
        return services(self.target)

    def _retire(self) -> None:
        """Remove the parts that the target has none of."""
        gone = [part for part in self._running if part not in self.parts]
        if gone:
            self.project.remove(gone)
        for part in gone:
            del self._running[part]

    def _stale(self, knobs: Knobs) -> list[str]:
        """The parts that must start: not running, changed, or in need of one that must."""
        wanted = settings(knobs)
        down = self._events.down()
        stale = {
            part
            for part in self.parts
            if part in down or part not in self._running or self._running[part] != wanted[part]
        }
        if self.target == "vm" and "backend" not in stale and self.workers.busy():
            stale.add("backend")  # with uploads that nobody waits for
        stale |= {name for name, needed in NEEDS.items() if needed & stale}
        return [part for part in self.parts if part in stale]

    def _recreate(self, knobs: Knobs) -> None:
        wanted = settings(knobs)
        for part in self.restarted:
            self._running.pop(part, None)
        if "postgres" in self.restarted:
            self.monitor.release()
        self._start(knobs)
        self._ready.wait(self.restarted, knobs.workers)
        self.project.settle()  # so that nothing of it falls into the load
        self._workers_wanted = knobs.workers
        self._running |= {part: wanted[part] for part in self.restarted}

    def _start(self, knobs: Knobs) -> None:
        """Start them anew; a container that exited says more than the engine does."""
        made = self.project.create(knobs, self.restarted, first=not self._running)
        if "backend" in made:
            self.workers.forget()
        self._events.expect({part: container.id for part, container in made.items()})
        try:
            self.project.start(made)
        except LabError:
            for part, why in self._events.down().items():
                if part in made:
                    raise self._failed(part, why) from None
            raise

    def _failed(self, part: str, why: str) -> PartFailed:
        said = last_lines(self.project.log(part))
        return PartFailed(f"{part} {why}: {said}", "see the part's log, and `lab doctor`")

    def _replica(self) -> Replica:
        self._statistics.follow(self.project.containers())
        since = datetime.now(UTC)
        on_vm = self.target == "vm"
        parts = {} if on_vm else {self.front.name: self.front.pids}
        return Replica(
            url=self.url,
            backend=self.url,
            monitor_dsn=self.monitor.dsn,
            app_dsn=self.project.dsn(APP_ROLE, self.project.place.db_proxy_port),
            storage=self.bucket.url,
            toxiproxy=url(self.project.place.toxiproxy_port),
            proxies={
                "gcs": f"{ports.HOST}:{self.project.place.gcs_proxy_port}",
                "db": f"{ports.HOST}:{self.project.place.db_proxy_port}",
            },
            bucket=BUCKET,
            evidence=self.workers.evidence,
            logs={},
            parts=parts,
            query=self.monitor.query,
            inflight=self.workers.inflight if on_vm else self.front.instances.inflight,
            usage=self._statistics if on_vm else self._usage(ProcessUsage(parts)),
            refused=lambda: count_refused(self.project.log("postgres", since).splitlines()),
            round_trip=RoundTrip(
                self.project.dsn(SUPERUSER, self.project.place.db_proxy_port),
                self.monitor.query,
                from_outside=True,
            ),
        )

    def _usage(self, front: ProcessUsage) -> Callable[[], dict[str, Usage]]:
        return self.front.usage(lambda: {**self._statistics(), **front()})

    def burden(self, cell: Cell) -> Burdened:
        return self.front.burden(cell.knobs)

    def down_parts(self) -> dict[str, str]:
        known = {*self.parts, "engine"}
        down = {part: why for part, why in self._events.down().items() if part in known}
        if self.target == "cloudrun" and (why := self.front.down()):
            down[self.front.name] = why
        return down

    def strike(self, part: str, action: str) -> None:
        """Kill, pause or stop a part's container.

        Raises:
            PartFailed: the engine refuses.
        """
        acts = {"kill": "kill", "pause": "pause", "restart": "stop", "stop": "stop"}
        self._running.pop(part, None)  # what this leaves in it is not of the next cell
        self.project.act(part, acts[action])

    def recover(self, part: str, action: str) -> None:
        """Let a part that was struck go on, and wait until it serves.

        Raises:
            PartFailed: the engine refuses, or the part does not come back.
        """
        containers = self.project.containers().items()
        self._events.expect({name: each.id for name, each in containers if name == part})
        since = time.time()
        self.project.act(part, "unpause" if action == "pause" else "start")
        self._ready.wait_again(part, self._workers_wanted, since)
        self._events.arrived([part])

    def collect_logs(self, into: Path) -> None:
        collect_logs(self.project, self.parts, self._since, into)
        if self.target == "cloudrun":
            self.front.keep(into)
            collect_instances(self.project, into)

    @property
    def logs_at(self) -> str:
        """How a person sees the parts' logs."""
        return f"docker compose -p {self.owner.id} logs"

    def let_go(self) -> None:
        """Hold no connection to the database, nor to the engine, any more."""
        self.monitor.release()
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
        self._closing.close()
