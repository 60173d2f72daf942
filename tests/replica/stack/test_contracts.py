"""The embedded stack, and who injects faults into it, by the contracts that the fakes keep."""

from __future__ import annotations

import pytest

from tests.contracts import RealInjectorContract, StackContract

pytestmark = pytest.mark.replica


class TestEmbeddedStack(StackContract):
    pass


class TestInjector(RealInjectorContract):
    pass
