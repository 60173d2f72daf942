"""``python -m lab.services.speech``: one process, on HOST and PORT of the environment.

It ends by SIGTERM or SIGINT; its exit code is uvicorn's 3 where the address is taken.
"""

from __future__ import annotations

import os

import uvicorn

from lab.services.speech.app import application
from lab.services.speech.one_write import Protocol

BACKLOG = 4096
"""Connections that may wait to be accepted: each assessment of each worker has one of its own."""


def main() -> None:
    """Serve until a signal ends it."""
    uvicorn.run(
        application,
        host=os.getenv("HOST", "127.0.0.1"),
        port=int(os.getenv("PORT", "8090")),
        http=Protocol,
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        backlog=BACKLOG,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
