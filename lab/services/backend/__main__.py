"""``python -m lab.services.backend``: the report's start-up, with its worker count.

HOST and PORT are read from the environment, as the report's ``main.py`` reads PORT.

Two defaults of uvicorn are changed. ``proxy_headers`` would replace a peer on 127.0.0.1 by
X-Forwarded-For, so that the meaning of ``rate_limit_key: peer`` would depend on whether nginx
runs on the same host. ``loop`` is asyncio's own loop, which is the default if uvloop is not
installed, with a selector that counts how long it waits.

Several workers of a VM begin as forks of their parent, which has imported the application for
all of them, as with gunicorn's ``--preload``: a cell begins sooner, and nothing of it is measured.
A worker that replaces one that died is uvicorn's own, a new interpreter with its own imports:
that is what such a death costs. Where ``vm_memory`` limits what they take, and in an instance,
whose start is measured, all of them are uvicorn's own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from importlib import import_module
from socket import socket
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from lab.model.processes import rename
from lab.services.backend.settings import BackendSettings, instance_name

APPLICATION = "lab.services.backend.main"
SERVING = (
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)
"""What uvicorn imports when a worker begins to serve."""

WORKER_TITLE = "lab.services.backend: worker"

FORK = multiprocessing.get_context("fork")


class ForkedWorker(Process):
    """A worker that is forked, and then begins as one of uvicorn's own does."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.process: Any = FORK.Process(target=self._begin, args=(sockets,))

    def _begin(self, sockets: list[socket]) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rename(WORKER_TITLE)
        self.config.configure_logging()
        self.target(sockets)


class ForkedWorkers(Multiprocess):
    """uvicorn's parent process, whose first workers are forked."""

    def init_processes(self) -> None:
        """Fork them."""
        for name in (APPLICATION, *SERVING):
            import_module(name)
        for _ in range(self.processes_num):
            worker = ForkedWorker(self.config, self.sockets)
            worker.start()
            self.processes.append(worker)


def main() -> None:
    """Run uvicorn as the knobs say."""
    settings = BackendSettings.from_env()
    options: dict[str, Any] = {
        "factory": True,
        "host": os.getenv("HOST", "0.0.0.0"),  # noqa: S104 - the report's own default; the lab sets HOST
        "port": int(os.getenv("PORT", "8080")),
        "workers": settings.knobs.workers,
        "loop": "lab.services.backend.core.evidence:MeteredLoop",
        "timeout_keep_alive": settings.wall(settings.knobs.keep_alive),  # any number serves
        "proxy_headers": False,
        "access_log": False,
    }
    forked = settings.knobs.vm_memory is None and not instance_name()
    if settings.knobs.workers > 1 and forked:
        config = uvicorn.Config(f"{APPLICATION}:create_app", **options)
        ForkedWorkers(config, [config.bind_socket()]).run()
    else:
        uvicorn.run(f"{APPLICATION}:create_app", **options)


if __name__ == "__main__":
    main()
