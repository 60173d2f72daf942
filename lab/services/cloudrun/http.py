"""HTTP/1.1 with the users, and with an instance.

    users ──uvicorn──> application ──> HttpCall ──exchange──> an instance

For the users it is an ASGI application. A request's body is read ahead, up to the platform's
limit, even while the request waits: only then does the gateway notice that a client leaves.
Bodies of requests and answers are passed on as they come.

An instance gets a connection for each request, streamed both ways. A connection is never used
twice, so the instance cannot close it while a next request is on its way, and a POST need not
be sent again to find out (RFC 9110, 9.2.2). Nor does the request announce that the connection
will be closed: a server that answers before it has read the body, and then closes, would reset
the connection before its answer is read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

import h11
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lab.model.problem import MEDIA_TYPE
from lab.model.replica import ADDRESS_HEADER, HANDED_HEADER
from lab.services.cloudrun.instance import Address
from lab.services.cloudrun.request import BrokenError, ClientLeftError, Requests, TooLargeError
from lab.services.cloudrun.rules import (
    HEAD_TOO_LARGE,
    MAX_BODY,
    MAX_HEAD,
    NOT_HTTP,
    TOO_LARGE,
    Refusal,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = {
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
}  # fmt: skip
"""Headers for a single connection (RFC 9110, 7.6.1), and Expect, which is answered here."""
SERVER_TIMING = b"server-timing"
LINGER_S = 5.0
"""Seconds that a client has to send the rest of an answered request; nginx's figure."""
CLIENT_ADDRESS = ADDRESS_HEADER.lower().encode()
"""The generator's header for a user's address; trusted, as by nginx, only from loopback."""
HANDED = HANDED_HEADER.lower().encode()
BLOCK = 256 * 1024
"""Bytes that are read from an instance at once, or may wait to be sent to it."""
MAX_HEADERS = 64 * 1024
"""Bytes of an answer's headers."""


