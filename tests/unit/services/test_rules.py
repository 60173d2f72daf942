from __future__ import annotations

import json

import pytest

from lab.load.upload import outcome
from lab.model.evidence import Cause
from lab.model.problem import MEDIA_TYPE
from lab.services.cloudrun import rules
from lab.services.cloudrun.instance import Ended


@pytest.mark.parametrize(
    ("starts", "ongoing", "seconds"),
    [
        ([], [], 10.0),
        ([2.0], [], 10.0),
        ([4.0], [], 14.0),
        ([2.0, 6.0], [], 14.0),
        ([2.0], [100.0], 10.0),
        ([], [1.0], 10.0),
        ([], [20.0], 70.0),
    ],
)
def test_a_request_waits_3_5_mean_start_ups_or_the_knob(
    starts: list[float], ongoing: list[float], seconds: float
) -> None:
    assert rules.longest_wait(10.0, starts, ongoing) == seconds


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0.0), (1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (99, 10.0)]
)
def test_starts_that_fail_again_and_again_are_tried_less_often(
    failures: int, seconds: float
) -> None:
    assert rules.backoff(failures) == seconds


@pytest.mark.parametrize(
    ("cpus", "boosted"), [(0.08, 2), (0.5, 2), (1, 2), (2, 4), (4, 8), (6, 8), (8, 8)]
)
def test_the_boost_is_the_platforms_table(cpus: float, boosted: float) -> None:
    assert rules.boosted(cpus) == boosted


@pytest.mark.parametrize(
    ("refusal", "status", "cause"),
    [
        (rules.NO_INSTANCE, 429, Cause.NO_INSTANCE),
        (rules.INSTANCE_DIED, 503, Cause.INSTANCE_DIED),
        (rules.WILL_NOT_START, 503, Cause.INSTANCE_DIED),
        (rules.MALFORMED, 503, Cause.BAD_GATEWAY),
        (rules.REQUEST_TIMEOUT, 504, Cause.REQUEST_TIMEOUT),
        (rules.TOO_LARGE, 413, Cause.TOO_LARGE),
        (rules.CLOSING, 503, Cause.NO_INSTANCE),
    ],
)
def test_a_refusal_is_a_problem_body_whose_cause_the_load_tells(
    refusal: rules.Refusal, status: int, cause: Cause
) -> None:
    assert refusal.status == status
    assert outcome(refusal.status, MEDIA_TYPE, refusal.body) == (cause, None)
    assert json.loads(refusal.body)["detail"] == refusal.detail


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (Ended(0), "exit code 0"),
        (Ended(-15), "killed by signal 15"),
        (Ended(-9, oom=True), "out of memory"),
        (Ended(None), "gone"),
    ],
)
def test_why_an_instance_ended_in_words(ended: Ended, text: str) -> None:
    assert str(ended) == text
