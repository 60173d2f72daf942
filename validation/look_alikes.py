"""What a person might make that looks like a part of a replica, for `validation.kills`.

A folder with a record of another, a link to a folder, a process with a similar variable, a cgroup
and a folder of a tmpfs with a gateway's kind of name, a segment of shared memory like a killed
Postgres', a network and a container with labels by hand. The lab may touch none of them.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import docker
from docker.errors import DockerException

from lab.errors import MissingComponent
from lab.model import processes
from lab.services.cloudrun import cgroup
from lab.services.cloudrun.cgroup import Cgroup, NotPermittedError
from lab.services.cloudrun.instance import DriverError
from lab.stack.compose import engine
from lab.stack.compose.resources import ID_LABEL, OWNER_LABEL

FREE_PID = 4_194_305
"""Of no process: one more than Linux gives."""
OTHERS = f"replica-lab-front-{FREE_PID}-by-hand-"
BY_HAND = f"{OTHERS}{os.getpid()}"
"""As a gateway names what it makes, with the number of its process before the instance's name."""
CGROUPS = Path("/sys/fs/cgroup")
TMPFS = Path("/dev/shm")  # noqa: S108 - where a gateway has its instances' files
SEGMENTS = Path("/proc/sysvipc/shm")
POSTGRES_BYTES = 56
"""Of the segment that a Postgres keeps."""
OWNER = {"id": "x", "pid": FREE_PID, "created": 1.0, "results": "/", "stack": "compose"}


class LookAlikes:
    """All of them, for as long as the block lasts.

    Args:
        temporary: the folder in which the lab looks for replicas.

    Attributes:
        folders: in the temporary folder.
        pids: of the processes.
        cgroups: that were there before, and the one by hand.
        memory: shared, likewise.
    """

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._closing = ExitStack()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._things: dict[str, Any] = {}
        self._group: Cgroup | None = None
        self._kept: list[Path] = []
        self.folders: set[Path] = set()
        self.cgroups: set[Path] = set()
        self.memory: set[str] = set()
        self._segment = ""

    @property
    def pids(self) -> set[int]:
        return {process.pid for process in self._processes}

    def __enter__(self) -> Self:
        self._make_folders()
        name = "replica-lab-abcdefgh-01234567"
        self._start({"REPLICA_LAB_ID": f"{name}x"}, [f"REPLICA_LAB_ID={name}"])
        self._make_cgroup()
        self._make_segment()
        self._make_on_engine()
        self.cgroups, self.memory = orphaned_cgroups(), orphaned_memory()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def touched(self) -> list[str]:
        """Those that are not as they were made."""
        wrong = [str(file) for file in self._kept if not file.exists()]
        wrong += [f"process {each.pid}" for each in self._processes if each.poll() is not None]
        if self._group and len(cgroup.pids(self._group)) != 1:
            wrong.append(f"cgroup {self._group.folders.memory}")
        if self._segment and self._segment not in orphaned_memory():
            wrong.append(self._segment)
        for name, thing in self._things.items():
            try:
                thing.reload()
            except DockerException:
                wrong.append(name)
        return wrong

    def _make_folders(self) -> None:
        """Folders and links with names of the lab's, whose records are not its own."""
        elsewhere = self._temporary.with_name("elsewhere")
        for folder in (
            elsewhere,
            self._temporary / "replica-lab-abcdefgh",
            self._temporary / ".replica-lab-abcdefgh.4194305.1",
            TMPFS / f"{BY_HAND}-abcdefgh",
        ):
            if not folder.parent.is_dir():
                continue
            folder.mkdir(mode=0o700)
            self._closing.callback(_remove, folder)
            (folder / "owner.json").write_text(json.dumps(OWNER))
            (folder / "kept").write_text("by hand")
            self._kept += [folder / "kept", folder / "owner.json"]
        link = self._temporary / "replica-lab-ijklmnop"
        link.symlink_to(elsewhere)
        self._kept.append(link)
        self._closing.callback(link.unlink)
        self.folders = set(self._temporary.iterdir())

    def _start(self, variables: dict[str, str], arguments: list[str]) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()", *arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, **variables, "TMPDIR": str(self._temporary)},
        )
        self._processes.append(process)
        self._closing.callback(process.wait)
        self._closing.callback(process.kill)

    def _make_cgroup(self) -> None:
        """A cgroup with a gateway's kind of name and a process inside; where that is permitted."""
        with suppress(NotPermittedError, DriverError, OSError):
            self._group = cgroup.make(BY_HAND, 2**28, 1.0)
            self._closing.callback(cgroup.remove, self._group)
            self._start({}, [])
            for folder in self._group.folders.all:
                (folder / "cgroup.procs").write_text(str(self._processes[-1].pid))

    def _make_segment(self) -> None:
        """A segment of a process that has ended; where there are any."""
        if SEGMENTS.exists():
            make = f"import ctypes; print(ctypes.CDLL(None).shmget(0, {POSTGRES_BYTES}, 0o1600))"
            done = subprocess.run([sys.executable, "-c", make], stdout=subprocess.PIPE, check=True)
            number = int(done.stdout)
            self._segment = f"segment {number}"
            self._closing.callback(ctypes.CDLL(None).shmctl, number, 0, None)

    def _make_on_engine(self) -> None:
        """A network, and a container of any image that is here; where there is an engine."""
        try:
            client = engine.connect()
        except MissingComponent:
            return
        self._closing.callback(client.close)
        labels = {ID_LABEL: "x", OWNER_LABEL: json.dumps(OWNER)}
        network = client.networks.create(BY_HAND, labels=labels, internal=True)
        self._closing.callback(network.remove)
        self._things[f"network {BY_HAND}"] = network
        if images := client.images.list():
            container = client.containers.create(
                images[0].id, ["none"], name=BY_HAND, labels={**labels, "replica-lab.front": "1"}
            )
            self._closing.callback(container.remove)
            self._things[f"container {BY_HAND}"] = container


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):  # which `LookAlikes.touched` has told
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def orphaned_cgroups() -> set[Path]:
    """The cgroups of gateways and of checks whose process has ended, and look-alikes of its own.

    Those that another such test has made by hand are none of a lab's.
    """
    # Not by rglob, which ends where a container's folder goes while it is looked through.
    folders = (Path(at, name) for at, names, _ in os.walk(CGROUPS) for name in names)
    found = (path for path in folders if path.match("replica-lab-*-*-*"))
    of_no_process = (path for path in found if not processes.runs(_pid_of(path.name)))
    return {path for path in of_no_process if OTHERS not in path.name or BY_HAND in path.name}


