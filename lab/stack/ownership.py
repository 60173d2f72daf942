"""Which replica a process belongs to: the lab finds all that it started, and nothing else.

Every process of a replica has an environment variable with the replica's id, and so have
its children, whatever they do with process groups. nginx writes its title over its
environment, so it has the same in its arguments; its workers are known as its children.
The replica's folder holds ``owner.json``: the lab's process, or none where the replica was
asked to stay (`lab up`).

    lab ──starts──> guardian (own session) ──waits for the lab's end of a pipe to close
     └──starts──> parts                      └──then ends what is left, removes the folder

A folder has its record from its beginning to its end, also where a lab is killed at either: it
is made, and unmade, under a name that tells who is at it (`_unfinished`).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import psutil
from pydantic import Field, TypeAdapter

from lab.errors import MachineError
from lab.model import processes as kernel
from lab.model.environment import ENGINE, child_environment, python_variables
from lab.stack import files, shared_memory

MARKER = "REPLICA_LAB_ID"
PREFIX = "replica-lab-"
RECORD = "owner.json"
DATA = "postgres"
"""The data folder of an embedded replica's Postgres, in the replica's folder."""
REMOVE_WITHIN_S = 5.0
CLOSE_WITHIN_S = 60.0
"""Far more than a guardian takes, also where an engine is slow to remove containers."""
KILLED_WITHIN_S = 2.0
FROZEN_AFTER_S = 10.0
"""A guardian that has not ended by then is replaced. It comes after the lab's own cleaning up."""

_NAME = rf"{PREFIX}[a-z0-9_]{{8}}"
_FOLDER = re.compile(_NAME)
_UNFINISHED = re.compile(rf"\.{_NAME}\.([0-9]{{1,10}})\.([0-9]{{1,20}})")
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Ownership:
    """What ``owner.json`` holds.

    A replica of containers carries the same as a label on all that it has. A reused process id
    is told by its start. Where there is ``/proc`` that is in clock ticks since the boot, which no
    setting of the clock changes; elsewhere it is the time that the system noted (macOS).

    Args:
        id: the replica's; the name of its folder, and eight hex digits.
        pid: of the lab's process; None for a replica that stays up.
        created: its start in seconds since 1970.
        results: the folder that the replica belongs to.
        stack: ``embedded`` or ``compose``.
        ticks: its start in clock ticks since the boot.
        boot: the kernel's id of the boot.
        place: where the process id means something: machine, process namespace and user.
    """

    id: Annotated[str, Field(pattern=rf"^{_NAME}-[0-9a-f]{{8}}$")]
    pid: Annotated[int, Field(ge=1, le=2**31)] | None
    created: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    results: Annotated[str, Field(max_length=4096, pattern=r"^/[^\x00]*$")]
    stack: Literal["embedded", "compose"] = "embedded"
    ticks: Annotated[int, Field(ge=0)] | None = None
    boot: Annotated[str, Field(max_length=64)] | None = None
    place: Annotated[str, Field(max_length=512)] | None = None

    @property
    def gone(self) -> bool:
        """Whether it is certain that the lab that owned this replica has ended.

        A zombie has ended. The lab of another machine, container or user cannot be seen. A record
        of an earlier version knows the wall clock alone: there, a process of this id is the lab's.
        """
        if self.pid is None:
            return False
        if not kernel.visible():
            return _gone_by_clock(self.pid, self.created)
        if self.place not in (None, place()):
            return False
        if self.boot not in (None, boot()):
            return True
        now = start_ticks(self.pid)
        return now is None or self.ticks not in (None, now)


_OWNERSHIP = TypeAdapter(Ownership)


def parse(text: str | bytes) -> Ownership:
    """An ownership as it was written down.

    Raises:
        ValueError: it is no such thing.
    """
    return _OWNERSHIP.validate_json(text, strict=True)


