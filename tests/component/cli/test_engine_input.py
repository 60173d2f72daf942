"""An engine, Compose or images that are missing: one line with its remedy, and exit code 3."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.stack import ports
from lab.stack.compose import images
from lab.stack.compose.engine import explain
from tests import command
from tests.cli_fixture import Command, the_line


class Engine(ThreadingHTTPServer):
    """Answers as an engine of some version that has nothing."""

    def __init__(self, api: str) -> None:
        super().__init__((ports.HOST, 0), Answer)
        self.api = api

    @property
    def url(self) -> str:
        return f"tcp://{ports.HOST}:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        known = self.path.endswith("/version")
        about = {"Version": "19.3.1", "ApiVersion": self.server.api}
        found = about if known else {"message": "No such image"}
        body = json.dumps(found).encode()
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let an engine of this API version be the one that is asked."""
    opened: list[Engine] = []

    def start(api: str) -> None:
        server = Engine(api)
        opened.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", server.url)

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


def program(folder: Path, script: str) -> Path:
    """A folder for PATH that holds a client ``docker`` and nothing else."""
    folder.mkdir()
    file = folder / "docker"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return folder


COMMANDS = [["run", "spec.yaml"], ["up"], ["calibrate"]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a spec, and a temporary folder of its own for replicas."""
    command.spec(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def assert_refused(lab: Command, folder: Path, arguments: list[str], message: str) -> None:
    """One line, exit code 3, and no folder of a replica."""
    ended = lab(*arguments, "--stack", "compose")
    assert (ended.code, ended.out) == (3, "")
    assert the_line(ended.err) == message
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda each: each[0])
def test_an_engine_that_does_not_answer(
    lab: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    message = (
        "the Docker engine at unix:///nonexistent does not answer - "
        "start it, `make engine` (Debian, root), or use --stack embedded"
    )
    assert_refused(lab, folder, arguments, message)


@pytest.mark.parametrize("api", ["1.40", "1.12"])
def test_an_engine_that_is_too_old(
    lab: Command, folder: Path, engine: Callable[[str], None], api: str
) -> None:
    engine(api)
    message = (
        f"the Docker engine 19.3.1 is too old (API {api}) - "
        "install Docker engine 20.10 or later, or use --stack embedded"
    )
    assert_refused(lab, folder, ["up"], message)


MEND = "install the Compose plugin, `make engine` (Debian, root), or use --stack embedded"
NO_COMPOSE = f"Docker Compose v2 is not installed - {MEND}"

CLIENTS = {
    "no-compose": (
        "echo \"docker: 'compose' is not a docker command.\" >&2; exit 1",
        NO_COMPOSE,
    ),
    "old-compose": (
        'echo \'{"version": "1.29.2"}\'',
        f"Docker Compose 1.29.2 is too old: 2 is needed - {MEND}",
    ),
    "odd-compose": ('echo \'{"version": "dev"}\'', NO_COMPOSE),
    "broken-client": ("exit 127", NO_COMPOSE),
}


@pytest.mark.parametrize("case", CLIENTS)
def test_compose_that_is_missing_or_too_old(
    lab: Command,
    folder: Path,
    engine: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    script, message = CLIENTS[case]
    engine("1.41")
    monkeypatch.setenv("PATH", str(program(folder / "bin", script)))
    assert_refused(lab, folder, ["up"], message)


def test_a_client_that_is_not_on_path(
    lab: Command, folder: Path, engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("1.41")
    monkeypatch.setenv("PATH", str(folder))
    assert_refused(lab, folder, ["up"], f"the command `docker` is not on PATH - {MEND}")


def test_images_that_are_missing(
    lab: Command, folder: Path, engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("1.41")
    monkeypatch.setenv("PATH", str(program(folder / "bin", 'echo \'{"version": "2.40.3"}\'')))
    message = (
        f"the engine has no image {', '.join(images.tags().values())} - "
        "`lab images` pulls or builds what is missing; or use --stack embedded"
    )
    assert_refused(lab, folder, ["up"], message)


def test_the_tag_of_an_image_is_the_environments_then_the_files_then_the_official_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in images.OFFICIAL:
        monkeypatch.delenv(name, raising=False)
    chosen = tmp_path / ".env"
    assert images.tags(chosen) == images.OFFICIAL
    chosen.write_text("LAB_NGINX_IMAGE=nginx:file\nLAB_STORAGE_IMAGE=storage:file\nOTHER=x\n")
    monkeypatch.setenv("LAB_NGINX_IMAGE", "nginx:shell")
    monkeypatch.setenv("LAB_STORAGE_IMAGE", "")
    found = images.tags(chosen)
    assert found["LAB_NGINX_IMAGE"] == "nginx:shell"
    assert found["LAB_STORAGE_IMAGE"] == "storage:file"
    assert found["LAB_POSTGRES_IMAGE"] == images.OFFICIAL["LAB_POSTGRES_IMAGE"]
    assert set(found) == set(images.OFFICIAL)


SAID = {
    "full": (
        "failed to copy files: write /var/lib/docker/tmp/x: no space left on device",
        "the engine's store is full",
        "`docker system df` shows what takes it",
    ),
    "full-at-start": (
        " Container replica-lab-x-postgres-1  Creating\n"
        "Error response from daemon: error creating overlay mount to /var/lib/docker/overlay2/0f"
        "-init/merged: mkdir /var/lib/docker/overlay2/0f-init: no space left on device\n",
        "the engine's store is full",
        "`docker system df` shows what takes it",
    ),
    "port": (
        "driver failed programming external connectivity on endpoint replica-lab-x-nginx-1 (5f): "
        "Bind for 127.0.0.1:8080 failed: port is already allocated",
        "a port that the replica needs was taken meanwhile",
        "choose another with --port",
    ),
    "port-of-another-program": (
        "Error starting userland proxy: listen tcp4 127.0.0.1:8080: bind: address already in use",
        "a port that the replica needs was taken meanwhile",
        "choose another with --port",
    ),
    "image": (
        "Error response from daemon: No such image: nginx:1.31.3",
        "an image of the replica is not on this engine",
        "`lab images` pulls or builds what is missing",
    ),
    "cores": (
        "Error response from daemon: Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs"
        " available",
        "the engine has fewer cores than vm_cpus asks for",
        "set vm_cpus to what `docker info` shows, or less",
    ),
    "engine": (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon"
        " running?",
        "the Docker engine does not answer",
        "start it, or `make engine`",
    ),
    "networks": (
        "failed to create network replica-lab-x_near: Error response from daemon: Pool overlaps"
        " with other one on this address space",
        "the engine has no network left for the replica",
        "`lab down` removes what killed labs left",
    ),
    "networks-in-part": (
        "failed to create network replica-lab-x_near: Error response from daemon: cannot create"
        " network ae28 (br-ae28): conflicts with network ca3e (br-ca3e): networks have overlapping"
        " IPv4",
        "the engine has no network left for the replica",
        "`lab down` removes what killed labs left",
    ),
    "unheard": ("something else\nbroke\n\n", "docker compose failed: broke", "docker compose ps"),
    "silent": ("", "docker compose failed: no message", "docker compose ps"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_the_engine_says_is_told_with_its_remedy(case: str) -> None:
    said, what, remedy = SAID[case]
    error = explain(said)
    assert isinstance(error, LabError)
    assert error.exit_code == 3
    assert error.what.startswith(what)
    assert remedy in str(error)
    assert "\n" not in str(error)
    if case not in ("unheard", "silent"):
        assert said.strip().splitlines()[-1] in str(error)
