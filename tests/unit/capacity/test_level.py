from __future__ import annotations

import random
from math import exp, inf, lgamma, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.capacity.level import LoadLevel, confidence
from lab.model.capacity import CapacityTrial, CriterionCount
from lab.model.evalues import CORRELATION, SPLIT_CORRELATION, Side, correlation_within, log_e
from lab.model.verdict import Outcome

SIDES: list[Side] = ["held", "broke"]
SHARES = st.sampled_from([0.01, 0.05, 0.2])


def probability(violations: int, of: int, share: float) -> float:
    """Of a beta-binomial count, whose correlation within a trial is the one that is assumed."""
    size = 1 / CORRELATION - 1
    a, b = share * size, (1 - share) * size
    ways = lgamma(of + 1) - lgamma(violations + 1) - lgamma(of - violations + 1)
    inside = lgamma(violations + a) + lgamma(of - violations + b) - lgamma(of + size)
    return exp(ways + inside + lgamma(size) - lgamma(a) - lgamma(b))


def stake(side: Side, of: int, share: float, allowed: float) -> float:
    """What a stake of 1 on a side comes to in the mean, where the truth is ``share``."""
    return sum(
        probability(violations, of, share)
        * exp(log_e([(violations, of, CORRELATION)], allowed, side))
        for violations in range(of + 1)
    )


@pytest.mark.parametrize("side", SIDES)
@given(st.integers(1, 60), SHARES)
def test_at_the_allowed_share_a_bet_is_fair(side: Side, of: int, allowed: float) -> None:
    assert stake(side, of, allowed, allowed) == pytest.approx(1)


@given(st.integers(1, 60), SHARES, st.floats(1.05, 4))
def test_where_the_claim_is_untrue_a_bet_on_it_loses(of: int, allowed: float, far: float) -> None:
    assert stake("held", of, allowed * far, allowed) < 1
    assert stake("broke", of, allowed / far, allowed) < 1


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.just(40), st.just(CORRELATION)), min_size=2, max_size=5
    )
)
def test_the_order_of_trials_is_of_no_account(counts: list[tuple[int, int, float]]) -> None:
    for side in SIDES:
        assert log_e(counts, 0.05, side) == pytest.approx(log_e(counts[::-1], 0.05, side))


def alone(violations: int, of: int, window: float) -> tuple[int, int, float]:
    """The count of a single trial with several workers."""
    return violations, of, correlation_within(window, SPLIT_CORRELATION)


def test_more_uploads_in_a_minute_show_more_but_never_as_much_as_two_minutes() -> None:
    few, many, two = [alone(0, 200, 60)], [alone(0, 400, 60)], [alone(0, 200, 60)] * 2
    assert log_e(few, 0.05, "held") < log_e(many, 0.05, "held") < log_e(two, 0.05, "held")
    endless = (
        log_e([alone(0, 10**9, 60)], 0.05, "held"),
        log_e([alone(0, 10**6, 60)] * 4, 0.05, "held"),
    )
    assert endless[0] < endless[1]


@pytest.mark.parametrize(("side", "violations"), [("held", 20), ("broke", 240)])
def test_the_same_count_shows_more_where_it_took_longer(side: Side, violations: int) -> None:
    shown = [log_e([alone(violations, 2000, window)], 0.05, side) for window in (60, 300, 600)]
    assert shown == sorted(shown)
    assert shown[-1] > 2 * shown[0]


def test_what_is_more_alike_shows_less() -> None:
    shown = [
        log_e([(2, 400, alike)], 0.05, "held") for alike in (0.001, CORRELATION, SPLIT_CORRELATION)
    ]
    assert shown == sorted(shown, reverse=True)
    assert shown[0] > shown[-1] > 0