def _gone_by_clock(pid: int, created: float | None) -> bool:
    try:
        process = psutil.Process(pid)
        another = abs(process.create_time() - (created or 0.0)) > 1.0
        return another or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None if it has ended."""
    state = kernel.state_of(pid)
    return state.started if state and state.runs else None


def boot() -> str | None:
    """The kernel's id of this boot; None where it has none."""
    return _line(kernel.PROC / "sys/kernel/random/boot_id")


@cache
def place() -> str:
    """Where this process's id means something: machine, process namespace and user."""
    machine = _line(Path("/etc/machine-id")) or socket.gethostname()
    try:
        namespace = (kernel.PROC / "self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return f"{machine}/{namespace}/{os.geteuid()}"


def _line(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None


def claim(
    results: Path, stays: bool = False, stack: Literal["embedded", "compose"] = "embedded"
) -> tuple[Path, Ownership]:
    """A new folder for a replica, with its ownership written down.

    Raises:
        MachineError: the temporary folder's path cannot be used, or has no room.
    """
    name = PREFIX + "".join(secrets.choice(_LETTERS) for _ in range(8))
    folder = _temporary(stack) / name
    me = None if stays else psutil.Process()
    mine = Ownership(
        id=f"{name}-{secrets.token_hex(4)}",
        pid=me.pid if me else None,
        created=me.create_time() if me else None,
        results=str(results.resolve()),
        stack=stack,
        ticks=start_ticks(me.pid) if me else None,
        boot=boot(),
        place=place(),
    )
    unfinished = _unfinished(folder)
    try:
        files.make_folder(unfinished, 0o700)
        files.write_private(unfinished / RECORD, json.dumps(asdict(mine)))
        if os.geteuid() == 0:
            unfinished.chmod(0o711)  # Postgres and nginx run as another user then
        unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise MachineError(
            f"{unfinished.parent}: no replica's folder can be made ({error.strerror})",
            "make room there, or set TMPDIR to another folder",
        ) from error
    return folder, mine


def _temporary(stack: str) -> Path:
    """The temporary folder, if its path can stand wherever it has to.

    Raises:
        MachineError: it cannot.
    """
    folder = tempfile.gettempdir()
    wrong = next((sign for sign in folder if not sign.isprintable()), None)
    if wrong is None and stack == "compose" and ":" in folder:
        wrong = ":"  # separates a volume's source from its target
    if wrong is not None:
        raise MachineError(
            f"TMPDIR is {folder!r}, and a replica's folder cannot have {wrong!r} in its path",
            "set TMPDIR to another folder",
        )
    return Path(folder)


def _unfinished(folder: Path) -> Path:
    """A replica's folder while this process makes or unmakes it: with its id and start."""
    me = os.getpid()
    return folder.with_name(f".{folder.name}.{me}.{start_ticks(me) or 0}")


def clear_unfinished() -> None:
    """Remove the folders that labs were killed at making or unmaking.

    Such a folder holds no more than a record.
    """
    for path in _entries():
        match = _UNFINISHED.fullmatch(path.name)
        if match and files.is_own_folder(path) and not _at_it(*map(int, match.groups())):
            with suppress(OSError):
                if {held.name for held in path.iterdir()} <= {RECORD}:
                    (path / RECORD).unlink(missing_ok=True)
                    path.rmdir()


def _at_it(pid: int, ticks: int) -> bool:
    """Whether the process that makes or unmakes a folder still runs."""
    return start_ticks(pid) == ticks if kernel.visible() else psutil.pid_exists(pid)


def folder_of(ownership: Ownership) -> Path:
    """Where a replica's folder is, or was."""
    return Path(tempfile.gettempdir()) / ownership.id.rpartition("-")[0]


def read(folder: Path) -> Ownership:
    """The ownership of the replica in a folder.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: the folder, or what is in it, is not the lab's own.
    """
    mine = parse(files.read_own(folder, RECORD))
    if folder_of(mine).name != folder.name:
        raise ValueError(f"{folder / RECORD} is of another folder, {mine.id}")
    return mine


def replicas() -> Iterator[tuple[Path, Ownership]]:
    """Every replica on this machine that this user may end."""
    for folder in _entries():
        if _FOLDER.fullmatch(folder.name):
            with suppress(OSError, ValueError):  # not the lab's, or being removed
                yield folder, read(folder)


def _entries() -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).iterdir())


