from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from lab.load import schedule
from lab.model.load import ClosedLoad, Load, OpenLoad, StagesLoad, users_at
from tests.component.load.conftest import load_of


def staged(*stages: dict[str, Any]) -> StagesLoad:
    load = load_of(stages=list(stages))
    assert isinstance(load, StagesLoad)
    return load


def closed(**keys: Any) -> ClosedLoad:
    load = load_of(**keys)
    assert isinstance(load, ClosedLoad)
    return load


def opened(**keys: Any) -> OpenLoad:
    load = load_of(**keys)
    assert isinstance(load, OpenLoad)
    return load


def active(load: ClosedLoad | StagesLoad, t: float) -> list[bool]:
    """Which users are active at a moment: those who upload, or are about to again."""
    spans = [schedule.active_spans(load, user) for user in range(load.peak_users)]
    return [any(start <= t < stop for start, stop in of_one) for of_one in spans]


@pytest.mark.parametrize(
    ("t", "users"),
    [(-0.1, 0), (0, 1), (0.4, 1), (0.5, 2), (4.4, 9), (4.5, 10), (30, 10), (74.9, 10), (75, 0)],
)
def test_closed_users_come_along_the_ramp_and_go_at_the_end(t: float, users: int) -> None:
    assert sum(active(closed(users=10, ramp=5, warmup=10, window=60), t)) == users


def test_without_a_ramp_all_closed_users_start_at_once() -> None:
    load = closed(users=10, ramp=0, warmup=1, window=1)
    assert {schedule.active_spans(load, user) for user in range(10)} == {((0.0, 2.0),)}


UP_AND_DOWN = staged(
    {"users": 10, "over": 10, "hold": 5}, {"users": 4, "over": 6}, {"users": 8, "hold": 2}
)


@pytest.mark.parametrize(
    ("t", "users", "stage"),
    [
        (0, 1, 0),
        (0.9, 1, 0),
        (1, 2, 0),
        (9, 10, 0),
        (14.9, 10, 0),
        (15, 10, 1),
        (16, 9, 1),
        (20.9, 5, 1),
        (21, 8, 2),
        (22.9, 8, 2),
        (23, 0, 2),
        (99, 0, 2),
    ],
)
def test_stages_move_users_linearly_and_are_told_apart(t: float, users: int, stage: int) -> None:
    assert sum(active(UP_AND_DOWN, t)) == users
    assert schedule.stage_at(UP_AND_DOWN, t) == stage


@pytest.mark.parametrize(
    ("user", "spans"),
    [
        (0, ((0.0, 23.0),)),
        (3, ((3.0, 23.0),)),
        (4, ((4.0, 23.0),)),
        (7, ((7.0, 18.0), (21.0, 23.0))),
        (9, ((9.0, 16.0),)),
        (10, ()),
    ],
)
def test_a_user_is_active_while_there_are_more_users_than_its_number(
    user: int, spans: tuple[tuple[float, float], ...]
) -> None:
    assert schedule.active_spans(UP_AND_DOWN, user) == spans


def test_a_stage_of_no_duration_is_never_the_current_one() -> None:
    load = staged({"users": 1, "hold": 1}, {"users": 5}, {"users": 2, "hold": 1})
    assert [schedule.stage_at(load, t) for t in (0, 0.9, 1, 1.9, 2)] == [0, 0, 2, 2, 2]


STAGE = st.fixed_dictionaries(
    {"users": st.integers(0, 9), "over": st.integers(0, 5), "hold": st.integers(0, 5)}
)


@given(st.lists(STAGE, min_size=1, max_size=6), st.floats(0, 60))
def test_the_users_of_a_load_are_those_whose_spans_hold_the_moment(
    stages: list[dict[str, Any]], t: float
) -> None:
    load = staged(*stages)
    spans = [schedule.active_spans(load, user) for user in range(load.peak_users)]
    inside = active(load, t)
    if t < load.measured[1]:  # but for the one who comes or goes just then
        assert abs(users_at(load, t) - sum(inside)) <= 1
    assert inside == sorted(inside, reverse=True)  # a lower number comes first and goes last
    for of_one in spans:
        assert all(start < stop for start, stop in of_one)
        assert all(before[1] < after[0] for before, after in pairwise(of_one))


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    load = opened(rate=20, warmup=10, window=190)
    times = schedule.arrivals(load, 5)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 200
    assert abs(len(times) - 4000) < 4 * 4000**0.5
    assert stats.kstest(np.diff(times), "expon", (0, 1 / 20)).pvalue > 0.01
    counts = np.histogram(times, bins=200, range=(0, 200))[0]
    assert 0.7 < counts.var() / counts.mean() < 1.3  # dispersion of a Poisson count is 1


