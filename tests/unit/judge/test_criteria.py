from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge.criteria import compare, decide
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import (
    AUDIT,
    CUT_OFF,
    SERVICE_CAUSES,
    Cause,
    Evidence,
    InstanceEvent,
    PartDown,
    Sample,
)
from lab.model.readings import DatabaseReading
from lab.model.verdict import Finding
from tests.unit.judge.observations import (
    at_rest,
    audit,
    burst,
    cell,
    cut_off,
    instance,
    observation,
    on_cloudrun,
    one_instance,
    record,
    sample,
    samples,
)


def found(text: str, uploads: list[Sample]) -> Finding:
    of, seen = cell(text), observation(uploads)
    return decide(of.criteria[0], Trial(of, seen))


@pytest.mark.parametrize(
    ("text", "uploads", "outcome", "reason"),
    [
        (
            "error_rate < 5 %",
            samples(59),
            "met",
            "error_rate 0.0 % (<= 5.0 % at 95 %) against < 5 %",
        ),
        (
            "error_rate < 5 %",
            samples(58),
            "undecided",
            "error_rate 0.0 % (<= 5.0 % at 95 %) against < 5 %: "
            "58 uploads are too few, 59 straight successes would tell",
        ),
        (
            "error_rate < 5 %",
            samples(139, failed=53),
            "missed",
            "error_rate 38.1 % (>= 31.2 % at 95 %) against < 5 %: pool_timeout 53",
        ),
        (
            "error_rate < 5 %",
            samples(100, failed=5),
            "undecided",
            "error_rate 5.0 % (>= 2.0 % and <= 10.2 % at 95 %) against < 5 %: "
            "100 uploads are too near the bound to tell: pool_timeout 5",
        ),
        ("error_rate <= 0 %", samples(500), "undecided", "no number of uploads can show this"),
        ("error_rate <= 0 %", samples(500, failed=1), "missed", "error_rate 0.2 %"),
        (
            "error_rate > 5 %",
            samples(50, failed=40),
            "met",
            "error_rate 80.0 % (>= 68.4 % at 95 %)",
        ),
        ("p95 < 10 s", samples(59), "met", "p95 3.95 s (<= 3.98 s at 95 %) against < 10 s"),
        ("p95 < 10 s", samples(58), "undecided", "58 uploads are too few, 59 straight successes"),
        ("p95 < 2 s", samples(10), "missed", "p95 3.90 s (>= 3.70 s at 95 %) against < 2 s"),
        ("p50 > 2 s", samples(10), "met", "p50 3.40 s (>= 3.10 s at 95 %) against > 2 s"),
        ("p95 == 10 s", samples(100), "missed", "p95 3.94 s"),
        (
            "p95 < 10 s",
            samples(9, failed=9),
            "undecided",
            "p95: nothing was measured to hold against",
        ),
        ("p95 < 10 s", [], "undecided", "p95: nothing was measured to hold against < 10 s"),
        ("throughput > 1/s", samples(59), "missed", "throughput 0.98/s against > 1/s"),
        ("throughput > 0.9/s", samples(59), "met", "throughput 0.98/s against > 0.9/s"),
        ("errors.pool_timeout == 0", samples(9), "met", "errors.pool_timeout 0 against == 0"),
        (
            "errors.pool_timeout == 0",
            samples(9, failed=2),
            "missed",
            "errors.pool_timeout 2 against",
        ),
        ("errors.pool_timeout == 0", [], "undecided", "errors.pool_timeout: nothing was measured"),
        ("pg_connections <= 10", samples(1), "met", "pg_connections 10 against <= 10"),
        ("pg_connections < 10", samples(1), "missed", "pg_connections 10 against < 10"),
        ("cpu_backend < 1", samples(1), "met", "cpu_backend 0.05 cores against < 1"),
    ],
)
def test_a_criterion_is_decided_by_what_the_evidence_shows(
    text: str, uploads: list[Sample], outcome: str, reason: str
) -> None:
    finding = found(text, uploads)
    assert (finding.outcome, finding.criterion) == (outcome, str(Criterion.parse(text)))
    assert reason in finding.reason


