"""Delays against all calls that workers recorded: cut off, under way, or waiting in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from random import Random
from statistics import fmean, pvariance
from typing import Any

import pytest

from lab.judge.delays import (
    OTHER_DELAY,
    TOO_LONG,
    delayed_calls,
    fast_tenth,
    fastest_allowed,
    followed_delay,
    stage_times,
)
from lab.judge.injection import checks
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Evidence, Sample, StageSpan, UploadRecord, WorkerReading
from lab.model.experiment import Cell
from lab.model.units import Span
from lab.model.verdict import Check
from tests.unit.judge.observations import at_rest, cell, observation, sample, worker

BOTH = ("gcs-latency", "db-distance")
LONG: dict[str, Any] = {"gcs_latency": "10 s - 50 s", "gcs_threads": 128}
LEFT_AT = {"burst": 70, "timeout": "30 s"}
END, READ = 30.0, 33.0
"""When the last user left, and when the worker was last read."""
DB = {"auth": 0.05, "release": 0.025}


def draws(low: float, high: float, count: int = 70) -> list[float]:
    """So many draws of a uniform delay, in an order that no other figure follows."""
    values = [low + (high - low) * (i + 0.5) / count for i in range(count)]
    Random(1).shuffle(values)
    return values


def record(
    number: int,
    storage: float,
    begun: float = 0.5,
    written: float = READ,
    status: int | None = 200,
    **more: Any,
) -> UploadRecord:
    """An upload that came to storage at ``begun``, as it was when it was ``written``."""
    stages = {**DB, **more.pop("stages", {})}
    write = stages.pop("write", 0.1)
    spans = [StageSpan(stage, begun - 0.1, took) for stage, took in stages.items()]
    took = min(storage, written - begun)
    spans.append(StageSpan("gcs", begun, took))
    if took < storage:
        values = {"t": written, "status": None, "cause": None}
    else:
        if status == 200:
            spans.append(StageSpan("write", begun + took, write))
        values = {"t": begun + took + 0.1, "status": status, "cause": None}
    of = {"request": f"r{number}", "worker": 1, "handed": None, "arrived": begun - 0.2}
    return UploadRecord.model_validate(of | values | {"spans": spans} | more)


def readings(inside: int) -> list[WorkerReading]:
    """A worker's readings until soon after the load, when so many uploads were inside."""
    times = [0.0, 0.1, END / 2, READ]
    return [worker(t, cpu_s=t / 20, inflight=inside, checked_out=2) for t in times]


def evidence(records: Iterable[UploadRecord], inside: int = 0) -> list[Evidence]:
    rest = [line for line in at_rest() if line.kind != "worker"]
    return [*rest, *readings(inside), *records]


def trial_of(
    of: Cell, records: Sequence[UploadRecord], uploads: Sequence[Sample] = (), inside: int = 0
) -> Trial:
    """A trial with these records; if nothing else is said, one upload was followed to the end."""
    return Trial(of, observation(uploads or [sample(0, END)], evidence(records, inside)))


def found(
    of: Cell, records: Sequence[UploadRecord], uploads: Sequence[Sample] = (), inside: int = 0
) -> dict[str, Check]:
    return {check.name: check for check in checks(trial_of(of, records, uploads, inside))}


def cut_off(storage: Sequence[float]) -> tuple[list[UploadRecord], int]:
    """Uploads of which each begins a bit later; how many are inside when the clients have left."""
    records = [record(i, took, 0.5 + i / 20) for i, took in enumerate(storage)]
    return records, sum(r.status is None for r in records)


# Storage.


@pytest.mark.parametrize("limit", [5.0, 10.0, 12.5, 29.0, 49.0, 50.0, inf])
def test_the_moments_of_a_delay_that_is_cut_off_are_those_of_its_draws(limit: float) -> None:
    span = Span(low=10, high=50)
    values = [min(value, limit) for value in draws(10, 50, 20_000)]
    mean, variance = followed_delay(span, limit)
    assert mean == pytest.approx(fmean(values), abs=1e-3)
    assert variance == pytest.approx(pvariance(values), abs=1e-2)
    assert followed_delay(Span(low=10, high=10), limit) == (min(10, limit), 0)


