from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lab.judge.statistics import TIE, needed, quantile_bounds, share_bounds
from lab.model.physics import complement, quantile

VALUES = st.lists(st.floats(0, 100), min_size=1, max_size=300).map(sorted)


@pytest.mark.parametrize(
    ("count", "p", "rank"), [(1, 0.95, 1), (19, 0.95, 19), (20, 0.95, 19), (21, 0.95, 20)]
)
def test_a_quantile_is_the_order_statistic_of_rank_ceil_pn(count: int, p: float, rank: int) -> None:
    assert quantile(list(range(1, count + 1)), p) == rank


@given(VALUES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_a_value_that_a_share_p_does_not_exceed(
    ordered: list[float], p: float
) -> None:
    found = quantile(ordered, p)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= p * len(ordered) - 1e-6
    assert sum(value < found for value in ordered) < p * len(ordered) + 1e-6


@pytest.mark.parametrize(("count", "of"), [(0, 1), (0, 59), (3, 100), (50, 100), (7, 7)])
def test_share_bounds_are_clopper_and_pearsons(count: int, of: int) -> None:
    low, high = share_bounds(count, of)
    test = binomtest(count, of).proportion_ci
    assert (low, high) == pytest.approx((test(0.90, "exact").low, test(0.90, "exact").high))


@given(VALUES, st.sampled_from([0.5, 0.95, 0.99]), st.floats(0, 100))
def test_quantile_bounds_are_the_dual_of_share_bounds(
    ordered: list[float], p: float, bound: float
) -> None:
    low, high = quantile_bounds(ordered, p)
    share_low, share_high = share_bounds(sum(v >= bound for v in ordered), len(ordered))
    assert (high is not None and high < bound) == (share_high < complement(p))
    assert (low is not None and low >= bound) == (share_low >= complement(p) - TIE)


def test_58_samples_cannot_bound_a_p95_from_above_and_59_can() -> None:
    assert quantile_bounds([1.0] * 58, 0.95)[1] is None
    assert quantile_bounds([1.0] * 59, 0.95)[1] == 1.0


@pytest.mark.parametrize(
    ("share", "bound", "count"),
    [(0.0, 0.05, 59), (0.0, 0.01, 299), (1.0, 0.05, 1), (0.05, 0.05, None)],
)
def test_how_many_samples_would_tell(share: float, bound: float, count: int | None) -> None:
    assert needed(share, bound) == count


@pytest.mark.parametrize("p", [0.5, 0.95])
def test_a_quantiles_bounds_are_wrong_no_more_often_than_they_say(p: float) -> None:
    generator = random.Random(1)
    trials = 2000
    above = below = 0
    for _ in range(trials):
        low, high = quantile_bounds(sorted(generator.random() for _ in range(100)), p)
        below += high is not None and high < p
        above += low is not None and low > p
    # 5 % of 2000 is 100; 4 standard deviations of that binomial are 39.
    assert below <= 139
    assert above <= 139
