"""What a model says of how workers share, between the speeds that it was asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lab.model.fidelity import keeps_split
from lab.model.split import Split, SplitEffect


def split(*effects: tuple[float, float, float], window: float = 60) -> Split:
    """Of speed, how far latency is off, and the lead."""
    return Split(
        window=window,
        effects=tuple(
            SplitEffect(speed=speed, moved=moved, lead=lead, spread=0.04)
            for speed, moved, lead in effects
        ),
    )


TOLD = split((1, 0, 0.8), (3, 0.04, 0.7), (5, 0.10, 0.6))


def test_between_two_speeds_it_is_a_straight_line_and_beyond_them_the_last() -> None:
    assert [TOLD.moved_at(s) for s in (1, 2, 3, 4, 5, 9)] == pytest.approx(
        [0, 0.02, 0.04, 0.07, 0.10, 0.10]
    )
    assert [TOLD.lead_at(s) for s in (1, 2, 4, 9)] == pytest.approx([0.8, 0.75, 0.65, 0.6])


def test_the_speed_of_a_lead_is_the_lowest_at_which_workers_share_so_evenly() -> None:
    leads = (0.9, 0.8, 0.75, 0.7, 0.65, 0.5)
    assert [TOLD.speed_of(lead) for lead in leads] == pytest.approx([1, 1, 2, 3, 4, 5])
    flat = split((1, 0, 0.7), (3, 0.04, 0.7), (5, 0.10, 0.6))
    assert flat.speed_of(0.7) == 1


def test_latency_may_be_off_by_a_twentieth() -> None:
    """Of 4 % at 3 and 10 % at 5, 5 % is at 3.33."""
    assert [keeps_split(2, s, TOLD) for s in (1, 3, 3.3, 3.4, 50)] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("workers", "speed", "keeps"),
    [(1, 50, True), (2, 3, True), (2, 3.5, False), (3, 2.5, True), (8, 3, False)],
)
def test_where_there_is_no_model_a_table_does(workers: int, speed: float, keeps: bool) -> None:
    assert keeps_split(workers, speed) == keeps


def test_a_shorter_window_scatters_as_independent_moments_would_and_a_longer_one_no_less() -> None:
    spreads = [TOLD.spread_at(2, window) for window in (240, 60, 15)]
    assert spreads == pytest.approx([0.04, 0.04, 0.08])


@pytest.mark.parametrize(
    "effects",
    [
        (),
        ((2, 0, 0.8),),
        ((1, 0.1, 0.8),),
        ((1, 0, 0.8), (1, 0.1, 0.7)),
        ((1, 0, 0.8), (3, 0.1, 0.7), (2, 0.2, 0.6)),
        ((1, 0, 0.8), (2, 0.1, 0.7), (3, 0.05, 0.6)),
        ((1, 0, 0.8), (2, 0.1, 0.9)),
    ],
    ids=["none", "not from 1", "moved at 1", "twice", "not in order", "moved less", "less even"],
)
def test_effects_that_are_in_no_order_are_refused(effects: Any) -> None:
    with pytest.raises(ValidationError):
        split(*effects)