def orphaned_memory() -> set[str]:
    """The machine's shared memory that looks like a Postgres', and that no process has attached."""
    names = {path.name for path in TMPFS.glob("PostgreSQL.*")}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        if names:
            with suppress(OSError):  # ended meanwhile
                text = maps.read_text()
                names = {name for name in names if f"{TMPFS}/{name}" not in text}
    rows = SEGMENTS.read_text().splitlines()[1:] if SEGMENTS.exists() else []
    for _, number, _, size, _, _, attached, *_ in (row.split() for row in rows):
        if int(size) == POSTGRES_BYTES and int(attached) == 0:
            names.add(f"segment {number}")
    return names


def _pid_of(name: str) -> int:
    number = name.split("-")[3]
    return int(number) if number.isdigit() else FREE_PID


def engine_things(results: str) -> list[str]:
    """The containers, networks and volumes whose label names a folder below this one."""
    try:
        client = engine.connect()
    except MissingComponent:
        return []
    try:
        return [thing for thing, owner in _labelled(client) if results in owner]
    finally:
        client.close()


def _labelled(client: docker.DockerClient) -> list[tuple[str, str]]:
    wanted = {"label": OWNER_LABEL}
    containers = client.containers.list(all=True, filters=wanted, ignore_removed=True)
    others = (*client.networks.list(filters=wanted), *client.volumes.list(filters=wanted))
    return [
        *((f"container {each.name}", each.labels[OWNER_LABEL]) for each in containers),
        *((f"{each.name}", each.attrs["Labels"][OWNER_LABEL]) for each in others),
    ]
