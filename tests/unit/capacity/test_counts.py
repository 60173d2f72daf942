"""What counts alone say, in cases that can be checked by hand."""

from __future__ import annotations

from math import exp, log

import pytest
from scipy.stats import halfcauchy

from lab.capacity.belief import by_counts, logit
from lab.capacity.counts import rising, sides
from lab.capacity.posterior import posterior, quantile
from lab.capacity.shown import Shown


def seen(users: int, share: float, samples: int = 100) -> Shown:
    return Shown(f"u{users}", users, 1.0, samples, share)


@pytest.mark.parametrize("count", [20, 200])
def test_a_share_as_large_as_allowed_tells_of_no_side(count: int) -> None:
    below, above = sides(0.05, count, 0.05)
    assert below == pytest.approx(above, abs=0.7)


def test_nothing_late_of_many_is_allowed_and_a_half_is_not() -> None:
    below, above = sides(0.0, 150, 0.05)
    assert below - above > log(1000)
    below, above = sides(0.5, 150, 0.05)
    assert above - below > log(1e9)


def test_a_side_is_the_mean_over_its_shares() -> None:
    """Of one upload that is late it is the mean share; integrated here by another's code."""

    def mean(sign: int) -> float:
        return float(
            halfcauchy(scale=1.5).expect(
                lambda off: 1 / (1 + exp(-(logit(0.05) + sign * min(off, 30.0))))
            )
        )

    below, above = sides(1.0, 1.0, 0.05)
    assert exp(below) == pytest.approx(mean(-1), rel=0.01)
    assert exp(above) == pytest.approx(mean(1), rel=0.01)


def test_shares_that_fall_are_pooled() -> None:
    """Two of ten and none of thirty are two of forty, whatever the users between them."""
    found = dict(rising([(10, 0.2, 10.0), (12, 0.0, 30.0), (20, 0.5, 10.0)]))
    assert found == pytest.approx({10: 0.05, 12: 0.05, 20: 0.5})
    assert rising([]) == ()


def test_a_leap_is_told_between_the_users_where_it_is() -> None:
    shares = [seen(users, share, 5000) for users, share in ((14, 0), (15, 0.5), (30, 0.5), (5, 0))]
    found = posterior(by_counts(0.05, 1, 200), shares, 200)
    assert quantile([found], 0.02) > 14
    assert quantile([found], 0.98) <= 15.05
    assert found.share(15) == pytest.approx(0.5)
    assert found.share(14) == pytest.approx(0.0)
    assert found.share(60) == pytest.approx(0.5)


def test_without_a_trial_every_number_of_users_is_as_likely() -> None:
    """By its logarithm up to twice the most: 20 of 1 to 400, and less for what is below one."""
    found = posterior(by_counts(0.05, 1, 200, never=0.0), [], 200)
    assert 10 < quantile([found], 0.5) < 20