@given(st.integers(1, 4), st.integers(30, 120), st.integers(0, 10**6))
@settings(max_examples=10)
def test_where_minutes_are_as_alike_as_is_reckoned_with_hardly_any_claim_is_wrong(
    minutes: int, each: int, seed: int
) -> None:
    rng, trials, wrong = random.Random(seed), 200, dict.fromkeys(SIDES, 0)
    size = 1 / SPLIT_CORRELATION - 1
    for _ in range(trials):
        shares = [rng.betavariate(0.05 * size, 0.95 * size) for _ in range(minutes)]
        violations = sum(rng.random() < share for share in shares for _ in range(each))
        for side in SIDES:
            count = alone(violations, minutes * each, 60 * minutes)
            wrong[side] += log_e([count], 0.05, side) >= log(40)
    assert max(wrong.values()) <= 0.08 * trials  # 2.5 % are allowed: 5 in the mean, 16 never


def tried(
    violations: int | None, of: int | None = 100, allowed: float | None = 0.05, **more: object
) -> CriterionCount:
    fields = {"criterion": "p95 < 10 s", "outcome": "undecided"} | more
    return CriterionCount.model_validate(
        fields | {"violations": violations, "samples": of, "allowed": allowed}
    )


def level(*trials: tuple[CriterionCount, ...]) -> LoadLevel:
    made = [
        CapacityTrial(
            id=f"t{number}",
            users=10,
            window=60,
            spent=100,
            sent=100,
            outcome=Outcome.UNDECIDED,
            criteria=criteria,
        )
        for number, criteria in enumerate(trials)
    ]
    return LoadLevel(10, tuple(made))


PEAK = {"criterion": "pg_connections <= 20", "of": None, "allowed": None}
HELD = tried(None, outcome="held", **PEAK)  # type: ignore[arg-type]
BROKE = tried(None, outcome="broke", **PEAK)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trials", "side"),
    [
        ([(tried(4),)], "held"),
        ([(tried(5),)], "broke"),
        ([(tried(9),), (tried(0),)], "held"),
        ([(tried(0), tried(7))], "broke"),
        ([(tried(0), HELD)], "held"),
        ([(HELD,), (BROKE,), (HELD,)], "broke"),
        ([(tried(0), tried(None, None, None))], None),
        ([(tried(7), tried(None, None, None))], "broke"),
        ([()], None),
    ],
)
def test_a_number_of_users_seems_to_break_where_any_criterion_does(
    trials: list[tuple[CriterionCount, ...]], side: Side | None
) -> None:
    assert level(*trials).side == side


def test_to_hold_takes_the_least_of_all_criteria_and_to_break_any_one() -> None:
    alone = {n: level((tried(n),)).log_e for n in (0, 30)}
    both = level((tried(0), tried(30)))
    assert both.log_e("held") == alone[30]("held")
    assert both.log_e("broke") == pytest.approx(alone[30]("broke") - log(2))
    assert both.crossed() == "p95 < 10 s"


def test_what_is_counted_outright_is_certain_and_one_miss_is_a_miss() -> None:
    assert level((HELD,), (HELD,)).log_e("held") == inf
    assert level((HELD,), (BROKE,)).log_e("held") == -inf
    assert level((HELD,), (BROKE,)).log_e("broke") == inf


def test_that_nothing_ever_fails_is_never_shown_but_one_failure_refutes_it() -> None:
    none, one = level((tried(0, allowed=0.0),)), level((tried(1, allowed=0.0),))
    assert (none.log_e("held"), none.log_e("broke")) == (0, 0)
    assert one.log_e("broke") == inf


def test_a_gain_is_what_a_trial_like_those_before_does_add() -> None:
    now, then = level((tried(1, 200),)), level((tried(1, 200),), (tried(1, 200),))
    assert now.gain("held", 60) == pytest.approx(then.log_e("held") - now.log_e("held"))
    assert now.gain("broke", 60) < 0
    assert level(()).gain("held", 60) == 0


@pytest.mark.parametrize(("violations", "least", "most"), [(0, 0.5, 1), (5, 0, 0), (50, 0.99, 1)])
def test_a_trials_confidence_is_that_of_its_evidence(
    violations: int, least: float, most: float
) -> None:
    assert least <= confidence(tried(violations)) <= most
