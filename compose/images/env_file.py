"""compose/.env: which images this machine uses, and its passwords; Compose reads it by itself."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from lab.stack.compose.images import read_env

SECRETS = ("LAB_POSTGRES_PASSWORD", "LAB_APP_PASSWORD")

HEAD = """\
# Written by `make images`: this machine's images, and passwords that no other machine has.
"""


def write(path: Path, images: Mapping[str, str]) -> None:
    """Write the tags, by variable, and the passwords: those there are, else fresh ones.

    The database keeps the password it was made with, so one that exists is never replaced.
    """
    before = read_env(path)
    passwords = {name: before.get(name) or secrets.token_hex(16) for name in SECRETS}
    lines = [f"{name}={value}\n" for name, value in {**images, **passwords}.items()]
    draft = path.with_name(f".env.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(HEAD + "".join(lines), encoding="utf-8")
    draft.replace(path)