def mark() -> str | None:
    """``VARIABLE=id`` of the replica whose parts this process starts; None if it has none."""
    return f"{MARKER}={os.environ[MARKER]}" if MARKER in os.environ else None


def processes(replica: str) -> list[psutil.Process]:
    """All processes that have this replica's id, and their descendants, but not the caller."""
    mine: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if _is_part(process, replica):
                family = (process, *process.children(recursive=True))
                mine.update((member.pid, member) for member in family)
        except (psutil.Error, OSError):
            continue  # ended meanwhile, or another user's
    mine.pop(os.getpid(), None)
    return list(mine.values())


def _is_part(process: psutil.Process, replica: str) -> bool:
    """Whether a process has the id: in its environment, or, of nginx, as `-g "env …;"`."""
    if process.environ().get(MARKER) == replica:
        return True
    given = f"-g env {MARKER}={replica};"
    return process.name() == "nginx" and " ".join(process.cmdline()).rstrip().endswith(given)


def kill(replica: str) -> list[psutil.Process]:
    """Send SIGKILL to the processes that are left of a replica; a frozen one survives it."""
    left = processes(replica)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return left


def remove(folder: Path, mine: Ownership) -> None:
    """Remove a replica's folder, again while something still writes into it; and no other.

    Postgres' children end by themselves after their killed parent, and may leave a file
    in a folder that is being removed. The record goes last: until then the folder is known.
    """
    deadline = time.monotonic() + REMOVE_WITHIN_S
    try:
        if read(folder) == mine:
            shared_memory.release(folder / DATA)
        while read(folder) == mine:
            if not _emptied(folder):
                if time.monotonic() > deadline:
                    return
                time.sleep(0.05)
                continue
            unfinished = _unfinished(folder)
            folder.rename(unfinished)
            (unfinished / RECORD).unlink()
            unfinished.rmdir()
    except (OSError, ValueError):
        return  # gone, or none of the lab's


def _emptied(folder: Path) -> bool:
    """Remove all but the record; whether nothing else is left."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != RECORD:
            with suppress(OSError):
                path.unlink()
    return [path.name for path in folder.iterdir()] == [RECORD]


class Guardian:
    """A small process that ends the replica when the lab cannot: after a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = self._started(subprocess.PIPE)

    def _started(self, stdin: int) -> subprocess.Popen[bytes]:
        """A guardian that begins to clean up when its standard input ends."""
        environment = child_environment(python_variables(), ENGINE)
        environment.pop(MARKER, None)
        return subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "lab.stack.cleanup", str(self._folder)],
            stdin=stdin,
            start_new_session=True,
            env=environment,
        )

    def down(self) -> str | None:
        """How it is dead or kept from running, in a line; None while it waits."""
        if (code := self._process.poll()) is not None:
            return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"
        return kernel.how_held(self._process.pid) or None

    def renew(self) -> None:
        """Have another take its place, if it is dead or kept from running."""
        if self.down():
            self._end()  # by a signal it ends without touching the replica
            self._process = self._started(subprocess.PIPE)

    def close(self) -> None:
        """Have the guardian end what is left of the replica, and wait for it.

        One that stands still, or was killed, is replaced.
        """
        if self._process.stdin:
            self._process.stdin.close()
        deadline = time.monotonic() + FROZEN_AFTER_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if kernel.how_held(self._process.pid):
                break
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        if self._process.poll() is None or self._process.returncode < 0:
            self._end()
            self._started(subprocess.DEVNULL).wait(timeout=CLOSE_WITHIN_S)

    def _end(self) -> None:
        """Kill it; one that its cgroup has frozen may end only when it is thawed (version 1)."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_WITHIN_S)