def test_a_finding_carries_its_value_and_bounds_in_the_metrics_unit() -> None:
    share, percentile, count = (
        found(text, samples(100, failed=2))
        for text in ("error_rate < 5 %", "p95 < 10 s", "pg_connections <= 10")
    )
    assert share.value == 0.02
    assert share.low is not None
    assert share.high is not None
    assert share.low < 0.02 < share.high
    assert percentile.value is not None
    assert percentile.low is not None
    assert percentile.high is not None
    assert percentile.low <= percentile.value <= percentile.high
    assert (count.value, count.low, count.high) == (10, None, None)


def test_a_timeout_leaves_the_slow_side_of_p95_all_open() -> None:
    fast = [sample(latency=1) for _ in range(100)]
    slow = [sample(latency=120, error=Cause.CLIENT_TIMEOUT) for _ in range(100)]
    assert found("p95_all < 130 s", fast).outcome == "met"
    assert found("p95_all < 130 s", fast + slow).outcome == "undecided"
    assert found("p95_all < 110 s", fast + slow).outcome == "missed"
    assert found("p95_all < 110 s", fast + slow).beyond is not None
    assert found("p95_all < 130 s", fast + slow).beyond is None


@given(
    st.sampled_from(["<", "<=", ">", ">="]),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 1),
)
def test_a_decided_claim_is_true_or_false_all_the_way_between_its_bounds(
    op: str, bound: float, one: float, other: float, where: float
) -> None:
    low, high = sorted((one, other))
    criterion = Criterion(metric="p95", op=op, bound=bound)
    decision = compare(criterion, low, high)
    between = min(high, low + where * (high - low))
    if decision != "undecided":
        assert criterion.satisfied_by(between) == (decision == "met")
    assert compare(criterion, None, None) == "undecided"


@pytest.mark.parametrize("text", ["error_rate < 5 %", "p95 < 10 s"])
def test_a_criterion_at_its_bound_is_falsely_met_or_missed_once_in_twenty_at_most(
    text: str,
) -> None:
    """The true share is 5 %, so `met` is wrong; the share just at the bound makes it hardest."""
    generator = random.Random(1)
    trials, outcomes = 2000, []
    failure = Cause.POOL_TIMEOUT if text.startswith("error") else None
    good, bad = sample(latency=4), sample(latency=12, error=failure)
    for _ in range(trials):
        uploads = [bad if generator.random() < 0.05 else good for _ in range(150)]
        outcomes.append(found(text, uploads).outcome)
    # 5 % of 2000 is 100; 4 standard deviations of that binomial are 39.
    assert outcomes.count("met") <= 139
    assert outcomes.count("missed") <= 139


def test_a_count_without_evidence_is_undecided() -> None:
    of = cell("pg_connections <= 10")
    seen = observation(samples(5), [])
    assert decide(of.criteria[0], Trial(of, seen)).outcome == "undecided"
    seen = observation(samples(5), [DatabaseReading(t=20, connections=3)])
    assert decide(of.criteria[0], Trial(of, seen)).outcome == "met"


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("error_rate < 5 %", (100, 30, 0.05)),
        ("error_rate >= 5 %", (100, 70, 0.95)),
        ("error_rate == 0 %", (None, None, None)),
        ("p95 < 3.5 s", (70, 50, 0.05)),
        ("p99 < 10 s", (70, 0, 0.01)),
        ("throughput > 1/s", (None, None, None)),
    ],
)
def test_a_claim_about_a_share_tells_what_was_counted(
    text: str, counted: tuple[int | None, int | None, float | None]
) -> None:
    finding = found(text, samples(100, failed=30))
    assert (finding.samples, finding.beyond, finding.allowed) == counted


def among(cut: int, named: Mapping[str, int], criterion: str, inside: int = 0) -> Finding:
    """20 successes and so many uploads cut off, of which the service failed some of these causes.

    The next ``inside`` of them were still in a stage; of the rest there is no record.
    """
    causes = [cause for cause, count in named.items() for _ in range(count)]
    records = [record(f"cut-{i}", 503, cause) for i, cause in enumerate(causes)]
    inner = range(len(causes), len(causes) + inside)
    records += [record(f"cut-{i}", None, spans=[("gcs", 30.0, 9.0)]) for i in inner]
    of, seen = cell(criterion), observation([*samples(20), *cut_off(cut)], [*at_rest(), *records])
    return decide(of.criteria[0], Trial(of, seen))


