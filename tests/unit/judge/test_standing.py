"""In which lines the event loop stood, by readings that are made so."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from lab.judge.standing import MIN_WALL_S, NAMED
from lab.judge.trial import Trial
from lab.model.evidence import ELSEWHERE, Evidence
from lab.model.verdict import Verdict
from tests.unit.judge.observations import at_rest, cell, observation, samples, worker

STORAGE = "services/audio_upload.py:96 upload_from_string"
DATABASE = "database.py:129 connection"
TIMES = range(15, 76, 5)
"""A worker writes at both ends of the window, which is 60 s long, and between."""


def standing(
    pid: int = 1, since: float = 0.0, speed: float = 1.0, **shares: float
) -> list[Evidence]:
    """Readings of a worker whose loop stood in each place for such a share of its time."""
    places = {"storage": STORAGE, "database": DATABASE, "elsewhere": ELSEWHERE}
    return [
        worker(
            t,
            pid,
            loop_busy_s=(t - since) / speed * min(1.0, sum(shares.values())),
            inflight=5,
            stood={places[name]: share * (t - since) / speed for name, share in shares.items()},
        )
        for t in TIMES
        if t >= since
    ]


def rows(evidence: list[Evidence], **settings: Any) -> dict[str, float]:
    trial = Trial(cell(**settings), observation(samples(10), evidence))
    return {row.place: row.share for row in trial.stood}


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        (standing(storage=0.93, database=0.05), {STORAGE: 0.93, DATABASE: 0.05}),
        (standing(database=0.05, storage=0.93), {STORAGE: 0.93, DATABASE: 0.05}),
        (standing(storage=0.93, elsewhere=0.07), {STORAGE: 0.93}),
        (standing(storage=NAMED * 0.9), {}),
        (standing(), {}),
        ([], {}),
        (standing(1, storage=0.2) + standing(2, database=0.3), {DATABASE: 0.3}),
        (standing(1, storage=0.2) + standing(2), {STORAGE: 0.2}),
        (standing(storage=0.5, since=45.0), {STORAGE: 0.5}),
        (standing(storage=1.2), {STORAGE: 1.0}),
    ],
    ids=[
        *("two lines", "most first", "framework", "too little", "nowhere", "no readings"),
        *("the worker that stood most", "one of two", "began in the window", "rounding"),
    ],
)
def test_a_line_is_told_with_its_share_of_the_time(
    evidence: list[Evidence], found: dict[str, float]
) -> None:
    assert rows(evidence) == pytest.approx(found)
    assert list(rows(evidence)) == list(found)


def test_a_share_is_of_the_window_and_not_of_what_was_before() -> None:
    before = [worker(t, stood={STORAGE: 100.0}) for t in (15, 45, 75)]
    assert rows(list(before)) == {}


def test_wall_clock_seconds_are_a_share_of_real_world_time_at_any_speed() -> None:
    assert rows(standing(storage=0.4, speed=10.0), speed=10) == pytest.approx({STORAGE: 0.4})


@pytest.mark.parametrize(("wall_s", "named"), [(MIN_WALL_S * 1.1, True), (MIN_WALL_S * 0.9, False)])
def test_a_few_looks_name_nothing_however_short_the_window(wall_s: float, named: bool) -> None:
    share = wall_s / 6.0  # of 60 s at speed 10
    assert share > NAMED
    evidence = standing(storage=share, speed=10.0)
    assert (rows(evidence, speed=10) != {}) is named


def of(evidence: list[Evidence]) -> Verdict:
    rest = [line for line in at_rest() if line.kind != "worker"]
    return judge(cell("p95 < 2 s", gcs_call="blocking"), observation(samples(100), rest + evidence))


def test_the_verdict_tells_it_and_the_event_loop_s_evidence_its_first_line() -> None:
    verdict = of(standing(storage=0.93, database=0.05))
    assert [(row.place, row.share) for row in verdict.stood] == [(STORAGE, 0.93), (DATABASE, 0.05)]
    assert verdict.metrics["loop_stood"] == pytest.approx(0.98)
    assert verdict.limit
    loop = next(one for one in verdict.limit.candidates if one.resource == "event_loop")
    assert f", 93 % of the time in {STORAGE}" in loop.evidence
    assert DATABASE not in loop.evidence


def test_a_loop_that_stood_nowhere_is_a_zero_and_one_that_nobody_saw_is_absent() -> None:
    assert of(standing()).metrics["loop_stood"] == 0.0
    unseen = of([worker(t, stood=None) for t in TIMES])
    assert "loop_stood" not in unseen.metrics
    assert unseen.stood == ()
