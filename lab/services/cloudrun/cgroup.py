"""Makes, sweeps and removes cgroups for instances, of version 2 (delegated) or 1 (writable).

A new cgroup is made below this process's own, so that the lab's limits hold for instances too.
In version 2 a cgroup that has processes cannot have children with limits, so there it is made
below the nearest ancestor that can.

The files that limit a cgroup, and show what its processes have used:

                 version 2                        version 1
    CPU          cpu.max                          cpu.cfs_quota_us over cpu.cfs_period_us
    memory       memory.max                       memory.limit_in_bytes
    swap         memory.swap.max = 0              memory.memsw.limit_in_bytes = the same limit
    freeze       cgroup.freeze                    freezer.state
    OOM kills    memory.events: oom_kill          memory.oom_control: oom_kill
    throttled    cpu.stat: throttled_usec         cpu.stat: throttled_time (nanoseconds)
    peak memory  memory.peak                      memory.max_usage_in_bytes

Sources: the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lab.model import processes
from lab.model.replica import INSTANCE_PREFIX
from lab.services.cloudrun.instance import CPU_PERIOD_US, DriverError

CHECK_PREFIX = "replica-lab-check-"
NOTES = "cgroups.txt"
"""In the folder of the instances' logs: a line for each cgroup that was made, before it was."""
_NOTED = re.compile(rf"(?:{INSTANCE_PREFIX}|{CHECK_PREFIX})([0-9]{{1,10}})-[\w.-]+")

GONE_WITHIN_S = 5.0
"""Seconds in which a killed process must die and its cgroup be removed."""
PROC = Path("/proc/self")
KINDS = ("cpu", "cpuacct", "memory", "freezer")
"""The controllers that are needed in version 1."""
REMEDY = (
    "run as root, or in a systemd user session to which cpu and memory are delegated, "
    "or use --stack compose"
)


class NotPermittedError(Exception):
    """This process may not make cgroups with limits; the message is a line with the remedy."""

    def __init__(self, why: str) -> None:
        super().__init__(f"an instance cannot be limited here: {why} - {REMEDY}")


@dataclass(frozen=True)
class Folders:
    """The folders of a cgroup by controller; in version 2 they are all the same folder."""

    cpu: Path
    cpuacct: Path
    memory: Path
    freezer: Path

    @property
    def all(self) -> list[Path]:
        """The folders without repetition."""
        return list(dict.fromkeys((self.cpu, self.cpuacct, self.memory, self.freezer)))


class Cgroup(Protocol):
    """A cgroup with limits."""

    folders: Folders

    def limit_memory(self, size: int) -> None:
        """Limit memory and swap together, in bytes."""

    def limit_cpus(self, cpus: float) -> None:
        """Limit CPU time, in cores; fractions are shares of time."""

    def freeze(self, frozen: bool) -> None:
        """Withhold all CPU, or give it back."""

    def oom_kills(self) -> int:
        """How many processes the kernel has killed for memory."""

    def usage(self) -> Mapping[str, float]:
        """What was used: ``cpu_s`` and ``throttled_s`` in seconds, ``peak_bytes``."""


class CgroupV2:
    """A cgroup of version 2."""

    def __init__(self, folder: Path) -> None:
        self.folders = Folders(folder, folder, folder, folder)
        self._folder = folder

    def limit_memory(self, size: int) -> None:
        _write(self._folder / "memory.max", size)
        if (self._folder / "memory.swap.max").exists():  # absent if the kernel has no swap
            _write(self._folder / "memory.swap.max", 0)
        _write(self._folder / "memory.oom.group", 1)

    def limit_cpus(self, cpus: float) -> None:
        _write(self._folder / "cpu.max", f"{round(cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")

    def freeze(self, frozen: bool) -> None:
        _write(self._folder / "cgroup.freeze", int(frozen))

    def oom_kills(self) -> int:
        return int(_table(self._folder / "memory.events").get("oom_kill", 0))

    def usage(self) -> Mapping[str, float]:
        cpu = _table(self._folder / "cpu.stat")
        used = {"cpu_s": cpu["usage_usec"] / 1e6, "throttled_s": cpu["throttled_usec"] / 1e6}
        with suppress(FileNotFoundError):  # memory.peak came with Linux 5.19
            used["peak_bytes"] = float((self._folder / "memory.peak").read_text())
        return used


class CgroupV1:
    """A cgroup of version 1: a folder in the hierarchy of each controller."""

    def __init__(self, folders: Folders) -> None:
        self.folders = folders

    def limit_memory(self, size: int) -> None:
        _write(self.folders.memory / "memory.limit_in_bytes", size)
        with_swap = self.folders.memory / "memory.memsw.limit_in_bytes"
        if with_swap.exists():
            _write(with_swap, size)
        else:  # swap is not accounted for, so it is not used at all
            _write(self.folders.memory / "memory.swappiness", 0)

    def limit_cpus(self, cpus: float) -> None:
        _write(self.folders.cpu / "cpu.cfs_period_us", CPU_PERIOD_US)
        _write(self.folders.cpu / "cpu.cfs_quota_us", round(cpus * CPU_PERIOD_US))

    def freeze(self, frozen: bool) -> None:
        _write(self.folders.freezer / "freezer.state", "FROZEN" if frozen else "THAWED")

    def oom_kills(self) -> int:
        return int(_table(self.folders.memory / "memory.oom_control").get("oom_kill", 0))

    def usage(self) -> Mapping[str, float]:
        return {
            "cpu_s": float((self.folders.cpuacct / "cpuacct.usage").read_text()) / 1e9,
            "throttled_s": _table(self.folders.cpu / "cpu.stat")["throttled_time"] / 1e9,
            "peak_bytes": float((self.folders.memory / "memory.max_usage_in_bytes").read_text()),
        }