UNKNOWN = "uploads were cut off before the service answered, so whether they met pool_timeout"


@pytest.mark.parametrize(
    ("cut", "named", "criterion", "outcome", "ends", "reason"),
    [
        # Nothing is recorded of those that were cut off: what they met is not known.
        (30, {}, "== 0", "undecided", (0, 30), f"0 to 30 against == 0: 30 of 50 {UNKNOWN} is"),
        (30, {}, "< 31", "met", (0, 30), "errors.pool_timeout 0 to 30 against < 31"),
        (30, {}, "<= 30", "met", (0, 30), "against <= 30"),
        (30, {}, "< 30", "undecided", (0, 30), f"30 of 50 {UNKNOWN} is not known"),
        (30, {}, "> 30", "missed", (0, 30), "against > 30"),
        (30, {}, "> 0", "undecided", (0, 30), UNKNOWN),
        (30, {}, "== 31", "missed", (0, 30), "against == 31"),
        # The service says so of some: the count alone can miss a claim, or meet one.
        (30, {"pool_timeout": 4}, "== 0", "missed", (4, 30), "4 to 30 (users saw 0) against"),
        (30, {"pool_timeout": 4}, "< 5", "undecided", (4, 30), f"26 of 50 {UNKNOWN} is not"),
        (30, {"pool_timeout": 4}, "> 3", "met", (4, 30), "4 to 30 (users saw 0) against > 3"),
        # Of all that were cut off it is known what they met: this cause, another, or none.
        (5, {"pool_timeout": 5}, "== 0", "missed", (None, None), "5 (users saw 0) against == 0"),
        (5, {"pool_timeout": 5}, "== 5", "met", (None, None), "5 (users saw 0) against == 5"),
        (5, {"db_error": 5}, "== 0", "met", (None, None), "errors.pool_timeout 0 against == 0"),
        (0, {}, "== 0", "met", (None, None), "errors.pool_timeout 0 against == 0"),
    ],
)
def test_a_cause_inside_is_counted_at_the_service_and_what_nobody_saw_is_not_met(
    cut: int,
    named: dict[str, int],
    criterion: str,
    outcome: str,
    ends: tuple[float | None, float | None],
    reason: str,
) -> None:
    finding = among(cut, named, f"errors.pool_timeout {criterion}")
    assert (finding.outcome, (finding.low, finding.high)) == (outcome, ends)
    assert reason in finding.reason
    assert finding.value == named.get("pool_timeout", 0)


def test_an_upload_that_is_still_inside_or_failed_unanswered_is_told_apart() -> None:
    inside = among(10, {"pool_timeout": 7}, "errors.gcs_error == 0", inside=3)
    assert (inside.outcome, inside.low, inside.high) == ("undecided", 0, 3)
    failed = [record("cut-0", None, "gcs_error")]  # it failed, and its answer waits for the loop
    of, seen = cell("errors.gcs_error == 0"), observation(cut_off(1), failed)
    finding = decide(of.criteria[0], Trial(of, seen))
    assert (finding.outcome, finding.value, finding.high) == ("missed", 1, None)


@pytest.mark.parametrize("seen", sorted(set(Cause) - SERVICE_CAUSES))
@pytest.mark.parametrize("asked", sorted(SERVICE_CAUSES))
def test_only_who_was_cut_off_leaves_a_cause_inside_open(asked: Cause, seen: Cause) -> None:
    """A 413 of nginx or an instance that was never had is an answer: nothing inside was met."""
    of = cell(f"errors.{asked} == 0", global_rate_limit="1/min")
    finding = decide(of.criteria[0], Trial(of, observation([sample(error=seen, request="cut-0")])))
    assert finding.outcome == ("undecided" if seen in CUT_OFF else "met")
    answered = found(f"errors.{asked} == 0", [sample(error=other) for other in SERVICE_CAUSES])
    assert (answered.outcome, answered.value) == ("missed", 1)


