"""A link passes one direction of a connection through the stages of that direction."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import cast

from lab.services.toxiproxy.toxics import (
    CHUNK,
    DOWNSTREAM,
    END,
    TYPES,
    UPSTREAM,
    Receiver,
    Toxic,
    ToxicStage,
)

BUFFER = 256 * 1024
"""Bytes that may wait for a slow receiver before the sender is slowed down."""

LINGER_0 = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which closing a socket resets its connection."""


class Link:
    """From a source, through stages, to a destination; a link is itself the end of its chain.

    When the source ends, the destination is closed after the last byte, in both directions
    as in the original.
    """

    def __init__(
        self,
        source: asyncio.Transport,
        dest: asyncio.Transport,
        toxics: list[Toxic],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.loop = loop
        self._source, self._dest = source, dest
        self._ended = self._finished = self._reset = False
        self._blocks = 0
        self._stages: list[ToxicStage] = [TYPES[toxic.type](toxic, self) for toxic in toxics]
        self._splice()

    def receive(self, data: bytes) -> None:
        """Take data from the source."""
        if self._finished:
            return
        if not self._stages:
            self.feed(data, 0.0)
            return
        at = self.loop.time()
        for start in range(0, len(data), CHUNK):
            self._head.feed(data[start : start + CHUNK], at)

    def end(self) -> None:
        """The source has ended."""
        if not self._ended:
            self._ended = True
            self._head.feed(END, self.loop.time())

    def feed(self, data: bytes, _at: float) -> None:
        """Take data that has passed all stages."""
        if self._finished:
            return
        if data:
            self._dest.write(data)
            return
        self._finished = True
        if self._reset:
            self._dest.abort()
        else:
            self._dest.close()

    def abandon(self) -> None:
        """The destination is lost: drop the data held for it."""
        self._finished = True
        for stage in self._stages:
            stage.surrender()

    def add(self, toxic: Toxic) -> None:
        """Add a toxic behind the others; data that they hold will pass through it too."""
        self._stages.append(TYPES[toxic.type](toxic, self))
        self._splice()

    def update(self, index: int) -> None:
        """Apply a toxic's new attributes, also to the data that it holds."""
        stage = self._stages[index]
        held = stage.surrender()
        stage.start()
        for data, at in held:
            stage.feed(data, at)

    def remove(self, index: int) -> None:
        """Remove a toxic; the data that it held passes at once."""
        stage = self._stages.pop(index)
        self._splice()
        for data, at in stage.surrender():
            stage.out.feed(data, at)
        if stage.applies and stage.closes_when_removed:
            stage.out.feed(END, self.loop.time())

    def block(self) -> None:
        self._blocks += 1
        if self._blocks == 1 and not self._ended:
            self._source.pause_reading()

    def unblock(self) -> None:
        self._blocks -= 1
        if self._blocks == 0 and not self._ended:
            self._source.resume_reading()

    def reset(self) -> None:
        self._reset = True
        for transport in (self._source, self._dest):
            sock = transport.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)

    def _splice(self) -> None:
        chain: list[Receiver] = [*self._stages, self]
        self._head = chain[0]
        for stage, following in pairwise(chain):
            cast(ToxicStage, stage).out = following


class End(asyncio.Protocol):
    """One of a connection's two sockets: the source of a link, the destination of the other.

    It reads nothing until `join` has given it both links. Python 3.11 before its fourth patch reads
    all the same, as a pause that is asked for while a connection is being made is forgotten there:
    what comes so early is kept for the link.
    """

    transport: asyncio.Transport
    _reads: Link
    _writes: Link
    _when_lost: Callable[[], None]

    def __init__(self) -> None:
        self.lost = self._joined = self._ended_early = False
        self._early: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BUFFER)
        self.transport.pause_reading()

    def join(self, reads: Link, writes: Link, when_lost: Callable[[], None]) -> None:
        """Start reading into one link and writing from the other."""
        self._when_lost = when_lost
        self._reads, self._writes, self._joined = reads, writes, True
        self.data_received = reads.receive  # type: ignore[method-assign]  # called for every chunk: no detour
        for data in self._early:
            reads.receive(data)
        if self._ended_early:
            reads.end()
        self.transport.resume_reading()

    def eof_received(self) -> bool:
        if self._joined:
            self._reads.end()
        self._ended_early = not self._joined
        return True  # keep it open: the other direction may still be on its way

    def pause_writing(self) -> None:
        self._writes.block()

    def resume_writing(self) -> None:
        self._writes.unblock()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
        if self._joined:
            self._writes.abandon()
            self._reads.end()
            self._when_lost()


class Connection:
    """An accepted client and the upstream connection made for it, with a link each way."""

    def __init__(
        self,
        client: End,
        upstream: End,
        toxics: dict[str, list[Toxic]],
        forget: Callable[[Connection], None],
    ) -> None:
        self._ends = (client, upstream)
        self._forget = forget
        loop = asyncio.get_running_loop()
        up, down = client.transport, upstream.transport
        there = Link(up, down, toxics[UPSTREAM], loop)
        back = Link(down, up, toxics[DOWNSTREAM], loop)
        self.links = {UPSTREAM: there, DOWNSTREAM: back}
        client.join(reads=there, writes=back, when_lost=self._end_lost)
        upstream.join(reads=back, writes=there, when_lost=self._end_lost)

    def abort(self) -> None:
        """Close both sockets now; data on its way is lost."""
        for end in self._ends:
            end.transport.abort()

    def _end_lost(self) -> None:
        if all(end.lost for end in self._ends):
            self._forget(self)
