"""The posterior of a threshold, in cases that can be checked by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from math import exp, inf, log, sqrt

import pytest

from lab.capacity.belief import (
    Belief,
    Shape,
    UploadWorth,
    by_bound,
    by_counts,
    logit,
    scatter_factor,
    share_at,
)
from lab.capacity.posterior import Posterior, nearness, posterior, quantile
from lab.capacity.shown import Shown

VAGUE = Belief(
    basis="bound",
    allowed=0.05,
    users=20.0,
    sigma=5.0,
    shape=Shape(16.0),
    kappas=((1.0, 1.0),),
    worth=UploadWorth(by_minute=(100.0, 300.0), by_batch=(100.0, 300.0)),
)
"""Hardly a prior, one curve, and a minute that is worth a hundred uploads."""


def seen(users: int, share: float, minutes: float = 1.0, **more: object) -> Shown:
    shown = Shown(f"u{users}", users, minutes, 100, share)
    return replace(shown, **more)  # type: ignore[arg-type]


def test_a_share_as_large_as_allowed_is_at_the_threshold_give_or_take_fishers_information() -> None:
    found = posterior(VAGUE, [seen(20, 0.05)], 200)
    assert found.median == pytest.approx(20, rel=0.01)
    assert found.deviation == pytest.approx(1 / sqrt(100 * 16**2 * 0.05 * 0.95), rel=0.08)
    assert found.information(20, seen(20, 0.05)) == pytest.approx(100 * 256 * 0.0475, rel=0.08)


def test_a_curve_is_followed_from_another_share() -> None:
    """From 20 % late to 5 % are log-odds of 1.56, by a slope of 16."""
    found = posterior(VAGUE, [seen(20, 0.20, minutes=100)], 200)
    assert found.median == pytest.approx(20 * exp(-(logit(0.2) - logit(0.05)) / 16), rel=0.01)


def test_four_times_the_minutes_halve_what_is_left_open() -> None:
    one, four = (posterior(VAGUE, [seen(20, 0.05, minutes=m)], 200) for m in (2.0, 8.0))
    assert one.deviation / four.deviation == pytest.approx(2, rel=0.05)


def test_without_a_trial_it_is_the_prior() -> None:
    """The 97.5 % quantile of a Student's t of 4 degrees of freedom is 2.776."""
    found = posterior(replace(VAGUE, sigma=0.1), [], 200)
    ends = [quantile([found], p) for p in (0.025, 0.5, 0.975)]
    assert ends == pytest.approx([20 * exp(-0.2776), 20, 20 * exp(0.2776)], rel=0.01)


def test_smooth_shares_are_worth_what_smooth_ones_are() -> None:
    plain, smooth = seen(20, 0.05), seen(20, 0.05, smooth=True)
    assert VAGUE.worth.of(smooth) == 3 * VAGUE.worth.of(plain) == 300


def test_where_nothing_was_simulated_uploads_of_a_minute_are_alike() -> None:
    """Of 100 uploads in a minute, a hundredth alike: 100 / (1 + 99 * 0.01)."""
    assert UploadWorth(alike=0.01).of(seen(20, 0.05)) == pytest.approx(100 / 1.99)


def test_a_trial_counts_less_the_farther_it_is() -> None:
    assert nearness(100, 100) == 1
    assert nearness(100 * exp(0.15), 100) == pytest.approx(exp(-1))
    assert nearness(200, 100) == 0.05
    assert nearness(3, 2) == pytest.approx(exp(-((log(1.5) / 0.6) ** 2)))


def test_batches_that_scatter_more_than_was_believed_make_trials_worth_less() -> None:
    """Five batches with twice the variance that is believed: (10 + 4 * 2) / (10 + 4)."""
    believed = 0.05 * 0.95 / (100.0 / 5)
    shown = seen(20, 0.05, batches=5, scatter=2 * believed, batch=20)
    assert scatter_factor(VAGUE.worth, [shown], [1.0]) == pytest.approx(18 / 14)
    wider = (
        posterior(VAGUE, [shown], 200).deviation / posterior(VAGUE, [seen(20, 0.05)], 200).deviation
    )
    assert wider == pytest.approx(sqrt(18 / 14), rel=0.03)


def test_batches_that_scatter_less_are_not_believed_without_bound() -> None:
    shown = seen(20, 0.05, batches=100, scatter=1e-9, batch=20)
    found = posterior(replace(VAGUE, min_scatter=0.8), [shown], 200)
    assert found.factor == 0.8


