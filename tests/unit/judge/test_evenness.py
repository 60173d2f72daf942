"""Whether several workers shared uploads as they would at speed 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.judge.evenness import lead_inside, too_even
from lab.judge.trial import Trial
from lab.judge.validity import scaling
from lab.model.evidence import Evidence
from lab.model.experiment import Cell
from lab.model.split import Split, SplitEffect
from lab.model.verdict import Invalidity
from tests.unit.judge.observations import WINDOW, cell, observation, worker

TOLD = Split(
    window=60,
    effects=(
        SplitEffect(speed=1, moved=0.0, lead=0.70, spread=0.02),
        SplitEffect(speed=5, moved=0.05, lead=0.65, spread=0.02),
        SplitEffect(speed=9, moved=0.15, lead=0.55, spread=0.02),
    ),
)
"""Latency is 5 % off at 5, and at a lead of 0.65; by 2.5 % a unit of speed beyond that."""


def of(speed: float, split: Split | None = TOLD, auto: bool = False, **knobs: Any) -> Cell:
    made = cell(speed=speed, **{"workers": 2, "gcs_call": "executor", **knobs})
    return made.model_copy(update={"split": split, "auto_speed": auto})


def inside(*counts: int) -> list[Evidence]:
    """Readings of workers that had so many uploads inside for all of the window."""
    return [
        worker(t, pid=pid, inflight=count)
        for t in (WINDOW[0], sum(WINDOW) / 2, WINDOW[1])
        for pid, count in enumerate(counts, start=1)
    ]


def reasons(of: Cell, lines: Sequence[Evidence]) -> list[Invalidity]:
    return list(too_even(Trial(of, observation(evidence=lines))))


@pytest.mark.parametrize(
    ("speed", "counts", "fitting"),
    [
        (1, (50, 50), None),  # at speed 1 they share as they do
        (5, (70, 30), None),
        (5, (99, 1), None),  # no speed makes them share less evenly
        (5, (62, 38), None),  # 0.62 + 2 x 0.02 is 0.66
        (5, (60, 40), 4.5),  # 0.64 is seen at 5.4: 5 % are off at 5 x 5 / 5.4 = 4.63
        (5, (38, 62), None),  # whichever has more
        (4, (60, 40), 3.5),  # 4 x 5 / 5.4 = 3.7
        (8, (70, 30), 5.0),  # by the model alone, whatever was measured
        (8, (), 5.0),  # and even if nothing was
    ],
)
def test_a_split_that_is_more_even_than_true_is_a_reason(
    speed: float, counts: Sequence[int], fitting: float | None
) -> None:
    found = reasons(of(speed), inside(*counts))
    assert [one.fitting for one in found] == ([fitting] if fitting else [])
    assert all(one.kind == "speed" for one in found)


def test_it_is_said_what_was_expected_what_was_measured_and_what_to_do() -> None:
    [by_model] = reasons(of(8), inside(60, 40))
    assert by_model.reason == (
        "at speed 8 2 workers of one socket share uploads more evenly than at 1: of those inside,"
        " 58 % would be in the fullest (60 % measured), 70 % at 1, and latency 12 % off (5 % is"
        " allowed) - lower --speed, to about 5, or let the lab choose it (speed: auto)"
    )
    [measured] = reasons(of(4, auto=True), inside(60, 40))
    assert measured.reason == (
        "at speed 4 2 workers of one socket shared uploads more evenly than is true: of those"
        " inside, 60 % were in the fullest, where 66 % were expected and 70 % at 1, so that latency"
        " is 6 % off or more (5 % is allowed) - `--resume` measures it again, at a speed of 3.5 at"
        " most"
    )


@pytest.mark.parametrize(
    ("cell_", "counts"),
    [
        (of(9, split=None), (50, 50)),  # no model was asked
        (of(5), ()),  # nobody was read
        (of(5), (100,)),  # one of two workers
        (of(5), (50, 50, 0)),  # one was replaced
        (of(5), (0, 0)),  # nothing was inside
    ],
)
def test_where_nothing_is_known_of_the_split_nothing_is_said(
    cell_: Cell, counts: Sequence[int]
) -> None:
    assert reasons(cell_, inside(*counts)) == []


def test_a_window_that_ended_early_leaves_more_to_chance() -> None:
    """A quarter of the window scatters twice as much, at most: 0.6 + 2 x 0.04 is 0.68."""
    whole = Trial(of(5), observation(evidence=inside(60, 40)))
    assert list(too_even(whole))
    assert list(too_even(whole.restricted((WINDOW[0], WINDOW[0] + 15.0)))) == []


def test_the_lead_is_the_fullest_workers_share_of_what_is_inside_in_the_mean() -> None:
    assert lead_inside(Trial(of(5), observation(evidence=inside(30, 10)))) == 0.75
    one = of(5, workers=1)
    assert lead_inside(Trial(one, observation(evidence=inside(30)))) is None


def test_it_is_among_the_reasons_why_a_speed_is_not_true() -> None:
    trial = Trial(of(8), observation(evidence=inside(60, 40)))
    assert [one.fitting for one in scaling(trial)] == [5.0]
