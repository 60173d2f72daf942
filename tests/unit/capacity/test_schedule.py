"""Which search of a matrix goes on next."""

from __future__ import annotations

import random
from math import inf

import pytest

from lab.capacity import aimed_for, search_for
from lab.capacity.schedule import measured_beside, next_search
from lab.model.capacity import CapacityTrial, Estimate, Standing, TrialRequest
from lab.model.times import STAGES, TrialTimes
from lab.model.verdict import Outcome
from tests.fakes import LOAD, make_cell

REQUEST = TrialRequest(users=10, window=60, why="")


def trial(name: str, spent: float) -> CapacityTrial:
    return CapacityTrial(
        id=name, users=10, window=60, spent=spent, sent=1, outcome=Outcome.HELD, criteria=()
    )


def standing(
    name: str, ends: tuple[float, float] | None = None, trials: int = 1, spent: float = 100.0
) -> Standing:
    """A cell whose threshold lies between two ends, or of which nothing is known."""
    estimate = None
    if ends:
        low, high = ends
        estimate = Estimate(
            holds_at=int(low),
            breaks_at=int(high),
            middle=(low + high) / 2,
            low=low,
            high=high,
            confidence=0.96,
        )
    made = tuple(trial(f"{name}-{number}", spent) for number in range(trials))
    return Standing(id=name, estimate=estimate, next=REQUEST, trials=made)


def chosen(*standings: Standing) -> str | None:
    found = next_search(standings)
    return found.id if found else None


def test_where_every_cell_has_its_answer_nothing_goes_on() -> None:
    assert chosen() is None


def test_every_cell_has_a_trial_before_any_has_two() -> None:
    wide, untried = standing("wide", (1, 100)), standing("untried", trials=0)
    assert chosen(wide, untried, standing("later", trials=0)) == "untried"


def test_then_the_widest_goes_on_as_a_share_of_where_it_is() -> None:
    assert chosen(standing("few", (2, 4)), standing("many", (100, 120))) == "few"
    assert chosen(standing("a", (10, 12)), standing("b", (10, 16)), standing("c", (10, 14))) == "b"


def test_one_of_which_nothing_is_known_is_the_widest_of_all() -> None:
    assert chosen(standing("wide", (1, 100)), standing("silent")) == "silent"
    assert standing("silent").width == inf


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (standing("a", (10, 20), trials=2), standing("b", (10, 20))),
        (standing("a", (10, 20), spent=101), standing("b", (10, 20))),
        (standing("a", trials=2), standing("b")),
    ],
)
def test_of_as_wide_ones_the_one_goes_on_that_took_the_least_load(
    first: Standing, second: Standing
) -> None:
    assert chosen(first, second) == "b"
    assert chosen(second, first) == "b"


def test_of_alike_ones_the_first_goes_on() -> None:
    assert chosen(standing("a", (10, 20)), standing("b", (10, 20))) == "a"


def test_none_is_forgotten_while_intervals_narrow() -> None:
    """Each trial narrows the interval of its cell by a drawn part: in the end all are narrow."""
    rng = random.Random(7)
    cells = {name: standing(name, trials=0) for name in "abcdef"}
    order = []
    while open_ones := [one for one in cells.values() if one.width > 0.1]:
        found = next_search(open_ones)
        assert found
        order.append(found.id)
        width = min(found.width, 1.5) * rng.uniform(0.3, 0.9)
        made = len(found.trials) + 1
        cells[found.id] = standing(found.id, (20 - 10 * width, 20 + 10 * width), made)
        assert len(order) < 200
    assert order[: len(cells)] == sorted(cells)
    assert set(order) == set(cells)


ALIKE = {"workers": 2, "gcs_call": "executor", "gcs_threads": 11, "speed": 5}
OTHER_STAGES = [{"db_session": "hold"}, {"db_rtt": "50 ms"}, {"gcs_latency": "1-2 s"}]


def test_a_cell_learns_of_those_whose_stages_take_as_long() -> None:
    cell, alike = make_cell(cell_id="a"), make_cell(ALIKE, cell_id="b")
    mine, others = (trial("a-u9-1", 100),), (trial("b-u9-1", 100), trial("b-u9-2", 100))
    assert measured_beside(cell, [(cell, mine), (alike, others)]) == others
    assert measured_beside(alike, [(cell, mine), (alike, others)]) == mine


@pytest.mark.parametrize("knobs", OTHER_STAGES)
def test_and_of_no_others(knobs: dict[str, str]) -> None:
    cell, other = make_cell(cell_id="a"), make_cell(knobs, cell_id="b")
    assert measured_beside(cell, [(other, (trial("b-u9-1", 100),))]) == ()
    larger = make_cell(cell_id="c", load={**LOAD, "audio": "1 MB"})
    assert measured_beside(cell, [(larger, (trial("c-u9-1", 100),))]) == ()


def timed(storage: float) -> CapacityTrial:
    """A trial in which storage always took so many seconds."""
    count = 200
    times = TrialTimes(
        sent=tuple(float(number) for number in range(count)),
        latency=(storage + 0.3,) * count,
        storage=(storage,) * count,
        stages=dict.fromkeys(STAGES, 0.1),
    )
    return trial("b-u9-1", 100).model_copy(update={"times": times})


def test_the_first_trial_is_aimed_by_what_was_measured_beside_it() -> None:
    cell = make_cell({"gcs_call": "to_thread"}, cell_id="a", criteria=("p95 < 10 s",))
    search = aimed_for(cell)
    users = [
        request.users
        for storage in (2.0, 4.0, 8.0)
        if isinstance(request := search.informed_by((timed(storage),)).next("a", ()), TrialRequest)
    ]
    assert len(users) == 3
    assert users[0] > users[1] > users[2]
    assert search.informed_by(()).next("a", ()) == search.next("a", ())
    assert search.informed_by((timed(8.0),)).estimate(()) is None


def test_a_cell_that_has_a_trial_of_its_own_goes_by_that() -> None:
    cell = make_cell({"gcs_call": "to_thread"}, cell_id="a", criteria=("p95 < 10 s",))
    search, own = aimed_for(cell), (timed(4.0),)
    told = [one.estimate(own) for one in (search, search.informed_by((timed(8.0),)))]
    alone, beside = (estimate for estimate in told if estimate)
    assert (beside.low, beside.middle, beside.high) == (alone.low, alone.middle, alone.high)
    assert beside.curves == alone.curves


def test_the_method_that_rests_on_no_model_learns_nothing_of_others() -> None:
    search = search_for(make_cell(cell_id="a"))
    assert search.informed_by((timed(8.0),)) is search
