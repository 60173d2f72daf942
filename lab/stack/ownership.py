"""Which replica a process belongs to: the lab finds all that it started, and nothing else.

Every process of a replica has an environment variable with the replica's id, and so have
its children, whatever they do with process groups. nginx writes its title over its
environment, so it has the same in its arguments; its workers are known as its children.
The replica's folder holds ``owner.json``: the lab's process, or none where the replica was
asked to stay (`lab up`).

    lab ──starts──> guardian (own session) ──waits for the lab's end of a pipe to close
     └──starts──> parts                      └──then ends what is left, removes the folder
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

MARKER = "REPLICA_LAB_ID"
PREFIX = "replica-lab-"
RECORD = "owner.json"
REMOVE_WITHIN_S = 5.0
CLOSE_WITHIN_S = 60.0
"""Far more than a guardian takes, also where an engine is slow to remove containers."""


@dataclass(frozen=True)
class Ownership:
    """What ``owner.json`` holds.

    ``pid`` and ``created`` name the lab's process (a reused pid has another start time);
    both are None for a replica that stays up. ``results`` is the folder it belongs to.
    A replica of containers carries the same as a label on all that it has.
    """

    id: str
    pid: int | None
    created: float | None
    results: str
    stack: str = "embedded"

    @property
    def gone(self) -> bool:
        """Whether the lab that owned this replica has ended; a zombie has ended too."""
        if self.pid is None:
            return False
        try:
            process = psutil.Process(self.pid)
            another = abs(process.create_time() - (self.created or 0.0)) > 1.0
            return another or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def claim(results: Path, stays: bool = False, stack: str = "embedded") -> tuple[Path, Ownership]:
    """A new folder for a replica, with its ownership written down."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    folder.chmod(0o755)  # Postgres and nginx may run as another user
    me = None if stays else psutil.Process()
    mine = Ownership(
        id=f"{folder.name}-{uuid.uuid4().hex[:8]}",
        pid=me.pid if me else None,
        created=me.create_time() if me else None,
        results=str(results.resolve()),
        stack=stack,
    )
    (folder / RECORD).write_text(json.dumps(asdict(mine)))
    return folder, mine


def folder_of(ownership: Ownership) -> Path:
    """Where a replica's folder is, or was."""
    return Path(tempfile.gettempdir()) / ownership.id.rpartition("-")[0]


def replicas() -> Iterator[tuple[Path, Ownership]]:
    """Every replica on this machine that this user may end."""
    for record in sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{RECORD}")):
        try:
            if record.stat().st_uid == os.getuid():
                yield record.parent, Ownership(**json.loads(record.read_text()))
        except (OSError, ValueError, TypeError):
            continue  # being written, or not ours to read


def mark() -> str | None:
    """``VARIABLE=id`` of the replica whose parts this process starts; None if it has none."""
    return f"{MARKER}={os.environ[MARKER]}" if MARKER in os.environ else None


def processes(replica: str) -> list[psutil.Process]:
    """All processes that have this replica's id, and their descendants, but not the caller."""
    mine: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            in_arguments = any(f"{MARKER}={replica}" in part for part in process.cmdline())
            if in_arguments or process.environ().get(MARKER) == replica:
                family = (process, *process.children(recursive=True))
                mine.update((member.pid, member) for member in family)
        except (psutil.Error, OSError):
            continue  # ended meanwhile, or another user's
    mine.pop(os.getpid(), None)
    return list(mine.values())


def kill(replica: str) -> list[psutil.Process]:
    """Send SIGKILL to the processes that are left of a replica; a frozen one survives it."""
    left = processes(replica)
    for process in left:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return left


def remove(folder: Path) -> None:
    """Remove a replica's folder, again while something still writes into it.

    Postgres' children end by themselves after their killed parent, and may leave a file
    in a folder that is being removed.
    """
    deadline = time.monotonic() + REMOVE_WITHIN_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


class Guardian:
    """A small process that ends the replica when the lab cannot: after a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "lab.stack.cleanup", str(self._folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={k: v for k, v in os.environ.items() if k != MARKER},
        )

    def down(self) -> str | None:
        """How it is dead or stopped, in a line; None while it waits."""
        if (code := self._process.poll()) is not None:
            return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"
        status = psutil.Process(self._process.pid).status()
        return "stopped (SIGSTOP)" if status == psutil.STATUS_STOPPED else None

    def renew(self) -> None:
        """Have another take its place, if it is dead or stopped."""
        if self.down():
            self._process.kill()  # by a signal it ends without touching the replica
            self._process.wait()
            self._start()

    def close(self) -> None:
        """Have the guardian end what is left of the replica, and wait for it."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=CLOSE_WITHIN_S)
