"""Whether every process inside a replica's containers is there and runs.

The engine tells of containers alone: that a worker inside one was stopped or killed, or that
somebody froze its cgroup, is no event. Where the kernel of this machine shows the containers'
processes, they are looked at as those of the embedded stack are; where the engine is elsewhere,
it is asked for them (`top`), every second and a half.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import requests
from docker.errors import DockerException

from lab.model import processes
from lab.stack.supervision import (
    SERVER,
    KernelReader,
    Reader,
    Role,
    SeenProcess,
    Supervision,
    died,
    role_of,
)

GENERATIONS = 2
"""Below a container's init stands its server, and below that the server's own processes."""
TOLD_WITHIN_S = 1.5
"""Seconds after which the engine has told that a process was killed for its memory, and the
part's log how it ended."""
ASK_EVERY_S = 1.5
LOOK_AGAIN_S = 0.5
"""Seconds between two questions whether the engine has started a container again."""


class EngineReader:
    """Sees a container's processes by asking the engine for them, in a thread of its own.

    Args:
        container: as the SDK has it.
        main: the process id of its init, where the engine is.
    """

    def __init__(self, container: Any, main: int) -> None:
        self._container, self._main = container, main
        self._seen: dict[int, SeenProcess] = self._ask()
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name="container-top", daemon=True).start()

    def now(self) -> float:
        return 0.0  # the engine does not tell when a process began: its id has to do

    def __call__(self) -> Mapping[int, SeenProcess]:
        return self._seen

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(ASK_EVERY_S) and self._main in self._seen:
            self._seen = self._ask()

    def _ask(self) -> dict[int, SeenProcess]:
        try:
            table = self._container.top(ps_args="-eo pid,stat,args")["Processes"]
        except (DockerException, requests.RequestException):
            return {}  # it does not run, or the engine does not answer: the events say which
        return {
            int(pid): SeenProcess(role_of(title, SERVER), 0.0, processes.HELD.get(state[0], ""))
            for pid, state, title in table
            if state[0] not in processes.DEAD
        }


class Supervised:
    """A container whose processes are supervised, until it ends or is started again."""

    def __init__(
        self, container: Any, diagnosis: Callable[[int, Role], str | None], renews: bool
    ) -> None:
        self.container = container
        self.main = int(container.attrs["State"]["Pid"])
        self._read = read_container(container, self.main)
        self.supervision = Supervision(self.main, self._read, diagnosis, renews)
        self.supervision.settle()
        self.looked = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether its init has."""
        return self.main not in self._read()

    def close(self) -> None:
        """Look at it no more."""
        if isinstance(self._read, EngineReader):
            self._read.close()


def read_container(container: Any, main: int) -> Reader:
    """What sees a container's processes: the kernel, if it is this machine's, else the engine."""
    if str(container.id).encode() in processes.cgroups(main):
        return KernelReader(main, GENERATIONS)
    return EngineReader(container, main)


class ContainerProcesses:
    """Supervises the processes of a replica's containers, of each part those of one container.

    Args:
        exceeded: whether the engine has just told that a part exceeded its memory.
        comes_back: the parts whose processes may be killed for their memory, and are replaced.
        explain: what a part's log tells of the end of its processes, in a line; empty if nothing
            yet, None of a part whose log does not.
    """

    def __init__(
        self,
        exceeded: Callable[[str], bool],
        comes_back: frozenset[str],
        explain: Callable[[str], str | None],
    ) -> None:
        self._exceeded, self._comes_back, self._explain = exceeded, comes_back, explain
        self._supervised: dict[str, Supervised] = {}
        self._lock = threading.Lock()

    def settle(self, containers: Mapping[str, Any]) -> None:
        """These parts serve: the processes that they have now are theirs."""
        for part, container in containers.items():
            container.reload()
            self.forget([part])
            with self._lock:
                self._supervised[part] = self._supervise(part, container)

    def forget(self, parts: Collection[str]) -> None:
        """These parts are about to be ended, or struck on purpose."""
        with self._lock:
            for part in parts:
                if gone := self._supervised.pop(part, None):
                    gone.close()

    def down(self) -> dict[str, str]:
        """What befell a process of each part first, in a line, of those of which one was struck."""
        with self._lock:
            known = self._supervised.items()
            down = {part: why for part, one in known if (why := one.supervision.check())}
            for part in self._comes_back & self._supervised.keys() - down.keys():
                self._follow(part, self._supervised[part])
            return down

    def close(self) -> None:
        """Supervise nothing any more."""
        self.forget(list(self._supervised))

    def _follow(self, part: str, one: Supervised) -> None:
        """Supervise a container anew that the engine has started again."""
        if time.monotonic() - one.looked < LOOK_AGAIN_S or not one.ended:
            return
        one.looked = time.monotonic()
        with suppress(DockerException, requests.RequestException):
            one.container.reload()
            if one.container.attrs["State"]["Pid"] not in (0, one.main):
                one.close()
                self._supervised[part] = self._supervise(part, one.container)

    def _supervise(self, part: str, container: Any) -> Supervised:
        asked: dict[int, float] = {}

        def diagnosis(pid: int, role: Role) -> str | None:
            """That a process was killed, engine and log tell a moment after."""
            if renews and self._exceeded(part):
                return None
            explained = self._explain(part)
            waited = time.monotonic() - asked.setdefault(pid, time.monotonic())
            waits = renews or explained is not None
            return explained or ("" if waits and waited < TOLD_WITHIN_S else died(pid, role))

        renews = part in self._comes_back
        return Supervised(container, diagnosis, renews)