@pytest.mark.parametrize("asked", sorted(set(Cause) - SERVICE_CAUSES))
def test_a_cause_that_a_gate_or_client_names_is_what_clients_saw(asked: Cause) -> None:
    for target in ("vm", "cloudrun"):
        of = cell(f"errors.{asked} <= 1", target=target)
        uploads = [*cut_off(3, Cause.BAD_GATEWAY), sample(error=asked)]
        finding = decide(of.criteria[0], Trial(of, observation(uploads)))
        count = 4 if asked == Cause.BAD_GATEWAY else 1
        assert (finding.value, finding.low, finding.high) == (count, None, None)


def test_only_uploads_of_the_window_are_counted_at_the_service() -> None:
    early = sample(5.0, 60.0, Cause.GATEWAY_TIMEOUT, request="early")
    of = cell("errors.pool_timeout == 0")
    seen = observation([early, *samples(5)], [record("early", 503, "pool_timeout")])
    assert decide(of.criteria[0], Trial(of, seen)).outcome == "met"


@pytest.mark.parametrize(
    ("criterion", "cut", "named", "outcome"),
    [
        ("unseen_failures == 0", 5, 5, "missed"),
        ("unseen_failures == 0", 5, 0, "undecided"),
        ("unseen_failures == 0", 0, 0, "met"),
        ("unseen_failures < 6", 5, 3, "met"),
    ],
)
def test_a_claim_about_failures_unseen_needs_the_records_of_all_that_were_cut_off(
    criterion: str, cut: int, named: int, outcome: str
) -> None:
    assert among(cut, {"pool_timeout": named}, criterion).outcome == outcome


@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, *Cause]),
            st.sampled_from(["no record", "inside", "answered", *sorted(SERVICE_CAUSES)]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from(sorted(SERVICE_CAUSES)),
    st.sampled_from(["==", "<", "<=", ">", ">="]),
    st.integers(0, 10),
    st.randoms(),
)
def test_no_claim_is_decided_against_any_way_in_which_the_unseen_may_have_ended(
    uploads: list[tuple[Cause | None, str]],
    asked: Cause,
    op: str,
    bound: int,
    chance: random.Random,
) -> None:
    """A count that draws for each upload without an answer what the service would have said."""
    seen_by_users, records, actual = [], [], 0
    for number, (error, served) in enumerate(uploads):
        served = served if error in CUT_OFF else "no record"
        seen_by_users.append(sample(error=error, request=f"{number}"))
        if served != "no record":
            cause = served if served in SERVICE_CAUSES else None
            status = None if served == "inside" else 503 if cause else 200
            records.append(record(f"{number}", status, cause))
        unknown = error in CUT_OFF and served in ("no record", "inside")
        actual += chance.random() < 0.5 if unknown else asked in (error, served)
    of = cell(f"errors.{asked} {op} {bound}", global_rate_limit="1/min")
    finding = decide(of.criteria[0], Trial(of, observation(seen_by_users, records)))
    if finding.outcome != "undecided":
        assert of.criteria[0].satisfied_by(actual) == (finding.outcome == "met")


@pytest.mark.parametrize("metric", ["pool_wait", "gcs_queue"])
def test_a_wait_that_everybody_told_is_the_figure_itself(metric: str) -> None:
    uploads = [sample(stages={metric: 1 / 3 + i / 7}) for i in range(3)]
    value = Trial(cell(), observation(uploads)).metrics[metric]
    of = Criterion(metric=metric, op="<=", bound=value)
    finding = decide(of, Trial(cell(), observation(uploads)))
    assert (finding.outcome, finding.value, finding.low) == ("met", value, None)


def test_a_wait_to_be_accepted_is_longer_where_some_were_never_accepted() -> None:
    came = [record(f"came-{n}", handed=20.0, arrived=21.0) for n in range(3)]
    sent = [sample(request=f"came-{n}") for n in range(3)]
    [criterion] = cell("accept_wait < 5 s").criteria
    seen = decide(criterion, Trial(cell(), observation(sent, came)))
    assert (seen.outcome, seen.value) == ("met", 1.0)
    unseen = decide(criterion, Trial(cell(), observation([*sent, *cut_off(1)], came)))
    assert (unseen.outcome, unseen.low, unseen.high) == ("undecided", 0.75, 15.75)
    assert unseen.reason.endswith("1 of 4 uploads were cut off before a worker had them")


