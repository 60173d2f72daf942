"""The gateway as a process of its own: its settings, its end, and what a killed one leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.model.knobs import Knobs
from lab.model.replica import INSTANCE_PREFIX
from lab.services.cloudrun import cgroup, process
from lab.services.cloudrun.__main__ import main
from lab.services.cloudrun.gateway import BACKEND, GatewaySettings, instance_env
from lab.stack import ports
from tests.component.cloudrun.permitted import needs_cgroups
from tests.component.cloudrun.test_process import APP
from tests.live import wait_until

GATEWAY = [sys.executable, "-m", "lab.services.cloudrun"]
PATHS = {"FRONT_EVENTS": "/dev/null", "FRONT_LOGS": "/tmp"}  # noqa: S108


@dataclass
class Running:
    """A gateway that runs."""

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events").read_text().splitlines()]

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.events)

    def serves(self) -> bool:
        return (self.folder / "events").exists() and self.count("serving") == 1

    def get(self, path: str) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def frozen(self) -> bool:
        """Whether the kernel says that the instance has no CPU, by either version."""
        states = [
            file.read_text()
            for folder in self.left_over()
            for name in ("freezer.state", "cgroup.events")
            if (file := Path(folder, name)).exists()
        ]
        return any("FROZEN" in text or "frozen 1" in text for text in states)

    def left_over(self) -> list[str]:
        mine = f"{INSTANCE_PREFIX}{self.process.pid}-*"
        parents = {folder.parent for folder in cgroup._at("x").folders.all}
        return [str(path) for parent in (*parents, process.TMPFS) for path in parent.glob(mine)]


@contextmanager
def running(folder: Path, command: list[str], **knobs: str) -> Iterator[Running]:
    [port] = ports.free(1)
    env = {
        **os.environ,
        **{f"LAB_{name.upper()}": value for name, value in knobs.items()},
        "PORT": str(port),
        "FRONT_EVENTS": str(folder / "events"),
        "FRONT_LOGS": str(folder),
        "FRONT_COMMAND": json.dumps(command),
    }
    with subprocess.Popen(GATEWAY, env=env, stderr=subprocess.PIPE) as gateway:
        made = Running(gateway, port, folder)
        try:
            wait_until(lambda: gateway.poll() is not None or made.serves())
            assert gateway.poll() is None, gateway.communicate()[1]
            yield made
        finally:
            gateway.kill()


@needs_cgroups
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_gateway_serves_and_ends_in_order_when_it_is_asked(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path, APP, cloudrun_boost="on") as gateway:
        answers = [gateway.get("/pid") for _ in range(3)]
        assert len({answer.content for answer in answers}) == 1
        gateway.process.send_signal(number)
        assert gateway.process.wait(30) == 0
        assert gateway.left_over() == []
    assert [gateway.count(event) for event in ("starting", "ready", "request_end", "removed")] == [
        1, 1, 3, 1,
    ]  # fmt: skip
    assert (tmp_path / "instance-1.log").read_text().count("SIGTERM") == 1
    assert gateway.events[-1] == {**gateway.events[-1], "event": "closed", "stuck": []}


@needs_cgroups
def test_an_instance_that_passes_its_memory_is_seen_and_the_next_request_is_a_cold_start(
    tmp_path: Path,
) -> None:
    with running(tmp_path, APP) as gateway:
        answer = gateway.get("/take?n=300")
        assert (answer.status_code, answer.json()["cause"]) == (503, "instance_died")
        assert gateway.get("/pid").status_code == 200
        assert [gateway.count(event) for event in ("oom", "starting")] == [1, 2]
        oom = next(line for line in gateway.events if line["event"] == "oom")
        assert oom["peak_bytes"] >= 255 * 1024**2
        gateway.process.terminate()
        assert gateway.process.wait(30) == 0


@needs_cgroups
def test_work_left_running_makes_no_progress_while_no_request_is_open(tmp_path: Path) -> None:
    with running(tmp_path, APP) as gateway:
        gateway.get("/later?n=60")
        wait_until(lambda: gateway.count("paused") == 1)
        wait_until(gateway.frozen)
        gateway.process.terminate()
        assert gateway.process.wait(30) == 0


@needs_cgroups
def test_a_second_signal_ends_one_that_does_not_obey_at_once(tmp_path: Path) -> None:
    with running(tmp_path, [*APP, "stubborn"]) as gateway:
        assert gateway.get("/pid").status_code == 200
        gateway.process.terminate()
        wait_until(lambda: gateway.count("sigterm") == 1)
        gateway.process.terminate()
        assert gateway.process.wait(30) == 0
        assert gateway.left_over() == []
        assert gateway.count("sigkill") == 0


@needs_cgroups
def test_what_a_killed_gateway_leaves_is_swept(tmp_path: Path) -> None:
    with running(tmp_path, APP) as gateway:
        pid = int(gateway.get("/pid").text)
        wait_until(lambda: gateway.count("paused") == 1)
        gateway.process.kill()
        gateway.process.wait()
        swept = {**os.environ, "FRONT_LOGS": str(tmp_path)}
        subprocess.run([*GATEWAY, "--sweep"], check=True, env=swept)
        assert gateway.left_over() == []
        wait_until(lambda: not Path("/proc", str(pid)).exists())


@needs_cgroups
def test_the_check_leaves_nothing_and_says_nothing() -> None:
    done = subprocess.run([*GATEWAY, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_cgroups
def test_a_taken_address_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {**os.environ, **PATHS, "PORT": str(taken.getsockname()[1])}
        done = subprocess.run(GATEWAY, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "front: HOST:PORT: Address already in use\n")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"FRONT_EVENTS": ""}, "FRONT_LOGS is not set"),
        (
            {**PATHS, "FRONT_DRIVER": "podman"},
            "FRONT_DRIVER: Input should be 'process' or 'docker'",
        ),
        ({**PATHS, "FRONT_COMMAND": "ls"}, "FRONT_COMMAND: Invalid JSON: expected value"),
        ({**PATHS, "FRONT_COMMAND": '"ls"'}, "FRONT_COMMAND: Input should be a valid list"),
        ({**PATHS, "FRONT_CONTAINER": "[]"}, "FRONT_CONTAINER: Input should be a valid dictionary"),
        ({**PATHS, "PORT": "http"}, "PORT: Input should be a valid integer"),
        ({**PATHS, "LAB_CLOUDRUN_MEMORY": "1 MiB"}, "cloudrun_memory: Input should be greater"),
        (
            {**PATHS, "LAB_CLOUDRUN_MIN_INSTANCES": "2"},
            "cloudrun_min_instances is 2, above cloudrun_max_instances, 1 - lower one or raise",
        ),
        (
            {**PATHS, "LAB_CLOUDRUN_CONCURRENCY": "2"},
            "cloudrun_cpus below 1 (0.5) forces cloudrun_concurrency 1, not 2 - change one, or",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(
    env: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in (name for name in os.environ if name.startswith("FRONT_")):
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"front: {message}")
    assert said.count("\n") == 1


@pytest.mark.knob("cloudrun_workers")
@pytest.mark.parametrize(
    ("cpus", "workers", "cores"), [(0.08, 1, "1"), (0.5, 1, "1"), (2, 1, "2"), (2, 3, "2")]
)
def test_an_instance_gets_the_environment_without_the_gateways_own_and_is_no_vm(
    cpus: float, workers: int, cores: str
) -> None:
    env = {"DATABASE_URL": "x", "LAB_WORKERS": "4", "FRONT_LOGS": "y", "LAB_VM_CPUS": "8"}
    knobs = Knobs().with_settings({"cloudrun_cpus": cpus, "cloudrun_workers": workers})
    given = instance_env(env, knobs)
    assert given == {"DATABASE_URL": "x", "LAB_WORKERS": str(workers), "LAB_VM_CPUS": cores}


def test_without_a_command_the_instance_is_the_backend() -> None:
    settings = GatewaySettings.from_env(PATHS)
    assert settings.command == BACKEND
    assert (settings.driver, settings.host, settings.port) == ("process", "127.0.0.1", 8080)
