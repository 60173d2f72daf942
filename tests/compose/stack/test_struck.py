"""Each part killed and each paused while a window is measured, told by whole runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lab.cli.wiring import ToxiproxyInjector
from lab.load.driver import LoadResult, LoadStart
from lab.model.evidence import PartDown
from lab.model.experiment import Cell, Experiment
from lab.model.replica import services
from lab.model.run import LoadSoFar, LoadTick, RunRequest
from lab.model.verdict import Outcome
from lab.runner import Lab, run_experiment
from lab.stack.compose.stack import ComposeStack
from lab.store import RunFolder
from tests.fakes import LOAD, InstantLoad, make_cell

pytestmark = pytest.mark.compose

SPEED = 20
UPLOADS = 20
NOTICED_WITHIN_S = 3.0
GIVE_UP_S = 30.0
CELLS = tuple(
    make_cell({"speed": SPEED, "global_rate_limit": "off"}, cell_id=name)
    for name in ("struck", "next")
)


class Struck(InstantLoad):
    """Uploads under which a part is struck, in the first cell alone; nothing ends it but the lab.

    Attributes:
        after: when it was struck, in wall-clock seconds after the load began.
    """

    def __init__(self, strike: Callable[[], None]) -> None:
        super().__init__(uploads=UPLOADS)
        self.after = 0.0
        self._strike = strike

    def run(
        self,
        cell: Cell,
        url: str,
        samples: Path,
        log: Path,
        tick: Callable[[LoadTick], None],
        on_start: Callable[[LoadStart], None] | None = None,
        is_decided: Callable[[LoadSoFar], bool] | None = None,
    ) -> LoadResult:
        began: list[float] = []

        def start(told: LoadStart) -> None:
            began.append(told.t0)
            if on_start:
                on_start(told)

        def struck(now: LoadTick) -> None:
            tick(now)
            if cell.id == "struck" and now.answered == UPLOADS // 2:
                self.after = time.monotonic() - began[0]
                self._strike()
                while time.monotonic() - began[0] < GIVE_UP_S:
                    tick(now)
                    time.sleep(0.02)

        return super().run(cell, url, samples, log, struck, start, is_decided)


@pytest.mark.parametrize("part", services("vm"))
@pytest.mark.parametrize("action", ["kill", "pause"])
def test_a_part_that_is_struck_makes_its_cell_invalid_and_no_other(
    contained: ComposeStack, tmp_path: Path, action: str, part: str
) -> None:
    load = Struck(lambda: contained.project.act(part, action))
    run = RunFolder.create(tmp_path, CELLS, request())
    summary = run_experiment(Lab(contained, ToxiproxyInjector(), load), run, CELLS)
    first, second = summary.cells

    assert first.verdict is Outcome.INVALID
    assert [reason.split(" at ")[0] for reason in first.reasons if " at " in reason][:1] == [
        f"{part} was down"
    ]
    seen = run.cell("struck").read_observation()
    downs = {line.part: line for line in seen.evidence if isinstance(line, PartDown)}
    assert downs[part].t / SPEED - load.after < NOTICED_WITHIN_S

    assert not any("was down" in reason for reason in second.reasons), second.reasons
    assert second.metrics["succeeded"] == UPLOADS
    assert contained.down_parts() == {}


def request() -> RunRequest:
    return RunRequest(
        started=datetime(2026, 11, 24, 8, 15, tzinfo=UTC),
        spec_file="spec.yaml",
        experiment=Experiment.model_validate({"experiment": "struck", "load": dict(LOAD)}),
        stack="compose",
        stack_reason="asked for",
        speed=SPEED,
    )
