"""Whether two sets of cells are the same, and in what they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from lab.model.cell import Cell


def digest(cells: Sequence[Cell]) -> str:
    """SHA-256, in hex, over the canonical JSON of the cells: sorted keys, no spaces."""
    data = [cell.model_dump(mode="json") for cell in cells]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


MOST_TOLD = 3


def differences(old: Sequence[Cell], new: Sequence[Cell]) -> str:
    """In what two sets of cells differ: the first phrases, and how many more there are."""
    found = _phrases(old, new) or ["the order of the cells"]
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return "; ".join(found[:MOST_TOLD]) + more


def _phrases(old: Sequence[Cell], new: Sequence[Cell]) -> list[str]:
    before = {cell.id: cell for cell in old}
    after = {cell.id: cell for cell in new}
    found = [f"cell {name} is new" for name in after if name not in before]
    found += [f"cell {name} is gone" for name in before if name not in after]
    for name in before:
        if name in after:
            left, right = (_flat(cells[name].model_dump(mode="json")) for cells in (before, after))
            found += [
                f"{name}: {key} was {left.get(key, 'absent')}, is {right.get(key, 'absent')}"
                for key in sorted(left | right)
                if left.get(key) != right.get(key)
            ]
    return found


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    flat: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, dict | list) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
