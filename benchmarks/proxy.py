"""Our Toxiproxy server against the real one, as ratios within one run.

Each server carries the same work in turn, A B A B, so that what the machine does besides
strikes both: a stream of 256 MB, and small round trips of 16 connections at once, as they
are and behind 5 ms of latency. CPU is that of the server's process alone. Needs
``toxiproxy-server`` on PATH, in $TOXIPROXY_SERVER or in .tools/bin.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import psutil

from lab.faults.network import Toxiproxy
from lab.model.fault import Fault
from lab.model.knobs import Knobs
from lab.paths import ROOT

STREAM_BYTES = 256_000_000
CONNECTIONS = 16
TRIPS = 300
PAIRS = 3
NEAR = Fault.model_validate(
    {
        "fault": "near",
        "about": "5 ms away",
        "proxy": "db",
        "toxics": [{"type": "latency", "delay": "5 ms"}],
    }
)

Figures = dict[str, float]


def main() -> int:
    """Print the table, or JSON; the exit code is 3 where the real server is not found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="turns of each server")
    flags = parser.parse_args()
    real = real_server()
    if real is None:
        print("proxy: no toxiproxy-server to compare with; go install builds it", file=sys.stderr)
        return 3
    commands = {"embedded": [sys.executable, "-m", "lab.services.toxiproxy"], "real": [real]}
    runs = measure(commands, flags.pairs)
    figures = {kind: combine(of) for kind, of in runs.items()}
    ratios = {name: figures["embedded"][name] / figures["real"][name] for name in figures["real"]}
    if flags.json:
        print(json.dumps({"proxy": {**figures, "ratio": ratios}}, indent=2))
    else:
        print_table(figures, ratios)
    return 0


def real_server() -> str | None:
    """The real toxiproxy-server, or None."""
    built = ROOT / ".tools" / "bin" / "toxiproxy-server"
    given = os.environ.get("TOXIPROXY_SERVER") or shutil.which("toxiproxy-server")
    return given or (str(built) if built.exists() else None)


def measure(commands: dict[str, list[str]], pairs: int) -> dict[str, list[Figures]]:
    """The figures of each turn, by server; all servers are up from the first to the last."""
    with ExitStack() as stack:
        echo = stack.enter_context(listening(echo_back))
        drain = stack.enter_context(listening(take_all))
        up = {
            kind: stack.enter_context(server(command, echo, drain))
            for kind, command in commands.items()
        }
        runs: dict[str, list[Figures]] = {kind: [] for kind in up}
        for _ in range(pairs):
            for kind, (toxiproxy, process) in up.items():
                runs[kind].append(turn(toxiproxy, process))
    return runs


def combine(runs: list[Figures]) -> Figures:
    """The median of each figure."""
    return {name: median(run[name] for run in runs) for name in runs[0]}


def turn(toxiproxy: Toxiproxy, process: psutil.Process) -> Figures:
    """One server's turn: stream, round trips, round trips behind latency."""
    states = toxiproxy.read_back()
    stream, near = states["gcs"].listen, states["db"].listen
    wall, cpu = timed(process, lambda: send_stream(stream))
    trips = CONNECTIONS * TRIPS
    bare_wall, bare_cpu = timed(process, lambda: make_trips(near, TRIPS))
    with toxiproxy.injected([NEAR], Knobs()):
        late_wall, late_cpu = timed(process, lambda: make_trips(near, TRIPS))
    return {
        "stream, MB/s": STREAM_BYTES / 1e6 / wall,
        "stream, CPU ms/MB": cpu * 1e3 / (STREAM_BYTES / 1e6),
        "round trips/s": trips / bare_wall,
        "CPU us/round trip": bare_cpu * 1e6 / trips,
        "round trip at 5 ms, ms": late_wall * 1e3 / TRIPS,
        "CPU us/round trip at 5 ms": late_cpu * 1e6 / trips,
    }


def timed(process: psutil.Process, work: Callable[[], None]) -> tuple[float, float]:
    """Wall seconds of some work and the CPU-seconds that the process spent meanwhile."""
    before, start = process.cpu_times(), time.perf_counter()
    work()
    after, end = process.cpu_times(), time.perf_counter()
    return end - start, after.user + after.system - before.user - before.system


def send_stream(address: str) -> None:
    """One connection sends STREAM_BYTES and waits until they are taken."""
    block, left = bytes(1_000_000), STREAM_BYTES
    with dial(address) as sock:
        while left:
            sock.sendall(block)
            left -= len(block)
        sock.recv(1)


def make_trips(address: str, trips: int) -> None:
    """So many round trips on each of CONNECTIONS connections, all at once."""

    def one() -> None:
        with dial(address) as sock:
            for _ in range(trips):
                sock.sendall(b"x" * 64)
                sock.recv(64)

    threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def dial(address: str) -> socket.socket:
    """A connection without Nagle's algorithm."""
    host, port = address.split(":")
    sock = socket.create_connection((host, int(port)), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def echo_back(sock: socket.socket) -> None:
    """Answer everything with itself."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(4096):
        sock.sendall(data)


def take_all(sock: socket.socket) -> None:
    """Take STREAM_BYTES, then say so."""
    buffer, left = bytearray(1_000_000), STREAM_BYTES
    while left:
        left -= sock.recv_into(buffer, min(left, len(buffer)))
    sock.sendall(b"x")


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A listener that serves each connection in a thread; its address."""

    def handle(sock: socket.socket) -> None:
        with sock:
            serve(sock)

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:  # closed at exit
                return
            threading.Thread(target=handle, args=(sock,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def server(command: list[str], echo: str, drain: str) -> Iterator[tuple[Toxiproxy, psutil.Process]]:
    """A Toxiproxy server before both listeners, ended at exit."""
    entries = [
        {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
        for name, upstream in (("db", echo), ("gcs", drain))
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config:
        json.dump(entries, config)
        config.flush()
        process = subprocess.Popen(
            [*command, "-host", "127.0.0.1", "-port", port, "-config", config.name],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            toxiproxy = Toxiproxy(f"http://127.0.0.1:{port}")
            toxiproxy.wait_ready()
            yield toxiproxy, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(timeout=10)


def print_table(figures: dict[str, Figures], ratios: Figures) -> None:
    """Medians of both servers and their ratio, ours to the real one."""
    print(f"{'Toxiproxy server':28}{'ours':>10}{'real':>10}{'ratio':>8}")
    for name, ratio in ratios.items():
        ours, real = (figures[kind][name] for kind in ("embedded", "real"))
        print(f"{name:28}{ours:10.4g}{real:10.4g}{ratio:8.2f}")


if __name__ == "__main__":
    sys.exit(main())
