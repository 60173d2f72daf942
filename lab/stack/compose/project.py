"""One Compose project: a replica's containers, its place on the machine, its passwords.

What the front makes an instance from: the service of the Compose file that nobody starts.

A network of its own for each replica, out of the range reserved for benchmarks.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from lab.errors import MachineError, PartFailed
from lab.model.knobs import Knobs
from lab.stack import ports
from lab.stack.compose import engine, images, recreate, resources
from lab.stack.compose.engine import explain, overlaps
from lab.stack.compose.environment import Place, variables
from lab.stack.compose.resources import SERVICE_LABEL
from lab.stack.monitor import APP_ROLE, DATABASE, SUPERUSER
from lab.stack.ownership import MARKER, Ownership

FILE = images.COMPOSE / "compose.yaml"
PROBE_INTERVAL = "1h"
"""The lab looks itself; a probe every second would take CPU and requests of the replica."""

TRIES = 3


class Project:
    """What Compose is told of one replica.

    Args:
        client: the engine.
        owner: of the replica; its id is the project's name and the label of all it has.
        evidence: folder for the workers' readings.
        nginx_port: where users upload; None finds a free port.
        monitored: whether the lab holds a connection to the database.
        chosen: the image of each variable of the Compose file.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        owner: Ownership,
        evidence: Path,
        nginx_port: int | None,
        monitored: bool,
        chosen: Iterable[images.Image],
    ) -> None:
        self.id = owner.id
        self._client = client
        self._monitored = monitored
        self._beside = ThreadPoolExecutor(thread_name_prefix="remove")
        self._ended: list[Any] = []
        self._removing: list[Future[None]] = []
        self._passwords = {role: secrets.token_hex(16) for role in (SUPERUSER, APP_ROLE)}
        self._tags = {image.variable: image.tag for image in chosen}
        nginx, postgres, storage, toxiproxy, gcs, db = ports.free(6)
        self.place = Place(
            id=owner.id,
            owner=json.dumps(asdict(owner)),
            net_prefix=self._free_prefix(),
            evidence=str(evidence),
            probe_interval=PROBE_INTERVAL,
            nginx_port=nginx_port or nginx,
            postgres_port=postgres,
            storage_port=storage,
            toxiproxy_port=toxiproxy,
            gcs_proxy_port=gcs,
            db_proxy_port=db,
        )

    def _free_prefix(self) -> str:
        return free_prefix(taken_subnets(self._client))

    @property
    def labels(self) -> dict[str, str]:
        """By which everything of the replica is found, and removed."""
        return {resources.ID_LABEL: self.id, resources.OWNER_LABEL: self.place.owner}

    def dsn(self, role: str, port: int) -> str:
        """The libpq URL of a role."""
        return f"postgresql://{role}:{self._passwords[role]}@{ports.HOST}:{port}/{DATABASE}"

    def create(self, knobs: Knobs, parts: Collection[str], first: bool) -> dict[str, Any]:
        """Make the containers of these parts anew; they are not started yet.

        Args:
            knobs: the settings.
            parts: names of services.
            first: whether the project has nothing yet: a network that another lab took
                meanwhile can then be chosen anew.

        Raises:
            LabError: Compose failed, or the engine; what it said, with the remedy.
        """
        self.settle()
        before = {} if first else self.containers()
        if not before.keys() >= set(parts):
            return self.compose(knobs, parts, first)
        return self.succeed(knobs, {part: before[part] for part in parts})

    def succeed(self, knobs: Knobs, before: Mapping[str, Any]) -> dict[str, Any]:
        """Put new containers in the place of these."""
        values = self._variables(knobs)
        with ThreadPoolExecutor() as pool:
            making = {
                part: pool.submit(recreate.replace, self._client, old, values)
                for part, old in before.items()
            }
        made = {part: _result(each) for part, each in making.items()}
        self._ended += before.values()
        return made

    def settle(self) -> None:
        """Wait until the containers that others took the place of are gone.

        Raises:
            LabError: the engine refuses.
        """
        removing, self._removing = self._removing, []
        for each in removing:
            _result(each)

    def compose(self, knobs: Knobs, parts: Collection[str], first: bool) -> dict[str, Any]:
        """Let Compose make the containers of these parts."""
        for attempt in range(1, TRIES + 1):
            done = self._compose(
                knobs,
                *("up", "--no-start", "--no-deps", "--no-build", "--pull", "never"),
                *("--force-recreate", "--timeout", "0", *parts),
            )
            if done.returncode == 0:
                break
            if not overlaps(done.stderr) or not first or attempt == TRIES:
                raise explain(done.stderr)
            resources.remove(self._client, self.id)
            self.place = replace(self.place, net_prefix=self._free_prefix())
        found = self.containers()
        return {part: found[part] for part in parts}

    def start(self, made: Mapping[str, Any]) -> None:
        """Start these containers all at once; while they come up, those before them go.

        Compose itself starts a part when the engine's health checks have found those before
        it well, and checks take seconds: they are for those who use Compose by hand.

        Raises:
            LabError: the engine refuses; what it said, with the remedy.
        """
        with ThreadPoolExecutor() as pool:
            starting = [pool.submit(container.start) for container in made.values()]
        for each in starting:
            _result(each)
        ended, self._ended = self._ended, []
        self._removing += [self._beside.submit(_remove, each) for each in ended]

    def _compose(self, knobs: Knobs, *arguments: str, before: Iterable[str] = ()) -> Any:
        command = ["compose", "--file", str(FILE), "--project-name", self.id, *before, *arguments]
        marked = {MARKER: self.id}  # so that it ends with a lab that is killed meanwhile
        return engine.run(command, {**self._variables(knobs), **marked})

    def _variables(self, knobs: Knobs) -> dict[str, str]:
        """All that the Compose file asks for."""
        passwords = {
            "LAB_POSTGRES_PASSWORD": self._passwords[SUPERUSER],
            "LAB_APP_PASSWORD": self._passwords[APP_ROLE],
        }
        return {**variables(knobs, self.place, self._monitored), **passwords, **self._tags}

    def containers(self) -> dict[str, Any]:
        """The container of each part that has one: the newest, where another is on its way out.

        Raises:
            MachineError: the engine does not answer.
        """
        with engine.answering("list the parts"):
            return {
                each.labels[SERVICE_LABEL]: each
                for each in reversed(resources.containers(self._client, self.id))
                if SERVICE_LABEL in each.labels
            }

    def instance(self, knobs: Knobs) -> dict[str, Any]:
        """What the front makes an instance from, as arguments of `containers.create`.

        Raises:
            LabError: Compose failed; what it said, with the remedy.
        """
        done = self._compose(
            knobs, "config", "--format", "json", before=("--profile", INSTANCE_PROFILE)
        )
        if done.returncode:
            raise explain(done.stderr)
        labels = {
            resources.ID_LABEL: self.place.id,
            resources.OWNER_LABEL: self.place.owner,
        }
        return instance_arguments(json.loads(done.stdout), labels)

    def instances(self) -> dict[str, Any]:
        """The container of each instance that the front has made, by its name there."""
        return {
            instance_name(each): each
            for each in resources.containers(self._client, self.id)
            if FRONT_LABEL in each.labels
        }

    def remove(self, parts: Iterable[str]) -> None:
        """Remove the containers of these parts at once, where there are any.

        Raises:
            PartFailed: the engine refuses.
        """
        wanted = set(parts)
        for part in self.containers():
            if part in wanted:
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

    def log(self, part: str, since: datetime | None = None, **streams: bool) -> bytes:
        """What a part has said since then; nothing where it has no container.

        Args:
            streams: ``stdout=False`` or ``stderr=False`` leaves that one out.
        """
        options: dict[str, Any] = {"since": since.timestamp()} if since else {}
        try:
            return bytes(self.containers()[part].logs(**options, **streams))
        except (DockerException, requests.RequestException, MachineError, KeyError):
            return b""


