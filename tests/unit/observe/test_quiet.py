"""How long the lab waits, after a load, for uploads that are inside a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lab.observe import audit
from lab.observe.audit import LOOK_S, QUIET_WITHIN_S, wait_for_quiet

HALF = QUIET_WITHIN_S / 2


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("ends_at", "patience", "left", "waited"),
    [
        ([], 1.0, 0, 0.0),
        ([0.2, 0.4], 1.0, 0, 0.4),
        ([0.2, 1.1], 1.0, 0, 1.1),  # one that ends renews the patience
        ([0.2, 1.5], 1.0, 1, 1.2),
        ([9.0, 9.0], 0.5, 2, 0.5),
        ([HALF, 9.0], 9.0, 1, QUIET_WITHIN_S),
    ],
)
def test_it_waits_while_uploads_end(
    monkeypatch: pytest.MonkeyPatch,
    ends_at: list[float],
    patience: float,
    left: int,
    waited: float,
) -> None:
    clock = Clock()
    monkeypatch.setattr(audit, "time", clock)
    replica: Any = SimpleNamespace(inflight=lambda: sum(end > clock.now for end in ends_at))
    assert wait_for_quiet(replica, patience) == left
    assert waited - 1e-6 <= clock.now <= waited + 2 * LOOK_S
