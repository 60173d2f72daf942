"""What a missed criterion on each metric names, and which metrics name nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.bottleneck import RULES
from lab.judge.decision import FAILURES, LATENCIES, RATES, bottleneck
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import Evidence, Sample
from lab.model.metrics import TABLE
from lab.model.verdict import Finding
from tests.unit.judge.observations import cell, cut_off, observation, record
from tests.unit.judge.test_bottleneck import HOLD, SLOW, limit, lived, uploads

NAMES_NOTHING = {
    "capacity": "worked out from slots and the time that one is held, not seen at a resource",
    "cpu_generator": "the lab's own",
    "cpu_machine": "the lab's own",
    "lateness": "the lab's own",
    "lost": "a defect: the cell is invalid",
    "threads": "they are nobody's limit; that they leak is told by itself",
    "fds": "likewise",
    "threads_slope": "a leak is told by itself",
    "fds_slope": "likewise",
}
"""Why a missed criterion on one of these names no resource."""


def test_every_metric_is_somebodys_or_it_is_known_why_it_is_nobodys() -> None:
    of_rules = {name for rule in RULES.values() for name in rule.metrics}
    answered = {*LATENCIES, *RATES, *FAILURES, *of_rules}
    assert answered | NAMES_NOTHING.keys() == {row.name for row in TABLE}
    assert answered & NAMES_NOTHING.keys() == set()


def test_no_metric_is_answered_in_two_ways() -> None:
    of_rules = {name for rule in RULES.values() for name in rule.metrics}
    kinds = [set(LATENCIES), set(RATES), set(FAILURES), of_rules]
    assert sum(map(len, kinds)) == len(set().union(*kinds))


def named(criterion: str, sent: list[Sample], evidence: list[Evidence], **settings: Any) -> str:
    """What a trial names that missed this criterion and no other."""
    trial = Trial(cell(criterion, **settings), observation(sent, evidence))
    missed = Finding(criterion=criterion, outcome="missed", value=None, reason="")
    return bottleneck(trial, [missed]).resource


CHECKOUTS = {"checked_out": 20, "waiting": 9}


def test_failures_that_only_the_service_knows_of_are_their_makers() -> None:
    recorded = [record(f"cut-{i}", 503, "pool_timeout") for i in range(40)]
    sent, evidence = [*uploads(60), *cut_off(40)], [*lived(**CHECKOUTS), *recorded]
    for criterion in ("errors.pool_timeout == 0", "unseen_failures == 0"):
        assert named(criterion, sent, evidence, **HOLD) == "pool"
        assert named(criterion, sent, lived(**CHECKOUTS), **HOLD) == "none"


def test_what_failed_uploads_unseen_is_named_with_their_number() -> None:
    recorded = [record(f"cut-{i}", 502, "gcs_error") for i in range(40)]
    of = cell("errors.gcs_error == 0", gcs_threads=60)
    found = limit(of, observation([*uploads(60), *cut_off(40)], [*lived(), *recorded]))
    assert found.resource == "storage"
    said = ", and 40 of 100 uploads failed of it, cut off before they were told"
    assert said in found.evidence
    client_told = limit(of, observation(uploads(60, gcs_error=40), lived()))
    assert client_told.resource == "storage"
    assert "cut off" not in client_told.evidence


def test_uploads_unheard_are_due_to_who_ended_them_and_not_to_who_refused_others() -> None:
    sent = uploads(60, gateway_timeout=20, rate_limited=100)
    evidence = lived(threads_busy=8, threads_queued=12)
    for criterion in ("unheard == 0", "orphans == 0"):
        assert named(criterion, sent, evidence, gcs_threads=8) == "own_threads"
    assert named("error_rate < 5 %", sent, evidence, gcs_threads=8) == "rate_limit"


@pytest.mark.parametrize("metric", ["orphans", "errors.db_refused"])
def test_objects_without_a_row_are_due_to_the_writes_that_failed(metric: str) -> None:
    sent = uploads(60, db_refused=20, body_too_large=60)
    assert named(f"{metric} == 0", sent, lived(pg=25)) == "database_slots"


@pytest.mark.parametrize("metric", sorted(NAMES_NOTHING))
def test_what_names_nothing_names_nothing(metric: str) -> None:
    evidence = lived(threads_busy=8, threads_queued=12)
    criterion = str(Criterion(metric=metric, op="<", bound=1e-3))
    assert named(criterion, uploads(100, SLOW), evidence, gcs_threads=8) == "none"


def test_a_late_upload_still_counts_beside_them() -> None:
    of = cell("threads < 1", "p95 < 10 s", gcs_threads=8)
    evidence = lived(threads_busy=8, threads_queued=12, threads=50)
    assert limit(of, observation(uploads(100, SLOW), evidence)).resource == "own_threads"
