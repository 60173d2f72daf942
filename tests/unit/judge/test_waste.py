"""Storage calls that ended for clients who had left, counted by hand."""

from __future__ import annotations

import pytest

from lab.judge import judge
from lab.judge.trial import Trial
from lab.judge.waste import wasted
from lab.model.evidence import Cause, Sample, UploadRecord
from tests.unit.judge.observations import at_rest, cell, observation, record, sample


def call(request: str, ended: float) -> UploadRecord:
    """An upload whose storage call ended then, 3 s after it began."""
    return record(request, spans=[("auth", ended - 4, 0.1), ("gcs", ended - 3, 3.0)])


def left(request: str, at: float, cause: Cause = Cause.CLIENT_TIMEOUT) -> Sample:
    return sample(at - 5.0, 5.0, cause, request=request)


def share(sent: list[Sample], records: list[UploadRecord]) -> float | None:
    return wasted(Trial(cell(), observation(sent, records)))


@pytest.mark.parametrize(
    ("sent", "records", "expected"),
    [
        ([left("1-1", 25.0)], [call("1-1", 30.0)], 1.0),
        ([left("1-1", 25.0)], [call("1-1", 24.0)], 0.0),
        ([left("1-1", 25.0, Cause.GATEWAY_TIMEOUT)], [call("1-1", 30.0)], 1.0),
        ([left("1-1", 25.0, Cause.POOL_TIMEOUT)], [call("1-1", 30.0)], 0.0),
        ([left("1-1", 25.0)], [call("1-1", 30.0), call("2-1", 30.0)], 0.5),
        ([left("1-1", 25.0)], [call("1-1", 100.0)], None),
        ([left("1-1", 25.0)], [], None),
        (
            [left("1-1", 25.0)],
            [record("1-1", None, t=30.0, spans=[("gcs", 24.0, 6.0)]), call("2-1", 30.0)],
            0.0,
        ),
    ],
    ids=[
        "ended-after-it-left",
        "ended-before",
        "nginx-cut-it-off",
        "it-was-told-and-did-not-leave",
        "half",
        "ended-after-the-window",
        "no-records",
        "still-goes-on",
    ],
)
def test_a_call_is_wasted_that_ends_after_its_client_was_cut_off(
    sent: list[Sample], records: list[UploadRecord], expected: float | None
) -> None:
    assert share(sent, records) == expected


def test_the_verdict_says_how_much_work_was_for_nobody() -> None:
    sent = [left("1-1", 25.0), sample(20.0, 9.0, request="2-1")]
    seen = observation(sent, [*at_rest(), call("1-1", 30.0), call("2-1", 28.0)])
    verdict = judge(cell(), seen)
    assert verdict.metrics["wasted"] == 0.5
    assert "storage calls for users who had left by their end: 50 %" in verdict.reasons