def test_arrivals_are_the_same_for_a_seed_and_others_for_another() -> None:
    load = opened(rate=5, warmup=0, window=60)
    assert schedule.arrivals(load, 1) == schedule.arrivals(load, 1)
    assert schedule.arrivals(load, 1) != schedule.arrivals(load, 2)


def test_a_closed_user_pauses_after_its_answer_and_stops_at_the_end() -> None:
    load = closed(users=2, ramp=4, warmup=1, window=10, think=0.5, backoff=3)
    attempts = schedule.attempts(load, 1, iter(()), 1)
    assert next(attempts) == 2.0
    assert attempts.send((5.0, True)) == 5.5
    assert attempts.send((7.0, False)) == 10.0
    with pytest.raises(StopIteration):
        attempts.send((14.5, True))


def pauses(seed: int, user: int, count: int = 200) -> list[float]:
    """After successes and failures in turn, of a user with a range of both."""
    text = {"users": 9, "think": "2-5 s", "backoff": "100 ms - 1 s", "ramp": "0 s"}
    load = TypeAdapter(Load).validate_python({**text, "window": "24 h"})
    attempts = schedule.attempts(load, user, iter(()), seed)
    at, found = next(attempts), []
    for number in range(count):
        again = attempts.send((at, number % 2 == 0))
        found.append(again - at)
        at = again
    return found


def test_a_pause_is_drawn_uniformly_from_its_range() -> None:
    """Over many seeds p-values are uniform (a fixed seed draws one, this one 0.004)."""
    drawn = [pause for user in range(9) for pause in pauses(1, user)]
    for kind, low, high in ((drawn[::2], 2.0, 5.0), (drawn[1::2], 0.1, 1.0)):
        assert low <= min(kind) < max(kind) <= high
        assert stats.kstest(kind, "uniform", (low, high - low)).pvalue > 1e-4


def test_pauses_are_the_same_for_a_seed_and_a_user_and_others_for_another() -> None:
    assert pauses(1, 0) == pauses(1, 0)
    assert pauses(1, 0) != pauses(1, 1)
    assert pauses(1, 0) != pauses(2, 0)


def test_a_user_of_stages_rests_while_it_is_not_active() -> None:
    attempts = schedule.attempts(UP_AND_DOWN, 7, iter(()), 1)
    assert next(attempts) == 7.0
    assert attempts.send((17.9, True)) == 17.9
    assert attempts.send((19.0, True)) == 21.0
    assert attempts.send((21.5, True)) == 21.5
    with pytest.raises(StopIteration):
        attempts.send((22.0, False))


def test_an_answer_later_than_a_rest_is_not_followed_by_a_send_in_the_past() -> None:
    attempts = schedule.attempts(UP_AND_DOWN, 7, iter(()), 1)
    next(attempts)
    assert attempts.send((22.0, True)) == 22.0


def test_a_user_of_a_burst_uploads_once_at_zero() -> None:
    attempts = schedule.attempts(load_of(burst=3), 2, iter(()), 1)
    assert next(attempts) == 0.0
    with pytest.raises(StopIteration):
        attempts.send((1.0, False))


def test_users_of_an_open_load_share_its_arrivals() -> None:
    load = opened(rate=1, warmup=0, window=5)
    planned = iter([0.5, 1.0, 1.5])
    one, two = (schedule.attempts(load, user, planned, 1) for user in range(2))
    assert [next(one), next(two), one.send((9.0, True))] == [0.5, 1.0, 1.5]
    with pytest.raises(StopIteration):
        two.send((9.0, False))
