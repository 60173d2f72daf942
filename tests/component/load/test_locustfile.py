"""The four kinds of load by the real generator against a real service on 127.0.0.1."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from starlette.responses import JSONResponse, Response

from lab.load import schedule
from lab.model.evidence import Cause
from lab.model.load import Load, OpenLoad
from lab.model.replica import ADDRESS_HEADER, REQUEST_HEADER, address, token
from tests.component.load.conftest import Service, load_of, offer, success


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_closed_users_start_along_the_ramp_and_send_again_when_answered(
    tmp_path: Path, service: Service, speed: float
) -> None:
    service.delay = 0.1
    load = load_of(users=4, ramp=0.4 * speed, warmup=0.2 * speed, window=1.0 * speed)
    done = offer(tmp_path, service.url, load, speed)
    for user in range(4):
        samples = [s for s in done.samples if s.user == user]
        assert samples[0].planned_at == pytest.approx(0.1 * speed * user)
        for before, after in pairwise(samples):
            ended = before.sent_at + before.latency_s
            assert after.planned_at == pytest.approx(ended, abs=1e-5)
    assert len(done.samples) == len(service.received) > 4
    assert all(s.error is None and s.status == 200 and s.recording for s in done.samples)
    assert all(s.planned_at <= s.sent_at < done.result.window[1] for s in done.samples)
    assert all(s.latency_s >= 0.1 * speed for s in done.samples)
    assert max(s.sent_at + s.latency_s for s in done.samples) > done.result.window[1]
    assert done.result.window == load.measured
    assert done.result.exit_code == 0


def test_each_upload_has_an_id_of_its_own_that_its_sample_has_too(
    tmp_path: Path, service: Service
) -> None:
    """A failed one as well: by it the sample and the worker's record are of the same upload."""
    service.answer = lambda number: success(number) if number % 2 else Response(status_code=500)
    done = offer(tmp_path, service.url, load_of(burst=20, timeout=10))
    sent = [request.headers[REQUEST_HEADER] for request, _ in service.received]
    assert len(set(sent)) == 20
    assert {sample.request for sample in done.samples} == set(sent)
    assert {sample.error for sample in done.samples} == {None, Cause.INTERNAL_ERROR}


def test_a_closed_user_thinks_after_a_success_and_backs_off_after_a_failure(
    tmp_path: Path, service: Service
) -> None:
    service.answer = lambda number: success(number) if number % 2 else Response(status_code=500)
    load = load_of(users=1, ramp=0, warmup=0, window=20, think=1, backoff=4)
    done = offer(tmp_path, service.url, load, speed=10)
    assert len(done.samples) > 2
    for before, after in pairwise(done.samples):
        pause = 1 if before.error is None else 4
        ended = before.sent_at + before.latency_s
        assert after.planned_at - ended == pytest.approx(pause, abs=1e-5)
    assert {s.error for s in done.samples} == {None, Cause.INTERNAL_ERROR}


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_users_of_stages_come_and_go_and_samples_carry_their_stage(
    tmp_path: Path, service: Service, speed: float
) -> None:
    service.delay = 0.02
    stages = [{"users": 4, "over": 0.4 * speed, "hold": 0.4 * speed}, {"users": 1, "hold": speed}]
    load = load_of(stages=stages)
    done = offer(tmp_path, service.url, load, speed)
    first = {user: min(s.planned_at for s in done.samples if s.user == user) for user in range(4)}
    assert first == pytest.approx({user: 0.1 * speed * user for user in range(4)})
    later = [s for s in done.samples if s.planned_at >= 0.8 * speed]
    assert {s.user for s in later} == {0}
    assert {s.stage for s in done.samples} == {0, 1}
    assert all(s.stage == schedule.stage_at(load, s.sent_at) for s in done.samples)


def test_a_burst_is_one_upload_each_all_at_once(tmp_path: Path, service: Service) -> None:
    service.delay = 0.5
    done = offer(tmp_path, service.url, load_of(burst=30, timeout=10))
    assert sorted(s.user for s in done.samples) == list(range(30))
    assert {s.planned_at for s in done.samples} == {0.0}
    assert max(s.sent_at for s in done.samples) < min(s.latency_s for s in done.samples)
    assert done.result.window == (0.0, 10.0)


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_open_arrivals_keep_their_times_however_slow_the_answers(
    tmp_path: Path, service: Service, speed: float
) -> None:
    service.delay = 0.7
    load = load_of(
        rate=30 / speed, warmup=0.2 * speed, window=0.8 * speed, timeout=3 * speed, backoff=0
    )
    assert isinstance(load, OpenLoad)
    done = offer(tmp_path, service.url, load, speed, seed=4)
    planned = sorted(s.planned_at for s in done.samples)
    assert planned == pytest.approx(schedule.arrivals(load, 4), abs=1e-6)
    assert all(s.sent_at >= s.planned_at for s in done.samples)
    early = [s for s in done.samples if s.sent_at < 0.7 * speed]
    assert len(early) > len(done.samples) / 3  # sent before anything was answered
    assert all(s.error is None for s in done.samples)
    assert len({s.user for s in done.samples}) > 1


