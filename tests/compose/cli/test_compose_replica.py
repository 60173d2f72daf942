"""``lab up``, ``status`` and ``down`` with containers; and a run, told from its stored files."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import psycopg2
import pytest
import requests

from lab.stack import cleanup, ports
from lab.store import find
from tests import command
from tests.cli_fixture import the_line
from tests.compose.stack.kill_ten import left, names
from tests.live import upload, wait_until

pytestmark = pytest.mark.compose


class Up:
    """A replica of containers that is up, from a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.port = ports.free(1)[0]
        self.ended = self.lab("up", "--stack", "compose", "--port", str(self.port), "--speed", "20")
        assert self.ended.returncode == 0, self.ended.stderr

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return command.lab(*arguments, cwd=self.folder)

    def record(self) -> dict[str, Any]:
        """What ``status`` tells."""
        [record] = json.loads(self.lab("status", "--json").stdout)
        return dict(record)

    def container(self, client: docker.DockerClient, part: str) -> Any:
        labels = [f"replica-lab.id={self.id}", f"com.docker.compose.service={part}"]
        [found] = client.containers.list(all=True, filters={"label": labels})
        return found

    @property
    def id(self) -> str:
        here = str(self.results.resolve())
        [mine] = [mine for _, mine in cleanup.replicas() if mine.results == here]
        return mine.id


@pytest.fixture(scope="module")
def up(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    kept = Up(tmp_path_factory.mktemp("up"))
    yield kept
    replica = kept.id
    ended = kept.lab("down")
    assert ended.returncode == 0, ended.stderr
    assert "ended 1 replica of results" in ended.stderr
    assert names(client, replica) == []
    assert left(client, kept.results) == []


def test_up_tells_its_stack_and_why_and_every_address_answers(up: Up) -> None:
    assert up.ended.stderr.startswith("stack: compose (asked for; images: ")
    record = up.record()
    assert (record["stack"], record["down"]) == ("compose", [])
    assert record["url"] == f"http://127.0.0.1:{up.port}"
    assert upload(record["url"]).status_code == 200
    assert requests.get(record["health"], timeout=10).status_code == 200
    assert requests.get(record["storage"] + "/storage/v1/b", timeout=10).status_code == 200
    proxies = requests.get(record["toxiproxy"] + "/proxies", timeout=10).json()
    assert {len(proxies[name]["toxics"]) for name in ("gcs", "db")} == {1}
    with psycopg2.connect(record["database"]) as database, database.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM recordings")
        assert cursor.fetchone() == (1,)
    database.close()


def test_the_command_that_up_tells_shows_the_parts_logs(up: Up) -> None:
    logs = shlex.split(up.record()["logs"])
    shown = subprocess.run(logs, capture_output=True, text=True, check=True).stdout
    assert "Uvicorn running" in shown


def test_nothing_of_it_listens_on_another_address_than_loopback(up: Up) -> None:
    record = up.record()
    told = [record[name] for name in ("url", "storage", "toxiproxy", "database")]
    published = {int(address.rpartition(":")[2].partition("/")[0]) for address in told}
    listening = [
        (each.laddr.port, each.laddr.ip)
        for each in psutil.net_connections("inet")
        if each.laddr and each.status == psutil.CONN_LISTEN and each.laddr.port in published
    ]
    assert {address for _, address in listening} <= {ports.HOST}
    elsewhere = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET" and address.address != ports.HOST
    }
    open_there = [
        (address, port) for address in elsewhere for port in published if accepts(address, port)
    ]
    assert open_there == []


def accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return bool(probe.connect_ex((address, port)) == 0)


@pytest.mark.parametrize(("strike", "mend"), [("pause", "unpause"), ("kill", "start")])
def test_a_part_that_is_paused_or_dead_is_shown(
    up: Up, client: docker.DockerClient, strike: str, mend: str
) -> None:
    container = up.container(client, "nginx")
    getattr(container, strike)()
    shown = up.lab("status")
    getattr(container, mend)()
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (3, "DOWN: nginx")
    assert up.lab("status").returncode == 0


def test_an_up_that_was_killed_is_told_and_ended(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    with command.started("up", "--stack", "compose", cwd=tmp_path) as process:
        wait_until(lambda: len(left(client, results)) > 3)  # Compose is at it
        process.kill()
        process.communicate()
    told = command.lab("status", cwd=tmp_path)
    assert (told.returncode, told.stdout) == (3, "")
    assert the_line(told.stderr).endswith("`lab up` was killed at it - `lab down` ends it")
    ended = command.lab("down", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert left(client, results) == []


def test_a_run_measures_every_cell_and_is_stamped_with_what_it_ran_on(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    spec = command.spec(tmp_path)
    ended = command.lab("run", spec, "--stack", "compose", "--speed", "10", cwd=tmp_path)
    assert ended.returncode in (0, 4), ended.stderr  # a busy machine may make a cell invalid
    run = find(tmp_path / "results", "latest")
    summary = run.summary()
    assert [cell.id for cell in summary.cells] == ["workers=1", "workers=2"]
    assert all(cell.metrics["succeeded"] > 0 for cell in summary.cells)
    assert (run.info.stack, summary.stack) == ("compose", "compose")
    assert run.info.stack_reason.startswith("asked for; images: ")
    stamps = {name for name in run.info.versions if name.endswith("-image")}
    parts = ("backend", "nginx", "pooler", "postgres", "storage", "toxiproxy")
    assert stamps == {f"{part}-image" for part in parts}
    assert {"docker", "compose"} <= set(run.info.versions)
    assert left(client, tmp_path / "results") == []
