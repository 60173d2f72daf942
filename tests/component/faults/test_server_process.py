"""The embedded server as a program: flags, exit codes and timers."""

from __future__ import annotations

import asyncio
import json
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab.faults.network import Toxiproxy
from lab.paths import ROOT
from lab.services.toxiproxy.__main__ import precise_loop
from tests.component.faults.conftest import PATIENCE, free_port


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """The server run to its end."""
    command = [sys.executable, "-m", "lab.services.toxiproxy", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


def config_of(folder: Path, content: Any) -> str:
    path = folder / "proxies.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_taken_api_port_ends_it_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        ended = run("-port", port)
    assert ended.returncode == 3
    assert ended.stderr == (
        f"toxiproxy (lab): 127.0.0.1:{port} cannot be listened on: address already in use - "
        "choose another with -port, or stop what holds it\n"
    )


def test_taken_proxy_port_ends_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        entry = {"name": "gcs", "listen": listen, "upstream": "127.0.0.1:9"}
        ended = run("-port", str(free_port()), "-config", config_of(tmp_path, [entry]))
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1] == (
        f"toxiproxy (lab): config: listen tcp {listen}: bind: address already in use - "
        "choose another address for that proxy"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("zork", "config: bad request body: Expecting value"),
        ({"name": "gcs"}, "config: bad request body: an object where an array should be"),
        ([{"name": "gcs"}], "config: missing required field: upstream at proxy 1"),
        ([{"upstream": "127.0.0.1:9"}], "config: missing required field: name at proxy 1"),
    ],
)
def test_bad_config_ends_it_with_exit_code_2(tmp_path: Path, content: Any, says: str) -> None:
    ended = run("-port", str(free_port()), "-config", config_of(tmp_path, content))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"toxiproxy (lab): {says}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["-config", "no/such/file"], 2, "cannot read config no/such/file: No such file"),
        (["-port", "zork"], 3, "address zork: invalid port"),
        (["-zork"], 2, "unrecognized arguments: -zork"),
    ],
)
def test_bad_flag_ends_it(flags: list[str], code: int, says: str) -> None:
    ended = run(*flags)
    assert ended.returncode == code
    assert says in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_connections_open(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        entry = {
            "name": "gcs",
            "listen": "127.0.0.1:0",
            "upstream": f"127.0.0.1:{upstream.getsockname()[1]}",
        }
        flags = ["-port", str(port), "-config", config_of(tmp_path, [entry])]
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.services.toxiproxy", *flags],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            toxiproxy = Toxiproxy(f"http://127.0.0.1:{port}")
            toxiproxy.wait_ready()
            host, listen = toxiproxy.read_back()["gcs"].listen.split(":")
            with socket.create_connection((host, int(listen))) as client:
                upstream.accept()[0].close()
                process.send_signal(number)
                _, log = process.communicate(timeout=PATIENCE)
                assert client.recv(1) == b""
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    events = [line.split(" INFO ")[1].split(";")[0] for line in log.splitlines()]
    assert events[0].startswith("proxy gcs: listens on")
    assert events[-1] == "proxy gcs: stopped"


def test_timers_of_the_precise_loop_are_not_rounded_to_milliseconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float | None] = []
    real = select.select

    def noting(*arguments: Any) -> Any:
        waits.append(arguments[3])
        return real(*arguments)

    monkeypatch.setattr(select, "select", noting)
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(asyncio.sleep(0.0051))
    # A wait that ended early is followed by another for what is left of it.
    wait = next(wait for wait in waits if wait is not None and wait > 0)
    assert wait < 0.0051
    assert wait * 1000 != round(wait * 1000)


def test_precise_loop_still_wakes_for_sockets_and_threads() -> None:
    async def woken() -> float:
        loop = asyncio.get_running_loop()
        idle = loop.call_later(PATIENCE, loop.stop)
        start = time.monotonic()
        await asyncio.to_thread(time.sleep, 0.01)
        idle.cancel()
        return time.monotonic() - start

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        assert runner.run(woken()) < PATIENCE / 2
