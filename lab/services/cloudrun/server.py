"""The front as a server: uvicorn, the scheduler behind it, and an orderly end.

On SIGTERM who waits is refused, what is in flight may finish while the instances stop, and
the server returns when nothing is left. A second signal ends every instance at once.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from lab.model.knobs import Knobs
from lab.services.cloudrun.events import Log, keep_reading, keep_usage
from lab.services.cloudrun.front import application
from lab.services.cloudrun.instance import Driver
from lab.services.cloudrun.request import Requests
from lab.services.cloudrun.rules import KILL_WITHIN_S, TERM_GRACE_S
from lab.services.cloudrun.scheduler import Scheduler

KEEP_ALIVE_S = 75
"""Longer than any client of the lab trusts an idle connection; the platform's is 600 s."""
BACKLOG = 2048


class GatewayServer(uvicorn.Server):
    """The server of one service; `run` serves until `stop`."""

    def __init__(self, knobs: Knobs, driver: Driver, log: Log) -> None:
        self._log = log
        self.scheduler = Scheduler(knobs, driver, log)
        self.requests = Requests(knobs, self.scheduler, log)
        config = uvicorn.Config(
            application(self.requests),
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(TERM_GRACE_S + KILL_WITHIN_S) + 1,
        )
        super().__init__(config)
        self._closing: asyncio.Task[None] | None = None

    async def run_on(self, listener: socket.socket) -> None:
        """Serve on a socket until `stop`; afterwards no instance is left, or `stuck` names it.

        An answer goes out in pieces, so its connection must not wait for more (Nagle). The
        option is inherited from the listener; asyncio sets it only where a socket names TCP.
        """
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        notes = [
            asyncio.create_task(keep_reading(self._log, self.scheduler.reading)),
            asyncio.create_task(keep_usage(self._log, self.scheduler.usages)),
        ]
        self.scheduler.open()
        try:
            await self.serve(sockets=[listener])
        finally:
            for note in notes:
                note.cancel()
            await self._close()
            await self.requests.close()

    def stop(self) -> None:
        """Take no more, and end in an orderly way; called again, at once."""
        if self.should_exit:
            self.scheduler.abort()
        self.should_exit = True
        self._close()

    def _close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self.scheduler.close())
        return self._closing

    @property
    def stuck(self) -> list[str]:
        """The instances that could not be ended or removed."""
        return self.scheduler.stuck

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT call `stop`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone: uvicorn would end the process by them."""
        yield
