"""The metrics of a trial: of its samples, of its readings, and the bound of its slots."""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.judge.criteria import decide
from lab.judge.metrics import FAMILIES, MEASURES, measure
from lab.judge.trial import Trial
from lab.model.evidence import AUDIT, Cause, Evidence, LoadDone, OomKill, PartDown
from lab.model.journeys import Journey
from lab.model.metrics import BY_NAME, TABLE, home_of, only_on, status_of
from lab.model.pooler import PoolerReading
from lab.model.readings import DatabaseReading, DatabaseStatements
from tests.unit.judge.observations import (
    STAGES,
    at_rest,
    audit,
    burst,
    cell,
    container,
    cut_off,
    database,
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
            {**gauges, "t": t, "longest_wait_s": 1, "wait_s": t, "transactions": t}
        )
        for t in (20, 40)
    ]


def test_all_evidence_gives_all_metrics_in_the_tables_order() -> None:
    sent = [*samples(99, failed=1), sample(20.0, stages=STAGES, request="accepted")]
    stored = record("accepted", handed=20.0, arrived=20.1, spans=[("gcs", 20.2, 3.0)], peer=7)
    recorded = [*at_rest(), stored, *pooler()]
    recorded += [worker(t, 2, cpu_s=t / 20) for t in (15.0, 45.0, 75.0)]
    vm = measure(Trial(cell(workers=2, health_probe="10 s"), observation(sent, recorded)))
    cloudrun = measure(Trial(on_cloudrun(), observation(burst(), [*at_rest(), *one_instance()])))
    for found in (vm, cloudrun):
        assert list(found) == [name for name in BY_NAME if name in found]
    rows = {BY_NAME[name].name for name in (*vm, *cloudrun)}
    of_long_windows = {row.name for row in TABLE if row.name.endswith("_slope")}
    of_journeys = {name for name in BY_NAME if home_of(name) is not Journey.UPLOAD}
    of_other_loads = {"dropped", *of_journeys}
    assert rows == {row.name for row in TABLE} - of_long_windows - of_other_loads


