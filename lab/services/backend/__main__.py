"""``python -m lab.services.backend``: the report's start-up, with its worker count.

HOST and PORT are read from the environment, as the report's ``main.py`` reads PORT. Where each
worker has a port of its own (``balance``) it is still one parent that begins them, watches them and
replaces those that died: it holds all the listening sockets and gives each worker its one, so what
arrives while a worker is replaced waits in the socket's queue.

Two defaults of uvicorn are changed. ``proxy_headers`` would replace a peer on 127.0.0.1 by
X-Forwarded-For, so that the meaning of ``rate_limit_key: peer`` would depend on whether nginx
runs on the same host. ``loop`` is asyncio's own loop, which is the default if uvloop is not
installed, with a selector that counts how long it waits.

Several workers of a VM begin as forks of their parent, which has imported the application for
all of them, as with gunicorn's ``--preload``: a cell begins sooner, and nothing of it is measured.
All but the first then take memory of their own, as if each had made its imports; the first shares
it with the parent, so that both together take what they would (measured in a container, with two
workers and with four: within 5 % of uvicorn's own). A worker that replaces one that died is
uvicorn's own, a new interpreter with its own imports: that is what such a death costs. Where
``vm_memory`` limits what they take, and in an instance, whose start is measured, all of them are
uvicorn's own.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from lab.model.processes import rename
from lab.services.backend.settings import BackendSettings, instance_name, listening_ports

APPLICATION = "lab.services.backend.main"
SERVING = "lab.services.backend.serving"
"""What imports all that a worker does."""

WORKER_TITLE = "lab.services.backend: worker"

FORK = multiprocessing.get_context("fork")

MADV_POPULATE_WRITE = 23
"""madvise(2), since Linux 5.14: have all pages as if they had been written to, and change none."""


class ForkedWorker(Process):
    """A worker that is forked, and then begins as one of uvicorn's own does.

    Args:
        config, sockets: as of uvicorn's own.
        shares: whether it shares its memory with the parent.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket], shares: bool) -> None:
        super().__init__(config, sockets)
        self.process: Any = FORK.Process(target=self._begin, args=(sockets, shares))

    def _begin(self, sockets: list[socket], shares: bool) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        rename(WORKER_TITLE)
        if not shares:
            own_memory()
        self.config.configure_logging()
        self.target(sockets)


def own_memory() -> None:
    """Have this process's own copy of what it shares with the one that it was forked of.

    Else four workers take 212 MB together, and not 338. Where the kernel cannot do it they share
    it still.
    """
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return
    madvise = ctypes.CDLL(None).madvise
    for line in maps.read_text().splitlines():
        addresses, access, *_ = line.split()
        if access[1] == "w" and access[3] == "p":
            start, end = (int(address, 16) for address in addresses.split("-"))
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_POPULATE_WRITE)


class WorkerParent(Multiprocess):
    """uvicorn's parent process, with what it lacks.

    Args:
        config: as of uvicorn's own.
        listeners: the socket on which all workers listen, or one for each.
        forked: whether its first workers are forked.
    """

    def __init__(self, config: uvicorn.Config, listeners: list[socket], forked: bool) -> None:
        super().__init__(config, listeners)
        self._forked = forked

    @property
    def sockets(self) -> list[socket]:
        """What the worker listens on that is made next, which uvicorn asks for then.

        Of several it is that of the worker which is replaced, of whose pipe uvicorn has let go, or
        else of the first that has not been made.
        """
        if len(self._listeners) == 1:
            return self._listeners
        replaced = (n for n, one in enumerate(self.processes) if one.parent_conn.closed)
        return [self._listeners[next(replaced, len(self.processes))]]

    @sockets.setter
    def sockets(self, listeners: list[socket]) -> None:
        self._listeners = listeners

    def init_processes(self) -> None:
        """Begin the first workers."""
        if not self._forked:
            super().init_processes()
            return
        import_module(SERVING)
        for number in range(self.processes_num):
            worker = ForkedWorker(self.config, self.sockets, shares=number == 0)
            worker.start()
            self.processes.append(worker)


def run(forked: bool, ports: Sequence[int], **options: Any) -> None:
    """As `uvicorn.run` of the application, with workers that are forked or its own.

    Args:
        forked: whether they are.
        ports: the one that all listen on, or of each worker its own.
        options: uvicorn's, but for the port.
    """
    application = f"{APPLICATION}:create_app"
    if forked or len(ports) > 1:
        configs = [uvicorn.Config(application, port=port, **options) for port in ports]
        listeners = [config.bind_socket() for config in configs]
        WorkerParent(configs[0], listeners, forked).run()
    else:
        uvicorn.run(application, port=ports[0], **options)


def main() -> None:
    """Run uvicorn as the knobs say."""
    settings = BackendSettings.from_env()
    knobs = settings.knobs
    run(
        forked=knobs.workers > 1 and knobs.vm_memory is None and not instance_name(),
        factory=True,
        host=os.getenv("HOST", "0.0.0.0"),  # noqa: S104 - the report's own default; the lab sets HOST
        ports=listening_ports(knobs),
        workers=knobs.workers,
        loop="lab.services.backend.core.evidence:MeteredLoop",
        timeout_keep_alive=settings.wall(knobs.keep_alive),
        proxy_headers=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()
