"""The metrics of a trial: of its samples, of its readings, and the bound of its slots."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge.criteria import decide
from lab.judge.metrics import MEASURES, measure
from lab.judge.trial import Trial
from lab.model.evidence import AUDIT, Cause, DatabaseReading, Evidence, LoadDone, OomKill, PartDown
from lab.model.metrics import BY_NAME, TABLE, only_on
from lab.model.pooler import PoolerReading
from tests.unit.judge.observations import (
    STAGES,
    at_rest,
    audit,
    burst,
    cell,
    container,
    cut_off,
    machine,
    observation,
    on_cloudrun,
    one_instance,
    record,
    sample,
    samples,
    worker,
)


def test_a_wait_to_be_accepted_is_from_the_proxys_hand_to_the_workers() -> None:
    records = [
        record("a", handed=20.0, arrived=20.5),
        record("b", handed=21.0, arrived=22.5),
        record("c", handed=None, arrived=30.0),
        record("of the warm-up", handed=1.0, arrived=9.0),
    ]
    sent = [sample(20 + i, request=name) for i, name in enumerate(("a", "b", "c", "d"))]
    assert measure(Trial(cell(), observation(sent, [*at_rest(), *records])))["accept_wait"] == 1.0
    assert "accept_wait" not in measure(Trial(cell(), observation(sent)))


def pooler() -> list[Evidence]:
    """What PgBouncer says twice."""
    gauges = {"clients_active": 5, "clients_waiting": 2, "servers_active": 3, "servers_idle": 0}
    return [
        PoolerReading.model_validate(
            {**gauges, "t": t, "longest_wait_s": 1, "wait_s": t, "held_s": t, "transactions": t}
        )
        for t in (20, 40)
    ]


def test_all_evidence_gives_all_metrics_in_the_tables_order() -> None:
    sent = [*samples(99, failed=1), sample(20.0, stages=STAGES, request="accepted")]
    recorded = [*at_rest(), record("accepted", handed=20.0, arrived=20.1), *pooler()]
    vm = measure(Trial(cell(), observation(sent, recorded)))
    cloudrun = measure(Trial(on_cloudrun(), observation(burst(), [*at_rest(), *one_instance()])))
    table = [row.name for row in TABLE]
    for found in (vm, cloudrun):
        assert list(found) == [name for name in table if name in found]
    of_long_windows = {name for name in table if name.endswith("_slope")}
    of_other_loads = {"dropped"}
    assert {*vm, *cloudrun} == {*table} - of_long_windows - of_other_loads


def test_what_is_of_one_target_alone_is_absent_on_the_other() -> None:
    upload = sample(0.0, 14.0, stages=STAGES)
    both: list[Evidence] = [DatabaseReading(t=5, connections=1), audit()]
    for t in (1.0, 9.0):
        both += [worker(t), container(t, 100, t / 100)]
    vm = measure(Trial(cell(load={"burst": 1}), observation([upload], both)))
    cloudrun = measure(Trial(on_cloudrun(), observation(burst(), [*both, *one_instance()])))
    for target, lone in (("cloudrun", {*cloudrun} - {*vm}), ("vm", {*vm} - {*cloudrun})):
        assert lone == {name for name in BY_NAME if only_on(name) == target}
    assert {*cloudrun} - {*vm} == {
        "errors.no_instance",
        "errors.instance_died",
        "errors.request_timeout",
        "errors.too_large",
        "cold_starts",
        "cold_start_s",
        "cold_start_made",
        "cold_start_max",
        "cold_uploads",
        "instances",
        "memory_instance",
        "queue_depth",
        "queue_wait",
        "queue_wait_p95",
        "queue_wait_refused",
    }
    assert {*vm} - {*cloudrun} == {
        "errors.body_too_large",
        "errors.gateway_timeout",
        "errors.proxy_error",
    }
    sent = [*samples(6), sample(error=Cause.NO_INSTANCE)]
    assert measure(Trial(cell(), observation(sent, [])))["errors.no_instance"] == 1


@pytest.mark.parametrize(
    ("target", "metric"),
    [
        ("cloudrun", "errors.gateway_timeout"),
        ("vm", "errors.no_instance"),
        ("vm", "cold_starts"),
        ("vm", "queue_depth"),
    ],
)
def test_a_count_that_a_criterion_asks_of_the_wrong_target_is_known_to_be_0(
    target: str, metric: str
) -> None:
    of = cell(f"{metric} == 0", target=target)
    trial = Trial(of, observation(samples(6), [audit()]))
    assert measure(trial)[metric] == 0
    found = decide(of.criteria[0], trial)
    assert (found.outcome, found.reason) == ("met", f"{metric} 0 against == 0")
    assert metric not in measure(Trial(cell(target=target), observation(samples(6), [audit()])))
    assert metric not in measure(Trial(of, observation([], [audit()])))
    seen = [*samples(6), sample(error=Cause.NO_INSTANCE), sample(error=Cause.GATEWAY_TIMEOUT)]
    if metric.startswith("errors."):
        assert measure(Trial(of, observation(seen, [])))[metric] == 1


CAPPED = {"rate": "5/s", "max_in_flight": 9}


@pytest.mark.parametrize(
    ("load", "dropped"), [(CAPPED, 37), ({"rate": "5/s"}, None), ({"users": 5}, None)]
)
def test_what_an_open_load_kept_back_is_counted(load: dict[str, Any], dropped: int | None) -> None:
    done = LoadDone(t=75, window=(15, 75), generator_exit=0, dropped=37)
    found = measure(Trial(cell(load=load), observation(samples(6), [done])))
    assert found.get("dropped") == dropped


def test_what_a_line_carried_is_no_wait() -> None:
    slow = sample(0.0, 14.0, stages=STAGES)
    at_once = measure(Trial(cell(load={"burst": 1}), observation([slow], [])))
    carried = slow.model_copy(update={"uplink_s": 4.0})
    paced = measure(Trial(cell(load={"burst": 1}), observation([carried], [])))
    assert paced["wait"] == pytest.approx(at_once["wait"] - 4.0)
    assert paced["p95"] == at_once["p95"] == 14.0


def test_no_evidence_gives_no_metrics() -> None:
    assert measure(Trial(cell(), observation(evidence=[]))) == {}


def test_what_is_sent_before_or_after_the_window_does_not_count() -> None:
    sent = [sample(14.999), sample(15.0), sample(74.999), sample(75.0)]
    assert measure(Trial(cell(), observation(sent, [])))["attempts"] == 2


def test_errors_are_counted_by_cause_and_zeros_are_said() -> None:
    sent = [
        *samples(6, failed=2),
        sample(error=Cause.DB_REFUSED),
        sample(99, error=Cause.CONNECTION),
    ]
    found = measure(Trial(cell(), observation(sent, [])))
    assert (found["attempts"], found["succeeded"]) == (7, 4)
    assert found["error_rate"] == pytest.approx(3 / 7)
    assert (found["errors.pool_timeout"], found["errors.db_refused"]) == (2, 1)
    assert found["errors.connection"] == 0
    assert sum(found.get(f"errors.{cause}", 0) for cause in Cause) == 3


def test_percentiles_are_of_successes_and_p95_all_of_every_answer() -> None:
    sent = [sample(latency=second) for second in range(1, 20)]
    sent += [sample(latency=60, error=Cause.GATEWAY_TIMEOUT)] * 2
    sent += [sample(latency=119, error=Cause.CLIENT_TIMEOUT)] * 2
    sent += [sample(latency=0.001, error=Cause.CONNECTION)] * 50
    found = measure(Trial(cell(), observation(sent, [])))
    assert (found["p50"], found["p95"], found["p99"]) == (10, 19, 19)
    assert found["p95_all"] == 120


def test_without_a_success_there_is_no_percentile_but_there_is_a_throughput_of_zero() -> None:
    found = measure(Trial(cell(), observation(samples(5, failed=5), [])))
    assert "p95" not in found
    assert (found["throughput"], found["error_rate"]) == (0, 1)


def test_a_success_counts_towards_throughput_by_its_share_in_the_window() -> None:
    inside, half, before = sample(20, 4), sample(73, 4), sample(10, 4)
    found = measure(Trial(cell(), observation([inside, half, before, sample(11, 8)], [])))
    assert found["throughput"] == pytest.approx((1 + 0.5 + 0 + 0.5) / 60, abs=1e-6)


@given(st.integers(1, 8), st.floats(0.5, 40))
def test_a_steady_flow_is_measured_without_an_edge(users: int, latency: float) -> None:
    sent = [
        sample((user / users + turn) * latency, latency)
        for user in range(users)
        for turn in range(-1, int(80 / latency) + 1)
    ]
    found = measure(Trial(cell(), observation(sent, [])))
    assert found["throughput"] == pytest.approx(users / latency, abs=1e-5)


def test_a_burst_counts_whole_and_its_throughput_is_until_the_last_answer() -> None:
    sent = [sample(0, 2.0), sample(0, 8.0), sample(0, 10.0, Cause.RATE_LIMITED)]
    found = measure(Trial(cell(load={"burst": 3}), observation(sent, [])))
    assert (found["attempts"], found["throughput"]) == (3, 0.2)


def test_stage_means_are_of_successes_and_waits_of_failures_too() -> None:
    gave_up = sample(error=Cause.POOL_TIMEOUT, stages={"pool_wait": 10.0, "auth": 0.0})
    found = measure(Trial(cell(), observation([sample(stages=STAGES), gave_up], [])))
    assert (found["auth"], found["write"], found["gcs_latency"]) == (0.05, 0.1, 3.5)
    assert found["pool_wait"] == pytest.approx((0.003 + 10) / 2)


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"gcs_call": "blocking"}, 1 / 3.675),
        ({"gcs_call": "blocking", "workers": 2}, 2 / 3.675),
        ({"gcs_call": "blocking", "db_call": "threadpool"}, 1 / 3.5),
        ({"gcs_call": "to_thread"}, 6 / 3.5),
        ({"gcs_call": "executor", "gcs_threads": 8}, 8 / 3.5),
        ({"gcs_call": "executor", "gcs_threads": 100}, 1 / 0.175),
        ({"gcs_threads": 100, "db_session": "hold", "pool_size": 1, "max_overflow": 1}, 2 / 3.875),
        ({"gcs_threads": 100, "db_session": "hold", "workers": 4}, 25 / 3.875),
        ({"gcs_threads": 100, "db_session": "hold", "pool_class": "NullPool"}, 1 / 0.175),
        ({"gcs_threads": 9, "db_session": "hold", "max_overflow": "unlimited"}, 9 / 3.5),
        ({"gcs_threads": 99, "db_call": "threadpool", "nginx_connections": 64}, 31 / 3.675),
    ],
)
def test_capacity_is_the_scarcest_slots_divided_by_the_time_one_is_held(
    settings: dict[str, Any], law: float
) -> None:
    found = measure(Trial(cell(**settings), observation([sample(stages=STAGES)], [])))
    assert found["capacity"] == pytest.approx(law, abs=1e-5)
    assert found["utilisation"] == pytest.approx(found["throughput"] / law, abs=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_server_that_is_always_busy_is_used_whole_however_long_its_queue(seed: int) -> None:
    """Who is sent in the window is served a queue later, so the times are of who was served."""
    rng, users, now = random.Random(seed), 12, 0.0
    waiting, served = deque([0.0] * users), []
    while now < 500:
        gcs, sent_at = rng.uniform(2, 5), waiting.popleft()
        now += gcs + STAGES["auth"] + STAGES["release"] + STAGES["write"]
        served.append(sample(sent_at, now - sent_at, stages=STAGES | {"gcs": gcs}))
        waiting.append(now)
    load = {"users": users, "ramp": "0 s", "warmup": "100 s", "window": "300 s"}
    found = measure(Trial(cell(gcs_call="blocking", load=load), observation(served, [])))
    assert found["utilisation"] == pytest.approx(1.0, abs=0.015)


def test_a_peak_is_summed_over_workers_that_write_at_moments_of_their_own() -> None:
    lines = [
        worker(20.00, 1, checked_out=5, rss=100),
        worker(20.05, 2, checked_out=7, rss=200),
        worker(20.10, 1, checked_out=6, rss=90),
        worker(20.15, 2, checked_out=1, rss=90),
        worker(80.00, 1, checked_out=99, rss=999),
    ]
    found = measure(Trial(cell(), observation(evidence=lines)))
    assert (found["pool_checked_out"], found["rss_backend"]) == (13, 300)


def test_a_worker_that_is_gone_is_not_summed_for_ever() -> None:
    lines = [worker(20.0, 1, checked_out=5), worker(21.0, 2, checked_out=7)]
    assert measure(Trial(cell(), observation(evidence=lines)))["pool_checked_out"] == 7
    assert measure(Trial(cell(speed=5), observation(evidence=lines)))["pool_checked_out"] == 12


def test_running_totals_are_differenced_and_cpu_is_per_wall_second() -> None:
    lines: list[Evidence] = [
        worker(5, 1, cpu_s=100, gcs_attempts=50, gcs_bytes=5000),
        worker(15, 1, cpu_s=101, gcs_attempts=60, gcs_bytes=6000),
        worker(15, 2, cpu_s=11, gcs_attempts=6, gcs_bytes=600),
        worker(75, 1, cpu_s=104, gcs_attempts=90, gcs_bytes=9000),
        worker(75, 2, cpu_s=12, gcs_attempts=16, gcs_bytes=1600),
        machine(15, 0.2, generator=10.0),
        machine(75, 0.4, generator=16.0),
    ]
    found = measure(Trial(cell(speed=5), observation(evidence=lines)))
    assert found["cpu_backend"] == pytest.approx(4 / 12)
    assert found["cpu_worker_max"] == pytest.approx(3 / 12)
    assert found["cpu_generator"] == pytest.approx(6 / 12)
    assert found["cpu_machine"] == pytest.approx(0.3)
    assert found["gcs_attempts"] == 40
    assert found["net_to_gcs"] == pytest.approx(4000 / 60, abs=1e-5)


def test_a_running_total_that_begins_anew_has_grown_by_what_it_then_is() -> None:
    lines: list[Evidence] = [
        worker(15, 7, cpu_s=100, gcs_attempts=50, gcs_bytes=5000),
        worker(35, 7, cpu_s=103, gcs_attempts=80, gcs_bytes=8000),
        worker(55, 7, cpu_s=1, gcs_attempts=2, gcs_bytes=200),
        worker(75, 7, cpu_s=3, gcs_attempts=22, gcs_bytes=2200),
        *(
            machine(t).model_copy(update={"throttled_s": {"backend": s}})
            for t, s in ((15.0, 4.0), (35.0, 6.0), (45.0, 0.0), (75.0, 1.0))
        ),
    ]
    found = measure(Trial(cell(), observation(evidence=lines)))
    assert found["cpu_backend"] == found["cpu_worker_max"] == pytest.approx(6 / 60)
    assert found["gcs_attempts"] == 52
    assert found["net_to_gcs"] == pytest.approx(5200 / 60, abs=1e-5)
    assert found["throttled_backend"] == pytest.approx(3 / 60)


def test_one_reading_is_no_rate() -> None:
    found = measure(
        Trial(cell(), observation(evidence=[worker(20, cpu_s=5), machine(20, generator=5)]))
    )
    assert not {"cpu_backend", "cpu_worker_max", "cpu_generator", "net_to_gcs"} & set(found)


def test_memory_is_a_peak_and_throttling_a_share_of_the_wall_clock() -> None:
    lines = [
        machine(20).model_copy(
            update={"memory": {"backend": held}, "throttled_s": {"backend": s}, "t": t}
        )
        for t, held, s in ((20.0, 5, 1.0), (30.0, 9, 1.5), (40.0, 7, 3.0))
    ]
    found = measure(Trial(cell(), observation(evidence=lines)))
    assert found["memory_backend"] == 9
    assert found["throttled_backend"] == pytest.approx(2 / 20)
    silent = measure(Trial(cell(), observation(evidence=[worker(20)])))
    assert not {"memory_backend", "throttled_backend"} & set(silent)


def test_connections_peak_in_the_window_and_the_audit_is_of_the_trial() -> None:
    lines: list[Evidence] = [
        DatabaseReading(t=5, connections=25),
        DatabaseReading(t=20, connections=20),
        OomKill(t=5, pid=1, rss=1),
        audit(lost=["a"], orphans=["b", "c", "d"], unheard=["e", "f", "g"], inflight=1, refused=7),
    ]
    found = measure(Trial(cell(), observation(evidence=lines)))
    assert (found["pg_connections"], found["oom_kills"], found["db_refusals"]) == (20, 1, 7)
    assert (found["lost"], found["orphans"], found["unheard"]) == (1, 2, 3)


def test_what_an_audit_did_not_look_at_is_absent() -> None:
    earlier = measure(Trial(cell(), observation(evidence=[audit(unheard=None)])))
    assert earlier["lost"] == 0
    assert "unheard" not in earlier
    down = PartDown(t=90, part=AUDIT, why="storage does not answer the audit")
    failed = measure(Trial(cell(), observation(evidence=[down, audit()])))
    assert not {"db_refusals", "orphans", "unheard", "lost"} & set(failed)


def test_failures_that_no_client_heard_of_are_counted_by_the_workers_records() -> None:
    heard = sample(error=Cause.POOL_TIMEOUT, request="heard")
    records = [
        record("cut-0", 503, "pool_timeout"),
        record("cut-1", None, "db_error"),
        record("cut-2"),
        record("heard", 503, "pool_timeout"),
        record("of nobody's sample", 503, "pool_timeout"),
    ]
    found = measure(Trial(cell(), observation([heard, *cut_off(4)], records)))
    assert found["unseen_failures"] == 2
    assert (found["errors.pool_timeout"], found["errors.gateway_timeout"]) == (1, 4)
    assert "unseen_failures" not in measure(Trial(cell(), observation(cut_off(4), [])))


@given(st.lists(st.floats(0, 100), max_size=30), st.lists(st.floats(0, 100), max_size=30))
def test_whatever_is_measured_has_a_row_and_is_a_finite_number(
    sent: list[float], read: list[float]
) -> None:
    uploads = [sample(at, at / 7) for at in sent]
    found = measure(Trial(cell(), observation(uploads, [worker(at, cpu_s=at) for at in read])))
    assert set(found) <= set(BY_NAME)
    assert all(value == value and abs(value) < float("inf") for value in found.values())


def test_what_an_upload_waited_is_what_its_stages_do_not_explain() -> None:
    working = {"auth": 0.05, "release": 0.025, "gcs": 3.5, "write": 0.1}
    waits = [0.0, 1.0, 5.0]
    sent = [sample(20 + n, 3.675 + wait, stages=working) for n, wait in enumerate(waits)]
    failed = sample(30.0, 60.0, Cause.GATEWAY_TIMEOUT, stages={})
    found = measure(Trial(cell(), observation([*sent, failed])))
    assert found["wait"] == pytest.approx(2.0)
    assert found["wait_p95"] == pytest.approx(5.0)


def test_without_stages_nothing_is_said_of_waiting() -> None:
    found = measure(Trial(cell(), observation([sample(stages={})])))
    assert not {"wait", "wait_p95"} & set(found)


def test_every_row_of_the_table_is_measured_and_nothing_else() -> None:
    assert set(MEASURES) == set(BY_NAME)
