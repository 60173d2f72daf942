"""The passwords of a replica in containers: a file each, mounted into those that need it.

What stands in a container's environment is shown to whoever may ask the engine, and is kept with
the container. The folder is for its owner alone. The files in it can be read by all, because a
container sees the file without its folder, and runs as another user than whoever wrote it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from lab.model.replica import APP_ROLE, SUPERUSER

ROLES = (SUPERUSER, APP_ROLE)
"""Each is a role of the database, and the name of its file."""


def fresh() -> dict[str, str]:
    """A password for each role, that nobody can guess."""
    return {role: secrets.token_hex(16) for role in ROLES}


def write(folder: Path, passwords: Mapping[str, str]) -> None:
    """Write the file of each role, for `compose/replica.yaml` to mount as a secret."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for role, password in passwords.items():
        file = folder / role
        file.unlink(missing_ok=True)
        file.write_text(password, encoding="utf-8")
        file.chmod(0o444)


def read(folder: Path) -> dict[str, str]:
    """The passwords of that folder, by role, as far as there are any."""
    files = {role: folder / role for role in ROLES}
    return {role: file.read_text(encoding="utf-8") for role, file in files.items() if file.exists()}