def waits(criterion: str, *records: Evidence) -> Finding:
    """Two uploads that waited 1 s for a connection, one refused, and two cut off after 30 s."""
    told = [sample(error=None, stages={"pool_wait": 0.6, "pool_wait2": 0.4}) for _ in range(2)]
    told.append(sample(latency=99.0, error=Cause.RATE_LIMITED))  # which never waited
    of, seen = cell(criterion), observation([*told, *cut_off(2, latency=30.0)], records)
    return decide(of.criteria[0], Trial(of, seen))


@pytest.mark.parametrize(
    ("knobs", "sent", "outcome", "reason"),
    [
        ({}, 440, "met", "errors.rate_limited 0 against == 0"),
        ({}, 448, "undecided", "errors.rate_limited 0 to 3 against == 0: 5 of 453 uploads"),
        ({}, 900, "undecided", "errors.rate_limited 0 to 5 against == 0: 5 of 905 uploads"),
        ({"global_rate_limit": "off"}, 900, "met", "errors.rate_limited 0 against == 0"),
        ({"upload_rate_limit": "10/min"}, 3, "met", "errors.rate_limited 0 against == 0"),
        (
            {"upload_rate_limit": "10/min"},
            8,
            "undecided",
            "errors.rate_limited 0 to 3 against == 0",
        ),
    ],
)
def test_a_limit_of_rate_refused_nobody_where_fewer_came_than_it_lets_through(
    knobs: dict[str, Any], sent: int, outcome: str, reason: str
) -> None:
    of = cell("errors.rate_limited == 0", **knobs)
    seen = observation([*samples(sent), *cut_off(5)])
    finding = decide(of.criteria[0], Trial(of, seen))
    assert finding.outcome == outcome
    assert finding.reason.startswith(reason)


def test_a_mean_wait_takes_in_those_that_waited_longest_and_were_cut_off() -> None:
    blind = waits("pool_wait < 5 s")
    assert (blind.outcome, blind.value) == ("undecided", 1.0)
    assert (blind.low, blind.high) == (0.5, 15.5)
    assert blind.reason == (
        "pool_wait 500 ms to 15.50 s against < 5 s: 2 of 5 uploads were cut off before the"
        " service answered, so how long they waited is not known"
    )
    assert waits("pool_wait < 16 s").outcome == "met"
    spans = [("pool_wait", 20.0, 28.0), ("auth", 48.0, 1.0)]
    recorded = [record(f"cut-{i}", 503, "pool_timeout", spans=spans) for i in range(2)]
    assert waits("pool_wait < 5 s", *recorded).outcome == "missed"
    inside = [record(f"cut-{i}", None, spans=spans) for i in range(2)]
    assert waits("pool_wait < 5 s", *inside).outcome == "missed"
    never = [record(f"cut-{i}", 429, "rate_limited") for i in range(2)]
    assert waits("pool_wait < 5 s", *never).outcome == "met"


@pytest.mark.parametrize(
    ("criterion", "audited", "outcome", "reason"),
    [
        ("orphans == 0", {}, "met", "orphans 0 against == 0"),
        (
            "orphans == 0",
            {"orphans": ["a", "b", "c"], "inflight": 5},
            "undecided",
            "orphans 0 to 3 against == 0: 5 uploads were still inside the workers at the audit",
        ),
        ("orphans == 0", {"orphans": ["a", "b"], "inflight": 1}, "missed", "orphans 1 to 2"),
        ("orphans < 3", {"orphans": ["a", "b"], "inflight": 9}, "met", "orphans 0 to 2"),
        ("unheard == 0", {}, "met", "unheard 0 against == 0"),
        ("unheard == 0", {"unheard": ["a"], "inflight": 2}, "missed", "unheard 1 to 3"),
        ("unheard == 0", {"inflight": 2}, "undecided", "unheard 0 to 2 against == 0: 2 uploads"),
        ("unheard == 0", {"unheard": None}, "undecided", "unheard: nothing was measured"),
        ("lost == 0", {"inflight": 2}, "met", "lost 0 against == 0"),
    ],
)
def test_a_claim_about_what_is_stored_waits_for_uploads_that_are_still_inside(
    criterion: str, audited: dict[str, Any], outcome: str, reason: str
) -> None:
    of, seen = cell(criterion), observation(samples(5), [audit(**audited)])
    finding = decide(of.criteria[0], Trial(of, seen))
    assert finding.outcome == outcome
    assert finding.reason.startswith(reason)


