"""HTTP/1.1 towards an instance: one connection a request, streamed both ways.

A connection is never used twice, so none can be closed by the instance while a request is
on its way, and a POST need not be sent again to find out (RFC 9110, 9.2.2). Nor is the
instance told that it will be closed: a server that answers before it has read the body,
and closes then, would reset the connection under its own answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol

import h11

from lab.services.cloudrun.instance import Address
from lab.services.cloudrun.request import BrokenError

BLOCK = 256 * 1024
HEADERS_MOST = 64 * 1024


class UpstreamAnswer(Protocol):
    """Where an answer goes, piece by piece."""

    async def head(self, response: h11.Response) -> None:
        """Status and headers."""
        ...

    async def data(self, block: bytes) -> None:
        """Some of the body."""
        ...

    async def end(self) -> None:
        """That was all."""
        ...


async def exchange(
    address: Address, request: h11.Request, body: AsyncIterator[bytes], answer: UpstreamAnswer
) -> None:
    """Send a request and pass its answer on, to the answer's end.

    Whatever ``body`` raises ends the exchange and is raised.

    Raises:
        BrokenError: there is no connection, or it ended before the answer did.
    """
    try:
        reader, writer = await asyncio.open_connection(*address, limit=BLOCK)
    except OSError as error:
        raise BrokenError(str(error)) from error
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADERS_MOST)
    sending = asyncio.create_task(_send(connection, writer, request, body))
    receiving = asyncio.create_task(_receive(connection, reader, answer))
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        await receiving
    except (OSError, EOFError, h11.RemoteProtocolError) as error:
        raise BrokenError(str(error)) from error
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.wait({sending, receiving})
        writer.transport.abort()


async def _send(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    request: h11.Request,
    body: AsyncIterator[bytes],
) -> None:
    """Send a request whole, unless the instance stops reading: it may have answered already."""
    writer.write(connection.send(request) or b"")
    async for block in body:
        writer.write(connection.send(h11.Data(data=block)) or b"")
        with suppress(ConnectionError):
            await writer.drain()
    writer.write(connection.send(h11.EndOfMessage()) or b"")


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, answer: UpstreamAnswer
) -> None:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(BLOCK))
        elif isinstance(event, h11.Response):
            await answer.head(event)
        elif isinstance(event, h11.Data):
            await answer.data(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            await answer.end()
            return
        elif not isinstance(event, h11.InformationalResponse):
            raise EOFError("the connection ended before the answer")
