"""More of what limits a real replica moves what was missed, and what limits then is another."""

from __future__ import annotations

from typing import Any

import pytest

from lab.diagnosis.trials import effect_of, relaxed_settings
from lab.judge import Trial, judge
from lab.judge.criteria import outcome_of
from lab.judge.decision import bottleneck
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.run import CellResult
from lab.model.verdict import Resource
from tests.live import Live
from tests.replica.trial import trial

pytestmark = [pytest.mark.replica, pytest.mark.long]

LOAD = {"users": 8, "ramp": "0 s", "warmup": "15 s", "window": "60 s", "audio": "50 KB"}
FREE: dict[str, Any] = {"gcs_call": "executor", "gcs_threads": 40, "db_call": "threadpool"}

LIMITED: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("own_threads", {"gcs_threads": 2}, {}),
    ("event_loop", {"gcs_call": "blocking"}, {}),  # the calls to the database are in threads
    ("pool", {"db_session": "hold", "pool_size": 1, "max_overflow": 1}, {}),
    ("body_limit", {}, {"audio": "1.5 MB"}),
]


def measured(live: Live, settings: dict[str, Any], load: dict[str, Any]) -> tuple[Cell, CellResult]:
    """A cell, and what came of it, also where this machine was too busy for it to be valid."""
    cell, seen = trial(live, {"speed": 8, **FREE, **settings}, LOAD | load)
    verdict = judge(cell, seen)
    of = Trial(cell, seen)
    outcome = outcome_of(verdict.findings, len(of.sent))
    limit = bottleneck(of, verdict.findings)
    told = verdict.model_copy(update={"outcome": outcome, "limit": limit, "invalid": ()})
    return cell, CellResult.of(cell, told)


@pytest.mark.parametrize(("resource", "settings", "load"), LIMITED)
def test_more_of_the_limit_moves_what_was_missed(
    live: Live, resource: str, settings: dict[str, Any], load: dict[str, Any]
) -> None:
    cell, before = measured(live, settings, load)
    assert before.limit
    assert before.limit.resource == resource, before.limit.evidence
    more = relaxed_settings(cell, [Resource(resource)])
    assert isinstance(more, dict)
    _, after = measured(live, settings | more, load)
    missed = [
        Criterion.parse(finding.criterion)
        for finding in before.findings
        if finding.outcome == "missed"
    ]
    assert effect_of(missed, after, before).effect == "moved"
    assert after.limit
    assert (
        after.limit.resource != resource
        or after.metrics["throughput"] > 1.5 * (before.metrics["throughput"])
    )