def test_clients_that_leave_do_not_make_a_true_delay_a_wrong_one() -> None:
    records, inside = cut_off(draws(10, 50))
    check = found(cell(load=LEFT_AT, faults=BOTH, **LONG), records, inside=inside)["gcs latency"]
    assert inside > 30
    assert check.ok
    assert check.expected.startswith("mean so far 23.")
    cut = sum(0.5 + i / 20 + took > END for i, took in enumerate(draws(10, 50)))
    assert f"in the mean of 70, {cut} of which were under way when the load ended" in check.reason


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (5, 25, "; the fastest took 5."),  # half of it
        (20, 100, "; even the fastest tenth took "),  # twice as much: most are under way
        (10, 30, " s was injected"),  # the longest are missing
        (30, 50, "; even the fastest tenth took "),  # and the shortest
    ],
)
def test_a_wrong_delay_is_wrong_also_where_clients_leave(
    low: float, high: float, says: str
) -> None:
    records, inside = cut_off(draws(low, high))
    check = found(cell(load=LEFT_AT, faults=BOTH, **LONG), records, inside=inside)["gcs latency"]
    assert check.ok is False
    assert says in check.reason
    assert check.reason.endswith((OTHER_DELAY, TOO_LONG))


def test_an_abandoned_upload_that_was_followed_to_its_end_counts_in_full() -> None:
    records = [record(i, took, written=100) for i, took in enumerate(draws(10, 50))]
    of, left = cell(load=LEFT_AT, faults=BOTH, **LONG), sample(0, 30, Cause.CLIENT_TIMEOUT)
    check = found(of, records, [left, sample(60, 12)])["gcs latency"]
    assert (check.ok, check.measured) == (True, 30.0)
    assert check.expected == "mean 30 s, none under 10 s"


def test_a_call_that_failed_is_no_sample_of_the_delay() -> None:
    good = [record(i, took) for i, took in enumerate(draws(2, 5))]
    failed = [record(100 + i, 0.01, status=502, cause="gcs_error") for i in range(30)]
    check = found(cell(load={"burst": 100}, faults=BOTH), [*good, *failed])["gcs latency"]
    assert check.ok
    assert "in the mean of 70" in check.reason


def test_a_call_that_had_ended_while_its_upload_waits_for_the_loop_is_no_call_under_way() -> None:
    took = 3.0
    spans = [StageSpan("auth", 0.4, 0.05), StageSpan("gcs", 0.5, took)]
    waits = record(0, took).model_copy(update={"t": 9.0, "status": None, "spans": spans})
    trial = trial_of(cell(faults=BOTH), [waits], inside=1)
    [call] = delayed_calls(trial).calls
    assert call.took == took
    under_way = waits.model_copy(update={"t": 3.5})
    trial = trial_of(cell(faults=BOTH), [under_way], inside=1)
    [call] = delayed_calls(trial).calls
    assert call.took == call.limit == pytest.approx(END - 0.5)


@pytest.mark.parametrize(("begun", "speed", "count"), [(31.9, 1, 1), (32.1, 1, 0), (31.9, 2, 0)])
def test_a_call_that_had_just_begun_is_left_out_as_others_like_it_are_not_recorded(
    begun: float, speed: float, count: int
) -> None:
    short, of, until = record(0, 0.05, begun), cell(faults=BOTH, speed=speed), [sample(0, 40)]
    assert len(delayed_calls(trial_of(of, [short], until, inside=1)).calls) == count
    assert len(delayed_calls(trial_of(of, [short], until, inside=0)).calls) == 1


