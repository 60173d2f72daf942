"""Archives of run folders, laid down where they belong and nowhere else."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath


def unpack(archive: tarfile.TarFile, into: Path) -> None:
    """Lay down the files and folders of an archive, in a folder and nowhere else.

    As `tarfile`'s own filter ``data`` does, which Python 3.11 has from its fourth patch on.

    Raises:
        tarfile.TarError: it holds something else, or would leave the folder.
    """
    for member in archive:
        name = PurePosixPath(member.name)
        if not (member.isreg() or member.isdir()) or name.is_absolute() or ".." in name.parts:
            raise tarfile.TarError(f"{member.name} is no file or folder of its own")
        member.mode = 0o755 if member.isdir() else 0o644
        archive.extract(member, into)
