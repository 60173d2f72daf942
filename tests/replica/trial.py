"""One short trial on the real replica, from load to verdict, as the lab itself runs it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lab.cli.wiring import ToxiproxyInjector
from lab.config import read_faults
from lab.load.driver import LocustLoad
from lab.model.evidence import Observation
from lab.model.experiment import Cell, Experiment
from lab.model.replica import Target
from lab.model.run import RunRequest
from lab.model.verdict import Verdict
from lab.paths import ROOT
from lab.runner import Injector, Lab, run_experiment
from lab.store import RunFolder
from tests.fakes import make_cell
from tests.live import SPEED, Live

_NUMBERS = itertools.count(1)
DELAYS = {"gcs latency", "auth", "release", "write"}
"""The checks of what is injected, by the stage of an upload that it delays."""
CRITERIA = ("p95 < 10 s", "error_rate < 5 %")


def trial(
    live: Live,
    settings: Mapping[str, Any],
    load: Mapping[str, Any],
    *,
    criteria: Sequence[str] = CRITERIA,
    faults: Sequence[str] = ("gcs-latency", "db-distance"),
    target: Target = "vm",
    injector: Injector | None = None,
    stop_when_decided: bool = False,
) -> tuple[Cell, Observation]:
    """A cell at these settings, measured: what was seen of it.

    At `SPEED` and without a global limit, if not said.
    """
    known = read_faults(ROOT / "faults")
    cell = make_cell(
        {"speed": SPEED, "global_rate_limit": "off", **settings},
        load=load,
        criteria=criteria,
        faults=[known[name] for name in faults],
        target=target,
    ).model_copy(update={"stop_when_decided": stop_when_decided})
    request = RunRequest(
        started=datetime(2026, 1, 1, 0, 0, next(_NUMBERS) % 60, tzinfo=UTC),
        spec_file="trial.yaml",
        experiment=Experiment.model_validate({"experiment": "trial", "load": load}),
        stack=live.stack.name,
        stack_reason="a test",
        speed=cell.knobs.speed,
    )
    run = RunFolder.create(live.folder, (cell,), request)
    run_experiment(Lab(live.stack, injector or ToxiproxyInjector(), LocustLoad()), run, (cell,))
    return cell, run.cell(cell.id).read_observation()


def failures(of: Verdict) -> dict[str, float]:
    """What clients saw, by cause."""
    found = {name: value for name, value in of.metrics.items() if name.startswith("errors.")}
    return {name.removeprefix("errors."): value for name, value in found.items() if value}


def every_true_delay_is_told_so(verdict: Verdict) -> None:
    """Assert it. The machine may be too busy for a valid cell; then that is why, and no delay."""
    checked = {check.name: check for check in verdict.injected if check.name in DELAYS}
    assert checked.keys() == DELAYS
    assert [check.reason for check in checked.values() if not check.ok] == []
    assert not any("injected and measured differ" in reason for reason in verdict.reasons)
