"""compose/.env: which images this machine uses, and where its passwords are.

Compose reads it by itself. The passwords are files of their own (`lab.stack.compose.passwords`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lab.model.replica import APP_ROLE, SUPERUSER
from lab.stack.compose import passwords
from lab.stack.compose.images import read_env

FOLDER = "secrets"
"""Beside the env file."""

EARLIER = {"LAB_POSTGRES_PASSWORD": SUPERUSER, "LAB_APP_PASSWORD": APP_ROLE}
"""The variables in which an env file of an earlier version holds the passwords themselves."""

HEAD = """\
# Written by `lab images`: this machine's images, and the folder of its passwords.
"""


def write(path: Path, images: Mapping[str, str]) -> None:
    """Write the tags, by variable, and the passwords: those there are, else fresh ones.

    The database keeps the password it was made with, so one that exists is never replaced.
    """
    folder = path.with_name(FOLDER)
    folder.parent.mkdir(parents=True, exist_ok=True)
    earlier = {EARLIER[name]: value for name, value in read_env(path).items() if name in EARLIER}
    passwords.write(folder, {**passwords.fresh(), **earlier, **passwords.read(folder)})
    variables = {**images, "LAB_SECRETS": f"./{FOLDER}"}
    draft = path.with_name(f".env.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(
        HEAD + "".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8"
    )
    draft.replace(path)
