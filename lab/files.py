"""A folder of the lab's: its files are whole or not there, and nothing of others is touched.

    temporary file beside it ──write, fsync──> rename ──fsync of the folder──> durable

Every look at a run folder and below goes through `Folder`, while a cell is measured too: each time
it walks there anew. It follows no link there, opens nothing but regular files, and replaces or
removes nothing else: a link could lead to somebody else's files, a named pipe never answers, a
device never ends. The results folder itself may be a link.

Whatever the file system refuses becomes a StoreError that names the remedy. The lock of a run
folder is the kernel's, which lets it go when its holder dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from lab.errors import StoreError
from lab.model.units import format_size

LOCK = ".lock"

RUN_DEPTH = 1
"""How many of the last names of a run folder's path the lab made (`Folder.depth`)."""

CELL_DEPTH = RUN_DEPTH + 2
"""The same of a cell's folder, which is in ``cells`` of its run's."""

MAX_DOCUMENT = 8 * 1024**2
"""Bytes of the largest document. The lab's own are far smaller: a verdict has 50 KB, and the
``run.json`` of ten thousand cells 1 MB."""

MAX_LINE = 4 * 1024**2
"""Bytes of the longest line: an audit that names 100,000 recordings."""

MAX_LINES_FILE = 1024**3
"""Bytes of the largest file of lines. 500 users who upload for an hour at speed 1 write 0.2 GB of
samples, and no more evidence; what one cell can have written, `lab.model.extent` says."""

_SPACE = "free some space on its disk, or choose another folder with --results DIR"
_RIGHTS = "give this user the right to read and write it, or choose another with --results DIR"
_FILE = "a file stands where a folder should be; choose another with --results DIR"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "its file system is read-only; choose another folder with --results DIR",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: "its disk fails; choose another folder with --results DIR",
    errno.ENOTDIR: _FILE,
    errno.EEXIST: _FILE,
    errno.EISDIR: "a folder stands where a file should be; move it away",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "it was removed or never written; run its cell again with --resume",
}
_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")
_HOLDER = re.compile(rb"\d{0,20}\n?")


