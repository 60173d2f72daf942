from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from starlette.responses import Response

from lab.load.web import web_command, web_environment
from lab.model.replica import token
from lab.model.units import SizeRange
from tests.component.load.conftest import Service, success, wait_for


@contextmanager
def page(service: Service, log: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    code = (
        "from lab.load.web import run_web; from lab.model.units import SizeRange; "
        f"run_web({service.url!r}, {port}, SizeRange(low=3000, high=3000), seed=2, think=0.05)"
    )
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: reachable(address), 20)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(10)


def reachable(address: str) -> bool:
    try:
        return requests.get(address, timeout=2).ok
    except requests.ConnectionError:
        return False


def test_the_page_starts_students_who_upload(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: success(number) if number % 2 else Response(status_code=502)
    with page(service, tmp_path / "web.log") as (address, pid):
        listening = [c.laddr.ip for c in psutil.Process(pid).net_connections() if not c.raddr]
        assert set(listening) == {"127.0.0.1"}
        assert service.url in requests.get(address, timeout=5).text
        form = {"user_count": 3, "spawn_rate": 3, "host": service.url}
        assert requests.post(f"{address}/swarm", data=form, timeout=5).json()["success"]
        wait_for(lambda: len(service.received) > 8)
        assert requests.post(f"{address}/stop", timeout=5).ok
        statistics = requests.get(f"{address}/stats/requests", timeout=5).json()
    assert {request.headers["authorization"] for request, _ in service.received} == {
        f"Bearer {token(n)}" for n in range(3)
    }
    assert all(b"RIFF" in body and len(body) > 3000 for _, body in service.received)
    assert {error["error"] for error in statistics["errors"]} == {
        "CatchResponseError('bad_gateway')"
    }


def test_another_page_can_neither_start_a_load_nor_turn_it_elsewhere(
    tmp_path: Path, service: Service
) -> None:
    elsewhere = "http://192.0.2.1"
    form = {"user_count": 1, "spawn_rate": 1}
    user = {"user_class_name": "StudentUser", "host": elsewhere}
    with page(service, tmp_path / "web.log") as (address, _):
        swarm = f"{address}/swarm"
        refused = [
            requests.post(swarm, data={**form, "host": elsewhere}, timeout=5),
            requests.post(swarm, data={**form, "host": [service.url, elsewhere]}, timeout=5),
            requests.post(f"{address}/user", json=user, timeout=5),
            requests.post(swarm, data=form, headers={"Origin": elsewhere}, timeout=5),
            requests.post(swarm, data=form, headers={"Referer": elsewhere}, timeout=5),
            requests.post(swarm, data=form, headers={"Sec-Fetch-Site": "cross-site"}, timeout=5),
            requests.post(swarm, data=form, headers={"Host": "rebound.example:8089"}, timeout=5),
            requests.get(f"{address}/logs", headers={"Host": "rebound.example"}, timeout=5),
            requests.get(f"{address}/logs", headers={"Origin": elsewhere}, timeout=5),
        ]
        state = requests.get(f"{address}/stats/requests", timeout=5).json()
        shown = requests.get(address, timeout=5).text
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert refused[0].text == f"users upload to {service.url} only: it is the replica that is up"
    assert (state["state"], state["user_count"]) == ("ready", 0)
    assert service.url in shown
    assert elsewhere not in shown
    assert not service.received


def test_the_page_is_served_to_this_machine_only() -> None:
    command = " ".join(web_command("http://127.0.0.1:8080", 8089))
    assert re.search(r"--web-host 127\.0\.0\.1 --web-port 8089 --host http://127", command)


def test_the_students_of_the_page_are_told_what_to_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCUST_USERS", "9")
    made = web_environment(SizeRange(low=1000, high=2000), 3, 1.5)
    assert made["LAB_LOCUST_AUDIO"] == "1 KB - 2 KB"
    assert (made["LAB_LOCUST_SEED"], made["LAB_LOCUST_THINK"]) == ("3", "1.5")
    assert "LOCUST_USERS" not in made
