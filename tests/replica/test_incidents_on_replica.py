"""Published incidents, and what looks like them, judged as is right: see `validation.incidents`."""

from __future__ import annotations

import pytest

from lab.judge import judge
from lab.model.verdict import Outcome
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import Live
from tests.replica.trial import on_idle_machine, trial
from validation.incidents import INCIDENTS, Incident

TRIALS = 3


@pytest.mark.replica
@pytest.mark.long
@needs_cgroups
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: str(incident.name))
def test_an_incident_is_judged_as_is_right(live: Live, incident: Incident) -> None:
    spec = incident.spec()
    quick = dict(incident.quick)
    speed = {"speed": quick.pop("speed", incident.knobs.get("speed", 1))}
    knobs, load = {"global_rate_limit": "500/min", **spec["knobs"], **speed}, spec["load"] | quick
    for _ in range(TRIALS):
        cell, seen = trial(live, knobs, load, criteria=incident.criteria, target=incident.target)
        busy = judge(cell, seen).outcome == Outcome.INVALID
        wrong = incident.wrong(judge(cell, on_idle_machine(seen)), figures=not busy)
        # On a machine that is too busy for a trial another limit may be the true one.
        if not (wrong and busy):
            break
    assert wrong == []


def test_every_kind_has_several_and_one_that_is_to_be_told_apart() -> None:
    assert {incident.kind for incident in INCIDENTS} == {1, 2, 3, 4, 5, 7}
    names = [incident.name for incident in INCIDENTS]
    assert len(names) == len(set(names))
