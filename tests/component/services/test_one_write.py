"""The speech service's answer leaves in one piece, so that a proxy delays it once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
import uvicorn

from lab.services.speech.app import application
from lab.services.speech.one_write import OneWrite, Protocol

pytestmark = pytest.mark.component


class Recorded(asyncio.Transport):
    """A transport that keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@contextlib.contextmanager
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    try:
        yield made
    finally:
        made.close()


def turn(of: asyncio.AbstractEventLoop) -> None:
    """Let the event loop do what waits to be done."""
    of.run_until_complete(asyncio.sleep(0))


def test_what_is_written_in_one_turn_leaves_as_one() -> None:
    with loop() as of:
        real = Recorded()
        transport = OneWrite(real, of)
        transport.write(b"head ")
        transport.write(b"body")
        assert real.written == []
        turn(of)
        transport.write(b"next")
        turn(of)
        assert real.written == [b"head body", b"next"]


def test_what_is_kept_leaves_before_the_end_and_nothing_after_it() -> None:
    with loop() as of:
        real = Recorded()
        transport = OneWrite(real, of)
        transport.write(b"last")
        transport.close()
        turn(of)
        assert (real.written, real.closed) == ([b"last"], True)
        transport.write(b"too late")
        turn(of)
        assert real.written == [b"last"]


class Counted(Protocol):
    """The service's protocol, over a socket whose writes are counted."""

    writes: int = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        send = transport.write

        def write(data: bytes | bytearray | memoryview) -> None:
            type(self).writes += 1
            send(data)

        transport.write = write  # type: ignore[method-assign]
        super().connection_made(transport)


def test_the_service_answers_with_one_write() -> None:
    async def ask() -> bytes:
        config = uvicorn.Config(
            application, http=Counted, interface="asgi3", lifespan="off", log_level="warning"
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        listening = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        server.should_exit = True
        await serving
        return answer

    answer = asyncio.run(ask())
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b'{"status": "ok"}')
    assert Counted.writes == 1
