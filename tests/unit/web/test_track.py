"""A trial as it is known so far: what a frame shows of it."""

from __future__ import annotations

from typing import Any

import pytest

from lab.web.track import MAX_BINS, MAX_HISTORY, RECENT_S, Track
from tests.fakes.cells import make_cell


def sample(sent: float, latency: float = 2.0, **more: Any) -> dict[str, Any]:
    told = {"sent_at": sent, "latency_s": latency, "error": None, "worker": 1}
    return {**told, "stages": {"auth": 0.1, "gcs": 1.5}, **more}


def reading(pid: int = 1, **more: Any) -> dict[str, Any]:
    return {"pid": pid, "checked_out": 3, "waiting": 2, "threads_busy": 4, "inside": 9, **more}


def track(*samples: dict[str, Any], speed: float = 1) -> Track:
    made = Track(make_cell({"speed": speed, "workers": 2}))
    for line in samples:
        made.add_load(line)
    return made


def test_counts_are_since_the_start_and_rates_of_the_last_seconds() -> None:
    of = track(*(sample(t / 2) for t in range(80)), sample(30.0, 5.0, error="pool_timeout"))
    frame = of.frame(36.0)
    assert (frame.answered, frame.failed) == (71, 1)
    assert frame.causes == (("pool_timeout", 1),)
    assert frame.rate == 2.0
    assert frame.errors == 0.1
    assert (frame.p50, frame.p95) == (2.0, 2.0)
    assert of.frame(60.0).rate == 0


def test_what_comes_later_is_not_in_a_frame() -> None:
    early, late = [sample(t) for t in range(10)], [sample(t) for t in range(20, 40)]
    assert track(*early, *late).frame(11.9) == track(*early).frame(11.9)


def test_an_upload_under_way_is_known_from_what_was_sent() -> None:
    of = track(sample(1.0, 2.0))
    assert of.frame(5.0, sent=4).in_flight == 3
    assert of.frame(1.5).in_flight == 1  # it was sent, and had not ended
    assert of.frame(5.0).in_flight == 0


def test_a_stage_is_a_mean_and_the_rest_is_named_by_nothing() -> None:
    of = track(sample(1.0), sample(2.0, 3.0, stages={"gcs": 2.5}))
    assert dict(of.frame(6.0).stages) == pytest.approx({"": 0.45, "auth": 0.05, "gcs": 2.0})
    assert [name for name, _ in of.frame(6.0).stages] == ["", "auth", "gcs"]


def test_failures_have_no_stages_and_health_is_no_upload() -> None:
    of = track(sample(1.0, error="db_refused"), sample(1.0, journey="health"))
    frame = of.frame(4.0)
    assert (frame.answered, frame.stages, frame.p95) == (1, (), None)


def test_workers_have_their_share_and_how_busy_their_loops_are() -> None:
    of = track(sample(1.0, worker=1), sample(1.0, worker=2), sample(2.0, worker=2), speed=2)
    place = "services/audio_upload.py:96 upload_from_string"
    for t in range(8):  # at speed 2 four wall seconds, of which the loop was busy for three
        stood = {place: 0.25 * t}
        of.add_worker(t, reading(1, loop_busy_s=100 + 0.375 * t, stood=stood))
    frame = of.frame(7.5)
    assert [(w.worker, w.requests, round(w.share, 2)) for w in frame.workers] == [
        (1, 1, 0.33),
        (2, 2, 0.67),
    ]
    assert frame.workers[0].busy == pytest.approx(0.75)
    assert frame.workers[1].busy is None
    [line] = frame.standing
    assert (line.place, line.worker) == (place, 1)
    assert line.share == pytest.approx(0.5)


def test_a_worker_that_says_nothing_for_a_while_is_not_told_of_as_it_was() -> None:
    of = track(sample(1.0))
    of.add_worker(1.0, reading())
    assert of.frame(2.0).workers[0].counts["checked_out"] == 3
    assert of.frame(RECENT_S + 5).workers[0].counts == {}


@pytest.mark.parametrize(
    "line", [{}, {"sent_at": "now", "latency_s": 1, "error": None}, {"beat": None}, {"sent_at": 1}]
)
def test_a_line_that_is_no_sample_changes_nothing(line: dict[str, Any]) -> None:
    of, before = track(sample(1.0)), track(sample(1.0)).frame(9.0)
    with pytest.raises((KeyError, TypeError, ValueError)):
        of.add_load(line)
    assert of.frame(9.0) == before


def test_a_long_trial_is_kept_in_few_bins() -> None:
    load = {"users": 20, "ramp": "0 s", "warmup": "60 s", "window": "12 h"}
    of = Track(make_cell(load=load))
    for t in range(0, 43_200, 10):
        of.add_load(sample(float(t)))
    of.add_load(sample(1e9))
    assert of.width == 120
    assert len(of._bins) <= MAX_BINS + 1
    assert len(of.frame(43_000.0).history) <= MAX_HISTORY
    assert of.frame(43_000.0).rate == pytest.approx(0.1, rel=0.1)


def test_a_trial_that_is_over_is_looked_at_when_its_window_ended() -> None:
    of = track(*(sample(float(t)) for t in range(100)))
    assert of.full_at == 70.0
    of.add_window(45.0)
    assert of.full_at == 45.0
    burst = Track(make_cell(load={"burst": 40}))
    burst.add_load(sample(0.0, 4.0))
    assert burst.full_at == 4.0
