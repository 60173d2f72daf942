"""The ids of cells: what a reader recognises, and what any file system takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

MAX_LENGTH = 120
"""Below the 255 bytes that file systems allow, with room for a suffix."""

_UNSAFE = re.compile(r"[^A-Za-z0-9=,.+_-]")


def cell_ids(axes: Sequence[Mapping[str, str]], alone: str) -> list[str]:
    """An id for each cell: ``workers=2,pool=5+5``; unique, also where case is ignored.

    Args:
        axes: label by axis, of each cell; no two alike.
        alone: the id where there are no axes.
    """
    ids: list[str] = []
    taken: set[str] = set()
    for labels in axes:
        name = _fit(",".join(f"{_safe(axis)}={_safe(text)}" for axis, text in labels.items()))
        name = _untaken(name or _safe(alone), taken)
        taken.add(name.casefold())
        ids.append(name)
    return ids


def _safe(text: str) -> str:
    """A text with spaces left out and all else that a file system may refuse made ``_``.

    Commas and equals signs join an id's parts, so within a part they are made ``_`` too.
    """
    part = _UNSAFE.sub("_", "".join(text.split()))
    return part.replace(",", "_").replace("=", "_") or "_"


def _fit(name: str) -> str:
    if len(name) <= MAX_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_LENGTH - 9]}-{digest}"


def _untaken(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
