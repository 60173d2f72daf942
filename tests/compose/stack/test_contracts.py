"""The compose stack, and who injects faults into it, by the contracts that the fakes keep."""

from __future__ import annotations

import pytest

from lab.stack.compose.stack import ComposeStack
from tests.contracts import RealInjectorContract, StackContract

pytestmark = pytest.mark.compose


@pytest.fixture
def stack(contained: ComposeStack) -> ComposeStack:
    return contained


class TestComposeStack(StackContract):
    pass


class TestInjector(RealInjectorContract):
    pass
