"""What only a real engine says: one line with its remedy, exit code 3, and nothing left."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.types import IPAMConfig, IPAMPool

from lab.stack import ports
from lab.stack.compose import images, project
from tests import command
from tests.cli_fixture import Command, the_line
from tests.compose.stack.kill_ten import left
from tests.compose.stack.lookalikes import LookAlikes, lookalikes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a spec, and a temporary folder of its own for replicas."""
    command.spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


@pytest.fixture(scope="module")
def others(client: docker.DockerClient) -> Iterator[LookAlikes]:
    with lookalikes(client, uuid.uuid4().hex[:8]) as made:
        yield made


class Refused:
    """Runs the command in its folder; nothing may be left, nor anything of others touched."""

    def __init__(
        self, lab: Command, client: docker.DockerClient, others: LookAlikes, folder: Path
    ) -> None:
        self._lab = lab
        self._client = client
        self._others = others
        self._folder = folder

    def __call__(self, *arguments: str) -> str:
        ended = self._lab(*arguments, "--stack", "compose")
        assert (ended.code, ended.out) == (3, "")
        *_, last = ended.err.splitlines(keepends=True)
        assert left(self._client, self._folder / "results") == []
        assert list((self._folder / "tmp").iterdir()) == []
        self._others.assert_untouched()
        return the_line(last)


@pytest.fixture
def refused(lab: Command, client: docker.DockerClient, others: LookAlikes, folder: Path) -> Refused:
    return Refused(lab, client, others, folder)


@pytest.mark.compose
def test_an_image_that_this_engine_has_not(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_NGINX_IMAGE", "replica-lab/nosuch:1")
    assert refused("run", "spec.yaml") == (
        "the engine has no image replica-lab/nosuch:1 - "
        "`lab images` pulls or builds what is missing; or use --stack embedded"
    )


@pytest.mark.compose
def test_a_port_that_is_taken(refused: Refused) -> None:
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("up", "--port", str(port)) == (
            f"port {port} on 127.0.0.1 cannot be used (Address already in use) - "
            "choose another with --port"
        )


@pytest.mark.compose
def test_a_port_that_is_taken_between_choosing_and_starting(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = ports.free
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "free", lambda count, **but: [*free(count - 1, **but), port])
        said = refused("up")
    assert said.startswith("a port that the replica needs was taken meanwhile (")
    assert str(port) in said
    assert said.endswith(" - run again, or choose another with --port")


@pytest.mark.compose
@pytest.mark.parametrize(
    ("variable", "part"), [("LAB_NGINX_IMAGE", "nginx"), ("LAB_BACKEND_IMAGE", "backend")]
)
def test_a_container_that_exits_at_its_start(
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    part: str,
) -> None:
    monkeypatch.setenv(variable, images.tags()["LAB_POSTGRES_IMAGE"])  # it is no such program
    said = refused("up")
    assert said.startswith(f"{part} exited ("), said
    what, _, remedy = said.rpartition(" - ")
    assert what.partition("): ")[2]
    assert "its log is empty" not in what
    assert remedy == "see the part's log, and `lab doctor`"


@pytest.mark.compose
def test_a_container_whose_command_its_image_has_not(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOXIPROXY_IMAGE", images.tags()["LAB_BACKEND_IMAGE"])
    said = refused("up")
    assert "-host=toxiproxy-api" in said


@pytest.mark.compose
def test_more_cores_than_the_engine_has(refused: Refused, client: docker.DockerClient) -> None:
    more = int(client.info()["NCPU"]) + 1
    said = refused("up", "--set", f"vm_cpus={more}")
    assert said.startswith("the engine has fewer cores than vm_cpus asks for (")
    assert said.endswith(" - set vm_cpus to what `docker info` shows, or less")


@pytest.mark.compose
def test_no_network_left(
    refused: Refused, client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = project.free_prefix(project.taken_subnets(client))
    pool = IPAMConfig(pool_configs=[IPAMPool(subnet=f"{prefix}.0/24")])
    network = client.networks.create(f"replica-lab-taken-{prefix}", ipam=pool)
    try:
        monkeypatch.setattr(project, "free_prefix", lambda _subnets: prefix)
        said = refused("up")
        network.reload()  # raises where it is not there
    finally:
        network.remove()
    assert said.startswith("the engine has no network left for the replica (")