def test_the_cell_breaks_where_its_first_criterion_does() -> None:
    """Two criteria alike: P(T > x) is the square of that of each."""
    one = posterior(VAGUE, [seen(20, 0.05)], 200)
    assert quantile([one, one], 0.75) == pytest.approx(quantile([one], 0.5), rel=0.002)
    later = posterior(replace(VAGUE, users=60.0), [seen(60, 0.05, minutes=9)], 200)
    assert quantile([one, later], 0.5) == pytest.approx(one.median, rel=0.002)


def test_the_order_of_trials_is_of_no_account() -> None:
    trials = [seen(n, s, minutes=m) for n, s, m in ((18, 0.01, 1), (20, 0.05, 2), (22, 0.2, 3))]
    first = posterior(VAGUE, trials, 200)
    for seed in range(3):
        shuffled = random.Random(seed).sample(trials, 3)
        assert posterior(VAGUE, shuffled, 200) == first


def test_a_failure_that_never_comes_is_believed_never_to_come() -> None:
    belief = by_counts(0.05, 1, 200)
    few = posterior(belief, [seen(20, 0.0)], 200)
    many = posterior(belief, [seen(200, 0.0, minutes=20, samples=4000)], 200)
    assert few.never < many.never
    assert many.never > 0.5
    assert many.median == inf
    assert few.above(10) > 0.99


def test_failures_at_any_number_of_users_leave_nothing_that_holds() -> None:
    shares = [seen(n, 0.16, samples=200) for n in (26, 6, 2, 1)]
    found = posterior(by_counts(0.05, 1, 200), shares, 200)
    assert quantile([found], 0.98) < 1


@pytest.mark.parametrize(("workers", "part"), [(1, 0.85), (2, 0.65), (3, 0.6), (4, 0.55)])
def test_the_bound_expects_a_part_of_rate_times_bound(workers: int, part: float) -> None:
    assert by_bound(2.0, 10.0, 0.05, workers).users == pytest.approx(20 * part)


def test_the_bound_expects_a_median_later_than_a_95th_percentile() -> None:
    p50, p95, p99 = (by_bound(2.0, 10.0, allowed, 1).users for allowed in (0.5, 0.05, 0.01))
    assert p99 < p95 < p50 == pytest.approx(p95 * exp(logit(0.95) / 18))


def test_a_curve_is_straight_beyond_what_was_simulated() -> None:
    shape = Shape(20.0, -50.0, -0.1, 0.1)
    assert shape(0.1) == pytest.approx(1.5)
    assert shape(0.2) == pytest.approx(1.5 + 0.1 * 10)
    assert shape(-0.2) == pytest.approx(-2.5 - 0.1 * 30)


def test_trials_that_do_not_lie_on_the_curve_are_told() -> None:
    good = posterior(VAGUE, [seen(19, 0.022), seen(20, 0.05), seen(21, 0.10)], 200)
    bad = posterior(VAGUE, [seen(20, 0.01, 5.0), seen(21, 0.01, 5.0), seen(19, 0.3, 5.0)], 200)
    assert good.strain < 1
    assert bad.strain > 3.1


def test_what_is_above_falls_from_one_to_nothing() -> None:
    found: Posterior = posterior(VAGUE, [seen(20, 0.05)], 200)
    at = [found.above(users) for users in (0, 5, 15, 20, 25, 80, 1e9)]
    assert at == sorted(at, reverse=True)
    assert at[0] == 1
    assert at[-1] == pytest.approx(0, abs=1e-9)
    assert found.above(found.median) == pytest.approx(0.5, abs=0.01)


def test_log_odds_of_a_share_and_back() -> None:
    assert [share_at(logit(s)) for s in (0.001, 0.05, 0.5, 0.99)] == pytest.approx(
        [0.001, 0.05, 0.5, 0.99]
    )


def test_a_threshold_that_moves_between_minutes_is_known_no_better_than_that() -> None:
    moving = VAGUE.drifting(0.01, 1.0, 0.0)
    found = posterior(moving, [seen(20, 0.05, minutes=1000)], 200)
    assert found.deviation == pytest.approx(sqrt(0.01 / 1000), rel=0.2)
    one_minute = 100 * 256 * 0.0475
    assert moving.worth.of(seen(20, 0.05)) == pytest.approx(100 / (1 + one_minute * 0.01))


def test_chances_are_worth_less_where_answers_of_storage_alone_make_uploads_late() -> None:
    smooth = seen(20, 0.05, smooth=True, by_storage=1.0)
    assert VAGUE.worth.of(smooth) == pytest.approx(1 / (1 / 300 + 1 / 100))
