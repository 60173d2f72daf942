"""The fast simulation of the closed network beside the oracle, and what no model has in it."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

import pytest

from validation import oracle
from validation.closed_loop import Load, Oddities, simulate
from validation.oracle import System

SYSTEMS = {
    "threads": (System("to_thread", cpus=2), 15),
    "two workers": (System("executor", workers=2, threads=6, lead=0.7), 19),
    "blocking": (System("blocking"), 3),
}
LATE_S = 10.0


def late(latencies: list[float]) -> float:
    return sum(took >= LATE_S for took in latencies) / len(latencies)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_does_as_the_oracle_does(name: str) -> None:
    system, users = SYSTEMS[name]
    theirs = [oracle.simulate(system, users, seed=seed, window=300) for seed in range(6)]
    ours = [simulate(system, users, f"{name}/{seed}", window=300) for seed in range(12)]
    means = [fmean(load.latency) for load in ours], [result.mean for result in theirs]
    shares = [late(load.latency) for load in ours], [late(result.latencies) for result in theirs]
    for (first, second), rest in ((means, 0.02), (shares, 0.005)):
        error = sqrt(sum(stdev(of) ** 2 / len(of) for of in (first, second)))
        assert abs(fmean(first) - fmean(second)) < 3.5 * error + rest


def test_the_same_seed_gives_the_same_load() -> None:
    system, users = SYSTEMS["two workers"]
    first, again, other = (simulate(system, users, seed, window=60) for seed in "aab")
    assert first == again != other


def test_every_user_is_inside_or_on_the_way() -> None:
    """A closed loop without a pause: but for a few milliseconds all users are inside a worker."""
    system, users = SYSTEMS["two workers"]
    load = simulate(system, users, "inside", window=300)
    assert users - 0.5 < sum(load.inside) <= users
    assert all(0 <= at < 300 for at in load.sent)
    assert 0 < load.drain < 30


def odd(what: Oddities, users: int = 12, seed: str = "odd") -> Load:
    return simulate(System("to_thread", cpus=2), users, seed, window=900, odd=what)


def test_heavy_answers_have_the_same_mean_and_a_longer_tail() -> None:
    usual, heavy = sorted(odd(Oddities()).storage), sorted(odd(Oddities(heavy=0.5)).storage)
    assert fmean(heavy) == pytest.approx(fmean(usual), rel=0.05)
    assert heavy[-15] > 1.5 * usual[-1]


def test_a_slow_worker_takes_longer_in_its_loop() -> None:
    usual, slow = odd(Oddities()), odd(Oddities(slow=2.0))
    assert set(slow.pace) == {2.0}
    assert slow.busy[0] == pytest.approx(2 * usual.busy[0], rel=0.05)


def test_a_database_wanders_about_its_usual_times() -> None:
    load = odd(Oddities(wander=0.2), seed="wander")
    assert 1.3 < max(load.pace) / min(load.pace) < 4
    by_time = [p for _, p in sorted(zip(load.sent, load.pace, strict=True))]
    steps = [abs(b - a) for a, b in pairwise(by_time)]
    assert fmean(steps) < 0.1 * (max(load.pace) - min(load.pace))  # slowly
