"""The calibration of an instance of Cloud Run on the real replica."""

from __future__ import annotations

import pytest

from lab.calibrate.limits import calibrate_instances
from lab.stack.embedded import EmbeddedStack
from tests.component.calibrate.test_instances import CORES, KILLED, LIVES
from tests.component.cloudrun.permitted import needs_cgroups


@pytest.mark.replica
@needs_cgroups
def test_on_a_real_replica_limits_hold(stack: EmbeddedStack) -> None:
    """Another's load can take CPU away from it, so that nothing is said of the least."""
    found = {each.name: each for each in calibrate_instances(stack, lambda _step: None).measured}
    assert 0 < found[CORES].value <= 0.53
    assert found[LIVES].ok
    assert found[KILLED].ok
