"""Costs from trials: a fit of what comes at rest, with each upload and with each byte."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from lab.model.costs import QUIET, TrialCost, WorkCost, costs_of

CORES = 2
TRUE = WorkCost(upload_s=0.004, byte_s=3e-9, rest=0.01)


def trial(size: float, wall_s: float, cost_s: float, **more: object) -> TrialCost:
    """A trial whose only part is the backend, on a machine that does nothing else."""
    given = {
        "workers": 1,
        "uploads": 100,
        "size": size,
        "wall_s": wall_s,
        "cpu_s": {"backend": cost_s},
    }
    return TrialCost.model_validate({**given, "machine_s": cost_s / CORES, **more})


def true_cost(size: float, wall_s: float) -> float:
    return TRUE.of(size) + TRUE.rest * wall_s


def backend(trials: Iterable[TrialCost]) -> WorkCost:
    costs = costs_of(list(trials), CORES, 1)
    assert costs is not None
    return costs.of("backend")


def test_what_comes_at_rest_with_uploads_and_with_bytes_is_told_apart() -> None:
    places = [(50_000, 0.02), (1_000_000, 0.05), (50_000, 0.5), (400_000, 0.1)]
    found = backend(trial(size, wall_s, true_cost(size, wall_s)) for size, wall_s in places)
    assert found.upload_s == pytest.approx(TRUE.upload_s)
    assert found.byte_s == pytest.approx(TRUE.byte_s)
    assert found.rest == pytest.approx(TRUE.rest)


@pytest.mark.parametrize(
    ("trials", "what"),
    [
        ([trial(50_000, 0.1, 0.004), trial(60_000, 0.1, 0.008)], "sizes that are alike"),
        ([trial(50_000, 0.1, 0.004), trial(50_000, 0.3, 0.008)], "rates that are alike"),
        ([trial(50_000, 0.1, 0.006)], "one trial"),
        ([trial(50_000, 0.1, 0.008), trial(1_000_000, 0.1, 0.004)], "bytes that cost less"),
    ],
)
def test_what_cannot_be_told_apart_is_laid_to_the_upload(
    trials: list[TrialCost], what: str
) -> None:
    found = backend(trials)
    assert found == WorkCost(upload_s=found.upload_s), what
    assert found.upload_s == pytest.approx(0.006)


def test_trials_weigh_by_their_uploads() -> None:
    few, many = trial(50_000, 0.1, 0.008, uploads=1), trial(50_000, 0.1, 0.004, uploads=3)
    assert backend([few, many]).upload_s == pytest.approx(0.005)
    assert costs_of([], CORES, 1) is None


@given(
    st.lists(
        st.tuples(st.floats(1e3, 1e7), st.floats(0.01, 10), st.floats(1e-4, 0.1)),
        min_size=1,
        max_size=6,
    )
)
def test_no_fit_without_costs_below_zero_is_nearer(
    places: list[tuple[float, float, float]],
) -> None:
    trials = [trial(*place) for place in places]
    found = backend(trials)
    rows = np.array([[1.0, size, wall_s] for size, wall_s, _ in places])
    wanted = np.array([cost_s for *_, cost_s in places])
    apart = [max(rows[:, i]) >= 4 * min(rows[:, i]) for i in (1, 2)]
    columns = rows[:, [True, *apart]] / rows[:, [True, *apart]].max(axis=0)
    _, least = nnls(columns, wanted)
    told = rows @ [found.upload_s, found.byte_s, found.rest]
    assert np.linalg.norm(told - wanted) <= least + 1e-6 * np.linalg.norm(wanted)
    assert min(found.upload_s, found.byte_s, found.rest) >= 0


def test_trips_are_the_mean_of_those_that_were_timed() -> None:
    seen = [
        trial(50_000, 0.1, 0.004, trip_s=0.001),
        trial(50_000, 0.1, 0.004, trip_s=0.0006, uploads=300),
        trial(50_000, 0.1, 0.004),
    ]
    costs = costs_of(seen, CORES, 1)
    assert costs is not None
    assert costs.trip_s == pytest.approx(0.0007)
    assert costs.cpu_s(50_000) == pytest.approx(0.004)
    assert costs.of("nobody") == WorkCost(upload_s=0.0)


def test_a_call_is_known_the_better_the_higher_the_speed() -> None:
    seen = [
        trial(50_000, 0.1, 0.004, call_s=0.004, speed=10),
        trial(50_000, 0.1, 0.004, call_s=0.014, speed=5),
        trial(50_000, 0.1, 0.004),
    ]
    costs = costs_of(seen, CORES, 1)
    assert costs is not None
    assert costs.call_s == pytest.approx((4 * 0.004 + 0.014) / 5)
    assert costs.loop is None


def test_what_loops_work_is_of_the_trials_that_know_it() -> None:
    seen = [trial(50_000, 0.1, 0.004, loop_s=0.003), trial(50_000, 0.1, 0.009)]
    costs = costs_of(seen, CORES, 1)
    assert costs is not None
    assert costs.loop == WorkCost(upload_s=0.003)


def test_what_other_programs_used_counts_only_where_there_is_nothing_better() -> None:
    quiet = trial(50_000, 0.1, 0.004, machine_s=0.002 + QUIET / CORES * 0.1)
    busy = trial(50_000, 0.1, 0.004, machine_s=0.05)
    assert quiet.others(CORES) == pytest.approx(QUIET)
    assert busy.others(CORES) == pytest.approx(0.96)
    alone, both = costs_of([quiet], CORES, 1), costs_of([quiet, busy], CORES, 1)
    assert alone == both
    beside = costs_of([busy], CORES, 1)
    assert beside is not None
    assert beside.machine.upload_s == pytest.approx(0.002)
    assert beside.machine.rest == pytest.approx(0.48)


def test_trials_of_as_many_workers_count_where_there_are_any() -> None:
    one, four = trial(50_000, 0.1, 0.004), trial(50_000, 0.1, 0.008, workers=4)
    seen = [one, four]
    assert costs_of(seen, CORES, 1) == costs_of([one], CORES, 1)
    assert costs_of(seen, CORES, 4) == costs_of([four], CORES, 4)
    assert costs_of(seen, CORES, 2) == costs_of(seen, CORES, 3)
    both = costs_of(seen, CORES, 2)
    assert both is not None
    assert both.of("backend").upload_s == pytest.approx(0.006)
    busy = trial(50_000, 0.1, 0.008, workers=4, machine_s=0.1)
    assert costs_of([one, busy], CORES, 4) == costs_of([one], CORES, 4)
