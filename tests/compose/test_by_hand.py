"""The replica brought up with Compose alone, as somebody without the lab would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psycopg2
import pytest
import requests
from testcontainers.compose import DockerCompose

from lab.model.fault import KnobRef, Latency
from lab.model.knobs import Knobs
from lab.model.replica import BUCKET
from lab.observe.audit import object_ids
from lab.paths import ROOT
from lab.stack import ports
from lab.stack.compose import confinement, engine
from lab.stack.compose.environment import Place
from lab.stack.compose.project import free_prefix, taken_subnets
from tests.live import upload, wait_until

pytestmark = pytest.mark.compose

PROJECT_LABEL = "com.docker.compose.project"
SERVICES = {"nginx", "backend", "postgres", "fake-gcs-server", "speech", "toxiproxy"}


@dataclass
class ByHand:
    """A replica that is up, its place, and the engine."""

    compose: DockerCompose
    project: str
    place: Place
    client: docker.DockerClient

    @property
    def url(self) -> str:
        return f"http://{ports.HOST}:{self.place.nginx_port}"

    def left(self) -> list[str]:
        """What the engine has of this project: containers, networks, volumes."""
        mine = {"label": f"{PROJECT_LABEL}={self.project}"}
        found = [
            *self.client.containers.list(all=True, filters=mine),
            *self.client.networks.list(filters=mine),
            *self.client.volumes.list(filters=mine),
        ]
        return [each.name for each in found]

    def containers(self) -> dict[str, Any]:
        """The container of each service."""
        mine = {"label": f"{PROJECT_LABEL}={self.project}"}
        found = self.client.containers.list(all=True, filters=mine)
        return {each.labels["com.docker.compose.service"]: each for each in found}

    def rows(self) -> int:
        """Recordings in the database, asked as the application's plain role."""
        secrets = self.compose.get_config()["secrets"]
        password = Path(secrets["app-password"]["file"]).read_text(encoding="utf-8")
        where = f"{ports.HOST}:{self.place.db_proxy_port}"
        connection = psycopg2.connect(f"postgresql://app:{password}@{where}/students")
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM recordings")
                return int(cursor.fetchall()[0][0])
        finally:
            connection.close()

    def objects(self) -> int:
        storage = f"http://{ports.HOST}:{self.place.storage_port}"
        return len(object_ids(storage, BUCKET))

    def toxics(self) -> dict[str, dict[str, Any]]:
        """The attributes of what is injected, by name."""
        proxies = requests.get(
            f"http://{ports.HOST}:{self.place.toxiproxy_port}/proxies", timeout=5
        ).json()
        return {
            toxic["name"]: toxic["attributes"]
            for proxy in proxies.values()
            for toxic in proxy["toxics"]
        }


