"""The real stacks, beside the fake one."""

from __future__ import annotations

from tests.replica.conftest import stack

__all__ = ["stack"]
