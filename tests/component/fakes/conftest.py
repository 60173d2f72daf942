"""The real stacks, beside the fake one."""

from __future__ import annotations

from tests.compose.conftest import client, contained
from tests.replica.conftest import stack

__all__ = ["client", "contained", "stack"]
