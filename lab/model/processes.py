"""What the kernel says of a process: its state, its children, and whether its cgroup is frozen.

    /proc/<pid>/stat              state, start          7 µs
    /proc/<pid>/cgroup            which cgroup          11 µs
    <freezer>/…/freezer.state     version 1: THAWED, FREEZING, FROZEN
    <cgroup>/…/cgroup.events      version 2: frozen 0 or 1

A process that a signal has stopped is in state T, one that a debugger holds in t; one of a frozen
cgroup looks as if it slept (S, version 2) or waited for a disk (D, version 1).

Sources: proc(5); the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
SHORT, LONG = 4096, 1 << 20
"""Bytes that a file may have: one line or a few, and a list."""
HELD = {"T": "stopped (SIGSTOP)", "t": "held by a debugger"}
"""By state: how a process is kept from running."""
FROZEN = "frozen by its cgroup"
DEAD = "ZX"
"""The states of a process that has ended; a zombie waits for its parent to hear of it."""
_STARTED, _ARGUMENTS_START, _ARGUMENTS_END = 19, 45, 46
"""Places among the fields that follow a process's name and its closing bracket: its start, and
the addresses of its arguments."""


class ProcessState(NamedTuple):
    """State of a process: a letter as of ps(1), and its start in clock ticks after the boot.

    A process id with another start is another process.
    """

    letter: str
    started: int

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.letter not in DEAD


def visible() -> bool:
    """Whether the kernel tells of processes here as this module reads it: Linux, with /proc."""
    return (PROC / "self" / "stat").exists()


def state_of(pid: int) -> ProcessState | None:
    """The state of a process; None if there is none of this id."""
    content = _read(f"{PROC}/{pid}/stat")
    if not content:
        return None
    fields = content.rpartition(b")")[2].split()
    return ProcessState(fields[0].decode(), int(fields[_STARTED]))


def runs(pid: int) -> bool:
    """Whether this process runs; a zombie does not."""
    state = state_of(pid)
    return state is not None and state.runs


def children(pid: int) -> list[int]:
    """Its children; the kernel may leave some out while others end."""
    return [int(child) for child in _read(f"{PROC}/{pid}/task/{pid}/children", LONG).split()]


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it, as far as `children` tells."""
    family = [pid]
    for member in family:
        family += children(member)
    return family


def held_among(pids: Iterable[int]) -> str:
    """How one of these processes is kept from running, with its id; empty if none is."""
    for pid in pids:
        if (state := state_of(pid)) and (how := held(pid, state)):
            return f"process {pid} was {how}"
    return ""


def title(pid: int) -> str:
    """Its command line, or what it has written over it; empty if it has ended."""
    return (
        _read(f"{PROC}/{pid}/cmdline", LONG).replace(b"\0", b" ").decode(errors="replace").strip()
    )


def rename(title: str) -> None:
    """Have this process's command line read like this, as nginx and Postgres do; where there is
    /proc, and as far as there is room for it."""
    fields = _read(f"{PROC}/self/stat").rpartition(b")")[2].split()
    if len(fields) <= _ARGUMENTS_END:
        return
    start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_END])
    text = title.encode()[: end - start - 1].ljust(end - start, b"\0")
    with suppress(OSError), (PROC / "self" / "mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(text)


def stopped(state: ProcessState) -> str:
    """How a process is kept from running by a signal or a debugger; empty if it is not."""
    return HELD.get(state.letter, "")


def held(pid: int, state: ProcessState) -> str:
    """The same, also by its cgroup."""
    return stopped(state) or (FROZEN if is_frozen(pid) else "")


def how_held(pid: int) -> str:
    """How a process is kept from running; empty if it is not, or has ended.

    Where there is no /proc, as ps(1) tells it: there nothing is known of cgroups.
    """
    if visible():
        return held(pid, state) if (state := state_of(pid)) else ""
    return HELD.get(_letter_by_ps(pid), "")


def _letter_by_ps(pid: int) -> str:
    """The first letter of a process's state; empty if it has ended, or there is no ps."""
    ps = shutil.which("ps")
    if ps is None:
        return ""
    command = [ps, "-o", "state=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()[:1]  # noqa: S603 - of a number


def cgroups(pid: int) -> bytes:
    """The cgroups that it is in, as the kernel writes them; empty if it has ended."""
    return _read(f"{PROC}/{pid}/cgroup")


def is_frozen(pid: int) -> bool:
    """Whether its cgroup is frozen, or one above it."""
    return any(map(_says_frozen, _freezers(cgroups(pid))))


def _says_frozen(file: str) -> bool:
    content = _read(file)
    return content.startswith((b"FROZEN", b"FREEZING")) or b"frozen 1" in content


@lru_cache(maxsize=256)
def _freezers(written: bytes) -> list[str]:
    """The files that tell whether the cgroups of a /proc/<pid>/cgroup are frozen."""
    files = []
    for line in written.decode().splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds == "" and (mount := _mounts().get("")):
            files.append(f"{mount}{path}/cgroup.events")
        elif "freezer" in kinds.split(",") and (mount := _mounts().get("freezer")):
            files.append(f"{mount}{path}/freezer.state")
    return files


@cache
def _mounts() -> dict[str, str]:
    """Where the freezer of version 1 is mounted, and under '' all of version 2."""
    mounts: dict[str, str] = {}
    for line in _read(f"{PROC}/self/mounts", LONG).decode(errors="replace").splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts.setdefault("", folder)
        elif kind == "cgroup" and "freezer" in options.split(","):
            mounts["freezer"] = folder
    return mounts


def _read(path: str, most: int = SHORT) -> bytes:
    """A file's content; empty if it is gone, with its process, or may not be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(file, most)
    except OSError:
        return b""
    finally:
        os.close(file)
