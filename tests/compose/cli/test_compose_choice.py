"""Which stack ``auto`` is where there is an engine."""

from __future__ import annotations

import pytest

from lab.cli import wiring
from lab.model.fault import ProcessFault

KILL = ProcessFault(fault="backend-kill", part="backend", action="kill", at=10, lasts=5)


@pytest.mark.compose
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("strikes", [(), (KILL,)], ids=["none", "a-strike"])
def test_with_an_engine_auto_is_compose(strikes: tuple[ProcessFault, ...]) -> None:
    chosen = ("compose", "auto: an engine, Compose and every image are here")
    assert wiring.choose("auto", "auto", strikes) == chosen