def application(requests: Requests) -> Application:
    """The gateway as an ASGI application."""

    async def gateway(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        call = HttpCall(scope, receive, send)
        if refusal := call.refused_at_once:
            await call.refuse(refusal)
        else:
            await requests.serve(call)
        await call.finish()

    return gateway


class BoundedHead(HttpToolsProtocol):
    """uvicorn's side of a client's connection, which ends one whose request's head does not end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head: int | None = 0

    def on_message_begin(self) -> None:
        """The head of a request begins."""
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        """It is whole; what it may be as a whole, `HttpCall` looks at."""
        super().on_headers_complete()
        self._head = None

    def data_received(self, data: bytes) -> None:
        """Some of what the client sends."""
        super().data_received(data)
        if self._head is None or self.transport.is_closing():
            return
        self._head += len(data)
        if self._head > MAX_HEAD:
            body = HEAD_TOO_LARGE.body
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
                b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
                % (MEDIA_TYPE.encode(), len(body), body)
            )
            self.transport.close()


class Inbox:
    """What a client sends: read ahead and measured; notices when the client leaves."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._over: Exception | None = None
        self._moved = asyncio.Event()
        self._interrupted = asyncio.Event()
        self.whole = asyncio.Event()
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        """Read until the client leaves; what exceeds the limit is read and thrown away."""
        while (message := await self._receive())["type"] != "http.disconnect":
            block = message.get("body", b"")
            self._size += len(block)
            if self._size > MAX_BODY:
                self._end(TooLargeError())
            elif block:
                self._blocks.append(block)
            if not message.get("more_body", False):
                self.whole.set()
            self._moved.set()
        self._end(ClientLeftError())

    def _end(self, why: Exception) -> None:
        self._over = self._over or why
        self._interrupted.set()
        self._moved.set()

    async def interrupted(self) -> None:
        """Wait for what `body` would raise, and raise it."""
        await self._interrupted.wait()
        if self._over:
            raise self._over

    async def body(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            ClientLeftError, TooLargeError: the body ended early, or is too large.
        """
        while True:
            while self._blocks:
                yield self._blocks.popleft()
            if self.whole.is_set() and not isinstance(self._over, TooLargeError):
                return
            if self._over:
                raise self._over
            self._moved.clear()
            await self._moved.wait()


class HttpCall:
    """A client's request over HTTP/1.1; see `request.Call` and `UpstreamAnswer`.

    To cut an answer it is left unfinished: uvicorn then
    closes the connection when the application returns.
    """

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._inbox = Inbox(receive)
        self._begun = self._ended = self._muted = False
        self._timing = b""

    @property
    def refused_at_once(self) -> Refusal | None:
        """The refusal of a request that no instance is given; None of one that is forwarded.

        uvicorn's parser lets some pass that an instance's client may not send, as one without Host.
        """
        given: Headers = self._scope["headers"]
        if sum(len(name) + len(value) for name, value in given) > MAX_HEAD:
            return HEAD_TOO_LARGE
        if int(_header(given, b"content-length") or 0) > MAX_BODY:
            return TOO_LARGE
        try:
            self._request()
        except h11.LocalProtocolError:
            return NOT_HTTP
        return None

    async def finish(self) -> None:
        """End the answer once the client has sent everything, or has had enough time to.

        A connection that is closed with unread data is reset, and a reset may overtake the
        answer (RFC 9112, 9.6).
        """
        whole = asyncio.ensure_future(self._inbox.whole.wait())
        await asyncio.wait(
            {whole, self._inbox.reading}, timeout=LINGER_S, return_when=asyncio.FIRST_COMPLETED
        )
        whole.cancel()
        if self._ended:
            await self._send({"type": "http.response.body", "body": b""})
        if self._ended and not self._muted:
            self._inbox.reading.cancel()

    def note_wait(self, queue: float, cold: float) -> None:
        entries = [f"queue;dur={queue * 1000:.3f}"]
        if cold:
            entries.append(f"cold;dur={cold * 1000:.3f}")
        self._timing = ", ".join(entries).encode()

    async def interrupted(self) -> None:
        await self._inbox.interrupted()

    async def forward(self, address: Address) -> None:
        await exchange(address, self._request(), self._inbox.body(), self)

    def _request(self) -> h11.Request:
        query: bytes = self._scope["query_string"]
        target = self._scope["raw_path"] + (b"?" + query if query else b"")
        return h11.Request(method=self._scope["method"], target=target, headers=self._headers())

    async def refuse(self, refusal: Refusal) -> bool:
        if self._ended or self._muted:
            return False
        self._muted = True
        if self._begun:
            return True
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(refusal.body)).encode()),
        ]
        self._ended = True
        await self._start(refusal.status, headers)
        await self._send({"type": "http.response.body", "body": refusal.body, "more_body": True})
        return True

    async def _start(self, status: int, headers: Headers) -> None:
        """Status and headers; ``Server-Timing`` begins with the gateway's own entries."""
        kept = [(name, value) for name, value in headers if name != SERVER_TIMING]
        timing = [self._timing, *(value for name, value in headers if name == SERVER_TIMING)]
        if entries := b", ".join(filter(None, timing)):
            kept.append((SERVER_TIMING, entries))
        await self._send({"type": "http.response.start", "status": status, "headers": kept})

    async def head(self, response: h11.Response) -> None:
        """The instance's status and headers."""
        if not self._muted:
            self._begun = True
            headers = [(name, value) for name, value in response.headers if name not in HOP_BY_HOP]
            await self._start(response.status_code, headers)

    async def data(self, block: bytes) -> None:
        """Some of the instance's answer."""
        if not self._muted:
            await self._send({"type": "http.response.body", "body": block, "more_body": True})

    async def end(self) -> None:
        """The end of the instance's answer; `finish` passes it on to the client."""
        self._ended = True

    def _headers(self) -> Headers:
        """The client's headers as an instance gets them, with the client's address, and when."""
        given: Headers = list(self._scope["headers"])
        dropped = {*HOP_BY_HOP, CLIENT_ADDRESS, b"x-forwarded-for", b"x-forwarded-proto", HANDED}
        # Blanks around a value are none of it (RFC 9110, 5.5), and no client may send them.
        kept = [(name, value.strip(b" \t")) for name, value in given if name not in dropped]
        peer: str = (self._scope.get("client") or ("",))[0]
        user = _header(given, CLIENT_ADDRESS) if peer.startswith("127.") else b""
        forwarded = [value for name, value in given if name == b"x-forwarded-for"]
        forwarded.append(user or peer.encode())
        kept.append((b"X-Forwarded-For", b", ".join(forwarded)))
        kept.append((b"X-Forwarded-Proto", b"http"))
        kept.append((HANDED, f"m={time.monotonic():.6f}".encode()))
        if _header(given, b"transfer-encoding"):
            kept.append((b"Transfer-Encoding", b"chunked"))
        return kept


def _header(headers: Headers, name: bytes) -> bytes:
    """The first value of a header; empty if there is none."""
    return next((value for key, value in headers if key == name), b"")


class UpstreamAnswer(Protocol):
    """What receives an answer, piece by piece."""

    async def head(self, response: h11.Response) -> None:
        """Status and headers."""

    async def data(self, block: bytes) -> None:
        """Some of the body."""

    async def end(self) -> None:
        """The answer has ended."""


async def exchange(
    address: Address, request: h11.Request, body: AsyncIterator[bytes], answer: UpstreamAnswer
) -> None:
    """Send a request and pass its answer on, to the answer's end.

    An error that ``body`` raises ends the exchange and is raised.

    Raises:
        BrokenError: there is no connection, or it ended before the answer did.
    """
    try:
        reader, writer = await asyncio.open_connection(*address, limit=BLOCK)
    except OSError as error:
        raise BrokenError(str(error)) from error
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADERS)
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
    """Send a whole request; an instance that stops reading may have answered already."""
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