@pytest.mark.parametrize("metric", ["lost", "orphans", "unheard", "db_refusals"])
def test_an_audit_that_could_not_be_made_meets_nothing(metric: str) -> None:
    down = PartDown(t=90, part=AUDIT, why="storage does not answer the audit")
    of, seen = cell(f"{metric} == 0"), observation(samples(5), [down, audit()])
    finding = decide(of.criteria[0], Trial(of, seen))
    assert finding.outcome == "undecided"
    assert "nothing was measured" in finding.reason


STARTING = [instance(8.0, "starting", instance="instance-2")]


@pytest.mark.parametrize(
    ("criterion", "uploads", "more", "outcome", "reason"),
    [
        ("cold_uploads <= 3", [], [], "met", "cold_uploads 3 against <= 3"),
        (
            "cold_uploads <= 3",
            cut_off(2, Cause.CLIENT_TIMEOUT),
            [],
            "undecided",
            "cold_uploads 3 to 5 against <= 3: 2 of 7 uploads were cut off before the gateway",
        ),
        ("cold_start_max < 5 s", [], [], "met", "cold_start_max 2.00 s against < 5 s"),
        (
            "cold_start_max < 5 s",
            [],
            STARTING,
            "undecided",
            "cold_start_max 2.00 s or more against < 5 s: of the cold starts 1 had not come",
        ),
        ("cold_start_max < 1 s", [], STARTING, "missed", "cold_start_max 2.00 s or more"),
        ("cold_start_s < 5 s", [], STARTING, "undecided", "cold_start_s 0 ms or more against"),
        ("cold_start_s < 5 s", [], [], "met", "cold_start_s 2.00 s against < 5 s"),
    ],
)
def test_what_cut_off_uploads_and_unfinished_starts_do_not_tell_is_not_met(
    criterion: str, uploads: list[Sample], more: list[InstanceEvent], outcome: str, reason: str
) -> None:
    of = on_cloudrun(criterion)
    seen = observation([*burst(), *uploads], [*at_rest(), *one_instance(), *more])
    finding = decide(of.criteria[0], Trial(of, seen))
    assert finding.outcome == outcome
    assert finding.reason.startswith(reason)


def test_a_vm_has_no_cold_uploads_whatever_was_cut_off() -> None:
    of = cell("cold_uploads == 0")
    trial = Trial(of, observation(cut_off(3)))
    vars(trial)["metrics"] = {"cold_uploads": 0.0}
    assert decide(of.criteria[0], trial).outcome == "met"


@pytest.mark.parametrize(
    ("criterion", "failed", "note"),
    [
        ("p95 < 10 s", 94, "; 94 of 200 uploads failed and do not count"),
        ("gcs_latency < 5 s", 94, "; 94 of 200 uploads failed and do not count"),
        ("p95_all < 10 s", 94, ""),
        ("p95 < 10 s", 10, ""),
        ("error_rate < 5 %", 94, ""),
        ("throughput > 1/s", 94, ""),
    ],
)
def test_a_figure_of_successes_says_how_many_it_leaves_out(
    criterion: str, failed: int, note: str
) -> None:
    reason = found(criterion, samples(200, failed=failed)).reason
    assert reason.endswith(note)
    assert note or "do not count" not in reason


def test_a_figure_of_answers_says_how_many_gave_none() -> None:
    refused = [sample(latency=0.1, error=Cause.CONNECTION) for _ in range(30)]
    finding = found("p95_all < 10 s", [*samples(70), *refused])
    assert finding.outcome == "met"
    assert finding.reason.endswith("; 30 of 100 uploads got no answer and do not count")
