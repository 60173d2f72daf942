"""Whom the embedded server serves, and where its proxies listen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.faults.network import Toxiproxy
from lab.paths import ROOT
from lab.services.toxiproxy.api import refusal
from tests.component.faults.conftest import PATIENCE, free_port, serving

UP = {"upstream": "127.0.0.1:9"}
NOT_LOOPBACK = "not on loopback - start it with -anywhere"
PAGE = "Pages in a browser are not allowed\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("embedded", tmp_path_factory.mktemp("exposure"), "configured") as url:
        yield url


def ask(url: str, verb: str, path: str, body: Any, **headers: str) -> requests.Response:
    return requests.request(verb, url + path, json=body, headers=headers, timeout=PATIENCE)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
@pytest.mark.parametrize(
    ("verb", "path", "listed"),
    [
        ("POST", "/proxies", False),
        ("PATCH", "/proxies/configured", False),
        ("POST", "/populate", True),
    ],
)
def test_no_proxy_listens_where_others_reach_it(
    url: str, verb: str, path: str, listed: bool, listen: str
) -> None:
    before = ask(url, "GET", "/proxies", None).json()
    body = {"name": "open", "listen": listen, **UP}
    answer = ask(url, verb, path, [body] if listed else body)
    assert answer.status_code == 403
    assert answer.json()["error"] == f"listen tcp {listen}: {NOT_LOOPBACK}"
    assert ask(url, "GET", "/proxies", None).json() == before


@pytest.mark.parametrize(("listen", "ip"), [("", "127.0.0.1"), (":0", "127.0.0.1")])
def test_a_proxy_whose_host_is_left_out_listens_on_loopback(url: str, listen: str, ip: str) -> None:
    made = ask(url, "POST", "/proxies", {"name": "short", "listen": listen, **UP}).json()
    assert made["listen"].rpartition(":")[0] == ip
    assert ask(url, "DELETE", "/proxies/short", None).status_code == 204


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Origin": "https://example.org"}, PAGE),
        ({"Origin": "null", "User-Agent": "curl/8"}, PAGE),
        ({"Sec-Fetch-Site": "same-origin"}, PAGE),
        ({"User-Agent": "Mozilla/5.0 (X11)"}, "User agent not allowed\n"),
        ({"Host": "rebound.example:8474"}, "Host 'rebound.example:8474' is not this server's\n"),
        ({"Host": "127.0.0.1.example"}, "Host '127.0.0.1.example' is not this server's\n"),
        ({"Host": "localhost.example"}, "Host 'localhost.example' is not this server's\n"),
        ({"Host": "[::1"}, "Host '[::1' is not this server's\n"),
        ({"Host": ""}, "Host '' is not this server's\n"),
        ({"Host": "localhost:8474"}, None),
        ({"Host": "[::1]:8474"}, None),
        ({"Host": "LOCALHOST"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize(("verb", "path"), [("POST", "/reset"), ("GET", "/proxies")])
def test_a_page_in_a_browser_is_refused(
    url: str, verb: str, path: str, headers: dict[str, str], said: str | None
) -> None:
    answer = ask(url, verb, path, None, **headers)
    assert (answer.status_code == 403) == (said is not None)
    assert answer.ok or answer.text == said


def test_a_config_may_not_open_a_proxy_to_others(tmp_path: Path) -> None:
    config = tmp_path / "proxies.json"
    config.write_text(json.dumps([{"name": "gcs", "listen": "0.0.0.0:0", **UP}]))
    command = [sys.executable, "-m", "lab.services.toxiproxy", "-port", str(free_port())]
    flags = ["-config", str(config)]
    ended = subprocess.run(
        [*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 2
    assert ended.stderr == f"toxiproxy (lab): config: listen tcp 0.0.0.0:0: {NOT_LOOPBACK}\n"


def test_a_server_is_known_by_the_name_that_it_was_given() -> None:
    assert refusal({"host": "toxiproxy:8474"}, "Toxiproxy") is None
    assert refusal({"host": "toxiproxy:8474"}, "127.0.0.1") is not None


def test_a_server_started_so_listens_anywhere() -> None:
    port = free_port()
    command = [sys.executable, "-m", "lab.services.toxiproxy", "-port", str(port)]
    with subprocess.Popen([*command, "-anywhere"], cwd=ROOT) as process:
        try:
            Toxiproxy(f"http://127.0.0.1:{port}").wait_ready()
            made = ask(f"http://127.0.0.1:{port}", "POST", "/proxies", {"name": "a", **UP})
        finally:
            process.terminate()
    assert made.status_code == 201
    assert made.json()["listen"].startswith("0.0.0.0:")