def test_what_a_proxy_lets_go_of_when_the_load_has_ended_is_no_end_of_a_call() -> None:
    """Faults are removed before the evidence is read; calls that were held back then end."""
    held = [took for took in draws(20, 100) if took > END - 0.5]
    records = [record(i, END + 0.1 - 0.5, stages={"write": 0.01}) for i in range(len(held))]
    records += [record(i + 70, took) for i, took in enumerate(draws(20, 100)) if took not in held]
    trial = trial_of(cell(load=LEFT_AT, faults=BOTH, **LONG), records)
    cut = [call for call in delayed_calls(trial).calls if call.took == call.limit]
    assert {call.limit for call in cut} == {END - 0.5}
    assert len(cut) == len(held) > 50
    assert len(stage_times(trial)["write"]) == len(records) - len(held)
    check = {check.name: check for check in checks(trial)}["gcs latency"]
    assert check.ok is False
    assert "even the fastest tenth took" in check.reason


def test_a_worker_that_was_killed_was_followed_to_its_last_reading() -> None:
    """In a container the next worker has the same pid; what it did says nothing of the first."""
    killed = record(0, 40, written=5.0)
    lines = [worker(t, cpu_s=t, inflight=1) for t in (0.0, 2.0, 5.0)]
    lines += [worker(t, cpu_s=t - 8, inflight=0) for t in (8.0, 20.0)]
    of, seen = cell(faults=BOTH), [sample(0, END)]
    trial = Trial(of, observation(seen, [*lines, killed]))
    [call] = delayed_calls(trial).calls
    assert call.limit == pytest.approx(5.0 - 0.1 - 0.5)
    unread = Trial(of, observation(seen, [killed]))
    assert delayed_calls(unread).calls[0].limit == pytest.approx(END - 0.5)


@pytest.mark.parametrize(
    ("size", "sampled", "audio", "counts"),
    [
        (8 * 1024**2, True, "50 KB", True),
        (8 * 1024**2 + 1, True, "50 KB", False),
        (0, False, "50 KB", True),
        (0, False, "1 MB - 9 MB", False),
    ],
)
def test_a_call_of_several_requests_is_left_out_and_one_of_a_size_that_may_be_so(
    size: int, sampled: bool, audio: str, counts: bool
) -> None:
    uploads = [sample(bytes=size, request="r0")] if sampled else []
    of = cell(load={"users": 5, "audio": audio}, faults=BOTH)
    trial = trial_of(of, [record(0, 3.0)], [*uploads, sample(0, END)])
    assert bool(delayed_calls(trial).calls) == counts


def test_a_call_that_the_library_makes_again_is_not_held_against_one_delay() -> None:
    records = [record(i, took, written=200) for i, took in enumerate(draws(40, 70))]
    of = cell(load={"burst": 70}, faults=BOTH, gcs_latency="40 s - 70 s")
    check = found(of, records, [sample(0, 100)])["gcs latency"]
    assert check.ok is None
    assert "storage is tried again after 60 s" in check.reason


def test_calls_that_were_followed_too_briefly_say_nothing() -> None:
    records = [record(i, 40.0, 25.0) for i in range(70)]
    check = found(cell(load=LEFT_AT, faults=BOTH, **LONG), records, inside=70)["gcs latency"]
    assert check.ok is None
    assert "0 samples say too little" in check.reason


@pytest.mark.parametrize(
    ("cause", "low", "high", "ok"),
    [
        (Cause.CLIENT_TIMEOUT, 10, 25, True),  # those that took longer are not among them
        (Cause.GATEWAY_TIMEOUT, 10, 25, True),
        (Cause.POOL_TIMEOUT, 10, 25, False),  # no call of theirs was cut off
        (Cause.CLIENT_TIMEOUT, 5, 25, False),
        (Cause.CLIENT_TIMEOUT, 35, 50, False),
    ],
)
def test_without_records_the_mean_of_survivors_may_be_short_of_the_delay(
    cause: Cause, low: float, high: float, ok: bool
) -> None:
    """As in a run of an earlier lab."""
    of = cell(load=LEFT_AT, faults=["gcs-latency"], **LONG)
    good = [sample(0, 25, stages={"gcs": took}) for took in draws(low, high)]
    trial = Trial(of, observation([*good, sample(0, 30, cause)]))
    assert {c.name: c.ok for c in checks(trial)}["gcs latency"] is ok


