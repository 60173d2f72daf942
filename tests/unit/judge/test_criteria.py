from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge.criteria import compare, decide
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, DatabaseReading, Sample
from lab.model.verdict import Finding
from tests.unit.judge.observations import cell, observation, sample, samples


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
