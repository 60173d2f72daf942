"""A run that is not to be read before it is graded: packed, and hidden from a glance.

It is no secret: who reads this module can open it, as who has the answers can look them up. It
keeps knobs and verdict from whoever looks through a results folder.

    folder ─tar, xz─> bytes ─x SHAKE-256 of the seal's words─> file, with the digest of the bytes
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from lab.archives import unpack
from lab.errors import StoreError

MAGIC = b"replica-lab exam 1\n"
END = ".sealed"


def seal(folder: Path, words: str) -> bytes:
    """A folder with all that is in it.

    Args:
        folder: which.
        words: by which it is opened again.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        tar.add(folder, arcname=folder.name)
    data = packed.getvalue()
    return MAGIC + hashlib.sha256(data).digest() + _mixed(data, words)


def unseal(sealed: bytes, words: str, into: Path) -> None:
    """Lay the folder down again.

    Raises:
        StoreError: it is damaged, or other words closed it.
    """
    head, digest, body = sealed[: len(MAGIC)], sealed[len(MAGIC) :][:32], sealed[len(MAGIC) + 32 :]
    data = _mixed(body, words)
    if head != MAGIC or hashlib.sha256(data).digest() != digest:
        raise StoreError("a sealed run is damaged, or of another examination", "measure it again")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:xz") as tar:
        unpack(tar, into)


def _mixed(data: bytes, words: str) -> bytes:
    """The bytes, each joined with its own of the words' stream; twice is the same as not at all."""
    stream = hashlib.shake_256(words.encode()).digest(len(data))
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(data), "big")
