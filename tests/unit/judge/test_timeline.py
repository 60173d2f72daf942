from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge import judge
from lab.judge.criteria import decide
from lab.judge.timeline import crossings, failures, series, stages, timeline
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Evidence, InstanceEvent, OomKill, PartDown, Sample
from lab.model.readings import DatabaseReading
from lab.model.verdict import POINTS, Timeline
from tests.unit.judge.observations import STAGES as STAGE_TIMES
from tests.unit.judge.observations import (
    at_rest,
    audit,
    cell,
    database,
    front,
    observation,
    record,
    sample,
    worker,
)

RAMP = {"stages": [{"users": 100, "over": "300 s"}]}
STEPS = {
    "stages": [
        {"users": 10, "over": "5 s", "hold": "55 s"},
        {"users": 30, "over": "10 s", "hold": "50 s"},
        {"users": 0, "over": "30 s"},
    ]
}


def ramp(
    count: int,
    latency: Callable[[float], float],
    error: Callable[[float], Cause | None] = lambda _users: None,
) -> list[Sample]:
    """Uploads sent evenly over `RAMP`; what becomes of one depends on the users there are."""
    sent = [300 * (i + 0.5) / count for i in range(count)]
    return [sample(t, latency(t / 3), error(t / 3)) for t in sent]


