"""An answer that leaves in one piece: what a proxy delays by the piece, it delays once.

Toxiproxy's latency is drawn for each piece that it reads, and the last of them decides when an
answer is there. uvicorn writes head and body one after the other; where they are read as two, the
mean of 1-3 s is that of the larger of two draws, 2.33 s, and not 2 s.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


class OneWrite(asyncio.Transport):
    """A transport that writes at once what was written to it in one turn of the event loop.

    All that it does not do itself the real one does.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport, self._loop = transport, loop
        self._kept: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it until the loop's turn is over."""
        if not self._kept:
            self._loop.call_soon(self._flush)
        self._kept.append(bytes(data))

    def close(self) -> None:
        """Write what is kept, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        kept, self._kept = b"".join(self._kept), []
        if kept and not self._transport.is_closing():
            self._transport.write(kept)

    # `asyncio.Transport` has them all, each without a body, so none would reach `__getattr__`.

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def abort(self) -> None:
        self._transport.abort()


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type] # chosen as it is imported
    """uvicorn's, over such a transport."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has come."""
        super().connection_made(OneWrite(transport, self.loop))
