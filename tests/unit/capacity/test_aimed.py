"""The search that a model aims, on trials without noise and with it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest

from lab.capacity import AimedSearch, aimed_for, search_for
from lab.config.fault import read_faults
from lab.errors import UsageError
from lab.model.capacity import CapacityTrial, Estimate, Threshold, TrialRequest
from lab.model.experiment import Cell
from lab.model.times import TrialTimes
from lab.model.verdict import Outcome
from lab.paths import data
from tests.fakes import make_cell
from tests.unit.capacity.test_search import ERRORS, P95, search, trial

LOAD = {"users": 50, "ramp": "5 s", "warmup": "60 s", "window": "60 s"}
DELAYS = [read_faults(data("faults"))[name] for name in ("gcs-latency", "db-distance")]


def delayed(
    settings: Mapping[str, Any] | None = None,
    criteria: tuple[str, ...] = (P95, ERRORS),
    **load: Any,
) -> Cell:
    """A cell as found, six threads a worker, with storage 2 to 5 s away."""
    knobs = {"gcs_call": "to_thread", "vm_cpus": 2, "speed": 1, **(settings or {})}
    return make_cell(knobs, load={**LOAD, **load}, faults=DELAYS, criteria=criteria)


def by_bound(cell: Cell | None = None, **limits: Any) -> AimedSearch:
    """The search without a simulation, which is quick."""
    return replace(aimed_for(cell or delayed(), **limits), by_model=False)


BOUND = by_bound()


def late(users: int, threshold: float, steep: float = 16.0) -> float:
    """The share that is late where 5 % are at a threshold."""
    odds = log(0.05 / 0.95) + steep * log(users / threshold)
    return 1 / (1 + exp(-odds))


def curve(threshold: float, failing: float = 0.0) -> Callable[[TrialRequest], CapacityTrial]:
    """Trials without noise, of 100 uploads a minute."""

    def made(request: TrialRequest) -> CapacityTrial:
        shares = {P95: late(request.users, threshold), ERRORS: failing}
        samples = round(request.window / 60 * 1000)
        return trial(request.users, shares, window=request.window, samples=samples)

    return made


def noisy(seed: int, threshold: float) -> Callable[[TrialRequest], CapacityTrial]:
    """Trials of 100 independent uploads a minute; the same request gives the same trial."""
    counts: dict[int, int] = {}

    def made(request: TrialRequest) -> CapacityTrial:
        number = counts[request.users] = counts.get(request.users, 0) + 1
        rng = random.Random(f"{seed}/{request.users}/{number}")
        samples = round(request.window / 60 * 100)
        share = late(request.users, threshold)
        count = sum(rng.random() < share for _ in range(samples))
        return trial(
            request.users,
            {P95: count / samples, ERRORS: 0.0},
            number,
            window=request.window,
            samples=samples,
        )

    return made


def test_the_first_trial_is_where_the_model_expects_the_threshold() -> None:
    """A simulation of the report's cell breaks at 14 users, and measured ones at 14 or 15."""
    aimed = aimed_for(delayed())
    step = aimed.next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.users in (14, 15)
    assert (step.window, step.warmup) == (60, 20)
    prediction = aimed.prediction()
    assert prediction.basis == "model"
    assert prediction.low < 13 < 15 < prediction.high
    assert aimed.estimate([]) is None


def test_without_a_simulation_it_is_where_the_capacity_bound_says() -> None:
    """Six threads for 3.5 s each carry 1.71 a second: 0.85 times that in ten seconds."""
    step = BOUND.next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.users == round(0.85 * 6 / 3.5 * 10)


def test_with_several_workers_windows_are_longer_and_so_are_warm_ups() -> None:
    step = by_bound(delayed({"workers": 2})).next("cell", [])
    assert isinstance(step, TrialRequest)
    assert (step.window, step.warmup) == (120, 60)


def test_blocking_calls_of_several_workers_depend_on_how_long_one_looks() -> None:
    aimed = aimed_for(delayed({"workers": 2, "gcs_call": "blocking"}))
    step = aimed.next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.users in (3, 4)
    estimate = aimed.estimate([curve(3.6)(step)])
    assert estimate
    assert "users stay at their worker for as long as a trial lasts" in estimate.rests_on
    assert "users stay" not in BOUND.estimate([curve(15)(step)]).rests_on  # type: ignore[union-attr]


