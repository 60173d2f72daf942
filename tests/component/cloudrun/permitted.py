"""Whether this machine lets tests limit processes; where not, they are skipped and say why."""

from __future__ import annotations

import pytest

from lab.services.cloudrun import cgroup
from lab.services.cloudrun.instance import DriverError


def refusal() -> str:
    """Why cgroups cannot be made here; empty where they can."""
    try:
        cgroup.check(128 * 1024**2, 0.5)
    except (cgroup.NotPermittedError, DriverError) as error:
        return str(error)
    return ""


_REFUSAL = refusal()
needs_cgroups = pytest.mark.skipif(bool(_REFUSAL), reason=_REFUSAL)