def test_what_is_of_one_target_alone_is_absent_on_the_other() -> None:
    upload = sample(0.0, 14.0, stages=STAGES, worker=1)
    both: list[Evidence] = [DatabaseReading(t=5, connections=1), audit()]
    for t in (1.0, 9.0):
        both += [worker(t), worker(t, 2), container(t, 100, t / 100)]
    vm = measure(Trial(cell(load={"burst": 1}, workers=2), observation([upload], both)))
    cloudrun = measure(Trial(on_cloudrun(), observation(burst(), [*both, *one_instance()])))
    for target, lone in (("cloudrun", {*cloudrun} - {*vm}), ("vm", {*vm} - {*cloudrun})):
        assert {name for name in lone if not status_of(name)} == {
            name for name in BY_NAME if only_on(name) == target
        }
    assert {*cloudrun} - {*vm} == {
        "status.429",
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
        "queue_wait_p50",
        "queue_wait_p95",
        "queue_wait_p99",
        "queue_wait_refused",
    }
    assert {*vm} - {*cloudrun} == {
        "capacity_split",
        "utilisation_split",
        "worker_share_max",
        "split_idle",
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
    assert MEASURES.keys() | FAMILIES.keys() == {row.name for row in TABLE}
    assert FAMILIES.keys() == {row.name for row in TABLE if row.members}


def test_answers_are_counted_by_their_status_and_what_is_asked_for_is_known_to_be_0() -> None:
    answers = {200: 5, 413: 3, 503: 2}
    sent = [sample(status=code) for code, count in answers.items() for _ in range(count)]
    sent += [sample(5.0, status=404), sample(error=Cause.CLIENT_TIMEOUT)]
    found = measure(Trial(cell("status.429 == 0", "p95 < 9 s"), observation(sent, [])))
    told = {name: value for name, value in found.items() if name.startswith("status.")}
    assert told == {f"status.{code}": count for code, count in {**answers, 429: 0}.items()}
    assert list(told) == sorted(told)
    assert "status.429" not in measure(Trial(cell("status.429 == 0"), observation([], [])))


@pytest.mark.parametrize(
    ("criterion", "outcome", "reason"),
    [
        ("status.413 == 0", "missed", "status.413 3 against == 0"),
        ("status.413 < 4", "met", "status.413 3 against < 4"),
        ("status.504 == 0", "met", "status.504 0 against == 0"),
    ],
)
def test_a_criterion_may_be_on_a_status(criterion: str, outcome: str, reason: str) -> None:
    of = cell(criterion)
    sent = [*samples(9), *(sample(error=Cause.BODY_TOO_LARGE, status=413) for _ in range(3))]
    finding = decide(of.criteria[0], Trial(of, observation(sent)))
    assert (finding.outcome, finding.reason.partition(";")[0]) == (outcome, reason)


def test_attempts_a_second_are_those_of_the_window() -> None:
    assert measure(Trial(cell(), observation(samples(90), [])))["attempt_rate"] == 90 / 60
    sent = [sample(0.0, float(second)) for second in range(1, 11)]
    assert measure(Trial(cell(load={"burst": 10}), observation(sent, [])))["attempt_rate"] == 1.0
    assert "attempt_rate" not in measure(Trial(cell(), observation([sample(1.0)], [])))


TOTALS = ("gcs_attempts", "gcs_bytes", "gcs_failed", "gcs_retried", "gcs_acknowledged_bytes")


def test_storage_calls_are_counted_as_their_workers_counted_them() -> None:
    """Two workers; each attempt of the window is drawn, and the totals are summed from them."""
    rng, lines, seen = random.Random(3), [], Counter[str]()
    for pid in (1, 2):
        totals = Counter(dict.fromkeys(TOTALS, 1000))
        for t in range(15, 76):
            lines.append(worker(float(t), pid, **totals))
            for _ in range(rng.randrange(4) if t < 75 else 0):
                size, failed, again = rng.randrange(1, 9000), rng.random() < 0.3, rng.random() < 0.2
                grown = Counter(gcs_attempts=1, gcs_bytes=size, gcs_failed=int(failed))
                grown.update(gcs_retried=int(again), gcs_acknowledged_bytes=0 if failed else size)
                totals.update(grown)
                seen.update(grown)
    found = measure(Trial(cell(speed=5), observation(evidence=lines)))
    assert found["gcs_attempts"] == seen["gcs_attempts"]
    assert found["gcs_failures"] == seen["gcs_failed"]
    assert found["gcs_retries"] == seen["gcs_retried"]
    assert found["net_to_gcs"] == pytest.approx(seen["gcs_bytes"] / 60, abs=1e-5)
    assert found["gcs_acknowledged"] == pytest.approx(seen["gcs_acknowledged_bytes"] / 60, abs=1e-5)


def test_bytes_on_the_network_are_a_real_second_and_begin_anew_with_a_container() -> None:
    parts = ("nginx", "backend", "postgres", "fake-gcs-server")

    def read(t: float, total: float) -> Evidence:
        totals = {part: total * n for n, part in enumerate(parts, start=1)}
        sent = {part: value / 2 for part, value in totals.items()}
        return machine(t).model_copy(update={"received": totals, "sent": sent})

    lines = [read(5, 9e9), read(15, 1000.0), read(35, 5000.0), read(55, 600.0), read(75, 1600.0)]
    found = measure(Trial(cell(speed=10), observation(evidence=lines)))
    for n, name in enumerate(("nginx", "backend", "postgres", "storage"), start=1):
        assert found[f"net_in_{name}"] == pytest.approx(n * (4000 + 600 + 1000) / 60, abs=1e-5)
        assert found[f"net_out_{name}"] == pytest.approx(found[f"net_in_{name}"] / 2, abs=1e-5)


def test_waits_for_locks_are_a_peak_and_a_share_of_the_readings() -> None:
    waiting = [0, 0, 3, 1, 0, 0, 0, 2]
    lines = [database(20.0 + n, count, active=5) for n, count in enumerate(waiting)]
    lines += [database(5.0, 9, active=9)]
    found = measure(Trial(cell(), observation(evidence=lines)))
    assert (found["pg_lock_waiting"], found["pg_lock_share"]) == (3, 3 / 8)


def test_statements_are_those_of_the_whole_load() -> None:
    counted = DatabaseStatements(t=90, calls=700, total_s=1.4, max_s=0.25)
    sent = [sample(2.0, 4.0), sample(60.0, 40.0)]
    trial = Trial(cell(), observation(sent, [counted]))
    found = measure(trial)
    assert (found["db_query"], found["db_query_max"]) == (1.4 / 700, 0.25)
    assert found["db_query_rate"] == 700 / 100
    assert measure(Trial(cell(), observation(sent[:1], [counted])))["db_query_rate"] == round(
        700 / 75, 6
    )
    names = {"db_query", "db_query_max", "db_query_rate"}
    assert not names & set(measure(trial.restricted((0.0, 60.0))))
    none = DatabaseStatements(t=90, calls=0, total_s=0, max_s=0)
    assert not names & set(measure(Trial(cell(), observation(sent, [none]))))


def test_what_an_earlier_lab_did_not_read_has_no_figure() -> None:
    newly: dict[str, Any] = dict.fromkeys(TOTALS[2:])
    lines: list[Evidence] = [
        *(worker(t, **newly) for t in (15.0, 75.0)),
        *(machine(t, backend=t) for t in (15.0, 75.0)),
        DatabaseReading(t=30, connections=10),
    ]
    found = measure(Trial(cell(), observation(samples(6), lines)))
    assert found["gcs_attempts"] == 0
    assert found["pg_connections"] == 10
    absent = {"gcs_failures", "gcs_retries", "gcs_acknowledged", "pg_lock_waiting"}
    absent |= {"pg_lock_share", "db_query", "net_in_backend", "net_out_nginx"}
    assert not absent & set(found)
