"""A Compose project: a replica's containers, its place on the machine, its passwords.

    docker compose up ──> containers, networks, volumes           once, and where limits change
    settings/now.env ───> mounted; read when a container starts    from cell to cell
    kill, start ────────> the same containers, with the settings of now

Compose only makes the containers: an existing container reads changed knobs from a file, so
that nothing else has to know how Compose makes a container. The backend's container is made
again when ``vm_cpus`` or ``vm_memory`` changes: limits belong to the container, and the engine
(20.10 and later) offers no other way to remove a limit on memory.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException

from lab import paths
from lab.errors import MachineError, PartFailed
from lab.files import Folder
from lab.model.knobs import Knobs
from lab.model.replica import DATABASE, INSTANCE_LABEL, INSTANCE_PREFIX
from lab.stack import files, ports
from lab.stack.compose import engine, images, passwords, resources
from lab.stack.compose.engine import explain, overlaps
from lab.stack.compose.environment import Place, settings_file, variables
from lab.stack.compose.resources import SERVICE_LABEL
from lab.stack.ownership import MARKER, Ownership

PROBE_INTERVAL = "1h"
"""Long, because the lab checks for itself: probes would take CPU and requests of the replica."""

TRIES = 3

INSTANCE_SERVICE = "instance"
INSTANCE_PROFILE = "cloudrun"
INSTANCE_NETWORK = "near"
AS_THEY_ARE = (
    *("image", "user", "environment", "init", "read_only", "cap_drop"),
    *("security_opt", "dns_opt", "dns_search", "pids_limit"),
)
"""What Compose and `containers.create` call the same."""

SECRETS = "/run/secrets"
"""Where Compose mounts them in a container."""

ADDRESS_RANGE = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544: reserved for benchmarks of network devices, and not routed on the internet."""