def test_each_stage_is_judged_by_what_was_sent_in_it() -> None:
    fast = [sample(t + 0.5, 2.0, stage=0) for t in range(60)]
    slow = [sample(60 + t / 2, 20.0, stage=1) for t in range(120)]
    refused = [sample(62 + t, 1.0, Cause.POOL_TIMEOUT, stage=1) for t in range(40)]
    connections: list[Evidence] = [DatabaseReading(t=t, connections=t // 10) for t in range(150)]
    seen = observation([*fast, *slow, *refused], connections)
    of = cell("p95 < 10 s", "error_rate < 5 %", load=STEPS)
    first, second, third = stages(Trial(of, seen))
    assert [one.users for one in (first, second, third)] == [10, 30, 0]
    assert [(one.start, one.end) for one in (first, second)] == [(0.0, 60.0), (60.0, 120.0)]
    assert (first.outcome, second.outcome, third.outcome) == ("held", "broke", "undecided")
    assert first.metrics["throughput"] == pytest.approx(0.99, abs=0.02)
    assert first.metrics["p95"] == 2.0
    assert second.metrics["p50"] == 20.0
    assert second.metrics["errors.pool_timeout"] == 40
    assert "errors.pool_timeout" not in first.metrics
    assert (first.metrics["pg_connections"], second.metrics["pg_connections"]) == (6, 12)
    assert first.reasons == ()
    assert second.reasons[0].startswith("p95 20.00 s")


def test_a_stage_has_the_utilisation_of_its_own_time() -> None:
    sent = [sample(60 + 4 * i, 4.0, stages=STAGE_TIMES) for i in range(15)]  # one at a time
    of = cell("utilisation < 90 %", load=STEPS, gcs_call="blocking")
    first, second, _ = stages(Trial(of, observation(sent)))
    assert "utilisation" not in first.metrics
    assert second.metrics["throughput"] == pytest.approx(1 / 4)
    assert second.metrics["utilisation"] == pytest.approx(3.675 / 4, abs=1e-6)
    assert second.outcome == "broke"


def test_a_load_without_stages_has_none() -> None:
    assert stages(Trial(cell(), observation([sample()]))) == ()


def test_a_series_counts_what_was_sent_answered_and_failed_by_the_second() -> None:
    sent = [*(sample(10.5, 2.0) for _ in range(6)), sample(10.2, 5.0, Cause.POOL_TIMEOUT)]
    readings: list[Evidence] = [
        DatabaseReading(t=10.1, connections=3),
        DatabaseReading(t=10.9, connections=7),
        DatabaseReading(t=11.5, connections=2),
        worker(10.1, 1, checked_out=2, inflight=3),
        worker(10.2, 2, checked_out=1, inflight=4),
        worker(11.9, 1, checked_out=0, inflight=1),
    ]
    found = series(Trial(cell(load=STEPS), observation(sent, readings)))
    assert (found.start, found.bin_s) == (0.0, 1.0)
    assert found.sent[10] == 7
    assert found.answered[12] == 6
    assert found.errors[15] == 1
    assert sum(found.sent) == 7
    assert found.pg_connections[9:12] == [None, 7, 2]
    assert found.pool_checked_out[10] == 3
    assert found.uploads_inflight[10] == 7
    assert found.users[10] == 10
    assert found.p95[9] is None
    assert found.p95[10] == 2.0  # of six in the window before


@given(
    st.lists(
        st.builds(
            sample,
            sent=st.floats(0, 3000),
            latency=st.floats(0, 130),
            error=st.sampled_from([None, Cause.CONNECTION]),
        ),
        max_size=60,
    ),
    st.sampled_from([{"users": 3, "window": "2900 s"}, RAMP, {"burst": 9}, {"rate": "2/s"}]),
)
def test_a_series_is_bounded_and_loses_no_upload(
    sent: list[Sample], given_load: dict[str, Any]
) -> None:
    found = series(Trial(cell(load=given_load), observation(sent, at_rest())))
    lists = [getattr(found, name) for name in type(found).model_fields if name not in SCALARS]
    lists = [one for one in lists if one]  # a VM has no gateway
    assert {len(one) for one in lists} == {len(found.users)}
    assert len(found.users) <= POINTS
    total = sum(found.sent) * found.bin_s
    assert total == pytest.approx(len(sent), abs=0.001 * len(found.users) * found.bin_s)


SCALARS = {"start", "bin_s", "window_s"}


@pytest.mark.parametrize(("count", "off"), [(100, 20.0), (300, 8.0), (3000, 4.0)])
def test_a_crossing_is_read_off_in_users_the_nearer_the_more_uploads(
    count: int, off: float
) -> None:
    uploads = ramp(count, lambda users: 4.0 if users < 34 else 14.0)
    [found] = crossings(Trial(cell("p95 < 10 s", load=RAMP), observation(uploads)))
    assert found.criterion == "p95 < 10 s"
    assert found.since_users <= 34 <= found.users <= 34 + off
    assert found.t == pytest.approx(found.users * 3 + 10, abs=2)  # known to be slow after 10 s
    assert found.value == 14.0
    assert found.samples
    assert found.samples >= 20


def test_crossings_come_in_the_order_in_which_they_were() -> None:
    uploads = ramp(
        600,
        lambda users: 4.0 if users < 60 else 14.0,
        lambda users: Cause.POOL_TIMEOUT if users >= 30 and round(users * 6) % 3 == 0 else None,
    )
    readings = [DatabaseReading(t=t, connections=t // 10) for t in range(300)]
    of = cell("p95 < 10 s", "error_rate < 5 %", "pg_connections <= 20", load=RAMP)
    found = crossings(Trial(of, observation(uploads, readings)))
    assert [one.criterion for one in found] == [
        "error_rate < 5 %",
        "p95 < 10 s",
        "pg_connections <= 20",
    ]
    assert 30 <= found[0].users <= 40
    assert 60 <= found[1].users <= 70
    last = found[-1]
    assert (last.t, last.since, last.users, last.value, last.samples) == (210, 210, 70, 21, None)


@pytest.mark.parametrize(
    ("criterion", "lines", "t"),
    [
        ("oom_kills == 0", [OomKill(t=33, pid=1, rss=1), OomKill(t=30, pid=1, rss=1)], 30.0),
        ("errors.pool_timeout <= 2", [], 150.0),
        ("threads_busy < 5", [worker(40, threads_busy=4), worker(60, threads_busy=5)], 60.0),
    ],
)
def test_what_is_counted_is_crossed_by_the_first_above(
    criterion: str, lines: Sequence[Evidence], t: float
) -> None:
    failed = [sample(50.0 * i, 1.0, Cause.POOL_TIMEOUT) for i in range(1, 6)]
    [found] = crossings(Trial(cell(criterion, load=RAMP), observation(failed, lines)))
    assert (found.t, found.since) == (t, t)


def test_a_cause_that_the_service_alone_saw_is_crossed_too() -> None:
    """As the finding counts it, so where it misses there is a moment; what is unknown is none."""
    cut = [sample(30.0 * i, 60.0, Cause.GATEWAY_TIMEOUT, request=f"cut-{i}") for i in range(1, 6)]
    named = [record(f"cut-{i}", 503, "pool_timeout") for i in (4, 3)]
    of = cell("errors.pool_timeout == 0", load=RAMP)
    trial = Trial(of, observation(cut, named))
    [crossing] = crossings(trial)
    assert decide(of.criteria[0], trial).outcome == "missed"
    assert (crossing.t, crossing.users, crossing.value) == (90.0, 30, 1)
    assert crossings(Trial(of, observation(cut))) == ()


def test_memory_kills_of_instances_are_told_over_time_too() -> None:
    killed: list[Evidence] = [
        InstanceEvent(t=t, instance="one", event=event)
        for t, event in ((20, "ready"), (90, "oom"), (60, "oom"))
    ]
    of, seen = cell("oom_kills == 0", target="cloudrun", load=RAMP), observation([], killed)
    [crossing], [failure] = crossings(Trial(of, seen)), failures(Trial(of, seen))
    assert (crossing.t, crossing.users) == (60.0, 20)
    assert (failure.cause, failure.t, failure.count) == ("oom_kill", 60.0, 2)


def test_what_was_read_before_the_load_or_after_it_crosses_nothing() -> None:
    lines = [worker(t, rss=9e8 if t in (-3, 400) else 1e6) for t in (-3, 10, 100, 290, 400)]
    of, seen = cell("rss_backend < 100 MB", load=RAMP), observation([], lines)
    assert crossings(Trial(of, seen)) == ()
    [crossing] = crossings(Trial(of, observation([], [*lines, worker(150, rss=9e8)])))
    assert (crossing.t, crossing.users) == (150.0, 50)


def test_a_kill_belongs_to_its_stage() -> None:
    lines: list[Evidence] = [*(worker(t) for t in range(0, 150, 5)), OomKill(t=100, pid=1, rss=1)]
    first, second, _ = stages(Trial(cell("oom_kills == 0", load=STEPS), observation([], lines)))
    assert (first.metrics["oom_kills"], second.metrics["oom_kills"]) == (0, 1)


def test_a_bound_is_crossed_when_it_is_known_and_at_the_users_of_sending() -> None:
    """Uploads that a proxy gives up after a minute fail a minute after they were sent."""
    late = [sample(30 + t / 2, 60.0, Cause.GATEWAY_TIMEOUT) for t in range(40)]
    [failed] = crossings(Trial(cell("error_rate < 5 %", load=RAMP), observation(late)))
    assert (failed.since, failed.since_users, failed.users) == (30.0, 10, 13)
    assert failed.t == pytest.approx(39.5 + 60.0)
    [slow] = crossings(Trial(cell("p95_all < 10 s", load=RAMP), observation(late)))
    assert slow.t == pytest.approx(39.5 + 10.0)
    [first] = failures(Trial(cell(load=RAMP), observation(late)))
    assert first.t < failed.t


@pytest.mark.parametrize(
    "criterion", ["p95 < 10 s", "error_rate < 5 %", "throughput > 1/s", "orphans == 0"]
)
def test_what_was_never_crossed_or_cannot_be_has_no_crossing(criterion: str) -> None:
    uploads = ramp(600, lambda _users: 9.9)
    assert crossings(Trial(cell(criterion, load=RAMP), observation(uploads))) == ()


@pytest.mark.parametrize("count", [15, 19])
def test_too_few_uploads_show_no_crossing(count: int) -> None:
    uploads = ramp(count, lambda _users: 60.0)
    assert crossings(Trial(cell("p95 < 10 s", load=RAMP), observation(uploads))) == ()


@pytest.mark.parametrize("count", [100, 600])
def test_a_system_at_its_bound_is_rarely_said_to_cross_it(count: int) -> None:
    """5 % of the uploads are too slow, just as the criterion allows: what is above is chance."""
    generator, of, wrong, trials = random.Random(5), cell("p95 < 10 s", load=RAMP), 0, 300
    for _ in range(trials):
        slow = [generator.random() < 0.05 for _ in range(count)]
        every = iter(slow)
        uploads = ramp(count, lambda _users: 14.0 if next(every) else 4.0)  # noqa: B023 - used at once
        wrong += bool(crossings(Trial(of, observation(uploads))))
    assert wrong / trials <= 0.05


@pytest.mark.parametrize(
    ("load", "sent_at", "users"),
    [
        (RAMP, 0.0, 1),
        (RAMP, 90.0, 30),
        ({"users": 50, "ramp": "5 s"}, 0.02, 1),
        ({"users": 50, "ramp": "0 s"}, 0.02, 50),
        ({"burst": 50}, 0.003, 50),
        ({"rate": "5/s"}, 20.0, 1),
    ],
)
def test_a_failures_users_are_those_of_its_sending_and_it_is_one_of_them(
    load: dict[str, Any], sent_at: float, users: int
) -> None:
    cut_off = sample(sent_at, 60.0, Cause.GATEWAY_TIMEOUT)
    [found] = failures(Trial(cell(load=load), observation([cut_off])))
    assert (found.t, found.users) == (sent_at + 60.0, users)


def test_failures_come_in_the_order_in_which_they_showed() -> None:
    uploads = [
        sample(90, 60, Cause.GATEWAY_TIMEOUT),
        sample(120, 10, Cause.POOL_TIMEOUT),
        sample(150, 1, Cause.POOL_TIMEOUT),
        sample(180, 1),
    ]
    lines: list[Evidence] = [
        OomKill(t=140, pid=1, rss=1),
        OomKill(t=170, pid=1, rss=1),
        PartDown(t=200, part="nginx", why="exit 1"),
    ]
    found = failures(Trial(cell(load=RAMP), observation(uploads, lines)))
    assert [(one.cause, one.t, one.users, one.count) for one in found] == [
        ("pool_timeout", 130.0, 40, 2),
        ("oom_kill", 140.0, 47, 2),
        ("gateway_timeout", 150.0, 30, 1),
        ("nginx", 200.0, 67, 1),
    ]


def test_a_burst_is_told_over_time_too() -> None:
    uploads = [sample(0.0, 1.0 + i, None, user=i) for i in range(30)]
    found = timeline(Trial(cell("p95 < 10 s", load={"burst": 30}), observation(uploads)))
    assert found.stages == ()
    assert found.series
    assert found.series.users[:3] == [30, 29, 28]
    [crossing] = found.crossings
    assert crossing.users == 30


def test_a_timeline_is_part_of_the_verdict_and_reads_back() -> None:
    seen = observation(ramp(300, lambda users: users / 4), [*at_rest(), audit()])
    verdict = judge(cell(load=RAMP), seen)
    assert verdict.course
    assert Timeline.model_validate_json(verdict.course.model_dump_json()) == verdict.course
    assert judge(cell(load=RAMP), observation([])).course is None


def test_what_the_workers_and_the_database_did_is_told_bin_by_bin() -> None:
    """Two workers at speed 5, a reading every half second; the second one comes at 30 s."""
    of, lines = cell(load={"users": 5}, speed=5), list[Evidence]()
    for n in range(150):
        t = n / 2
        lines.append(worker(t, 1, cpu_s=t * 0.1, rss=100, threads_busy=n % 7, loop_lag=t / 100))
        if t >= 30:
            lines.append(worker(t, 2, cpu_s=(t - 30) * 0.02, rss=50, loop_lag=0.001))
        lines.append(database(t, active=n % 5, idle=9, idle_in_transaction=n % 3))
    times = [{**STAGE_TIMES, "gcs": 2.0 + n / 10} for n in range(70)]
    sent = [sample(float(n), 4.0, stages=each) for n, each in enumerate(times)]
    drawn = series(Trial(of, observation(sent, lines)))
    width, bins = drawn.bin_s, len(drawn.users)
    for index in range(bins - 1):
        since, until = index * width, (index + 1) * width
        inside = [n for n in range(150) if since <= n / 2 < until]
        assert drawn.threads_busy[index] == max(n % 7 for n in inside)
        assert drawn.rss_backend[index] == (150 if until > 30 else 100)
        assert drawn.loop_lag[index] == max(inside) / 200
        assert drawn.pg_active[index] == max(n % 5 for n in inside)
        assert drawn.pg_idle[index] == 9
        assert drawn.pg_in_transaction[index] == max(n % 3 for n in inside)
        calls = [2.0 + n / 10 for n in range(70) if until - drawn.window_s <= n < until]
        assert drawn.gcs_latency[index] == pytest.approx(sum(calls) / len(calls), abs=1e-3)
    used = sum(cores or 0.0 for cores in drawn.cpu_backend) * width / 5
    assert used == pytest.approx(74.5 * 0.1 + 44.5 * 0.02, abs=0.01)
    assert drawn.cpu_backend[3] == pytest.approx(0.5, abs=0.01)


def test_workers_may_have_gigabytes_together() -> None:
    lines = [worker(t, pid, rss=900_000_000) for t in (20.0, 30.0, 40.0) for pid in (1, 2)]
    drawn = series(Trial(cell(), observation([sample()], lines)))
    assert max(rss for rss in drawn.rss_backend if rss is not None) == 1_800_000_000


def test_what_was_not_read_is_left_out_of_the_series() -> None:
    old: list[Evidence] = [DatabaseReading(t=float(t), connections=3) for t in range(75)]
    drawn = series(Trial(cell(), observation([sample(stages={})], old)))
    assert 3 in drawn.pg_connections
    for values in (drawn.pg_active, drawn.cpu_backend, drawn.loop_lag, drawn.gcs_latency):
        assert set(values) == {None}


def test_a_failed_transaction_is_one_that_is_open() -> None:
    line = DatabaseReading(
        t=1, connections=3, states={"idle in transaction (aborted)": 2, "idle": 1}, lock_waiting=0
    )
    drawn = series(Trial(cell(), observation([sample()], [line])))
    assert (max(filter(None, drawn.pg_in_transaction)), max(filter(None, drawn.pg_idle))) == (2, 1)


def test_the_first_answers_with_a_status_cross_a_criterion_on_it() -> None:
    sent = [sample(20.0 + n, status=413, error=Cause.BODY_TOO_LARGE) for n in range(9)]
    [crossing] = crossings(Trial(cell("status.413 <= 4"), observation(sent)))
    assert (crossing.t, crossing.value) == (24.0, 5)


def test_an_event_loop_is_as_busy_in_a_bin_as_its_readings_say_even_late_ones() -> None:
    """A loop that was held for 4 s reads itself afterwards: it was busy in each of them."""
    busy = {1.0: 0.0, 2.0: 0.5, 6.0: 4.5, 7.0: 4.5}
    readings = [worker(t, loop_busy_s=total) for t, total in busy.items()]
    told = timeline(Trial(cell(), observation([sample(5.0, 4.0)], readings))).series
    assert told is not None
    assert told.loop_busy[:8] == [None, 0.5, 1.0, 1.0, 1.0, 1.0, 0.0, None]


def test_what_a_gateway_had_stands_until_it_says_otherwise() -> None:
    readings = [
        front(0.0, queue=5, starting=1),
        front(2.5, queue=4, in_flight=1, ready=1),
        front(2.6, queue=3, in_flight=1, ready=1),
        front(6.0, ready=1),
    ]
    trial = Trial(cell(target="cloudrun"), observation([sample(0.0, 8.0)], readings))
    told = timeline(trial).series
    assert told is not None
    assert told.gateway_queue[:8] == [5, 5, 5, 3, 3, 3, 3, 0]
    assert told.gateway_inflight[:8] == [0, 0, 1, 1, 1, 1, 1, 0]
    assert told.instances[:4] == [0, 0, 1, 1]


def test_a_vm_has_no_gateway_over_time() -> None:
    told = timeline(Trial(cell(), observation([sample(5.0, 4.0)]))).series
    assert told is not None
    assert (told.gateway_queue, told.instances) == ([], [])
