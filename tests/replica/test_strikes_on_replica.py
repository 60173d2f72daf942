"""Every row of `validation.strikes` once, one after the other on one replica that stays up.

Each struck cell follows another, of the row before: it has to name its own part, and no other. A
clean cell comes last. A row that suspends the lab itself takes a lab of its own, and the clock is
set in `test_clock_step_on_replica`.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.judge import judge
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.verdict import Outcome
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import Live
from tests.replica.trial import trial
from validation.idle import on_idle_machine
from validation.strikes import STRIKES, Strike, named, run
from validation.struck import LAB, Struck, strike_when_due

pytestmark = [pytest.mark.replica, pytest.mark.long, needs_cgroups]

ALONE = tuple(row for row in STRIKES if row.target.title == LAB and row.clock is None)
LIKE_ANOTHER = re.compile("-3s$|walwriter")
"""Rows that differ from others in nothing that is noticed: what is resumed 3 s later was stopped
before, and to Postgres one of its own is as good as another."""
TOGETHER = tuple(
    row for row in STRIKES if row.target.title != LAB and not LIKE_ANOTHER.search(row.name)
)


def measured(live: Live, strike: Strike) -> tuple[Cell, Observation]:
    """A cell at a row's settings."""
    spec = strike.spec()
    knobs, load = {**spec["knobs"], "gcs_latency": "1 s"}, spec["load"]
    return trial(live, knobs, load, criteria=spec["criteria"], target=strike.where)


def struck_cell(live: Live, strike: Strike) -> tuple[Cell, Observation, Struck]:
    with ThreadPoolExecutor(1) as pool:
        replica = live.stack.ownership.id
        due = (os.getpid(), live.folder, strike.target, strike.blow, strike.at, replica)
        striking = pool.submit(strike_when_due, *due)
        cell, seen = measured(live, strike)
        return cell, seen, striking.result()


@pytest.mark.parametrize("strike", TOGETHER, ids=lambda strike: str(strike.name))
def test_a_strike_is_noticed_in_its_parts_name(live: Live, strike: Strike) -> None:
    cell, seen, struck = struck_cell(live, strike)
    assert strike.wrong(judge(cell, seen), seen, struck) == []


@pytest.mark.parametrize("where", ["cloudrun", "vm"])
def test_after_them_all_a_cell_is_valid(live: Live, where: str) -> None:
    strike = next(row for row in TOGETHER if row.where == where)
    cell, seen = measured(live, strike)
    verdict = judge(cell, on_idle_machine(seen))
    assert named(seen) == set()
    assert live.stack.down_parts() == {}
    assert verdict.metrics["succeeded"] > 0


@pytest.mark.parametrize("strike", ALONE, ids=lambda strike: str(strike.name))
def test_a_lab_that_was_suspended_has_measured_nothing(tmp_path: Path, strike: Strike) -> None:
    assert run(strike, tmp_path).outcome == Outcome.INVALID