def waiting(share: float, by: float) -> list[float]:
    """Storage of 2-5 s in which a share of the calls waits for so much longer."""
    return [took + by * (i < share * 200) for i, took in enumerate(draws(2, 5, 200))]


@pytest.mark.parametrize(
    ("speed", "by", "advised"), [(1, 1.0, None), (1.5, 1.0, 1), (1.5, 0.5, None), (4, 0.6, 2)]
)
def test_calls_that_wait_for_each_other_are_real_unless_speed_adds_to_it(
    speed: float, by: float, advised: float | None
) -> None:
    """Of a mean that is 1 s longer a third is not real at speed 1.5: 8 % of uploads of 4 s."""
    took = waiting(0.5, by / 0.5)
    records = [record(i, each, written=100) for i, each in enumerate(took)]
    of = cell(load={"burst": 200}, faults=BOTH, speed=speed)
    check = found(of, records, [sample(t / 2, 4.0) for t in range(200)])["gcs latency"]
    assert check.ok is (advised is None)
    if advised:
        assert f" was injected - lower --speed, to about {advised}, or let" in check.reason
        assert (check.kind, check.fitting) == ("speed", advised)


@pytest.mark.parametrize(("added", "kind", "fits"), [(0.4, "speed", True), (4.0, "machine", False)])
def test_what_even_the_fastest_calls_take_longer_is_a_speeds_where_a_lower_one_makes_it_right(
    added: float, kind: str, fits: bool
) -> None:
    """At speed 20 it is 20 ms of wall time; with 200 ms no speed is low enough."""
    records = [record(i, took + added) for i, took in enumerate(draws(2, 5, 400))]
    of = cell(load={"burst": 400}, faults=BOTH, speed=20)
    check = found(of, records, [sample(t / 4, 4.0) for t in range(400)])["gcs latency"]
    assert check.ok is False
    assert "; even the fastest tenth took " in check.reason
    assert check.kind == kind
    assert (check.fitting is not None) == fits
    if check.fitting:
        assert 0.04 * 3.5 < added / 20 * (check.fitting + 2) < added


# The database.


def contended(longest: float, count: int = 50) -> list[UploadRecord]:
    """A release of 25 ms, in which four of five calls wait for others."""
    waits = [max(0.0, longest * (i - count / 5) / count) for i in range(count)]
    return [record(i, 3.5, stages={"release": 0.0255 + w}) for i, w in enumerate(waits)]


def test_threads_that_wait_for_each_other_do_not_make_the_distance_wrong() -> None:
    """At speed 1 there is nothing to lower, and nothing to be mended."""
    of = cell(load={"burst": 50}, faults=BOTH, db_call="threadpool")
    check = found(of, contended(0.06))["release"]
    assert check.ok
    assert check.measured == pytest.approx(0.0445, abs=1e-3)
    assert check.reason.endswith(
        "expected 25 ms, up to 8 ms more; the fastest tenth took 25.5 ms: the delay is right,"
        " calls waited"
    )


@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("speed", [1, 5])
@pytest.mark.parametrize("stage", ["auth", "release", "write"])
def test_a_distance_that_is_half_or_twice_as_far_is_wrong(
    stage: str, speed: float, factor: float
) -> None:
    took = {"auth": 0.05, "release": 0.025, "write": 0.1}[stage] * factor
    stages = {stage: took}
    records = [record(i, 3.5, stages=stages) for i in range(30)]
    check = found(cell(load={"burst": 30}, faults=BOTH, speed=speed), records)[stage]
    assert check.ok is False
    assert OTHER_DELAY in check.reason
    assert ("even the fastest tenth took" in check.reason) == (factor > 1)
    assert ("lower --speed" in check.reason) == (factor > 1 and speed > 1)