def _remove(container: Any) -> None:
    with suppress(NotFound):
        container.remove(force=True)


def _result(done: Future[Any]) -> Any:
    """What the engine gave.

    Raises:
        LabError: it refused; what it said, with the remedy.
    """
    try:
        return done.result()
    except (DockerException, requests.RequestException) as error:
        raise explain(str(error)) from error


INSTANCE_SERVICE = "instance"
INSTANCE_PROFILE = "cloudrun"
INSTANCE_NETWORK = "near"
FRONT_LABEL = "replica-lab.front"
"""The front's own label of each instance."""

_AS_THEY_ARE = (
    "image",
    "user",
    "environment",
    "init",
    "read_only",
    "cap_drop",
    "security_opt",
    "pids_limit",
)


def instance_arguments(config: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of the SDK's `containers.create`, but for those that are the front's.

    Its size, its temporary files, its port and its name the front sets.

    Args:
        config: the project as ``docker compose config --format json`` gives it.
        labels: of the replica, by which the lab finds all that it has.
    """
    service = config["services"][INSTANCE_SERVICE]
    logging = service["logging"]
    return {
        **{name: service[name] for name in _AS_THEY_ARE},
        "labels": dict(labels),
        "network": config["networks"][INSTANCE_NETWORK]["name"],
        "volumes": {
            each["source"]: {"bind": each["target"], "mode": "rw"} for each in service["volumes"]
        },
        "log_config": {"type": logging["driver"], "config": logging["options"]},
    }


def instance_name(container: Any) -> str:
    """An instance's name as the front's log has it: ``instance-3``."""
    return str(container.name).removeprefix(f"{FRONT_LABEL.replace('.', '-')}-").partition("-")[2]


ADDRESS_RANGE = ipaddress.ip_network("198.18.0.0/15")
"""RFC 2544: for benchmarks of network devices, and routed by nobody."""


def taken_subnets(client: docker.DockerClient) -> list[str]:
    """The subnets of all networks that the engine has."""
    found = []
    for network in client.networks.list():
        for config in (network.attrs.get("IPAM") or {}).get("Config") or ():
            if subnet := config.get("Subnet"):
                found.append(str(subnet))
    return found


def free_prefix(subnets: Iterable[str]) -> str:
    """The first three numbers of a /24 that overlaps none of these, chosen at random.

    At random, so that two labs that start together rarely choose the same; where they do,
    the engine refuses the second, which then chooses again.

    Raises:
        MachineError: none is left.
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


def collect_logs(project: Project, parts: Iterable[str], since: datetime, into: Path) -> None:
    """A file for each part, made with its folder; nginx has one more, of its requests."""
    into.mkdir(parents=True, exist_ok=True)
    for part in parts:
        out = project.log(part, since, stderr=False)
        err = project.log(part, since, stdout=False)
        if part == "nginx":
            (into / "nginx-access.log").write_bytes(out)
            out = b""
        (into / f"{part}.log").write_bytes(out + err)


def collect_instances(project: Project, into: Path) -> None:
    """A file for each instance on Cloud Run, by its name there."""
    for name, container in project.instances().items():
        (into / f"{name}.log").write_bytes(container.logs())
