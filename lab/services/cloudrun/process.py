"""The driver of the embedded stack: an instance is a process in a cgroup of its own.

The process joins its cgroup before it becomes the backend, so that all its memory is charged
there. Its temporary files are on a tmpfs, whose pages the kernel charges to the process that
writes them: as on Cloud Run, files take memory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lab.model import processes
from lab.model.replica import INSTANCE_PREFIX, INSTANCE_VARIABLE
from lab.services.cloudrun import cgroup
from lab.services.cloudrun.cgroup import Cgroup
from lab.services.cloudrun.instance import (
    HOST,
    PROBE_WITHIN_S,
    Address,
    DriverError,
    Ended,
)
from lab.services.cloudrun.probe import ask_health

TMPFS = Path("/dev/shm")  # noqa: S108 - a tmpfs is what is wanted
READ_EVERY_S = 0.5
"""Seconds between two looks at whether the kernel has killed one of an instance's processes."""
_JOIN = 'for folder in $LAB_CGROUPS; do echo $$ >"$folder/cgroup.procs" || exit 97; done; exec "$@"'
"""Enters the cgroups, then becomes the command; the shell's process id stays."""


class ProcessDriver:
    """Makes instances as processes.

    Args:
        command: the program and its arguments; it listens on $HOST and $PORT.
        env: its environment, whole.
        memory: bytes, swap and temporary files included.
        logs: folder in which an instance's output is written to ``<name>.log``.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], memory: int, logs: Path
    ) -> None:
        self._command, self._env, self._memory, self._logs = command, env, memory, logs

    async def start(self, name: str, cpus: float) -> ProcessInstance:
        full_name = f"{INSTANCE_PREFIX}{os.getpid()}-{name}"
        cgroup.note(self._logs, full_name)
        try:
            group = cgroup.make(full_name, self._memory, cpus)
        except cgroup.NotPermittedError as error:
            raise DriverError(str(error)) from error
        temporary = _temporary(name)
        address = HOST, _free_port()
        try:
            with (self._logs / f"{name}.log").open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _JOIN,
                    "sh",
                    *self._command,
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=STDOUT,
                    env={**self._environment(group, address, temporary), INSTANCE_VARIABLE: name},
                    start_new_session=True,
                )
        except OSError as error:
            cgroup.remove(group)
            _discard(temporary)
            raise DriverError(f"{self._command[0]} cannot be started: {error}") from error
        return ProcessInstance(process, group, address, temporary)

    def _environment(
        self, group: Cgroup, address: Address, temporary: Path | None
    ) -> dict[str, str]:
        host, port = address
        folders = " ".join(str(folder) for folder in group.folders.all)
        env = {**self._env, "HOST": host, "PORT": str(port), "LAB_CGROUPS": folders}
        return env | ({"TMPDIR": str(temporary)} if temporary else {})


class ProcessInstance:
    """An instance that is a process, and its cgroup."""

    def __init__(
        self, process: Process, group: Cgroup, address: Address, temporary: Path | None
    ) -> None:
        self.address = address
        self.pid = process.pid
        self._process, self._group, self._temporary = process, group, temporary
        self._last: Mapping[str, float] = {}

    async def listening(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_WITHIN_S):
                _, writer = await asyncio.open_connection(*self.address)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def health(self, within: float) -> str:
        return await ask_health(self.address, within)

    async def set_cpus(self, cpus: float) -> None:
        if self._alive:
            self._group.limit_cpus(cpus)

    async def pause(self) -> None:
        if self._alive:
            self._group.freeze(True)

    async def resume(self) -> None:
        if self._alive:
            self._group.freeze(False)

    async def terminate(self) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def kill(self) -> None:
        cgroup.kill(self._group)

    async def ended(self) -> Ended:
        waiting = asyncio.ensure_future(self._process.wait())
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=READ_EVERY_S)
            if self._oom():
                # In version 1 the kernel ends a process of the cgroup; the platform, the instance.
                cgroup.kill(self._group)
        return Ended(waiting.result(), oom=self._oom())

    def usage(self) -> Mapping[str, float]:
        with suppress(FileNotFoundError):  # removed: the last reading stays true
            self._last = self._group.usage()
        return self._last

    async def withheld(self) -> str:
        return processes.held_among(cgroup.pids(self._group))

    async def read_usage(self) -> float:
        self.usage()
        return time.monotonic()

    async def remove(self) -> None:
        try:
            await asyncio.to_thread(cgroup.remove, self._group)
        finally:
            _discard(self._temporary)
        await self._process.wait()

    @property
    def _alive(self) -> bool:
        return self._process.returncode is None

    def _oom(self) -> bool:
        with suppress(FileNotFoundError):
            return self._group.oom_kills() > 0
        return False


def sweep(logs: Path) -> list[str]:
    """Remove what killed gateways of a replica have left: instances, cgroups and files.

    Args:
        logs: the folder of the instances' output, where the cgroups are noted.

    Returns:
        The names of the cgroups removed.

    Raises:
        NotPermittedError: there are no cgroups here that this process may use.
        DriverError: something cannot be removed.
    """
    orphans = cgroup.orphans(logs)
    swept = cgroup.sweep(orphans)
    for name in orphans:
        for folder in TMPFS.glob(f"{name}-{'?' * 8}"):
            if folder.lstat().st_uid == os.geteuid():
                _discard(folder)  # which follows no link
    return swept


def files_count_as_memory() -> bool:
    """Whether instances' temporary files are charged to them: there is a writable tmpfs."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    is_tmpfs = any(line.split()[1:3] == [str(TMPFS), "tmpfs"] for line in mounts)
    return is_tmpfs and os.access(TMPFS, os.W_OK)


def _temporary(name: str) -> Path | None:
    """A folder on a tmpfs for temporary files; None if there is no writable tmpfs."""
    if not files_count_as_memory():
        return None
    return Path(tempfile.mkdtemp(prefix=f"{INSTANCE_PREFIX}{os.getpid()}-{name}-", dir=TMPFS))


def _discard(folder: Path | None) -> None:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port
