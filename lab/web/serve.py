"""The live server on a socket of 127.0.0.1: until it is interrupted, or its lab has ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import uvicorn

from lab.web.app import guarded
from lab.web.site import Site

GRACE_S = 2
"""Seconds in which streams end once the server does."""

MAX_CONNECTIONS = 64
"""That are served at once; more are told to come back later."""

LOW_PRIORITY = 10
"""By how much it goes behind what is measured."""

ENDED = "This page's server has ended; `lab watch` starts it again."
RUN_ENDED = "The run has ended, and this page's server with it; `lab watch latest` shows it again."


class WatchServer(uvicorn.Server):
    """A server that tells its browsers before it ends, and ends with the process it belongs to.

    Args:
        config: uvicorn's.
        site: what is served.
        parent: the id of the process that it ends with; None: it goes on by itself.
    """

    def __init__(self, config: uvicorn.Config, site: Site, parent: int | None) -> None:
        super().__init__(config)
        self._site, self._parent = site, parent

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._parent is not None and os.getppid() != self._parent:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Look once more, tell the browsers, and end."""
        await self._site.end(ENDED if self._parent is None else RUN_ENDED)
        await super().shutdown(sockets)


def serve(site: Site, listening: socket.socket, parent: int | None = None) -> None:
    """Serve a site until a SIGINT or SIGTERM, which goes on to whoever listened to it before.

    Args:
        site: what to serve.
        listening: a socket that listens on 127.0.0.1.
        parent: the id of the process that it ends with; None: it goes on by itself.
    """
    with suppress(OSError):
        os.nice(LOW_PRIORITY)
    config = uvicorn.Config(
        guarded(site, listening.getsockname()[1]),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    WatchServer(config, site, parent).run(sockets=[listening])