def test_each_user_is_a_student_of_its_own_and_sends_the_size_it_says(
    tmp_path: Path, service: Service
) -> None:
    done = offer(tmp_path, service.url, load_of(burst=5, audio="2 KB - 40 KB"))
    headers = [request.headers for request, _ in service.received]
    assert {h["authorization"] for h in headers} == {f"Bearer {token(n)}" for n in range(5)}
    assert {h[ADDRESS_HEADER] for h in headers} == {address(n) for n in range(5)}
    files = [body.split(b"\r\n\r\n", 1)[1] for _, body in service.received]
    assert all(file.startswith(b"RIFF") for file in files)
    ends = [len(file) - file.rindex(b"\r\n--") for file in files]
    sent = sorted(len(file) - end for file, end in zip(files, ends, strict=True))
    assert sent == sorted(s.bytes for s in done.samples)
    assert len(set(sent)) == 5


def test_the_same_seed_offers_the_same_sizes(tmp_path: Path, service: Service) -> None:
    load = load_of(burst=6, audio="2 KB - 40 KB")
    runs = [offer(tmp_path / str(n), service.url, load, seed=s) for n, s in enumerate((1, 1, 2))]
    sizes = [sorted((s.user, s.bytes) for s in run.samples) for run in runs]
    assert sizes[0] == sizes[1] != sizes[2]


def test_stages_are_kept_on_failures_too_and_the_backend_names_the_cause(
    tmp_path: Path, service: Service
) -> None:
    problem = "application/problem+json"
    timing = {"Server-Timing": "pool_wait;dur=100, auth;dur=5", "X-Worker": "4711"}
    service.answer = lambda _: JSONResponse(
        {"cause": "pool_timeout"}, 503, headers=timing, media_type=problem
    )
    done = offer(tmp_path, service.url, load_of(burst=1), speed=10)
    (sample,) = done.samples
    assert (sample.status, sample.error, sample.recording) == (503, Cause.POOL_TIMEOUT, None)
    assert sample.stages == pytest.approx({"pool_wait": 1.0, "auth": 0.05})
    assert sample.worker == 4711


def test_ticks_count_what_was_sent_answered_and_failed(tmp_path: Path, service: Service) -> None:
    service.delay = 0.3
    service.answer = lambda number: success(number) if number % 2 else Response(status_code=500)
    load = load_of(users=4, ramp=0, warmup=0.5, window=1.5, backoff=0)
    done = offer(tmp_path, service.url, load)
    assert len(done.starts) == 1
    assert done.starts[0].t0 == done.result.t0
    assert done.starts[0].pid == done.result.pid
    assert all(tick.users == 4 for tick in done.ticks if tick.t < 2)
    assert any(tick.sent > tick.answered for tick in done.ticks)
    totals = [(tick.t, tick.sent, tick.answered, tick.failed) for tick in done.ticks]
    assert totals == sorted(totals)
    failed = sum(s.error is not None for s in done.samples)
    assert totals[-1][1:] == (len(done.samples), len(done.samples), failed)
    assert 0 < failed < len(done.samples)
    assert max(tick.rate for tick in done.ticks) > 0


def test_the_summary_of_locust_agrees_with_the_samples(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: Response(status_code=500) if number == 0 else success(number)
    done = offer(tmp_path, service.url, load_of(burst=8))
    (row,) = [line.split() for line in done.log.splitlines() if "Aggregated" in line][:1]
    assert row[1:3] == ["8", "1(12.50%)"]


def typed(**keys: object) -> Load:
    return TypeAdapter(Load).validate_python({"audio": "2 KB", **keys})


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_an_open_load_drops_what_finds_as_many_in_flight_as_may_be(
    tmp_path: Path, service: Service, speed: float
) -> None:
    service.delay = 0.5 / speed
    load = typed(rate="20/s", warmup="1 s", window="5 s", max_in_flight=4)
    assert isinstance(load, OpenLoad)
    done = offer(tmp_path, service.url, load, speed)
    sent = {s.planned_at: s for s in done.samples}
    kept_back = [at for at in schedule.arrivals(load, 1) if round(at, 6) not in sent]
    assert len(kept_back) + len(sent) == len(schedule.arrivals(load, 1))
    assert done.result.dropped == sum(at >= 1.0 for at in kept_back) > 20
    for at in kept_back:  # each found four users that had no answer yet
        busy = sum(s.planned_at <= at <= s.sent_at + s.latency_s for s in done.samples)
        assert busy == 4
    assert max(s.sent_at - s.planned_at for s in done.samples) < 0.1 * speed
    assert {s.error for s in done.samples} == {None}


def test_an_open_load_without_a_cap_drops_nothing(tmp_path: Path, service: Service) -> None:
    load = typed(rate="20/s", warmup="0 s", window="2 s", max_in_flight="off")
    done = offer(tmp_path, service.url, load)
    assert done.result.dropped == 0


def test_a_closed_user_pauses_as_its_range_and_seed_say(tmp_path: Path, service: Service) -> None:
    service.answer = lambda number: success(number) if number % 2 else Response(status_code=500)
    load = typed(
        users=2, ramp="0 s", warmup="0 s", window="15 s", think="1-2 s", backoff="100-900 ms"
    )
    done = offer(tmp_path, service.url, load, speed=5)
    for user in range(2):
        samples = [s for s in done.samples if s.user == user]
        attempts = schedule.attempts(load, user, iter(()), 1)
        at = next(attempts)
        for sample in samples:
            assert sample.planned_at == pytest.approx(at, abs=1e-5)
            ended = sample.sent_at + sample.latency_s
            at = attempts.send((ended, sample.error is None)) if sample != samples[-1] else 0.0
    pauses = [
        after.planned_at - before.sent_at - before.latency_s
        for before, after in pairwise(s for s in done.samples if s.user == 0)
    ]
    assert len({round(pause, 3) for pause in pauses}) > 3
