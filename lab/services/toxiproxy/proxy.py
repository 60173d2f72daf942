"""A proxy: a listening socket, the connections through it, and its toxics."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
from typing import Any, ClassVar

from lab.services.toxiproxy.link import Connection, End
from lab.services.toxiproxy.toxics import STREAMS, Toxic

LOG = logging.getLogger("toxiproxy")
BACKLOG = 1024
ACCEPT_RETRY_S = 0.1
"""Seconds without accepting after the system refused a connection (no descriptors left)."""


class ServerError(Exception):
    """What the server cannot do, in a line, with its exit code if it therefore cannot start."""

    exit_code: ClassVar[int] = 3


class ApiError(ServerError):
    """A request that the API refuses; ``status`` is the HTTP status of the answer."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


class Proxy:
    """Client <-> proxy <-> upstream; toxics apply to existing connections and to new ones.

    Args:
        anywhere: whether it may listen on other addresses than this machine's loopback.
    """

    def __init__(
        self,
        name: str,
        listen: str,
        upstream: str,
        loop: asyncio.AbstractEventLoop,
        anywhere: bool = False,
    ) -> None:
        self.name, self.listen, self.upstream = name, listen, upstream
        self._anywhere = anywhere
        self.toxics: dict[str, list[Toxic]] = {stream: [] for stream in STREAMS}
        self._loop = loop
        self._listener: socket.socket | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()

    @property
    def enabled(self) -> bool:
        return self._listener is not None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "listen": self.listen,
            "upstream": self.upstream,
            "enabled": self.enabled,
            "toxics": self.toxics_json(),
        }

    def all_toxics(self) -> list[Toxic]:
        """Its toxics, upstream first."""
        return [toxic for stream in STREAMS for toxic in self.toxics[stream]]

    def toxics_json(self) -> list[dict[str, Any]]:
        """Its toxics as the API shows them."""
        return [toxic.as_json() for toxic in self.all_toxics()]

    def start(self) -> None:
        """Listen; does nothing if the proxy listens already.

        Raises:
            ApiError: 500, the address cannot be listened on; 403, it may not be.
        """
        if self._listener is not None:
            return
        family, address = self._resolve(self.listen or ":0")
        try:
            listener = socket.create_server(address, family=family, backlog=BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise ApiError(f"listen tcp {self.listen}: bind: {why}", 500) from error
        listener.setblocking(False)
        self.listen = join_address(*listener.getsockname()[:2])
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)
        LOG.info("proxy %s: listens on %s for %s", self.name, self.listen, self.upstream)

    def stop(self) -> None:
        """Stop listening and drop every connection with the data on its way."""
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        for task in self._opening:
            task.cancel()
        for connection in self._connections:
            connection.abort()
        LOG.info("proxy %s: stopped; %d connections", self.name, len(self._connections))

    def update(self, listen: str, upstream: str, enabled: bool) -> None:
        """Move, enable or disable; a move drops every connection.

        Raises:
            ApiError: 500, the address cannot be listened on; the proxy is then disabled.
                403, it may not be; then nothing has changed.
        """
        if self.differs(listen, upstream):
            self.stop()
            self.listen, self.upstream = listen, upstream
        if enabled:
            self.start()
        else:
            self.stop()

    def differs(self, listen: str, upstream: str) -> bool:
        """Whether these addresses differ from its own, after host names are looked up."""
        return (self.listen, self.upstream) != (join_address(*self._resolve(listen)[1]), upstream)

    def find(self, name: str) -> Toxic:
        """The toxic of that name, in either direction.

        Raises:
            ApiError: 404.
        """
        for toxic in self.all_toxics():
            if toxic.name == name:
                return toxic
        raise ApiError("toxic not found", 404)

    def add_toxic(self, toxic: Toxic) -> None:
        """Add a toxic at the end of its direction, on existing connections too."""
        self.toxics[toxic.direction].append(toxic)
        for connection in self._connections:
            connection.links[toxic.direction].add(toxic)
        LOG.info("proxy %s: toxic %s: %s", self.name, toxic.name, toxic.as_json())

    def toxic_updated(self, toxic: Toxic) -> None:
        """Apply a toxic's new attributes to existing connections."""
        index = self.toxics[toxic.direction].index(toxic)
        for connection in self._connections:
            connection.links[toxic.direction].update(index)
        LOG.info("proxy %s: toxic %s: %s", self.name, toxic.name, toxic.as_json())

    def remove_toxic(self, toxic: Toxic) -> None:
        """Remove a toxic, from existing connections too; the data that it held passes at once."""
        chain = self.toxics[toxic.direction]
        index = chain.index(toxic)
        del chain[index]
        for connection in self._connections:
            connection.links[toxic.direction].remove(index)
        LOG.info("proxy %s: toxic %s: removed", self.name, toxic.name)

    def reset(self) -> None:
        """Enable it and remove its toxics."""
        self.start()
        for toxic in self.all_toxics():
            self.remove_toxic(toxic)

    def _resolve(self, listen: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
        family, (ip, port) = resolve(listen, every=self._anywhere)
        if not (self._anywhere or ipaddress.ip_address(ip).is_loopback):
            raise ApiError(f"listen tcp {listen}: not on loopback - start it with -anywhere", 403)
        return family, (ip, port)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            LOG.warning("proxy %s: cannot accept: %s", self.name, error)
            self._loop.remove_reader(listener)
            self._loop.call_later(ACCEPT_RETRY_S, self._accept_again, listener)
            return
        client.setblocking(False)
        task = self._loop.create_task(self._open(client))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _accept_again(self, listener: socket.socket) -> None:
        if self._listener is listener:
            self._loop.add_reader(listener, self._accept, listener)

    async def _open(self, client: socket.socket) -> None:
        """Connect upstream, then both ends; nothing is read from the client before that."""
        upstream: asyncio.Transport | None = None
        try:
            host, port = split_address(self.upstream)
            upstream, there = await self._loop.create_connection(End, host, port)
            _, here = await self._loop.connect_accepted_socket(End, client)
            self._connections.add(
                Connection(here, there, self.toxics, forget=self._connections.discard)
            )
        except (OSError, ApiError) as error:
            LOG.warning("proxy %s: cannot connect to %s: %s", self.name, self.upstream, error)
            client.close()
        except asyncio.CancelledError:
            client.close()
            if upstream is not None:
                upstream.abort()
            raise


def resolve(address: str, every: bool = False) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The socket address to listen on; IPv4 is preferred.

    Args:
        every: whether no host means every address of this machine, or loopback alone.

    Raises:
        ApiError: 500, the host has no address.
    """
    host, port = split_address(address)
    try:
        choices = socket.getaddrinfo(
            host or None,
            port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE if every else 0,
        )
    except OSError as error:
        raise ApiError(f"lookup {host}: {error.strerror}", 500) from error
    family, *_, (ip, *_) = min(choices, key=lambda choice: choice[0] != socket.AF_INET)
    return family, (str(ip), port)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[host]:port``.

    Raises:
        ApiError: 500, as from the original: no port, or not a port.
    """
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ApiError(f"listen tcp: address {address}: missing port in address", 500)
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ApiError(f"listen tcp: address {port}: invalid port", 500)
    return host.strip("[]"), int(port)


def join_address(ip: str, port: int) -> str:
    """An address as the API shows it, an IPv6 one in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
