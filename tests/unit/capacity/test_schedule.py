"""Which search of a matrix goes on next."""

from __future__ import annotations

import random
from math import inf

import pytest

from lab.capacity.schedule import next_search
from lab.model.capacity import CapacityTrial, Estimate, Standing, TrialRequest
from lab.model.verdict import Outcome

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
