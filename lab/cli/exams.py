"""What ``lab learn exam`` does."""

from __future__ import annotations
from typing import Any


def examine(*a: Any) -> int:
    return 0
