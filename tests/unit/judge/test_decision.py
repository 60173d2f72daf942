"""What a missed criterion on each metric names, and which metrics name nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge.bottleneck import RULES
from lab.judge.decision import FAILURES, LATENCIES, RATES, bottleneck
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Evidence, Sample
from lab.model.metrics import TABLE
from lab.model.verdict import Finding
from tests.unit.judge.observations import STAGES, cell, cut_off, observation, record, sample
from tests.unit.judge.test_bottleneck import HOLD, SLOW, limit, lived, uploads

NETWORK = [row.name for row in TABLE if row.name.startswith(("net_in_", "net_out_"))]
NAMES_NOTHING = {
    "capacity": "worked out from slots and the time that one is held, not seen at a resource",
    "connections_reused": "how nginx is told to speak to the backend, and nothing that runs out",
    "cpu_generator": "the lab's own",
    "cpu_machine": "the lab's own",
    "lateness": "the lab's own",
    "db_query_rate": "as many as the uploads that came through make",
    **dict.fromkeys(NETWORK, "as much as the uploads and their protocols make"),
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


def test_answers_with_a_status_are_due_to_who_made_them() -> None:
    refused = uploads(60, db_refused=20)
    too_large = [sample(30, 1.0, Cause.BODY_TOO_LARGE, status=413) for _ in range(60)]
    evidence = lived(pg=25)
    assert named("status.503 == 0", [*refused, *too_large], evidence) == "database_slots"
    assert named("status.413 == 0", [*refused, *too_large], evidence) == "body_limit"
    assert named("status.200 < 10", refused, evidence) == "none"  # nobody failed so


@pytest.mark.parametrize("end", ["", "_p50", "_p95", "_p99"])
def test_a_stages_percentiles_are_whose_its_mean_is(end: str) -> None:
    evidence = lived(threads_busy=8, threads_queued=12)
    sent = uploads(100, SLOW, stages={**STAGES, "gcs_queue": 12.0})
    assert named(f"gcs_queue{end} < 1 s", sent, evidence, gcs_threads=8) == "own_threads"
    assert named(f"gcs_latency{end} < 1 s", sent, evidence, gcs_threads=8) == "storage"
    assert named(f"write{end} < 1 ms", sent, evidence, gcs_threads=8) == "database"
    assert named(f"wait{end} < 1 s", sent, evidence, gcs_threads=8) == "own_threads"


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


def test_one_refusal_of_postgres_does_not_explain_a_pool_that_ran_dry() -> None:
    dry = lived(busy=0.99, pg=20, checked_out=20, waiting=1)
    sent = uploads(50, SLOW, pool_timeout=49, db_refused=1)
    assert named("error_rate < 5 %", sent, dry, **HOLD) == "pool"
    sent = uploads(50, SLOW, pool_timeout=25, db_refused=25)
    assert named("error_rate < 5 %", sent, dry, **HOLD) == "database_slots"


def test_who_gave_up_waiting_for_a_connection_is_proof_that_the_pool_was_dry() -> None:
    gave_up = [
        sample(20 + i, 10.0, Cause.POOL_TIMEOUT, stages={"pool_wait": 10.0}) for i in range(9)
    ]
    missed_by_readings = lived(checked_out=19, waiting=3)
    assert named("errors.pool_timeout == 0", gave_up, missed_by_readings, **HOLD) == "pool"


def test_where_nobody_was_answered_the_records_tell_where_uploads_were() -> None:
    inside = [
        record(f"cut-{n}", None, spans=[("gcs", 15.0 + n, 30.0)], t=45.0 + n, arrived=15.0 + n)
        for n in range(20)
    ]
    sent = cut_off(20, Cause.CLIENT_TIMEOUT, latency=30.0)
    slow = {"gcs_latency": "10 - 50 s"}
    assert named("error_rate < 5 %", sent, [*lived(), *inside], **slow) == "storage"


def test_instances_that_were_ended_on_purpose_did_not_die_of_their_memory() -> None:
    sent, evidence = uploads(40, instance_died=20), lived(inflight=1)
    of = {"target": "cloudrun", "load": {"users": 5}}
    assert named("errors.instance_died == 0", sent, evidence, **of) == "memory"
    killed = {**of, "faults": ["backend-kill"]}
    assert named("errors.instance_died == 0", sent, evidence, **killed) == "none"


@pytest.mark.parametrize(
    "criterion",
    [
        "throughput > 100/s",
        "succeeded >= 1000",
        "p95 > 10 s",
        "throughput < 1/s",
        "error_rate > 50 %",
    ],
)
def test_a_load_that_offers_too_little_and_a_claim_the_other_way_name_nobody(
    criterion: str,
) -> None:
    sent = uploads(100, sum(STAGES.values()), rate_limited=5 * ("error_rate" in criterion))
    assert named(criterion, sent, lived()) == "none"


def test_time_that_nobody_took_competes_with_what_is_as_long() -> None:
    own_line = [
        sample(20 + i, 14.0, stages=STAGES | {"anyio_queue": 4.9}, uplink_s=5.1) for i in range(20)
    ]
    busy = lived(anyio_busy=40, anyio_queued=60)
    found = named("p95 < 5 s", own_line, busy, db_call="threadpool")
    assert found == "unclear"
