"""A gateway on a real socket, before instances that are small servers of this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from lab.model.knobs import Knobs
from lab.services.cloudrun.gateway import GatewayServer
from lab.services.cloudrun.instance import HOST, Address, Ended
from lab.services.cloudrun.probe import ask_health
from tests.component.cloudrun.service import ListLog

SLOW_S = 0.2


class Served:
    """An instance that is a server of this process: each request's path says what it does.

    ``/echo`` answers with the body, ``/head`` with what it got as headers, ``/slow`` 0.2 s
    later, ``/timed`` with a timing of its own, ``/stream`` in three pieces without a length,
    ``/early`` before it has read the body, ``/shut`` not at all, ``/half`` half of what it
    promised, ``/hang`` never.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.busy = self.most = 0
        self.gone: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._writers: set[asyncio.StreamWriter] = set()
        self.address: Address = (HOST, 0)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.address = self._server.sockets[0].getsockname()[:2]

    def die(self, oom: bool = False) -> None:
        if self.gone.done():
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self.gone.set_result(Ended(-9, oom))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await self._answer(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        self.seen.append(path)
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            body = b"" if path in ("/early", "/shut") else await _body(head, reader)
            for piece in _pieces(path, head, body):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0 if piece else SLOW_S)
            if path in ("/hang", "/early"):
                await reader.read()
        finally:
            self.busy -= 1

    async def listening(self) -> bool:
        return True

    async def health(self, within: float) -> str:
        return await ask_health(self.address, within)

    async def set_cpus(self, cpus: float) -> None: ...

    async def pause(self) -> None: ...

    async def resume(self) -> None: ...

    async def terminate(self) -> None:
        self.die()

    async def kill(self) -> None:
        self.die()

    async def ended(self) -> Ended:
        return await asyncio.shield(self.gone)

    async def withheld(self) -> str:
        return ""

    async def read_usage(self) -> float:
        return asyncio.get_running_loop().time()

    def usage(self) -> Mapping[str, float]:
        return {}

    async def remove(self) -> None:
        self.die()


async def _body(head: str, reader: asyncio.StreamReader) -> bytes:
    fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:] if line)
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields.get("content-length", 0)))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    return body


def _pieces(path: str, head: str, body: bytes) -> list[bytes]:
    def whole(content: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content

    return {
        "/echo": [whole(body)],
        "/slow": [b"", whole(b"slow")],
        "/head": [whole(head.encode())],
        "/stream": [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"a", b"b", b"c"],
        "/early": [b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nbusy"],
        "/timed": [b"HTTP/1.1 200 OK\r\nServer-Timing: a;dur=1\r\nContent-Length: 0\r\n\r\n"],
        "/none": [b"HTTP/1.1 204 No Content\r\n\r\n"],
        "/half": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
        "/shut": [],
        "/hang": [],
    }[path]


class ServedDriver:
    """A driver of such instances."""

    def __init__(self) -> None:
        self.made: list[Served] = []

    async def start(self, _name: str, _cpus: float) -> Served:
        served = Served()
        await served.open()
        self.made.append(served)
        return served

    @property
    def alive(self) -> list[Served]:
        return [served for served in self.made if not served.gone.done()]


class LiveGateway:
    """The gateway while it runs: its port, its driver and its log."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.driver = ServedDriver()
        self.log = ListLog()
        self.server = GatewayServer(Knobs().with_settings(settings), self.driver, self.log)
        self.listener = socket.create_server((HOST, 0), backlog=2048)
        self.port: int = self.listener.getsockname()[1]

    async def ask(self, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own, followed to the connection's end."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        fields = "Host: x\r\nConnection: close\r\n"
        writer.write(f"{head} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode())
        writer.write(body)
        answer = await reader.read()
        writer.close()
        return parse(answer)


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, and the body as it came."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), {name.lower(): value for name, value in fields.items()}, body


@asynccontextmanager
async def live(**settings: Any) -> AsyncIterator[LiveGateway]:
    """A gateway, from before its first request until nothing is left of it."""
    gateway = LiveGateway(settings)
    serving = asyncio.create_task(gateway.server.run_on(gateway.listener))
    try:
        yield gateway
    finally:
        gateway.server.stop()
        await serving
        assert gateway.server.stuck == []
        assert gateway.driver.alive == []
