"""Files and folders in a temporary folder that other users of this machine may write to.

Nothing there is believed because of its name: a folder is this user's, real, and closed to
others' writing; a file in it is regular, this user's, and small. What is made has its mode from
the beginning, whatever the umask.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_BYTES = 65_536
"""Far more than any record of the lab's has."""


def is_own_folder(path: Path) -> bool:
    """Whether this is a folder, not a link to one, that this user alone may change."""
    try:
        about = path.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(about.st_mode)
        and about.st_uid == os.geteuid()
        and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def read_own(folder: Path, name: str) -> bytes:
    """A small file of this user's in a folder of this user's.

    A link is not followed, and a FIFO or device is not waited for.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is a link.
        ValueError: the folder is not this user's own, or the file is not a small regular one.
    """
    if not is_own_folder(folder):
        raise ValueError(f"{folder} is not this user's own folder")
    text, user = read_small(folder / name, MAX_BYTES)
    if user != os.geteuid():
        raise ValueError(f"{folder / name} is not this user's own file")
    return text


def read_small(path: Path, limit: int) -> tuple[bytes, int]:
    """A regular file of so many bytes at most, and the user whose it is; see `read_own`.

    Raises:
        OSError: there is no such file, it cannot be read, or is a link.
        ValueError: it is larger, or not regular, and so nobody's own.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path} is not this user's own file")
        text = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(text) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return text, about.st_uid


def write_private(path: Path, text: str) -> None:
    """A new file that nobody else can ever read.

    Raises:
        FileExistsError: there is one, or a link, of this name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with naming(path), os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)  # of a umask that takes more away
        file.write(text)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError of the block tell the file: one that a full disk raises at a write has none.

    Raises:
        OSError: as in the block, with its ``filename``.
    """
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def make_folder(path: Path, mode: int) -> None:
    """A new folder of exactly this mode, closed to others until it has it.

    Raises:
        FileExistsError: there is something of this name.
    """
    path.mkdir(mode=0o700)
    path.chmod(mode)
