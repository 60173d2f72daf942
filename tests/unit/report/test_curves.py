"""The share of uploads beyond a bound against the users, in a page and in text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from lab.model.capacity import (
    CapacityTrial,
    CriterionCount,
    Curve,
    CurvePoint,
    Estimate,
    ExpectedThreshold,
    Standing,
    Thresholds,
    TrialRequest,
    TrialWeight,
)
from lab.model.verdict import Outcome
from lab.report import Style, cell_details, end_table, html_report, markdown_report, standings
from lab.report.blocks import ShareCurve
from lab.report.curves import (
    BASE,
    LEFT,
    MAX_RADIUS,
    MIN_RADIUS,
    RIGHT,
    TOP,
    curve_drawing,
    curve_lines,
    share_at,
    trial_shares,
)
from lab.report.thresholds import threshold_section
from tests.fakes import sample_run as sample
from tests.unit.report.test_documents import HOSTILE, Page
from tests.unit.report.test_thresholds import answer, trial

THRESHOLD, SLOPE = 26.0, 16.0


def late(users: float, threshold: float = THRESHOLD) -> float:
    """A share of late uploads that is 5 % at the threshold."""
    return 1 / (1 + exp(-(log(0.05 / 0.95) + SLOPE * log(users / threshold))))


def weight(users: int, share: float, counts_for: float, number: int = 1) -> TrialWeight:
    return TrialWeight(
        id=f"workers=1-u{users}-{number}", users=users, share=share, minutes=2, weight=counts_for
    )


TRIALS = (weight(24, 0.01, 100), weight(26, 0.04, 400), weight(28, 0.2, 25), weight(60, 1.0, 0))
POINTS = tuple(
    CurvePoint(users=users, share=late(users), low=late(users, 27), high=late(users, 25))
    for users in (13, 20, 25, 26, 27, 30, 40, 52)
)
EXPECTED = ExpectedThreshold(basis="model", users=24.6, low=20, high=31)


def curve(**changes: Any) -> Curve:
    given: dict[str, Any] = {
        "criterion": "p95 < 10 s",
        "allowed": 0.05,
        "low": 25.2,
        "middle": 26.0,
        "high": 26.9,
        "points": POINTS,
        "trials": TRIALS,
    }
    return Curve.model_validate(given | changes)


def block(of: Curve | None = None, **changes: Any) -> ShareCurve:
    given: dict[str, Any] = {
        "curve": of or curve(),
        "low": 25.2,
        "high": 26.9,
        "confidence": 0.95,
        "about": "what it shows",
        "prediction": EXPECTED,
    }
    return ShareCurve(**(given | changes))


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def test_every_thing_that_is_drawn_is_inside_the_frame() -> None:
    drawn = curve_drawing(block())
    for path in (drawn.line, drawn.doubt):
        assert all(LEFT <= x <= RIGHT for x in numbers(path)[::2])
        assert all(TOP <= y <= BASE for y in numbers(path)[1::2])
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BASE for dot in drawn.dots)
    assert drawn.band
    assert drawn.band.x >= LEFT
    assert drawn.band.x + drawn.band.width <= RIGHT


def test_more_users_are_farther_right_and_a_larger_share_is_higher() -> None:
    drawn = curve_drawing(block())
    by_users = {int(re.findall(r"u(\d+)", dot.label)[0]): dot for dot in drawn.dots}
    assert [dot.x for _, dot in sorted(by_users.items())] == sorted(dot.x for dot in drawn.dots)
    heights = [by_users[users].y for users in (24, 26, 28, 60)]
    assert heights == sorted(heights, reverse=True)
    assert by_users[26].y > drawn.bound.at > by_users[28].y
    ys = numbers(drawn.line)[1::2]
    assert ys == sorted(ys, reverse=True)


def test_a_trials_area_grows_with_its_weight_and_one_of_none_is_hollow() -> None:
    by_weight = {dot.label.rpartition("for ")[2]: dot for dot in curve_drawing(block()).dots}
    assert by_weight["400 uploads"].radius == MAX_RADIUS
    assert by_weight["100 uploads"].radius == pytest.approx((MIN_RADIUS + MAX_RADIUS) / 2, abs=0.1)
    none = by_weight["0 uploads"]
    assert (none.radius, none.counts, none.over) == (MIN_RADIUS, False, True)
    assert not by_weight["400 uploads"].over


def test_the_interval_the_bound_and_the_prediction_are_told_in_words_too() -> None:
    drawn = curve_drawing(block())
    assert drawn.band
    assert drawn.band.label.label == "95 %: 25.2 to 26.9 users"
    assert drawn.bound.label == "5.0 % may be beyond"
    assert drawn.predicted
    assert drawn.predicted.label == "predicted 24.6"


@pytest.mark.parametrize(
    ("ends", "label"),
    [
        ((None, 3.0), "95 %: up to 3 users"),
        ((30.0, None), "95 %: 30 users and more"),
        ((2.0, 3.0), "95 %: 2 to 3 users"),
    ],
)
def test_an_open_end_goes_to_the_end_of_the_scale(
    ends: tuple[float | None, float | None], label: str
) -> None:
    low, high = ends
    band = curve_drawing(block(low=low, high=high)).band
    assert band
    assert band.label.label == label
    assert (band.x == LEFT) == (low is None)
    assert (round(band.x + band.width, 1) == RIGHT) == (high is None)


def test_without_ends_points_or_prediction_the_trials_are_drawn_alone() -> None:
    drawn = curve_drawing(block(curve(points=()), low=None, high=None, prediction=None))
    assert (drawn.band, drawn.predicted, drawn.line, drawn.doubt) == (None, None, "", "")
    assert len(drawn.dots) == len(TRIALS)


@pytest.mark.parametrize("tried", [[1], [7], [1, 2, 3], [10, 200], [1, 5000], [998, 999, 1000]])
def test_users_on_the_scale_are_whole_and_apart(tried: Sequence[int]) -> None:
    of = curve(points=(), trials=tuple(weight(users, 0.02, 1) for users in tried))
    drawn = curve_drawing(block(of, low=None, high=None, prediction=None))
    places = [tick.at for tick in drawn.users]
    assert len(places) >= min(2, max(tried))  # of a single user there is no other near
    assert all(after - before >= 30 for before, after in pairwise(places))
    assert all(tick.label.isdigit() for tick in drawn.users)
    assert len({tick.label for tick in drawn.users}) == len(drawn.users)


def test_trials_at_one_number_of_users_are_one_line_by_their_weights() -> None:
    merged = trial_shares((weight(26, 0.02, 300), weight(26, 0.06, 100, 2), weight(24, 0.0, 0)))
    assert [(row.users, row.weight, row.minutes) for row in merged] == [(24, 0, 2), (26, 400, 4)]
    assert merged[1].share == pytest.approx(0.03)


def test_between_its_points_the_curve_is_straight_and_beyond_them_it_is_not_known() -> None:
    assert share_at(POINTS, 26) == late(26)
    assert late(27) < (share_at(POINTS, 28) or 0) < late(30)
    assert share_at(POINTS, 60) is None
    assert share_at((), 26) is None


@pytest.mark.parametrize("width", [40, 60, 100, 160])
def test_the_text_fits_its_width_in_ascii(width: int) -> None:
    lines = curve_lines(block(), width)
    head, _, *rows = lines
    assert all(line.isascii() and len(line) <= width for line in lines[1:])
    assert head == "p95 < 10 s: * measured, - the curve, | what may be beyond"
    assert [row.split()[:3] for row in rows] == [
        ["24", "1.0", "%"],
        ["26", "4.0", "%"],
        ["28", "20", "%"],
        ["60", "100", "%"],
    ]
    assert [row.rpartition(" ")[2] for row in rows if row.endswith(("holds", "breaks"))] == [
        "holds",
        "breaks",
        "breaks",
    ]
    bound = rows[0].index("|")
    assert all(row.index("*") <= bound for row in rows[:2])
    assert all(row.index("*") > bound == row.index("|") for row in rows[2:])


def estimate(**changes: Any) -> Estimate:
    given: dict[str, Any] = {
        "holds_at": 25,
        "breaks_at": 27,
        "middle": 26.0,
        "low": 25.2,
        "high": 26.9,
        "confidence": 0.95,
        "rests_on": "a simulation; 95 % if it is steep enough: checked, not proven",
        "prediction": EXPECTED,
        "is_narrow": True,
        "curves": (curve(), curve(criterion="error_rate < 5 %", trials=(weight(26, 0, 9),))),
    }
    return Estimate.model_validate(given | changes)


AIMED = answer(holds_at=25, breaks_at=27, estimate=estimate())
GOING_ON = Standing(
    id="workers=2",
    estimate=estimate(holds_at=11, breaks_at=18, is_narrow=False),
    next=TrialRequest(users=15, window=97.3, why="narrowing the interval"),
    trials=(trial(14, Outcome.HELD),),
)
NOT_BEGUN = Standing(
    id="workers=4", estimate=None, next=TrialRequest(users=9, window=120, why="as expected")
)
KNOWN = Thresholds(
    run="r",
    experiment="threshold",
    about="",
    stack="embedded",
    speed=5.0,
    cells=(AIMED,),
    missing=("workers=2", "workers=4", "workers=8"),
    searching=(GOING_ON, NOT_BEGUN),
)


def test_an_aimed_answer_says_what_it_rests_on_and_what_was_predicted() -> None:
    text = " ".join(cell_details(AIMED, Style(100)).split())
    assert (
        "holds at 25 users, breaks at 27 (95 % confidence, by a simulation with its stage times);"
        " p95 < 10 s is crossed first; predicted were 25 users (20 to 31); 2 trials" in text
    )
    assert "rests on a simulation; 95 % if it is steep enough: checked, not proven" in text
    assert "corrected" not in text


def test_a_correction_for_the_speed_is_told() -> None:
    corrected = AIMED.model_copy(update={"estimate": estimate(correction=0.93)})
    text = " ".join(cell_details(corrected, Style(100)).split())
    assert "corrected: times 0.930, because the speed moves the threshold" in text


def test_an_answer_that_is_wider_than_asked_for_says_why_and_what_more_would_take() -> None:
    wide = AIMED.model_copy(
        update={
            "reason": "wider than asked for: the 400 s of load are spent",
            "estimate": estimate(is_narrow=False),
            "more": 90.0,
        }
    )
    text = standings(KNOWN.model_copy(update={"cells": (wide,)}))["workers=1"]
    assert "; wider than asked for: the 400 s of load are spent; " in text
    assert "about 1 min 30 s more of load would probably narrow it" in text


def test_a_criterion_that_no_upload_missed_has_no_curve() -> None:
    blocks = threshold_section(AIMED).blocks
    assert [b.curve.criterion for b in blocks if isinstance(b, ShareCurve)] == ["p95 < 10 s"]


def test_what_was_counted_is_drawn_where_no_curve_was_fitted() -> None:
    [drawn] = [b for b in threshold_section(answer()).blocks if isinstance(b, ShareCurve)]
    assert (drawn.low, drawn.high, drawn.curve.points) == (34, 37, ())
    assert [(one.users, one.weight) for one in drawn.curve.trials] == [(34, 66), (37, 66)]
    assert "37 users: 14 %" in drawn.about


def test_a_trial_that_was_invalid_or_lacks_a_count_is_not_drawn() -> None:
    trials = (trial(34, Outcome.HELD, 1), trial(36, Outcome.INVALID), trial(37, Outcome.HELD, None))
    [drawn] = [
        b for b in threshold_section(answer(trials=trials)).blocks if isinstance(b, ShareCurve)
    ]
    assert [one.users for one in drawn.curve.trials] == [34]


def test_each_cell_has_a_line_of_what_is_known() -> None:
    lines = standings(KNOWN)
    assert list(lines) == ["workers=1", "workers=2", "workers=4", "workers=8"]
    assert lines["workers=2"] == (
        "workers=2: so far holds at 11 users, breaks at 18 (95 % confidence); next 15 users for"
        " 97 s (narrowing the interval); 1 trial, 1 min 40 s of load"
    )
    assert lines["workers=4"].startswith(
        "workers=4: so far nothing is known; next 9 users for 2 min"
    )
    assert lines["workers=8"] == "workers=8: no trial yet"


def test_a_search_that_goes_on_is_reported_as_far_as_it_is(tmp_path: Path) -> None:
    info = sample.create(tmp_path).info.model_copy(
        update={"kind": "threshold", "max_users": 200, "method": "aimed", "within": 0.2}
    )
    html = html_report(KNOWN, info)
    page = Page(html)
    assert page.open == []
    assert {link.removeprefix("#") for link in page.links} == page.ids
    assert html.count('class="chart curve"') == 2
    assert html.count("<desc>") == 2
    assert 'role="img"' in html
    for text in (markdown_report(KNOWN, info), end_table(KNOWN, info, "x", Style(100))):
        assert "4 cells: 1 found, 3 not finished" in text
    told = " ".join(end_table(KNOWN, info, "x", Style(100)).split())
    assert "? workers=2 so far holds at 11 users, breaks at 18" in told
    assert "- workers=4 not finished - workers=8 not finished" in told
    assert "go on: lab threshold --resume x" in told
    assert "checked by simulation and not proven" in told
    assert "Width: within 20 %, or 2 users" in markdown_report(KNOWN, info)


def test_text_from_outside_is_escaped_in_a_curve(tmp_path: Path) -> None:
    info = sample.create(tmp_path).info.model_copy(update={"kind": "threshold"})
    hostile = AIMED.model_copy(
        update={
            "id": HOSTILE,
            "estimate": estimate(
                rests_on=HOSTILE,
                curves=(curve(trials=(weight(26, 0.1, 1).model_copy(update={"id": HOSTILE}),)),),
            ),
        }
    )
    page = html_report(KNOWN.model_copy(update={"cells": (hostile,)}), info)
    assert "<script" not in page
    assert Page(page).open == []


def test_a_standing_without_a_trial_is_of_no_width() -> None:
    assert NOT_BEGUN.width > GOING_ON.width
    assert CapacityTrial.model_validate(GOING_ON.trials[0].model_dump()) == GOING_ON.trials[0]
    assert isinstance(GOING_ON.trials[0].criteria[0], CriterionCount)
