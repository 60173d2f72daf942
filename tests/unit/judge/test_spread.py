"""How well a trial's figures are known: from stretches of its window."""

from __future__ import annotations

import random
from math import log, sqrt

import pytest

from lab.judge.spread import MAX_STRETCHES, MIN_STRETCHES, compared, spreads
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Observation, Sample
from lab.model.physics import quantile
from lab.model.verdict import Spread
from tests.unit.judge.observations import WINDOW, cell, sample

START, END = WINDOW


def trial(samples: list[Sample], *criteria: str, **load: object) -> Trial:
    offered = {"users": 5, "ramp": "5 s", "warmup": "10 s", "window": "60 s"} | load
    made = cell(*criteria, load=offered)
    return Trial(made, Observation(samples=tuple(samples), evidence=()))


def steady(
    count: int = 600, failing: float = 0.0, seed: int = 1, latency: float = 0.5
) -> list[Sample]:
    """Independent uploads, evenly sent, of which a share fails by chance."""
    rng = random.Random(seed)
    return [
        sample(
            START + (END - START) * n / count,
            latency * rng.uniform(0.8, 1.2),
            Cause.RATE_LIMITED if rng.random() < failing else None,
        )
        for n in range(count)
    ]


def known(found: dict[str, Spread], name: str) -> Spread:
    assert name in found, found
    return found[name]


def test_the_stretches_are_long_beside_an_upload_and_not_too_few_or_many() -> None:
    assert known(spreads(trial(steady(latency=0.5))), "throughput").batches == MAX_STRETCHES
    assert known(spreads(trial(steady(latency=2.9))), "throughput").batches == 10
    assert known(spreads(trial(steady(latency=20.0))), "throughput").batches == MIN_STRETCHES


def test_a_steady_rate_is_known_well_and_one_in_bursts_badly() -> None:
    even = known(spreads(trial(steady())), "throughput").error
    bursts = [s for s in steady() if int(s.sent_at / 6) % 2]
    assert even < 0.01
    assert known(spreads(trial(bursts)), "throughput").error > 0.1


def test_counts_that_are_all_alike_by_chance_do_not_make_a_rate_exact() -> None:
    served = [sample(START - 8.5 + 3 * n, 10.0) for n in range(20)]  # four end in each stretch
    found = known(spreads(trial(served)), "throughput")
    assert found.batches == MIN_STRETCHES
    assert found.error == pytest.approx(sqrt(1 / 6 / MIN_STRETCHES) / 4)


def test_independent_uploads_are_worth_as_many_as_there_are() -> None:
    found = known(spreads(trial(steady(failing=0.2))), "error_rate")
    share = sum(1 for s in steady(failing=0.2) if s.error) / 600
    assert found.effective == pytest.approx(600, rel=0.4)
    assert found.error == pytest.approx(sqrt(share * (1 - share) / (found.effective or 1)))


def test_uploads_that_fail_together_are_worth_fewer() -> None:
    together = [
        s.model_copy(update={"error": Cause.RATE_LIMITED}) if int(s.sent_at / 12) % 2 else s
        for s in steady()
    ]
    found = known(spreads(trial(together)), "error_rate")
    assert (found.effective or 600) < 100


def test_without_a_failure_every_upload_counts() -> None:
    found = known(spreads(trial(steady())), "error_rate")
    assert (found.error, found.effective) == (0.0, 600)


def test_a_percentile_needs_enough_uploads_beyond_it() -> None:
    assert "p95" in spreads(trial(steady(600)))
    few = spreads(trial(steady(16)))
    assert "p95" not in few
    assert "p50" in few


def test_beyond_the_slowest_upload_a_percentile_is_as_far_off_as_below_it_at_least() -> None:
    # 40 are worth two beyond the 95th percentile, whose upper end would be at 1.017.
    found, times = spreads(trial(steady(40))), sorted(s.latency_s for s in steady(40))
    below = log(quantile(times, 0.95) / quantile(times, 0.95 - 1.96 * sqrt(0.95 * 0.05 / 40)))
    assert known(found, "p95").error >= below / 1.96 - 1e-9


def test_a_percentile_is_known_by_the_width_of_what_surrounds_it() -> None:
    # Uniform from 0.4 to 0.6 s: a share of 0.95 of 600 is known to 1.96 * 0.0089, that is 3.5 ms
    # either way, of 0.59 s.
    assert known(spreads(trial(steady())), "p95").error == pytest.approx(0.003, rel=0.5)


@pytest.mark.parametrize(
    "load",
    [
        {"burst": 5, "users": None, "ramp": None, "warmup": None, "window": None},
        {
            "stages": [{"users": 5, "hold": "60 s"}],
            **dict.fromkeys(("users", "ramp", "warmup", "window")),
        },
    ],
    ids=["burst", "stages"],
)
def test_of_a_load_that_changes_nothing_is_known(load: dict[str, object]) -> None:
    offered = {key: value for key, value in load.items() if value is not None}
    made = cell(load=offered)
    assert spreads(Trial(made, Observation(samples=tuple(steady()), evidence=()))) == {}


def test_without_uploads_nothing_is_known() -> None:
    assert spreads(trial([])) == {}
    failing = [s.model_copy(update={"error": Cause.RATE_LIMITED}) for s in steady()]
    assert list(spreads(trial(failing))) == ["error_rate"]


def test_what_criteria_ask_for_is_compared_beside_the_usual() -> None:
    of = trial(steady(), "p99 < 10 s", "pg_connections <= 20")
    assert list(compared(of)) == ["throughput", "p50", "p95", "error_rate", "p99", "pg_connections"]
    assert "p99" in spreads(of)
    assert "pg_connections" not in spreads(of)
