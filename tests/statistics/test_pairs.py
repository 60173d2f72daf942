"""The interval of a comparison against pairs of simulated systems whose true figures are known."""

from __future__ import annotations

import random

import pytest
from scipy.stats import binom

from lab.judge.comparison import change
from validation.pairs import METRICS, SYSTEMS, Known, System, Tally, tally, trial_of, truth

pytestmark = [pytest.mark.statistics, pytest.mark.long]

PAIRS = 200


@pytest.fixture(scope="module")
def tallies() -> dict[str, Tally]:
    return tally(PAIRS, seed=2)


@pytest.mark.parametrize("metric", METRICS)
def test_it_covers_the_truth_as_often_as_it_says(metric: str, tallies: dict[str, Tally]) -> None:
    seen = tallies[metric]
    assert seen.told >= PAIRS / 2
    # So few would cover it once in a thousand runs, were it 95 %.
    assert seen.covered >= binom.ppf(0.001, seen.told, 0.95)


def test_two_trials_of_one_system_differ_in_nothing_nineteen_times_in_twenty() -> None:
    rng, different, told = random.Random(3), 0, 0
    for system in SYSTEMS * 10:
        here, there = (Known.of(trial_of(system, 60.0, rng)) for _ in range(2))
        seen = change("throughput", here, there)
        told += seen.tendency != "unclear"
        different += seen.tendency in ("better", "worse")
    assert told == len(SYSTEMS) * 10
    assert different <= binom.ppf(0.999, told, 0.05)


def test_it_is_not_merely_wide() -> None:
    """Half as many slots more are told from as many, in nearly every pair."""
    rng = random.Random(4)
    few, more = System(users=50, slots=11), System(users=50, slots=16)
    seen = [
        change("throughput", Known.of(trial_of(more, 60.0, rng)), Known.of(trial_of(few, 60, rng)))
        for _ in range(40)
    ]
    assert sum(one.tendency == "better" for one in seen) >= 36


def test_a_simulated_system_carries_what_its_slots_allow() -> None:
    assert truth(System(users=50, slots=11))["throughput"] == pytest.approx(11 / 3.5, rel=0.01)
    assert truth(System(users=10, slots=40))["p50"] == pytest.approx(3.7, rel=0.02)
    refused = truth(System(users=50, slots=11, refused=0.1))["error_rate"]
    assert refused == pytest.approx(0.1, abs=0.005)