@pytest.fixture(scope="module")
def by_hand(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ByHand]:
    """The preset *as-found* in a place of its own; all but the place is what git holds."""
    folder = tmp_path_factory.mktemp("by-hand")
    found = ports.free(8)
    place = Place(
        net_prefix=free_prefix(taken_subnets(client)),
        nginx_port=found[0],
        postgres_port=found[1],
        storage_port=found[2],
        toxiproxy_port=found[3],
        gcs_proxy_port=found[4],
        db_proxy_port=found[5],
        speech_port=found[6],
        speech_proxy_port=found[7],
    )
    own = folder / "place.env"
    own.write_text("".join(f"{name}={value}\n" for name, value in place.as_env().items()))
    project = f"by-hand-{found[0]}"
    compose = DockerCompose(
        ROOT,
        compose_file_name="compose/compose.yaml",
        env_file=["compose/as-found.env", str(own)],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSE_PROJECT_NAME", project)
        with compose:
            yield ByHand(compose, project, place, client)


@pytest.mark.parametrize(
    ("env_file", "variables", "message"),
    [
        (None, {}, "is missing a value: add --env-file compose/as-found.env"),
        (
            "as-found.env",
            {"LAB_WORKERS": ""},
            "LAB_WORKERS is missing a value: add --env-file compose/as-found.env",
        ),
        (
            "as-found.env",
            {"LAB_SECRETS": ""},
            "LAB_SECRETS is missing a value: run make images, which writes compose/.env",
        ),
    ],
)
@pytest.mark.usefixtures("client")
def test_what_is_missing_is_said_with_its_remedy(
    env_file: str | None, variables: dict[str, str], message: str
) -> None:
    folder = ROOT / "compose"
    flags = ["--env-file", str(folder / env_file)] if env_file else []
    file = str(folder / "compose.yaml")
    done = engine.run(["compose", "-f", file, *flags, "config", "--quiet"], variables)
    assert done.returncode != 0
    assert message in done.stderr


def test_it_is_healthy_and_an_upload_arrives(by_hand: ByHand) -> None:
    rows, objects = by_hand.rows(), by_hand.objects()
    assert upload(by_hand.url).status_code == 200
    assert (by_hand.rows(), by_hand.objects()) == (rows + 1, objects + 1)


def test_a_student_is_known_by_the_address_that_it_names(by_hand: ByHand) -> None:
    named = "198.51.100.7"
    nginx = by_hand.containers()["nginx"]
    requests.get(f"{by_hand.url}/health", headers={"X-Lab-Client-Address": named}, timeout=5)
    wait_until(lambda: f'"client":"{named}"'.encode() in nginx.logs())


def delayed(delay: KnobRef) -> dict[str, int]:
    return Latency(type="latency", delay=delay).attributes(Knobs())


def test_what_the_backend_calls_is_as_far_as_the_knobs_say(by_hand: ByHand) -> None:
    assert by_hand.toxics() == {
        "gcs-latency-1": delayed(KnobRef(knob="gcs_latency")),
        "db-distance-1": delayed(KnobRef(knob="db_rtt")),
        "speech-latency-1": delayed(KnobRef(knob="speech_latency")),
    }


def test_up_again_changes_nothing(by_hand: ByHand) -> None:
    before, toxics = by_hand.containers(), by_hand.toxics()
    by_hand.compose.start()
    after = by_hand.containers()
    assert {name: after[name].id for name in after} == {name: before[name].id for name in before}
    started = {name: after[name].attrs["State"]["StartedAt"] for name in SERVICES}
    assert started == {name: before[name].attrs["State"]["StartedAt"] for name in SERVICES}
    assert by_hand.toxics() == toxics


def test_a_restart_of_storage_and_database_loses_nothing(by_hand: ByHand) -> None:
    upload(by_hand.url)
    before = (by_hand.rows(), by_hand.objects())
    containers = by_hand.containers()
    for name in ("postgres", "fake-gcs-server"):
        containers[name].restart(timeout=5)
    by_hand.compose.start()  # waits until they are healthy
    assert (by_hand.rows(), by_hand.objects()) == before
    wait_until(lambda: upload(by_hand.url).status_code == 200)  # dead connections are found out


def test_ports_are_published_on_loopback_alone(by_hand: ByHand) -> None:
    hosts = {
        binding["HostIp"]
        for container in by_hand.containers().values()
        for bindings in container.attrs["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    }
    assert hosts == {ports.HOST}


def test_no_container_reaches_outside(by_hand: ByHand) -> None:
    with confinement.outside(by_hand.client, {}) as there:
        assert there, "the engine must run on this machine"
        host, port = there.host, there.port
        assert connects(by_hand.client, there.network, host, port), "it must be reachable"
        for name, container in by_hand.containers().items():
            if name in SERVICES:
                assert not connects(by_hand.client, f"container:{container.id}", host, port), name


def connects(client: docker.DockerClient, network: str, host: str, port: int) -> bool:
    return confinement.connects(client, network, host, port, labels={})


def test_the_backend_reaches_the_database_through_toxiproxy_alone(by_hand: ByHand) -> None:
    containers = by_hand.containers()
    backend = f"container:{containers['backend'].id}"
    networks = containers["postgres"].attrs["NetworkSettings"]["Networks"].values()
    for address in (found["IPAddress"] for found in networks):
        assert not connects(by_hand.client, backend, address, 5432)
    assert connects(by_hand.client, backend, "toxiproxy", 5432)


def test_no_password_is_shown_by_the_engine(by_hand: ByHand) -> None:
    secrets = by_hand.compose.get_config()["secrets"].values()
    passwords = [Path(found["file"]).read_text(encoding="utf-8") for found in secrets]
    assert len(set(passwords)) == 2
    for container in by_hand.containers().values():
        shown = json.dumps(container.attrs)
        assert not [password for password in passwords if password in shown], container.name


def test_down_leaves_nothing(by_hand: ByHand) -> None:
    assert by_hand.left()
    by_hand.compose.stop()
    assert by_hand.left() == []