def test_a_window_is_no_shorter_than_the_loads() -> None:
    step = by_bound(delayed(window="700 s")).next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.window == 700


@pytest.mark.parametrize("threshold", [8.4, 11.2, 14.5, 16.3, 19.9, 24.5])
def test_without_noise_it_finds_the_threshold(threshold: float) -> None:
    answer = search(curve(threshold), BOUND)
    check(answer, BOUND)
    assert answer.outcome == "found"
    assert (answer.holds_at or 0) < threshold <= (answer.breaks_at or 0)
    assert answer.estimate
    assert answer.estimate.high - answer.estimate.low <= max(2, answer.estimate.low / 10)
    assert (answer.breaks_at or 0) - (answer.holds_at or 0) <= 3
    assert answer.crossed_first == P95
    assert len(answer.trials) <= 12


@pytest.mark.parametrize("threshold", [3.3, 40.5, 120.5])
def test_far_from_what_was_expected_it_goes_by_counts(threshold: float) -> None:
    answer = search(curve(threshold), BOUND)
    check(answer, BOUND)
    assert answer.estimate
    assert answer.estimate.basis == "counts"
    assert "far from the 15 users of the capacity bound" in answer.estimate.rests_on
    assert (answer.holds_at or 0) < threshold <= (answer.breaks_at or 0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("beyond", [0.12, 0.5, 1.0])
@pytest.mark.parametrize("threshold", [3.5, 14.5, 40.5])
def test_failures_that_leap_are_found_where_they_do(
    workers: int, beyond: float, threshold: float
) -> None:
    """From nothing to a half and no further, as where a limit refuses: on no logistic curve."""

    def made(request: TrialRequest) -> CapacityTrial:
        share = beyond if request.users >= threshold else 0.0
        samples = round(request.window / 60 * 75)
        return trial(request.users, {ERRORS: share}, window=request.window, samples=samples)

    answer = search(made, by_bound(delayed({"workers": workers}, criteria=(ERRORS,))))
    assert answer.outcome == "found"
    assert (answer.holds_at or 0) < threshold < (answer.breaks_at or 0)
    assert answer.estimate
    assert answer.estimate.basis == "counts"


def test_where_a_single_user_breaks_it_that_is_the_answer() -> None:
    """Storage that takes 12 s is expected to be late with one user, and is."""
    cell = delayed({"gcs_latency": "12 s"})
    aimed = by_bound(cell)
    step = aimed.next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.users <= 5
    answer = search(curve(0.4), aimed)
    assert (answer.holds_at, answer.breaks_at, answer.outcome) == (None, 1, "found")
    assert answer.reason == "it breaks at 1 user"


def test_files_that_are_refused_at_any_number_of_users_break_it_at_one() -> None:
    answer = search(curve(14.5, failing=0.16), BOUND)
    assert (answer.holds_at, answer.breaks_at) == (None, 1)
    assert answer.crossed_first == ERRORS
    expected = search(curve(14.5, failing=0.16), by_bound(delayed(audio="50 KB - 2 MB")))
    assert {trial.users for trial in expected.trials} == {1}
    assert (expected.holds_at, expected.breaks_at) == (None, 1)


def test_what_is_expected_above_the_most_users_is_tried_there() -> None:
    aimed = by_bound(max_users=8)
    step = aimed.next("cell", [])
    assert isinstance(step, TrialRequest)
    assert step.users == 8
    answer = search(curve(15), aimed)
    assert (answer.holds_at, answer.breaks_at, answer.outcome) == (8, None, "found")
    assert "the most that were to be tried" in answer.reason


def test_the_load_limit_ends_it_with_the_interval_that_it_has() -> None:
    limited = by_bound(max_load=150)
    answer = search(noisy(1, 15), limited)
    check(answer, limited)
    assert answer.outcome == "found"
    assert "wider than asked for: the 150 s of load are spent" in answer.reason
    assert answer.estimate
    assert not answer.estimate.is_narrow
    assert answer.holds_at
    assert answer.breaks_at
    assert answer.breaks_at - answer.holds_at > 2
    assert answer.more
    assert answer.more > 60


def test_a_limit_that_no_trial_survived_leaves_nothing_known() -> None:
    invalid = trial(15, {P95: 0.0, ERRORS: 0.0}, outcome=Outcome.INVALID, window=500)
    answer = by_bound(max_load=150).next("cell", [invalid])
    assert isinstance(answer, Threshold)
    assert (answer.outcome, answer.holds_at, answer.breaks_at) == ("undecided", None, None)


def test_a_wider_interval_takes_less() -> None:
    usual, wide = (search(noisy(3, 60), by_bound(within=w)) for w in (None, 0.4))
    assert sum(t.spent for t in wide.trials) < sum(t.spent for t in usual.trials)


def test_numbers_of_users_whose_trials_are_invalid_are_passed_over() -> None:
    first = BOUND.next("cell", [])
    assert isinstance(first, TrialRequest)
    shares = {P95: 0.0, ERRORS: 0.0}
    invalid = [
        trial(first.users, shares, number, outcome=Outcome.INVALID) for number in range(1, 4)
    ]
    assert BOUND.next("cell", invalid[:2]) == first
    other = BOUND.next("cell", invalid)
    assert isinstance(other, TrialRequest)
    assert other.users == first.users - 1


def test_a_machine_that_makes_every_trial_invalid_is_told() -> None:
    shares = {P95: 0.0, ERRORS: 0.0}

    def made(request: TrialRequest) -> CapacityTrial:
        return trial(request.users, shares, outcome=Outcome.INVALID)

    answer = search(made, BOUND)
    assert answer.outcome == "invalid"
    assert "tell nothing: see their verdicts" in answer.reason
    assert len(answer.trials) == 8


def test_what_is_counted_outright_breaks_where_it_is_missed() -> None:
    """Connections that pass their limit from 12 users on, whatever p95 does."""
    peak = "pg_connections < 12"
    aimed = by_bound(delayed(criteria=(P95, peak)))

    def made(request: TrialRequest) -> CapacityTrial:
        timed = trial(request.users, {P95: late(request.users, 15)}, window=request.window)
        outcome = Outcome.BROKE if request.users >= 12 else Outcome.HELD
        counted = trial(request.users, {peak: 0.0}, samples=0, outcome=outcome)
        return timed.model_copy(update={"criteria": (*timed.criteria, *counted.criteria)})

    answer = search(made, aimed)
    assert (answer.holds_at or 0) < 12 <= (answer.breaks_at or 0)
    assert answer.crossed_first == peak


def test_a_trial_whose_stage_times_moved_is_made_again() -> None:
    [first] = [curve(15)(TrialRequest(users=15, window=60, why=""))]
    moving = TrialTimes(halves={"write": (0.1, 0.2)})
    moved = first.model_copy(update={"times": moving, "id": "moved"})
    assert BOUND.next("cell", [moved]) == BOUND.next("cell", [])
    assert BOUND.estimate([moved]) is None
    many = [moved.model_copy(update={"id": f"moved-{n}"}) for n in range(4)]
    estimate = BOUND.estimate(many)
    assert estimate  # so they are how this cell is
    assert all(weight.weight > 0 for weight in estimate.curves[0].trials)


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_moment_it_goes_on_to_the_same_answer(seed: int) -> None:
    """A trial that was under way is lost, and made again; its seed, and so what it shows, is of the
    users and the number of the trial with them."""
    whole = search(noisy(seed, 14.2), BOUND)
    rng, made = random.Random(seed), list(whole.trials)
    for kept in range(len(made)):
        stored: list[CapacityTrial] = []
        measure = noisy(seed, 14.2)
        while len(stored) < kept and isinstance(step := BOUND.next("cell", stored), TrialRequest):
            stored.append(measure(step))
        shuffled = rng.sample(stored, len(stored))
        assert BOUND.next("cell", shuffled) == BOUND.next("cell", stored)
        assert BOUND.estimate(shuffled) == BOUND.estimate(stored)
        while isinstance(step := BOUND.next("cell", shuffled), TrialRequest):
            shuffled.append(measure(step))
        resumed = BOUND.next("cell", rng.sample(shuffled, len(shuffled)))
        assert isinstance(resumed, Threshold)
        assert ends(resumed) == ends(whole)


def ends(answer: Threshold) -> tuple[int | None, int | None, str, float]:
    spent = sum(trial.spent for trial in answer.trials)
    return answer.holds_at, answer.breaks_at, answer.outcome, spent


def test_intervals_contain_the_truth_as_often_as_they_claim() -> None:
    """Sixty thresholds as the bound expects them: its prior is a Student's t about 15."""
    rng, right = random.Random(7), 0
    for number in range(60):
        threshold = 14.57 * exp(rng.gauss(0, 0.2))
        answer = search(noisy(number, threshold), BOUND)
        check(answer, BOUND)
        right += (answer.holds_at or 0) < threshold <= (answer.breaks_at or 1000)
    assert right >= 55  # 57 are expected; 54 or fewer come once in thirteen


def test_an_estimate_narrows_from_the_first_trial_on() -> None:
    made: list[CapacityTrial] = []
    widths = []
    measure = noisy(5, 14.2)
    while isinstance(step := BOUND.next("cell", made), TrialRequest):
        made.append(measure(step))
        estimate = BOUND.estimate(made)
        assert estimate
        widths.append(estimate.high - estimate.low)
        [timed, failures] = estimate.curves
        assert [weight.id for weight in timed.trials] == sorted(t.id for t in made)
        shares = [point.share for point in timed.points]
        assert shares == sorted(shares)
        assert all(point.low <= point.share <= point.high for point in timed.points)
        assert failures.criterion == ERRORS
    assert widths[-1] < widths[0]
    assert isinstance(step, Threshold)
    assert step.estimate == estimate


def test_a_speed_that_moves_the_threshold_is_corrected_for_and_widens_it() -> None:
    made = [curve(15)(TrialRequest(users=n, window=600, why="")) for n in (14, 15)]
    plain, corrected = (replace(BOUND, correction=c).estimate(made) for c in (1.0, 0.96))
    assert plain
    assert corrected
    assert corrected.correction == 0.96
    assert corrected.middle == pytest.approx(plain.middle * 0.96)
    assert corrected.low == pytest.approx(plain.low * 0.96 / 1.02)
    assert corrected.high == pytest.approx(plain.high * 0.96 * 1.02)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (make_cell(load={"burst": 10}), "has none to vary - write the load as"),
        (make_cell(load=LOAD, criteria=()), "nothing that more users could break - write them as"),
        (
            make_cell(load=LOAD, criteria=("error_rate < 100 %",)),
            "on which side of 'error_rate < 100 %' it is - give it a bound",
        ),
        (make_cell(load=LOAD, criteria=("p95 == 10 s",)), "no number of uploads shows"),
        (
            make_cell(load=LOAD).model_copy(
                update={"relative": tuple(delayed(criteria=("p95 < 10 s",)).criteria)}
            ),
            "holds a cell against another one, and a search against none",
        ),
    ],
    ids=["no users", "no criteria", "allows all", "an equality", "relative"],
)
def test_what_has_no_threshold_is_refused_in_one_line(cell: Cell, message: str) -> None:
    for make in (aimed_for, search_for):
        with pytest.raises(UsageError) as refused:
            make(cell)
        assert message in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "load",
    [{"mix": {"upload": "50 %", "progress": "50 %"}}, {}],
    ids=["users who do other things", "no delay at all"],
)
def test_what_the_model_does_not_know_is_searched_all_the_same(load: dict[str, Any]) -> None:
    cell = make_cell({"speed": 1}, load={**LOAD, **load}, criteria=(P95, ERRORS))
    aimed = aimed_for(cell, max_users=60)
    answer = search(curve(14.5), aimed)
    check(answer, aimed)
    assert (answer.holds_at or 0) < 14.5 <= (answer.breaks_at or 0)


def check(answer: Threshold, aimed: AimedSearch) -> None:
    assert len(answer.trials) <= aimed.max_trials_in_all
    assert all(1 <= t.users <= aimed.max_users for t in answer.trials)
    assert all(aimed.first_window <= t.window <= aimed.max_window for t in answer.trials)
    assert (answer.holds_at or 0) < (answer.breaks_at or aimed.max_users + 1)
    assert (answer.breaks_at is None) == (answer.crossed_first is None)
    assert all(trial.times is None for trial in answer.trials)
    assert Threshold.model_validate_json(answer.model_dump_json()) == answer
    assert isinstance(answer.estimate, Estimate)
    assert answer.estimate.low <= answer.estimate.middle <= answer.estimate.high
