"""Cgroups for instances: made, swept and removed, in version 2 (delegated) or 1 (writable).

A new cgroup is made below this process's own, so that what limits the lab limits the instance
too; or, in version 2, where a cgroup with processes cannot have limited children, below the
nearest ancestor that can.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from lab.services.cloudrun.instance import DriverError
from lab.services.cloudrun.limits import V1, V2, Cgroup, Folders

GONE_WITHIN_S = 5.0
PROC = Path("/proc/self")
REMEDY = (
    "run as root, or in a systemd user session to which cpu and memory are delegated, "
    "or use --stack compose"
)


class NotPermittedError(Exception):
    """This process may not make cgroups with limits; one line with the remedy."""

    def __init__(self, why: str) -> None:
        super().__init__(f"an instance cannot be limited here: {why} - {REMEDY}")


def make(name: str, memory: int, cpus: float) -> Cgroup:
    """A new cgroup of this name, limited.

    Args:
        memory: bytes, swap included.
        cpus: cores, as a share of time.

    Raises:
        NotPermittedError: cgroups of either version cannot be written here.
        DriverError: one of this name is here already, or the kernel refuses a limit.
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


def check(memory: int, cpus: float) -> None:
    """Whether `make` would succeed; whatever it made is gone again.

    Raises:
        NotPermittedError, DriverError: as `make` does.
    """
    remove(make(f"replica-lab-check-{os.getpid()}", memory, cpus))


def pids(cgroup: Cgroup) -> list[int]:
    """The processes inside."""
    with suppress(FileNotFoundError):
        return [int(pid) for pid in (cgroup.folders.memory / "cgroup.procs").read_text().split()]
    return []


def kill(cgroup: Cgroup) -> None:
    """SIGKILL to every process inside, frozen or not."""
    with suppress(DriverError):  # a cgroup that is gone needs no thawing
        cgroup.freeze(False)
    for pid in pids(cgroup):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(cgroup: Cgroup) -> None:
    """End what is inside and remove the cgroup; nothing happens where it is gone.

    Raises:
        DriverError: a process would not die within 5 s, so the cgroup is left.
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


def sweep(prefix: str) -> list[str]:
    """Remove the cgroups that a front left which was killed: ``<prefix><its pid>-…``.

    Returns:
        The names of those removed.
    """
    parents = {folder.parent for folder in _at(f"{prefix}0").folders.all}
    names = {found.name for parent in parents for found in parent.glob(f"{prefix}*-*")}
    orphans = sorted(name for name in names if not _lives(name.removeprefix(prefix)))
    for name in orphans:
        remove(_at(name))
    return orphans


def _lives(rest: str) -> bool:
    owner = rest.partition("-")[0]
    return not owner.isdigit() or runs(int(owner))


def runs(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for yet is none any more."""
    try:
        status = Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _at(name: str) -> Cgroup:
    """The cgroup of this name, whether there is one or not."""
    mounts = _mounts()
    own = _own()
    if {"cpu", "cpuacct", "memory", "freezer"} <= set(mounts):
        below = {kind: _below(mounts[kind], own.get(kind, "/")) for kind in mounts}
        return V1(Folders(**{
            kind: below[kind] / name for kind in ("cpu", "cpuacct", "memory", "freezer")
        }))  # fmt: skip
    if "" not in mounts:
        raise NotPermittedError("no cgroup file system is mounted")
    return V2(nearest(_below(mounts[""], own.get("", "/")), mounts[""]) / name)


def nearest(own: Path, mount: Path) -> Path:
    """The nearest folder of version 2, from ``own`` up, whose children can be limited.

    Raises:
        NotPermittedError: none hands cpu and memory on and may be written.
    """
    for folder in (own, *own.parents):
        handed_on = (folder / "cgroup.subtree_control").read_text().split()
        if {"cpu", "memory"} <= set(handed_on) and os.access(folder, os.W_OK):
            return folder
        if folder == mount:
            break
    raise NotPermittedError(f"no cgroup from {own} up hands on cpu and memory to us")


def _mounts() -> dict[str, Path]:
    """Where each controller of version 1 is mounted; version 2 under the name ''."""
    found: dict[str, Path] = {}
    for line in (PROC / "mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("", Path(folder))
        elif kind == "cgroup":
            found |= {option: Path(folder) for option in options.split(",")}
    return found


def _own() -> dict[str, str]:
    """This process's own cgroup by controller; version 2 under the name ''."""
    lines = (PROC / "cgroup").read_text().splitlines()
    return {
        kind: path
        for _, kinds, path in (line.split(":", 2) for line in lines)
        for kind in kinds.split(",")
    }


def _below(mount: Path, own: str) -> Path:
    """This process's folder; the mount itself where a container sees only its own part."""
    folder = mount / own.lstrip("/")
    return folder if folder.exists() else mount
