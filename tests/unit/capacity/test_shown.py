"""What a trial shows of a criterion: late uploads, or the chance of being late."""

from __future__ import annotations

import random
from statistics import fmean, variance

import pytest

from lab.capacity.shown import (
    by_storage,
    chances,
    correlation,
    has_moved,
    is_independent,
    scatter_of,
    shown,
    storage_of,
    unsteadiness,
)
from lab.model.capacity import CapacityTrial, CriterionCount
from lab.model.criterion import Criterion
from lab.model.times import TrialTimes
from lab.model.verdict import Outcome

P95, ERRORS = Criterion.parse("p95 < 10 s"), Criterion.parse("error_rate < 5 %")


def trial(times: TrialTimes | None, late: int = 3, of: int = 100) -> CapacityTrial:
    counts = [
        CriterionCount(
            criterion=str(criterion), outcome=Outcome.HELD, samples=of, violations=n, allowed=0.05
        )
        for criterion, n in ((P95, late), (ERRORS, 0))
    ]
    return CapacityTrial(
        id="a-u20-1",
        users=20,
        window=60,
        spent=95,
        sent=of,
        outcome=Outcome.HELD,
        criteria=tuple(counts),
        times=times,
    )


def drawn(count: int, seed: int = 1, dependent: bool = False, loop: float = 0.4) -> TrialTimes:
    """Uploads whose rest is from 4 to 7 s, independent of storage's 2 to 5 s, or not."""
    rng = random.Random(seed)
    storage = [rng.uniform(2, 5) for _ in range(count)]
    rests = [(2 * s - 1) if dependent else rng.uniform(4, 7) for s in storage]
    return TrialTimes(
        sent=tuple(60 * i / count for i in range(count)),
        latency=tuple(r + s for r, s in zip(rests, storage, strict=True)),
        storage=tuple(storage),
        loop=loop,
    )


def test_an_upload_counts_with_the_chance_that_another_answer_makes_it_late() -> None:
    """A rest of 7 s and a bound of 10 s: half of the answers 1, 2, 3 and 4 s are long enough."""
    assert chances([9.0, 12.0, 4.0], [2.0, 2.0, 3.0], 10.0, [1, 2, 3, 4]) == [0.5, 1.0, 0.0]


def test_chances_have_the_same_mean_as_late_uploads_and_vary_less() -> None:
    smooth, counted = [], []
    for seed in range(60):
        times = drawn(400, seed)
        smooth.append(fmean(chances(times.latency, times.storage, 10.0, sorted(times.storage))))
        counted.append(fmean(float(took >= 10) for took in times.latency))
    assert fmean(smooth) == pytest.approx(fmean(counted), abs=0.005)
    assert variance(smooth) < 0.6 * variance(counted)


def test_chances_are_used_where_rest_and_storage_are_independent_and_enough_was_measured() -> None:
    times = drawn(400)
    told = shown(P95, trial(times), storage_of([trial(times)]))
    assert told
    assert told.smooth
    assert (told.samples, told.minutes, told.batches) == (400, 1.0, 2)
    few = shown(P95, trial(times), sorted(times.storage)[:99])
    assert few
    assert not few.smooth
    assert few.share == fmean(float(took >= 10) for took in times.latency)


@pytest.mark.parametrize(
    ("times", "independent"),
    [
        (drawn(400), True),
        (drawn(400, dependent=True), False),
        (drawn(400, loop=0.9), False),
        (drawn(400).model_copy(update={"loop": None}), False),
    ],
    ids=["independent", "dependent", "a loop without room", "a loop that nobody read"],
)
def test_what_makes_them_dependent(times: TrialTimes, independent: bool) -> None:
    assert is_independent(times) is independent


def test_a_verdict_without_times_counts() -> None:
    told = shown(P95, trial(None), [])
    assert told
    assert (told.share, told.samples, told.batches) == (0.03, 100, 0)


def test_failures_are_counted_by_when_they_came() -> None:
    times = drawn(90).model_copy(update={"failed": tuple(range(10))})
    told = shown(ERRORS, trial(times), [])
    assert told
    assert told.share == pytest.approx(0.1)
    assert told.batches == 2
    assert told.scatter > 0.01  # they all came in the first batch


def test_what_counts_no_upload_shows_nothing() -> None:
    assert shown(P95, trial(None, of=0), []) is None
    assert shown(Criterion.parse("p99 < 3 s"), trial(None), []) is None


def test_the_scatter_among_batches_is_the_variance_of_their_means() -> None:
    at = [1, 2, 3, 31, 32, 33]
    parts, scatter, size = scatter_of(at, [0, 0, 0, 1, 1, 1], 60)
    assert (parts, size) == (2, 3)
    assert scatter == pytest.approx(0.5)  # (0 - 0.5)^2 + (1 - 0.5)^2, over one degree of freedom
    assert scatter_of(at, [0, 0, 0, 1, 1, 1], 30)[0] == 0
    assert scatter_of([1, 2, 31, 32], [0, 0, 1, 1], 60)[0] == 0


def test_the_correlation_of_what_does_not_vary_is_none() -> None:
    assert correlation([1, 1, 1], [1, 2, 3]) == 0
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("halves", "moved"),
    [
        ({"auth": (0.050, 0.052), "write": (0.100, 0.101)}, False),
        ({"auth": (0.050, 0.060), "write": (0.100, 0.125)}, True),
        ({"auth": (0.060, 0.050), "write": (0.125, 0.100)}, True),
        ({"auth": (0.001, 0.002), "write": (0.002, 0.004)}, False),
        ({}, False),
    ],
    ids=["steady", "slower", "quicker", "too short to matter", "not known"],
)
def test_stage_times_that_move_within_a_trial(
    halves: dict[str, tuple[float, float]], moved: bool
) -> None:
    assert has_moved(trial(TrialTimes(halves=halves))) is moved


def test_few_uploads_whose_stage_times_differ_by_chance_have_not_moved() -> None:
    times = TrialTimes(halves={"write": (0.1, 0.15)}, halves_error=0.02)
    assert not has_moved(trial(times))
    assert has_moved(trial(times.model_copy(update={"halves_error": 0.01})))


def test_what_lies_in_an_uploads_own_answer_is_known_no_better_than_the_answers() -> None:
    usual = by_storage(drawn(2000), 10.0)
    alone = drawn(2000).model_copy(update={"latency": tuple(s + 1 for s in drawn(2000).storage)})
    assert 0.02 < usual < 0.4
    assert by_storage(alone, 5.9) == pytest.approx(
        1
    )  # with a rest of 1 s only answers make it late
    assert by_storage(alone, 20.0) == 0


def test_stage_times_that_move_between_trials_are_unsteady_beyond_chance() -> None:
    """Totals of 0.1, 0.1, 0.2 and 0.2: a variance of 0.01 / 3 about 0.15."""
    trials = [trial(TrialTimes(halves={"write": pair})) for pair in ((0.1, 0.1), (0.2, 0.2))]
    assert unsteadiness(trials) == pytest.approx(0.01 / 3 / 0.15**2)
    noisy = [
        t.model_copy(update={"times": t.times.model_copy(update={"halves_error": 0.1})})
        for t in trials
        if t.times
    ]
    assert unsteadiness(noisy) == 0
    assert unsteadiness([trial(None)]) == 0
