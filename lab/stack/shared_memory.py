"""The System V segment that a killed Postgres leaves in the machine's memory.

Postgres keeps a segment of 56 bytes for as long as it runs, only to tell whether anybody still
uses its data folder. A server that ends by itself removes it; one that is killed cannot, and the
next server on the same folder would. A replica's folder has no next server, and a Linux kernel
holds 4,096 segments at most (``SHMMNI``), after which no Postgres of any user starts.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

from lab.model.processes import PROC
from lab.stack.files import read_small

PID_FILE = "postmaster.pid"
_PID, _SEGMENT = 0, 6
"""Lines of ``postmaster.pid``: the server's id, negative of one that initdb runs for itself; and
key and id of its segment (pidfile.h, miscinit.c)."""
_MAX_BYTES = 4096
_IPC_RMID = 0


def release(data: Path) -> None:
    """Remove the segment of the Postgres that ran on a data folder, if it is there, and no other.

    Segment ids are used again, so that one is removed only which the folder's own server made: the
    kernel must know it by the same id and key, made by the same process for the same user as the
    folder's ``postmaster.pid``. Elsewhere than on Linux nothing can be told, and nothing is done.
    """
    with suppress(OSError, ValueError, IndexError):
        text, user = read_small(data / PID_FILE, _MAX_BYTES)
        lines = text.decode().splitlines()
        server = abs(int(lines[_PID]))
        key, segment = (int(number) for number in lines[_SEGMENT].split())
        if (key, segment, server, user) in _segments():
            ctypes.CDLL(None, use_errno=True).shmctl(segment, _IPC_RMID, None)


def _segments() -> set[tuple[int, int, int, int]]:
    """Key, id, maker's process id and maker's user of every segment (proc(5), /proc/sysvipc)."""
    header, *rows = (PROC / "sysvipc/shm").read_text().splitlines()
    names = header.split()
    segments = (dict(zip(names, map(int, row.split()), strict=True)) for row in rows)
    return {(each["key"], each["shmid"], each["cpid"], each["cuid"]) for each in segments}
