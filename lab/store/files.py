"""Files that are either whole or not there, and a lock for their one writer.

    temporary file beside it ──write, fsync──> rename ──fsync of the folder──> durable

Whatever the file system refuses becomes a StoreError that names the remedy. The lock of a run
folder is the kernel's, which lets it go when its holder dies.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lab.errors import StoreError, UsageError
from lab.model.run import SCHEMA_VERSION

M = TypeVar("M", bound=BaseModel)

LOCK = ".lock"

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
    errno.ENOENT: "it was removed or never written; run its cell again with --resume",
}


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


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` survive a crash of the machine."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename, fsync.

    Raises:
        StoreError: the file system refused; whatever stood at ``path`` stands there still.
    """
    # The process id keeps two writers apart; `leftovers` finds what a killed one left.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storing(path.parent, f"write {path.name}"):
        try:
            with temporary.open("wb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)  # noqa: PTH105 - the one call whose atomicity is promised
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def point_link(link: Path, target: str) -> None:
    """Make ``link`` a relative symlink to ``target``, replacing an older one atomically."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    with storing(link.parent, f"point {link.name} to {target}"):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        try:
            os.replace(temporary, link)  # noqa: PTH105
        except OSError:
            temporary.unlink()
            raise
        sync_folder(link.parent)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files that a killed writer left in ``folder``."""
    return sorted(folder.glob(".*.tmp"))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for writing while the block runs.

    The file stays: its content names the holder, but only the kernel's lock counts.

    Raises:
        StoreError: another process holds it; the message has its process id.
    """
    with storing(folder, "lock it"):
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with storing(folder, "lock it"):
            _take(handle, folder)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
        who = f"process {holder}" if holder else "another process"
        raise StoreError(
            f"{folder}: {who} is writing this run", "wait until it ends, or stop it"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def read_bytes(path: Path) -> bytes:
    """A file's content; StoreError where it cannot be read."""
    with storing(path.parent, f"read {path.name}"):
        return path.read_bytes()


def problem_of(error: ValidationError) -> str:
    """A problem that pydantic reports, on one line: ``metrics.p95: Input should be ...``.

    The first value that is wrong, else the first that is missing.
    """
    first = min(error.errors(include_url=False), key=lambda detail: detail["type"] == "missing")
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]


def read_document(path: Path, model: type[M]) -> M:
    """A stored document, checked.

    Raises:
        UsageError: a later lab wrote it.
        StoreError: it cannot be read or is damaged; names the file and the line.
    """
    raw = read_bytes(path)
    remedy = "restore the file from a copy, or run the experiment again"
    try:
        data: Any = json.loads(raw)
    except json.JSONDecodeError as error:
        what = f"{path}:{error.lineno}: the file is damaged: {error.msg}"
        raise StoreError(what, remedy) from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise StoreError(f"{path}:{line}: the file is damaged: not UTF-8", remedy) from error
    _check_version(path, data, model)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        what = f"{path}: the file is not a {model.__name__}: {problem_of(error)}"
        raise StoreError(what, remedy) from error


def _check_version(path: Path, data: Any, model: type[BaseModel]) -> None:
    field = model.model_fields.get("schema_version")
    latest = field.default if field else SCHEMA_VERSION
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > latest:
        raise UsageError(
            f"{path}: written by a later lab (schema_version {version}; "
            f"this lab reads up to {latest})",
            "use the version of the lab that wrote it, or a later one",
        )