@contextmanager
def storing(folder: Path, doing: str) -> Iterator[None]:
    """Turn an OSError in the block into a StoreError that names folder, reason and remedy."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number else str(error)
        remedy = _REMEDIES.get(number, "see whether the folder is as the lab left it")
        raise StoreError(f"{folder}: cannot {doing}: {reason}", remedy) from error


def in_the_way(path: Path, mode: int, expected: str) -> StoreError:
    """The error about something that the lab did not make where it has a file, folder or link.

    Args:
        path: where it is.
        mode: what it is, as ``st_mode``.
        expected: what the lab has there: ``file``, ``folder``, ``link``.
    """
    kind = _KINDS.get(stat.S_IFMT(mode), "a device")
    return StoreError(
        f"{path}: is {kind} in place of a {expected} of the lab's, and is left as it is",
        "move it away",
    )


@dataclass(frozen=True)
class Folder:
    """A folder that the lab reads and writes.

    Args:
        path: where it is.
        depth: so many of the last names of ``path`` are folders that the lab made: none of them
            may be a link. 0 for the results folder, whose path a user may give as any.
    """

    path: Path
    depth: int = 0

    def below(self, name: str) -> Folder:
        """A folder in it, which need not be there yet."""
        return Folder(self.path / name, self.depth + 1)

    def make(self) -> None:
        """Make it, and what the lab made above it, unless it is there.

        Raises:
            StoreError: something else stands there, or the file system refused.
        """
        with storing(self.path, "make it"), self._opened(make=True):
            pass

    def entries(self) -> dict[str, int]:
        """What is in it: the ``st_mode`` of each, by name, sorted; StoreError as of `states`."""
        return {name: status.st_mode for name, status in self.states().items()}

    def states(self) -> dict[str, os.stat_result]:
        """What the file system says of each thing in it, by name, sorted; no link is followed.

        Raises:
            StoreError: it cannot be read.
        """
        with storing(self.path, "list it"), self._opened() as handle:
            return {name: at for name in _names(handle) if (at := _state(handle, name))}

    def has(self, name: str) -> bool:
        """Whether the lab's file is there.

        Raises:
            StoreError: something that is no regular file has its name.
        """
        with (
            storing(self.path, f"look for {name}"),
            suppress(FileNotFoundError),
            self._opened() as handle,
        ):
            return self._is_file(handle, name)
        return False

    def read(self, name: str) -> bytes:
        """A document's content.

        Raises:
            StoreError: it cannot be read, is no regular file, or is larger than any of the lab's.
        """
        with storing(self.path, f"read {name}"), self._reading(name, MAX_DOCUMENT) as file:
            return file.read(MAX_DOCUMENT)

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a file, each with its end, one at a time in memory.

        Raises:
            StoreError: as `read`; or a line is longer than any of the lab's.
        """
        with storing(self.path, f"read {name}"), self._reading(name, MAX_LINES_FILE) as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise StoreError(
                        f"{self.path / name}:{number}: the line is damaged: it is longer than"
                        f" {format_size(MAX_LINE)}, and the lab writes none such",
                        "restore the file from a copy, or run the experiment again",
                    )
                yield line

    def last_line(self, name: str) -> bytes:
        """The last line of a file, without its end; empty of an empty file."""
        with storing(self.path, f"read {name}"), self._reading(name, MAX_LINES_FILE) as file:
            size = os.fstat(file.fileno()).st_size
            tail = 4096
            while True:
                file.seek(max(0, size - tail))
                line = file.read(tail).rstrip(b"\n").rpartition(b"\n")
                if line[1] or tail >= min(size, MAX_LINE):
                    return line[2]
                tail *= 16

    def added(self, name: str, offset: int) -> bytes:
        """What a file that grows has from ``offset`` on; nothing if it is shorter.

        Raises:
            StoreError: it cannot be read, is no regular file, or is larger than any of the lab's.
        """
        with storing(self.path, f"read {name}"), self._reading(name, MAX_LINES_FILE) as file:
            file.seek(offset)
            return file.read()

    def keep(self, name: str, source: IO[bytes]) -> None:
        """Write what a stream still has to a new file, in place of the lab's older one.

        Neither at once nor durable: for what need not survive a crash, as a log.

        Raises:
            StoreError: the file system refused, or something that is no regular file has the name.
        """
        with storing(self.path, f"write {name}"), self._opened() as handle:
            if self._is_file(handle, name):
                os.unlink(name, dir_fd=handle)
            with os.fdopen(os.open(name, _NEW | _SAFE, 0o666, dir_fd=handle), "wb") as file:
                shutil.copyfileobj(source, file)

    def appending(self, name: str) -> int:
        """A descriptor that appends to a file that is there; the caller closes it.

        Raises:
            StoreError: it is not there, or is no regular file.
        """
        with storing(self.path, f"write {name}"), self._opened() as handle:
            self._is_file(handle, name)
            file = os.open(name, os.O_WRONLY | os.O_APPEND | _SAFE, dir_fd=handle)
            if not stat.S_ISREG(mode := os.fstat(file).st_mode):  # exchanged since
                os.close(file)
                raise in_the_way(self.path / name, mode, "file")
            return file

    def rename(self, draft: str, name: str) -> None:
        """Replace a file by its draft, at once.

        Raises:
            StoreError: as `keep`.
        """
        with storing(self.path, f"write {name}"), self._opened() as handle:
            self._is_file(handle, name)
            os.replace(draft, name, src_dir_fd=handle, dst_dir_fd=handle)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file whole or not at all: temporary file beside it, fsync, rename, fsync.

        Raises:
            StoreError: the file system refused, or something that is no regular file has the name;
                whatever stood there stands there still.
        """
        with storing(self.path, f"write {name}"), self._opened() as handle:
            self._is_file(handle, name)
            temporary = self._temporary(handle, name)
            try:
                with os.fdopen(
                    os.open(temporary, _NEW | _SAFE, 0o666, dir_fd=handle), "wb"
                ) as file:
                    file.writelines(chunks)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=handle)
                raise
            os.fsync(handle)

    def create(self, name: str) -> None:
        """Make an empty file, a new one: nothing else has it under another name."""
        with storing(self.path, f"write {name}"), self._opened() as handle:
            os.close(os.open(name, _NEW | _SAFE, 0o666, dir_fd=handle))

    def remove(self, name: str) -> None:
        """Remove the lab's file, if it is there, for good.

        Raises:
            StoreError: something that is no regular file has its name.
        """
        with storing(self.path, f"remove {name}"), self._opened() as handle:
            if self._is_file(handle, name):
                os.unlink(name, dir_fd=handle)
                os.fsync(handle)

    def link(self, name: str, into: Folder) -> None:
        """Give the lab's file, if it is there, a second name: the same in another folder.

        Raises:
            StoreError: something else has one of the names, or the file system refused.
        """
        with storing(into.path, f"keep {name}"), self._opened() as here, into._opened() as there:
            if self._is_file(here, name):
                os.link(name, name, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
                os.fsync(there)

    def is_same(self, name: str, other: Folder) -> bool:
        """Whether the lab's file of that name in another folder is this one, by a second name."""
        if not (self.has(name) and other.has(name)):
            return False
        with self._reading(name, None) as mine, other._reading(name, None) as others:
            return os.path.sameopenfile(mine.fileno(), others.fileno())

    def settle(self, draft: str, name: str) -> None:
        """Give a folder in it, which is whole now, the name that is to stay, for good.

        Raises:
            StoreError: something has that name, or the file system refused.
        """
        with storing(self.path, f"make {name}"), self._opened() as handle:
            if (mode := _mode(handle, name)) is not None:
                raise in_the_way(self.path / name, mode, "folder")
            os.replace(draft, name, src_dir_fd=handle, dst_dir_fd=handle)
            os.fsync(handle)

    def sync(self, name: str) -> None:
        """Make what was written to a file survive a crash of the machine."""
        with storing(self.path, f"make {name} durable"), self._reading(name, None) as file:
            os.fsync(file.fileno())

    def check_link(self, name: str) -> None:
        """See that a link of the lab's, to something beside it, can be made or replaced.

        Raises:
            StoreError: something else has its name, or a link that leads elsewhere.
        """
        with storing(self.path, f"look for {name}"), self._opened() as handle:
            self._is_link(handle, name)

    def point_link(self, name: str, target: str) -> None:
        """Make a link to something beside it, replacing the lab's older one atomically.

        Raises:
            StoreError: as `check_link`; or the file system refused.
        """
        with storing(self.path, f"point {name} to {target}"), self._opened() as handle:
            self._is_link(handle, name)
            temporary = self._temporary(handle, name)
            os.symlink(target, temporary, dir_fd=handle)
            try:
                os.replace(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
            except OSError:
                os.unlink(temporary, dir_fd=handle)
                raise
            os.fsync(handle)

    def clear_temporaries(self, names: Collection[str]) -> None:
        """Remove what killed writers of these files left."""
        with storing(self.path, "clear what a killed writer left"), self._opened() as handle:
            for entry in _names(handle):
                left = _TEMPORARY.fullmatch(entry)
                if left and left[1] in names and _is_own(handle, entry):
                    os.unlink(entry, dir_fd=handle)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for writing while the block runs.

        The file stays: its content names the holder, but only the kernel's lock counts.

        Raises:
            StoreError: another process holds it, whose process id the message has; or the lock
                file is not the lab's.
        """
        with storing(self.path, "lock it"), self._opened() as folder:
            self._is_file(folder, LOCK)
            handle = os.open(LOCK, os.O_RDWR | os.O_CREAT | _SAFE, 0o666, dir_fd=folder)
        try:
            with storing(self.path, "lock it"):
                self._take(handle)
            yield
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        status, content = os.fstat(handle), os.pread(handle, 22, 0)
        if status.st_nlink > 1 or not _HOLDER.fullmatch(content):
            raise StoreError(
                f"{self.path / LOCK}: is not the lab's lock, and is left as it is", "move it away"
            )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = content.decode().strip()
            who = f"process {holder}" if holder else "another process"
            raise StoreError(
                f"{self.path}: {who} is writing this run", "wait until it ends, or stop it"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    @contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder, taken name by name where the lab made the names."""
        names = self.path.parts[len(self.path.parts) - self.depth :]
        above = self.path.parents[self.depth - 1] if self.depth else self.path
        handle = os.open(above, _FOLDER)
        try:
            for name in names:
                above /= name
                mode = _mode(handle, name)
                if mode is not None and not stat.S_ISDIR(mode):
                    raise in_the_way(above, mode, "folder")
                if mode is None and make:
                    os.mkdir(name, dir_fd=handle)
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _reading(self, name: str, limit: int | None) -> Iterator[BinaryIO]:
        with self._opened() as folder:
            self._is_file(folder, name)
            with os.fdopen(os.open(name, os.O_RDONLY | _SAFE, dir_fd=folder), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):  # exchanged since
                    raise in_the_way(self.path / name, status.st_mode, "file")
                if limit is not None and status.st_size > limit:
                    raise StoreError(
                        f"{self.path / name}: the file is damaged: it is larger than"
                        f" {format_size(limit)}, and the lab writes none such",
                        "restore the file from a copy, or run the experiment again",
                    )
                yield file

    def _is_file(self, handle: int, name: str) -> bool:
        """Whether a regular file is there; StoreError where something else is."""
        mode = _mode(handle, name)
        if mode is not None and not stat.S_ISREG(mode):
            raise in_the_way(self.path / name, mode, "file")
        return mode is not None

    def _is_link(self, handle: int, name: str) -> None:
        mode = _mode(handle, name)
        if mode is None:
            return
        if not stat.S_ISLNK(mode):
            raise in_the_way(self.path / name, mode, "link")
        target = os.readlink(name, dir_fd=handle)
        if not is_beside(target):
            raise StoreError(
                f"{self.path / name}: is a link to {target}, which the lab did not make, and is"
                " left as it is",
                "move it away",
            )

    def _temporary(self, handle: int, name: str) -> str:
        """The name of the file that becomes ``name``; what a process of this id left is removed.

        The process id keeps two writers apart.
        """
        temporary = f".{name}.{os.getpid()}.tmp"
        mode = _mode(handle, temporary)
        if mode is not None:
            if not _is_own(handle, temporary):
                raise in_the_way(self.path / temporary, mode, "file")
            os.unlink(temporary, dir_fd=handle)
        return temporary


def cell_folder(path: Path) -> Folder:
    """A cell's folder by its path: of the names in it, the cell's, ``cells`` and the run's."""
    return Folder(path, min(CELL_DEPTH, len(path.parents)))


def logs_folder(path: Path) -> Folder:
    """The folder of a cell's logs by its path: one more of its names is the lab's."""
    return Folder(path, min(CELL_DEPTH + 1, len(path.parents)))


def is_beside(target: str) -> bool:
    """Whether a link leads to something in its own folder, as those of the lab do."""
    return target == Path(target).name and target not in ("", "..")


def _names(handle: int) -> list[str]:
    with os.scandir(handle) as entries:
        return sorted(entry.name for entry in entries)


def _mode(handle: int, name: str) -> int | None:
    """What stands there, as ``st_mode``, no link followed; None: nothing."""
    return None if (status := _state(handle, name)) is None else status.st_mode


def _state(handle: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_own(handle: int, name: str) -> bool:
    """Whether it is a regular file of this user's."""
    status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