def test_a_stage_in_which_an_upload_failed_or_stands_is_no_sample_of_it() -> None:
    failed = record(1, 3.5, status=500, cause="db_error")
    failed = failed.model_copy(update={"spans": [*failed.spans, StageSpan("write", 4.0, 9.0)]})
    stands = record(2, 3.5)
    spans = [*stands.spans[:-1], StageSpan("write", 4.0, 7.0)]
    stands = stands.model_copy(update={"status": None, "t": 11.0, "spans": spans})
    trial = trial_of(cell(faults=BOTH), [record(0, 3.5), failed, stands])
    times = {stage: len(took) for stage, took in stage_times(trial).items()}
    assert times == {"auth": 3, "release": 3, "gcs": 3, "write": 1}


@pytest.mark.parametrize(("low", "high"), [(0.025, 0.025), (0.0, 0.05), (0.01, 0.09)])
@pytest.mark.parametrize("trips", [1, 2, 4])
def test_the_fastest_tenth_of_a_delay_is_within_what_it_is_allowed(
    low: float, high: float, trips: int
) -> None:
    """And outside where the delay is twice as long."""
    span, random = Span(low=low, high=high), Random(2)
    for _ in range(200):
        took = [sum(random.uniform(low, high) for _ in range(trips)) for _ in range(50)]
        assert fast_tenth(took) <= fastest_allowed(span, trips, 50) + 1e-9
    if low == high:
        assert fast_tenth([2 * each for each in took]) > fastest_allowed(span, trips, 50)


# The speech service.

SPEECH = ("speech-latency", "db-distance")


def assessments(took: Iterable[float], **more: Any) -> list[UploadRecord]:
    """Assessments whose calls of the speech service took so long."""
    return [
        record(i, 0.0, journey="assess", stages={"speech": seconds}, **more)
        for i, seconds in enumerate(took)
    ]


@pytest.mark.parametrize(
    ("took", "ok", "says"),
    [
        (draws(1, 3), True, "the speech service took 2.000 s in the mean of 70"),
        (draws(0.5, 1.5), False, "; the fastest took 0.507 s - let nothing else set toxics"),
        (draws(2, 6), False, "; even the fastest tenth took 2.371 s"),
        (draws(1, 3, count=19), None, "19 samples say too little, 20 are needed"),
    ],
    ids=["as injected", "half", "twice", "too few"],
)
def test_the_speech_service_is_as_far_as_injected_by_every_assessment(
    took: list[float], ok: bool | None, says: str
) -> None:
    check = found(cell(faults=SPEECH), assessments(took))["speech latency"]
    assert (check.ok, check.expected) == (ok, "mean 2 s, none under 1 s")
    assert says in check.reason


def test_a_delay_that_nobody_met_is_not_checked() -> None:
    of = cell(faults=("gcs-latency", *SPEECH))
    checked = found(of, [record(i, took) for i, took in enumerate(draws(2, 5))])
    assert "speech latency" not in checked
    assert checked["gcs latency"].ok


def test_calls_of_the_speech_service_that_are_given_up_leave_the_shorter_ones() -> None:
    check = found(cell(faults=("speech-slow",)), assessments(draws(8, 10)))["speech latency"]
    assert check.ok is None
    assert check.reason == ("a call is given up after 10 s: those that succeed are the short ones")


def test_an_assessments_write_is_no_uploads() -> None:
    """It is a round trip shorter; and its worker is not done with it when it has no upload."""
    uploads = [record(i, 3.5) for i in range(30)]
    times = stage_times(trial_of(cell(faults=BOTH), [*uploads, *assessments([2.0] * 30)]))
    assert len(times["write"]) == 30
    assert "speech" not in times
