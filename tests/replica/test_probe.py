"""A probe on the real replica: what an upload costs, small and large."""

from __future__ import annotations

import pytest

from lab.calibrate.pace import probed
from lab.cli.wiring import ToxiproxyInjector
from lab.config import read_faults
from lab.load.driver import LocustLoad
from lab.model.experiment import DEFAULT_FAULTS
from lab.model.replica import PARTS
from lab.model.run import Progress
from lab.paths import ROOT
from lab.runner import Lab
from tests.live import Live


@pytest.mark.long
def test_a_probe_tells_what_every_part_does_for_an_upload_and_leaves_nothing(live: Live) -> None:
    before = sorted(live.folder.rglob("*.jsonl"))
    faults = read_faults(ROOT / "faults")
    shown: list[Progress] = []
    lab = Lab(live.stack, ToxiproxyInjector(), LocustLoad(), shown.append)
    costs = list(probed(lab, [faults[name] for name in DEFAULT_FAULTS]))
    assert len(costs) >= 1  # on a busy machine there may be no time for the large ones
    for cost, size in zip(costs, (50_000, 1_000_000), strict=False):
        assert cost.size == size
        parts = {"generator", *PARTS["vm"]}
        assert parts <= set(cost.cpu_s)
        assert 0.0005 < cost.cpu_s["backend"] < 0.5
        assert cost.trip_s is not None
        assert cost.machine_s > 0
    assert {progress.cell for progress in shown} <= {"probe of 50 KB", "probe of 1 MB"}
    assert sorted(live.folder.rglob("*.jsonl")) == before