def make(name: str, memory: int, cpus: float) -> Cgroup:
    """Make a new cgroup of this name, with limits.

    Args:
        memory: bytes, swap included.
        cpus: cores, as a share of time.

    Raises:
        NotPermittedError: cgroups of either version cannot be written here.
        DriverError: a cgroup of this name exists already, or the kernel refuses a limit.
    """
    cgroup = _at(name)
    made: list[Path] = []
    try:
        for folder in cgroup.folders.all:
            folder.mkdir()
            made.append(folder)
    except OSError as error:
        for folder in made:
            folder.rmdir()
        if error.errno == errno.EEXIST:
            raise DriverError(f"there is a cgroup {name} already") from error
        raise NotPermittedError(f"{error.filename}: {error.strerror}") from error
    try:
        cgroup.limit_memory(memory)
        cgroup.limit_cpus(cpus)
    except DriverError:
        remove(cgroup)
        raise
    return cgroup


def check(memory: int, cpus: float, logs: Path | None = None) -> None:
    """Check that `make` succeeds, with a cgroup that is removed again.

    Args:
        memory, cpus: as for `make`.
        logs: folder in which it is noted first, as `note` does.

    Raises:
        NotPermittedError, DriverError: as `make` does.
    """
    name = f"{CHECK_PREFIX}{os.getpid()}-0"
    if logs:
        note(logs, name)
    remove(make(name, memory, cpus))


def pids(cgroup: Cgroup) -> list[int]:
    """The processes inside."""
    with suppress(FileNotFoundError):
        return [int(pid) for pid in (cgroup.folders.memory / "cgroup.procs").read_text().split()]
    return []


def kill(cgroup: Cgroup) -> None:
    """Send SIGKILL to every process inside, frozen or not."""
    with suppress(DriverError):  # a cgroup that is gone needs no thawing
        cgroup.freeze(False)
    for pid in pids(cgroup):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(cgroup: Cgroup) -> None:
    """End the processes inside and remove the cgroup, if it exists.

    Raises:
        DriverError: a process did not die within 5 s, so the cgroup remains.
    """
    deadline = time.monotonic() + GONE_WITHIN_S
    left = [folder for folder in cgroup.folders.all if folder.exists()]
    while left:
        kill(cgroup)
        for folder in list(left):
            with suppress(OSError):
                folder.rmdir()
            if not folder.exists():
                left.remove(folder)
        if left and time.monotonic() > deadline:
            raise DriverError(f"{left[0]} is left over: its processes {pids(cgroup)} do not die")
        if left:
            time.sleep(0.005)


def note(logs: Path, name: str) -> None:
    """Note that a cgroup of this name is about to be made, so that `orphans` knows it as ours."""
    with (logs / NOTES).open("a", encoding="utf-8") as notes:
        notes.write(f"{name}\n")


def orphans(logs: Path) -> list[str]:
    """The cgroups, ``<prefix><pid>-…``, that were noted there by processes that have ended.

    A cgroup has no place for a mark. One that is not noted is somebody else's, whatever its name.
    """
    try:
        names = (logs / NOTES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    known = {name: _NOTED.fullmatch(name) for name in names}
    return [name for name, match in known.items() if match and not processes.runs(int(match[1]))]


def sweep(names: Sequence[str]) -> list[str]:
    """Remove these cgroups; returns the names of those that there were."""
    groups = {name: _at(name) for name in names}
    there = [name for name, group in groups.items() if any(map(Path.exists, group.folders.all))]
    for name in there:
        remove(groups[name])
    return there


def _at(name: str) -> Cgroup:
    """The cgroup of this name, whether it exists or not."""
    mounts, own = _mounts(), _own()
    if set(KINDS) <= set(mounts):
        return CgroupV1(
            Folders(*(_below(mounts[kind], own.get(kind, "/")) / name for kind in KINDS))
        )
    if "" not in mounts:
        raise NotPermittedError("no cgroup file system is mounted")
    return CgroupV2(nearest(_below(mounts[""], own.get("", "/")), mounts[""]) / name)


def nearest(own: Path, mount: Path) -> Path:
    """The nearest folder of version 2, from ``own`` up, whose children can be limited.

    Raises:
        NotPermittedError: no such folder delegates cpu and memory and is writable.
    """
    for folder in (own, *own.parents):
        delegated = (folder / "cgroup.subtree_control").read_text().split()
        if {"cpu", "memory"} <= set(delegated) and os.access(folder, os.W_OK):
            return folder
        if folder == mount:
            break
    raise NotPermittedError(f"no cgroup from {own} up delegates cpu and memory to this process")


def _mounts() -> dict[str, Path]:
    """Where each controller of version 1 is mounted; version 2 under the name ''."""
    mounts: dict[str, Path] = {}
    for line in (PROC / "mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts.setdefault("", Path(folder))
        elif kind == "cgroup":
            mounts |= {option: Path(folder) for option in options.split(",")}
    return mounts


def _own() -> dict[str, str]:
    """This process's own cgroup by controller; version 2 under the name ''."""
    lines = (PROC / "cgroup").read_text().splitlines()
    return {
        kind: path
        for _, kinds, path in (line.split(":", 2) for line in lines)
        for kind in kinds.split(",")
    }


def _below(mount: Path, own: str) -> Path:
    """This process's folder; the mount itself if a container sees only its own part."""
    folder = mount / own.lstrip("/")
    return folder if folder.exists() else mount


def _table(file: Path) -> dict[str, float]:
    return {name: float(value) for name, value in map(str.split, file.read_text().splitlines())}


def _write(file: Path, value: object) -> None:
    try:
        file.write_text(str(value))
    except OSError as error:
        raise DriverError(f"{file} cannot be set to {value}: {error.strerror}") from error
