"""The Compose stack: the same replica, each part in a container of its own.

    lab ──docker compose──> up, recreate what changed       compose/compose.yaml
        ──engine's API────> events, usage, logs, strikes    found by label

Compose starts the parts and nothing more: whether one is ready the lab asks the part
itself, and what happens to one the engine tells as it happens.
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import requests

from lab.errors import LabError, PartFailed
from lab.model.cell import Cell
from lab.model.knobs import TABLE, Knobs
from lab.stack import owner, ports
from lab.stack.bucket import BUCKET, Bucket
from lab.stack.compose import engine, images, resources
from lab.stack.compose.events import SERVICE_LABEL, Events
from lab.stack.compose.explain import last_lines
from lab.stack.compose.project import Project
from lab.stack.compose.statistics import Statistics
from lab.stack.compose.status import PARTS
from lab.stack.monitor import APP_ROLE, SUPERUSER, Monitor, count_refused
from lab.stack.protocol import Replica
from lab.stack.workers import Workers, wrote_lately

FILE = images.COMPOSE / "compose.yaml"
NEEDS = {"backend": {"postgres", "toxiproxy"}}
"""Which part must start anew because another one did: it holds connections to it."""

READY_WITHIN_S = 60.0
POLL_S = 0.02
PROBE_INTERVAL = "1h"
"""The lab looks itself; a probe every second would take CPU and requests of the replica."""
TRIES = 3
ACTIONS = frozenset({"kill", "pause", "restart", "stop"})


class ComposeStack:
    """The replica as containers.

    Args:
        results: the results folder that the replica belongs to.
        port: where nginx listens; None finds a free port.
        stays: whether the replica outlives this process (`lab up`).

    Raises:
        MissingComponent: no engine, no Compose, or an image is missing.
        MachineError: the port is taken.
    """

    name = "compose"
    toxiproxy_variant = "real"
    strikes = ACTIONS

    def __init__(self, results: Path, port: int | None = None, stays: bool = False) -> None:
        nginx_port = ports.check(port) if port else None
        self._client = engine.connect()
        self.restarted: list[str] = []
        with ExitStack() as closing:
            closing.callback(self._client.close)
            self.compose = engine.compose_version()
            self.images = images.require(self._client)
            self.folder, self.owner = owner.claim(results, stays, self.name)
            closing.callback(owner.remove, self.folder)
            evidence = self.folder / "evidence"
            evidence.mkdir()
            evidence.chmod(0o1777)  # the workers run as another user
            if not stays:
                closing.callback(owner.Guardian(self.folder).close)
            closing.callback(resources.remove, self._client, self.owner.id)
            self.project = Project(
                self._client, self.owner, evidence, nginx_port, not stays, self.images.values()
            )
            self._events = Events(
                engine.connect(), self.owner.id, evidence, comes_back=frozenset({"backend"})
            )
            closing.callback(self._events.close)
            place = self.project.place
            self.monitor = Monitor(self.project.dsn(SUPERUSER, place.postgres_port))
            closing.callback(self.monitor.release)
            self._closing = closing.pop_all()
        self.url = _url(place.nginx_port)
        self.bucket = Bucket(_url(place.storage_port))
        self._statistics = Statistics(self._client)
        self.workers = Workers(evidence, wrote_lately)
        self._running: dict[str, object] = {}
        self._since = datetime.now(UTC)

    def apply(self, cell: Cell) -> Replica:
        self._since = datetime.now(UTC)
        self.restarted = self._stale(cell.knobs)
        if self.restarted:
            self._recreate(cell.knobs)
        if "postgres" not in self.restarted:
            self.monitor.empty()
        if "fake-gcs-server" not in self.restarted:
            self.bucket.empty()
        return self._replica()

    def _stale(self, knobs: Knobs) -> list[str]:
        """The parts that must start: not running, changed, or in need of one that must."""
        wanted = settings(knobs)
        down = self._events.down()
        stale = {
            part
            for part in PARTS
            if part in down or part not in self._running or self._running[part] != wanted[part]
        }
        if "backend" not in stale and self.workers.busy():  # with uploads that nobody waits for
            stale.add("backend")
        stale |= {name for name, needed in NEEDS.items() if needed & stale}
        return [part for part in PARTS if part in stale]

    def _recreate(self, knobs: Knobs) -> None:
        wanted = settings(knobs)
        for part in self.restarted:
            self._running.pop(part, None)
        if "postgres" in self.restarted:
            self.monitor.release()
        if "backend" in self.restarted:
            for container in self.project.containers().values():
                if container.labels.get(SERVICE_LABEL) == "backend":
                    container.remove(force=True)
            self.workers.forget()
        self._start(knobs)
        self._events.forget(set(self.restarted))
        self.wait_ready(self.restarted, knobs)
        self._running |= {part: wanted[part] for part in self.restarted}

    def _start(self, knobs: Knobs) -> None:
        """Let Compose start them; a container that exited says more than Compose does."""
        try:
            self.project.up(knobs, self.restarted, first=not self._running)
        except LabError:
            for part, why in self._events.down().items():
                if part in self.restarted:
                    raise self._failed(part, why) from None
            raise

    def _failed(self, part: str, why: str) -> PartFailed:
        said = last_lines(self.project.log(part))
        return PartFailed(f"{part} {why}: {said}", "see the part's log, and `lab doctor`")

    def wait_ready(self, parts: list[str], knobs: Knobs) -> None:
        """Wait until each of these parts serves.

        Raises:
            PartFailed: one exited, or did not serve within a minute; with its last log lines.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        waiting = list(parts)
        while waiting:
            waiting = [part for part in waiting if not self._ready(part, knobs)]
            for part, why in self._events.down().items():
                if part == "engine" or part in parts:
                    raise self._failed(part, why)
            if waiting and time.monotonic() > deadline:
                raise self._failed(waiting[0], f"did not serve within {READY_WITHIN_S:.0f} s")
            if waiting:
                time.sleep(POLL_S)

    def _ready(self, part: str, knobs: Knobs) -> bool:
        if part == "postgres":
            return self.monitor.answers()
        if part == "fake-gcs-server":
            return self.bucket.answers()
        if part == "toxiproxy":
            return _answers(f"{_url(self.project.place.toxiproxy_port)}/version")
        if part == "backend":
            # Nobody else may hold a connection of the application's: the last one's end too.
            idle = self.monitor.answers() and self.monitor.app_connections() == 0
            return idle and len(self.workers.alive()) >= knobs.workers
        return _answers(f"{self.url}/health")

    def _replica(self) -> Replica:
        self._statistics.follow(self.project.containers())
        since = datetime.now(UTC)
        return Replica(
            url=self.url,
            backend=self.url,
            monitor_dsn=self.monitor.dsn,
            app_dsn=self.project.dsn(APP_ROLE, self.project.place.db_proxy_port),
            storage=self.bucket.url,
            toxiproxy=_url(self.project.place.toxiproxy_port),
            proxies={
                "gcs": f"{ports.HOST}:{self.project.place.gcs_proxy_port}",
                "db": f"{ports.HOST}:{self.project.place.db_proxy_port}",
            },
            bucket=BUCKET,
            evidence=self.workers.evidence,
            logs={},
            query=self.monitor.query,
            inflight=self.workers.inflight,
            usage=self._statistics,
            refused=lambda: count_refused(self.project.log("postgres", since).splitlines()),
        )

    def down_parts(self) -> dict[str, str]:
        return self._events.down()

    def strike(self, part: str, action: str) -> None:
        """Kill, pause or stop a part's container.

        Raises:
            PartFailed: the engine refuses.
        """
        acts = {"kill": "kill", "pause": "pause", "restart": "stop", "stop": "stop"}
        self.project.act(part, acts[action])

    def recover(self, part: str, action: str) -> None:
        """Let a part that was struck go on, and wait until it serves.

        Raises:
            PartFailed: the engine refuses, or the part does not come back.
        """
        self.project.act(part, "unpause" if action == "pause" else "start")
        self.wait_ready([part], Knobs())

    def collect_logs(self, into: Path) -> None:
        into.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            out = self.project.log(part, self._since, stderr=False)
            err = self.project.log(part, self._since, stdout=False)
            if part == "nginx":
                (into / "nginx-access.log").write_bytes(out)
                out = b""
            (into / f"{part}.log").write_bytes(out + err)

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
        kinds = Counter(image.origin for image in self.images.values())
        return "images: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))

    def about(self) -> dict[str, str]:
        """What a result depends on: versions of engine and Compose, and every image."""
        engine_version = str(self._client.version()["Version"])
        stamps = {
            image.variable.removeprefix("LAB_").removesuffix("_IMAGE").lower()
            + "-image": f"{image.tag} ({image.origin}, {image.id})"
            for image in self.images.values()
        }
        return {"docker": engine_version, "compose": self.compose, **stamps}

    def close(self) -> None:
        self._closing.close()


def settings(knobs: Knobs) -> dict[str, object]:
    """All that each part's container depends on; where it differs the part starts anew."""
    text = knobs.as_text()
    return {
        "postgres": knobs.db_cap,
        "fake-gcs-server": None,
        "toxiproxy": None,
        "backend": {row.name: text[row.name] for row in TABLE if row.part == "backend"},
        "nginx": (knobs.nginx, knobs.speed),
    }


def _url(port: int) -> str:
    return f"http://{ports.HOST}:{port}"


def _answers(url: str) -> bool:
    try:
        return bool(requests.get(url, timeout=5).status_code == 200)
    except requests.RequestException:
        return False