class Project:
    """A replica as Compose and the engine have it.

    Args:
        client: the engine.
        mine: the replica's ownership; its id is the project's name, and the label of all it has.
        folder: of the replica; the workers' readings and the current settings are kept there.
        nginx_port: where users upload; None takes a free port.
        monitored: whether the lab keeps a connection to the database.
        chosen: the image of each variable of the Compose file.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        mine: Ownership,
        folder: Path,
        nginx_port: int | None,
        monitored: bool,
        chosen: Collection[images.Image],
    ) -> None:
        self.id = mine.id
        self.evidence, self._settings = folder / "evidence", folder / "settings"
        files.make_folder(self.evidence, 0o1777)  # the workers run as another user
        files.make_folder(self._settings, 0o755)  # and so does nginx
        self._secrets = folder / "secrets"
        self._passwords = passwords.fresh()
        passwords.write(self._secrets, self._passwords)
        self._client = client
        self._monitored = monitored
        self._tags = {image.variable: image.tag for image in chosen}
        self._image_ids = {image.tag: image.id for image in chosen}
        self._limits: tuple[object, ...] = ()
        nginx, postgres, pooler, storage, speech, toxiproxy, *proxies = ports.free(
            9, but=nginx_port
        )
        gcs, db, to_speech = proxies
        self.place = Place(
            id=mine.id,
            owner=json.dumps(asdict(mine)),
            net_prefix=free_prefix(taken_subnets(client)),
            evidence=str(self.evidence),
            settings=str(self._settings),
            probe_interval=PROBE_INTERVAL,
            nginx_port=nginx_port or nginx,
            postgres_port=postgres,
            pooler_port=pooler,
            storage_port=storage,
            toxiproxy_port=toxiproxy,
            gcs_proxy_port=gcs,
            db_proxy_port=db,
            speech_port=speech,
            speech_proxy_port=to_speech,
        )

    @property
    def labels(self) -> dict[str, str]:
        """The labels of everything of the replica, by which it is listed and removed."""
        return {resources.ID_LABEL: self.id, resources.OWNER_LABEL: self.place.owner}

    def dsn(self, role: str, port: int) -> str:
        """The libpq URL of a role."""
        return f"postgresql://{role}:{self._passwords[role]}@{ports.HOST}:{port}/{DATABASE}"

    def containers(self) -> dict[str, Any]:
        """By part, the containers that exist.

        Raises:
            MachineError: the engine does not answer.
        """
        with engine.answering("list the parts"):
            return {
                container.labels[SERVICE_LABEL]: container
                for container in resources.containers(self._client, self.id)
                if SERVICE_LABEL in container.labels
            }

    def kill(self, parts: Collection[str]) -> None:
        """Kill the containers of these parts, whatever state they are in.

        Raises:
            LabError: the engine refuses; its message, with the remedy.
        """
        containers = self.containers().items()
        _at_once(partial(_kill, container) for part, container in containers if part in parts)

    def prepare(self, knobs: Knobs, parts: Collection[str]) -> dict[str, Any]:
        """The containers of these parts, with these settings and not started yet.

        Raises:
            LabError: Compose failed; its message, with the remedy.
            MachineError: an image has changed since, so that results would mix two.
        """
        # Complete at any moment: the engine may restart a backend by itself.
        unfinished = self._settings / ".now.env"
        unfinished.write_text(settings_file(knobs, self._monitored), encoding="utf-8")
        unfinished.chmod(0o644)  # each part reads it, as a user of its own
        unfinished.rename(self._settings / "now.env")
        containers = self.containers()
        limits = (knobs.vm_cpus, knobs.vm_memory)
        kept = containers.keys() - (set() if limits == self._limits else {"backend"})
        if missing := [part for part in parts if part not in kept]:
            self._make(knobs, missing, first=not containers)
            containers = self.containers()
        if "backend" in missing:
            self._limits = limits
        for container in containers.values():
            tag = container.attrs["Config"]["Image"]
            if self._image_ids[tag] not in container.attrs["Image"]:
                raise MachineError(
                    f"the image {tag} has changed since the replica started", "run again"
                )
        return {part: containers[part] for part in parts}

    def start(self, containers: Iterable[Any]) -> None:
        """Start these containers all at once.

        Compose itself starts a part only after those that it depends on have passed the
        engine's health checks, which takes seconds; that is for use by hand.

        Raises:
            LabError: the engine refuses; its message, with the remedy.
        """
        _at_once(container.start for container in containers)

    def _make(self, knobs: Knobs, parts: Collection[str], first: bool) -> None:
        """Have Compose make new containers for these parts.

        Args:
            first: whether the project has nothing yet, so that it can choose another network
                if another lab took its own meanwhile.
        """
        for attempt in range(1, TRIES + 1):
            done = self._compose(
                knobs,
                *("up", "--no-start", "--no-deps", "--no-build", "--pull", "never"),
                *("--force-recreate", "--timeout", "0", *parts),
            )
            if done.returncode == 0:
                return
            if not overlaps(done.stderr) or not first or attempt == TRIES:
                raise explain(done.stderr)
            resources.remove(self._client, self.id)
            self.place = replace(self.place, net_prefix=free_prefix(taken_subnets(self._client)))

    def _compose(
        self, knobs: Knobs, *arguments: str, profile: Iterable[str] = ()
    ) -> CompletedProcess[str]:
        file = paths.data("compose", "compose.yaml")
        command = ["compose", "--file", str(file), "--project-name", self.id, *profile, *arguments]
        environment = {
            **variables(knobs, self.place, self._monitored),
            **self._tags,
            "LAB_SECRETS": str(self._secrets),
            MARKER: self.id,  # so that it is ended too if the lab is killed meanwhile
        }
        return engine.run(command, environment)

    def remove(self, parts: Collection[str]) -> None:
        """Remove the containers of these parts at once, if there are any.

        Raises:
            PartFailed: the engine refuses.
        """
        for part in self.containers() if parts else ():
            if part in parts:
                self.act(part, "remove", force=True)

    def act(self, part: str, act: str, **options: Any) -> None:
        """Kill, pause, unpause, stop, start or remove a part's container.

        Raises:
            PartFailed: the engine refuses, or there is no such container.
        """
        try:
            getattr(self.containers()[part], act)(**options)
        except (DockerException, requests.RequestException, KeyError) as error:
            raise PartFailed(f"{part}: the engine did not {act} it: {error}") from error

    def log(self, part: str, since: datetime | None = None) -> bytes:
        """What a part has written since then; nothing if it has no container."""
        return self.logs([part], since)[part]

    def logs(
        self, parts: Collection[str], since: datetime | None = None, **streams: bool
    ) -> dict[str, bytes]:
        """What each part has written since then; nothing of one that has no container.

        Args:
            streams: ``stdout=False`` or ``stderr=False`` leaves that stream out.
        """
        options: dict[str, Any] = {**streams, **({"since": since.timestamp()} if since else {})}
        try:
            containers = self.containers()
        except MachineError:
            containers = {}
        known = {part: containers[part] for part in parts if part in containers}
        with ThreadPoolExecutor() as pool:
            read = pool.map(lambda container: _log(container, options), known.values())
            return dict.fromkeys(parts, b"") | dict(zip(known, read, strict=True))

    def collect_logs(self, parts: Collection[str], since: datetime, into: Folder) -> None:
        """Write a log file for each part, and for nginx a second with its requests.

        On Cloud Run each instance gets a file too, by its name there.
        """
        out, err = self.logs(parts, since, stderr=False), self.logs(parts, since, stdout=False)
        if "nginx" in parts:
            into.keep("nginx-access.log", BytesIO(out.pop("nginx")))
        for part in parts:
            into.keep(f"{part}.log", BytesIO(out.get(part, b"") + err[part]))
        for name, container in self.instances().items():
            into.keep(f"{name}.log", BytesIO(container.logs()))

    def instance(self, knobs: Knobs) -> dict[str, Any]:
        """What the gateway makes an instance from, as arguments of `containers.create`.

        It comes from a service of the Compose file that is never started itself. The gateway
        sets an instance's size, temporary files, port and name.

        Raises:
            LabError: Compose failed; its message, with the remedy.
        """
        profile = ("--profile", INSTANCE_PROFILE)
        done = self._compose(knobs, "config", "--format", "json", profile=profile)
        if done.returncode:
            raise explain(done.stderr)
        config = json.loads(done.stdout)
        service = config["services"][INSTANCE_SERVICE]
        return {
            **{name: service[name] for name in AS_THEY_ARE},
            "labels": self.labels,
            "network": config["networks"][INSTANCE_NETWORK]["name"],
            "volumes": {
                **{
                    volume["source"]: {"bind": volume["target"], "mode": "rw"}
                    for volume in service["volumes"]
                },
                **{
                    config["secrets"][name]["file"]: {"bind": f"{SECRETS}/{name}", "mode": "ro"}
                    for name in (secret["source"] for secret in service["secrets"])
                },
            },
            "log_config": {
                "type": service["logging"]["driver"],
                "config": service["logging"]["options"],
            },
        }

    def instances(self) -> dict[str, Any]:
        """The container of each instance that the gateway has made, by its name there.

        The engine has ``instance-3`` as ``replica-lab-front-<pid of the gateway>-instance-3``.
        """
        return {
            container.name.removeprefix(INSTANCE_PREFIX).partition("-")[2]: container
            for container in resources.containers(self._client, self.id)
            if INSTANCE_LABEL in container.labels
        }


def _log(container: Any, options: Mapping[str, Any]) -> bytes:
    """What a container has written; nothing if the engine does not tell."""
    try:
        return bytes(container.logs(**options))
    except (DockerException, requests.RequestException):
        return b""


def _kill(container: Any) -> None:
    """Kill a container; no error if it is not running or does not exist."""
    try:
        container.kill()
    except APIError as error:
        if error.status_code not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
            raise


def _at_once(acts: Iterable[Callable[[], Any]]) -> None:
    """Have the engine do all of these in parallel, and wait for the end of all.

    Raises:
        LabError: it refused; its message, with the remedy.
    """
    with ThreadPoolExecutor() as pool:
        doing = [pool.submit(act) for act in acts]
    try:
        for done in doing:
            done.result()
    except (DockerException, requests.RequestException) as error:
        raise explain(str(error)) from error


def taken_subnets(client: docker.DockerClient) -> list[str]:
    """The subnets of all networks that the engine has."""
    return [
        str(config["Subnet"])
        for network in client.networks.list()
        for config in (network.attrs.get("IPAM") or {}).get("Config") or ()
        if config.get("Subnet")
    ]


def free_prefix(subnets: Iterable[str]) -> str:
    """The first three numbers of a /24 that overlaps none of these, chosen at random.

    At random, so that two labs that start together rarely choose the same; if they do, the
    engine refuses the second, which then chooses again.

    Raises:
        MachineError: no such network is left.
    """
    used = [ipaddress.ip_network(subnet, strict=False) for subnet in subnets]
    free = [
        network
        for network in ADDRESS_RANGE.subnets(new_prefix=24)
        if not any(network.overlaps(other) for other in used if other.version == network.version)
    ]
    if not free:
        raise MachineError(
            f"every network of {ADDRESS_RANGE} is taken on this engine",
            "`lab down` removes what killed labs left, `docker network prune` the unused",
        )
    return str(secrets.choice(free).network_address).rpartition(".")[0]
