"""A Toxiproxy server of either kind, and a tunnel through it whose two ends a test holds."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.faults.network import Toxiproxy
from lab.paths import ROOT
from lab.stack import ports

PATIENCE = 10.0
"""Seconds after which a socket that should have said something has failed the test."""

Pair = tuple[socket.socket, socket.socket]


def free_port() -> int:
    [port] = ports.free(1)
    return port


def real_server() -> str | None:
    """The real toxiproxy-server, or None where there is none."""
    given = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")
    built = ROOT / ".tools" / "bin" / "toxiproxy-server"
    return given or (str(built) if built.exists() else None)


def command(kind: str) -> list[str]:
    if kind == "embedded":
        return [sys.executable, "-m", "lab.services.toxiproxy"]
    if path := real_server():
        return [path]
    why = "no toxiproxy-server on PATH, in $TOXIPROXY_SERVER or in .tools/bin"
    if os.environ.get("LAB_REQUIRE_TOXIPROXY") == "1":
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def running(kind: str, config: Path, log: Path) -> Iterator[str]:
    """A server of that kind, ended at exit; its URL."""
    port = free_port()
    flags = ["-host", "127.0.0.1", "-port", str(port), "-config", str(config)]
    with log.open("wb") as out:
        process = subprocess.Popen([*command(kind), *flags], cwd=ROOT, stdout=out, stderr=out)
    try:
        Toxiproxy(f"http://127.0.0.1:{port}").wait_ready()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


@dataclass(frozen=True)
class Server:
    url: str
    kind: str

    def api(self, verb: str, path: str, body: Any = None, **extra: Any) -> requests.Response:
        """One call; a body that is text goes as it is, any other as JSON."""
        data = body if isinstance(body, str | None) else json.dumps(body)
        return requests.request(verb, self.url + path, data=data, timeout=PATIENCE, **extra)


class Tunnel:
    """A proxy before a listener that the test holds."""

    _numbers = itertools.count(1)

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self.server, self._listener = server, listener
        self.name = f"tunnel-{next(self._numbers)}"
        self._sockets: list[socket.socket] = []
        self.upstream = f"127.0.0.1:{listener.getsockname()[1]}"
        body = {"name": self.name, "listen": "127.0.0.1:0", "upstream": self.upstream}
        made = self.ask("POST", "/proxies", body)
        self.listen = made["listen"]

    def ask(self, verb: str, path: str, body: Any = None) -> Any:
        """A call that must succeed; its JSON, or None."""
        answer = self.server.api(verb, path, body)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def open(self) -> Pair:
        """A connection through the proxy: the client's end and the upstream's."""
        client = self.dial()
        upstream, _ = self._listener.accept()
        self._keep(upstream)
        return client, upstream

    def dial(self) -> socket.socket:
        """The client's end alone."""
        host, port = self.listen.split(":")
        return self._keep(socket.create_connection((host, int(port)), timeout=PATIENCE))

    def toxic(
        self, kind: str, stream: str = "downstream", toxicity: float = 1.0, **attributes: int
    ) -> str:
        """Add a toxic; the path of it in the API."""
        body = {"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes}
        made = self.ask("POST", f"/proxies/{self.name}/toxics", body)
        return f"/proxies/{self.name}/toxics/{made['name']}"

    def enable(self, enabled: bool) -> None:
        state = self.ask("PATCH", f"/proxies/{self.name}", {"enabled": enabled})
        assert state["enabled"] is enabled

    def close(self) -> None:
        self.ask("DELETE", f"/proxies/{self.name}")
        for sock in self._sockets:
            sock.close()

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets.append(sock)
        return sock


def along(pair: Pair, stream: str) -> Pair:
    """A pair as sender and receiver of that direction."""
    client, upstream = pair
    return (client, upstream) if stream == "upstream" else (upstream, client)


def receive(sock: socket.socket, size: int | None = None) -> bytes:
    """This many bytes, or all until the end of the stream."""
    got = bytearray()
    while size is None or len(got) < size:
        chunk = sock.recv(65536 if size is None else min(65536, size - len(got)))
        if not chunk:
            break
        got += chunk
    return bytes(got)


def dropped(sock: socket.socket) -> bool:
    """Whether the stream ends with nothing before, or by the reset that unread data makes of it."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def sending(sock: socket.socket, data: bytes) -> Iterator[None]:
    """Send in the background; it must be through at exit."""
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


KINDS = ["embedded", pytest.param("real", marks=pytest.mark.toxiproxy)]


@contextmanager
def serving(kind: str, folder: Path, *names: str) -> Iterator[str]:
    """The API of a server that has proxies of these names, before nothing."""
    entries = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True}
        for name in names
    ]
    (folder / "proxies.json").write_text(json.dumps(entries))
    with running(kind, folder / "proxies.json", folder / "log") as url:
        yield url


@pytest.fixture(scope="session", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp(f"toxiproxy-{request.param}")
    with serving(request.param, folder, "configured") as url:
        yield Server(url, request.param)


@pytest.fixture(scope="module", params=KINDS)
def api_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The API of a server that has a replica's two proxies."""
    folder = tmp_path_factory.mktemp(f"replica-{request.param}")
    with serving(request.param, folder, "gcs", "db") as url:
        yield url


@pytest.fixture
def tunnel(server: Server) -> Iterator[Tunnel]:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        listener.settimeout(PATIENCE)
        with closing(Tunnel(server, listener)) as made:
            yield made


@pytest.fixture
def payload() -> Callable[[int], bytes]:
    """So many bytes that repeat nowhere, the same in every run."""
    return random.Random(1).randbytes
