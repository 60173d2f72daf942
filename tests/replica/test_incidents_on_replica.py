"""Published incidents, and what looks like them, judged as is right: see `validation.incidents`."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lab.judge import judge
from lab.model.verdict import Outcome, Verdict
from tests.component.cloudrun.permitted import needs_cgroups
from tests.live import Live
from tests.replica.trial import every_true_delay_is_told_so, failures, trial
from validation.idle import on_idle_machine
from validation.incidents import INCIDENTS, Incident

TRIALS = 3


def delays_are_told_to_be_true(measured: Verdict, _on_idle: Verdict) -> None:
    """However uploads end."""
    every_true_delay_is_told_so(measured)


def what_the_service_knew_is_told(_measured: Verdict, on_idle: Verdict) -> None:
    """15 connections for a burst of 100, held; each wait for one blocks the event loop for 30 s.

    What users saw hardly contradicts the criterion; what the service did does.
    """
    [finding] = on_idle.findings
    seen = failures(on_idle)
    assert max(seen, key=lambda cause: seen[cause]) == "gateway_timeout"
    assert on_idle.outcome == Outcome.BROKE
    assert (finding.outcome, finding.value) == ("missed", finding.low)
    assert finding.low is not None
    assert finding.high is not None
    told = seen.get("pool_timeout", 0)
    assert told < finding.low < finding.high <= 100
    # Of those told some were seen as nginx's 502.
    heard = re.search(r"\(users saw (\d+)\) against == 0", finding.reason)
    assert heard, finding.reason
    assert int(heard[1]) <= told
    assert any("(the service itself: pool_timeout " in reason for reason in on_idle.reasons)
    assert on_idle.course
    assert [crossing.criterion for crossing in on_idle.course.crossings] == [finding.criterion]


FURTHER: dict[str, Callable[[Verdict, Verdict], None]] = {
    "a-dry-pool-that-nobody-heard-of": what_the_service_knew_is_told,
    "clients-leave-before-storage-answers": delays_are_told_to_be_true,
    "nginx-leaves-before-storage-answers": delays_are_told_to_be_true,
    "queries-that-contend-at-speed-1": delays_are_told_to_be_true,
}
"""What else must be right of a trial: of its verdict, and of that on a machine idle enough."""


@pytest.mark.replica
@pytest.mark.long
@pytest.mark.split(4)
@needs_cgroups
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: str(incident.name))
def test_an_incident_is_judged_as_is_right(live: Live, incident: Incident) -> None:
    spec = incident.spec()
    quick = dict(incident.quick)
    speed = {"speed": quick.pop("speed", incident.knobs.get("speed", 1))}
    knobs, load = {"global_rate_limit": "500/min", **spec["knobs"], **speed}, spec["load"] | quick
    for _ in range(TRIALS):
        cell, seen = trial(live, knobs, load, criteria=incident.criteria, target=incident.target)
        measured, on_idle = judge(cell, seen), judge(cell, on_idle_machine(seen))
        busy = measured.outcome == Outcome.INVALID
        wrong = incident.wrong(on_idle, figures=not busy)
        # On a machine that is too busy for a trial another limit may be the true one.
        if not (wrong and busy):
            break
    assert wrong == []
    if further := FURTHER.get(incident.name):
        further(measured, on_idle)


def test_every_kind_has_several_and_one_that_is_to_be_told_apart() -> None:
    assert {incident.kind for incident in INCIDENTS} == {1, 2, 3, 4, 5, 7}
    names = [incident.name for incident in INCIDENTS]
    assert len(names) == len(set(names))
    assert set(names) >= set(FURTHER)
