"""PgBouncer in the verdict: its figures, what waits in it are, what it carries."""

from __future__ import annotations

from typing import Any

import pytest

from lab.judge import judge
from lab.judge.capacity_bound import capacity
from lab.judge.coverage import uncovered
from lab.judge.delays import database_checks
from lab.judge.injection import checks
from lab.judge.trial import Trial
from lab.judge.validity import beyond_trips
from lab.judge.waiting import Station, Waiting
from lab.model.evidence import (
    Cause,
    Evidence,
    LoadDone,
    PartDown,
    Sample,
    Shortage,
)
from lab.model.pooler import PoolerReading
from lab.model.readings import DatabaseReading
from tests.unit.judge.observations import (
    STAGES,
    WINDOW,
    at_rest,
    audit,
    cell,
    observation,
    record,
    sample,
    samples,
    worker,
)

TIMES = range(15, 76, 5)
ON: dict[str, Any] = {"pooler": "transaction", "pooler_size": 4, "gcs_threads": 60}
FAR = ["db-distance"]


def reading(t: float, **values: Any) -> PoolerReading:
    fields = set(PoolerReading.model_fields) - {"kind", "t"}
    return PoolerReading.model_validate(dict.fromkeys(fields, 0) | {"t": t} | values)


def pooler(**values: Any) -> list[Evidence]:
    """Readings throughout; in each second two transactions ended, which had waited 1.5 s."""
    totals = ({"wait_s": 1.5 * t, "transactions": 2 * t} for t in TIMES)
    return [reading(t, **total | values) for t, total in zip(TIMES, totals, strict=True)]


FULL = {"clients_active": 4, "clients_waiting": 9, "servers_active": 4, "longest_wait_s": 2.5}


def test_its_metrics_are_its_peaks_and_means_in_the_window() -> None:
    before = reading(5, clients_waiting=80, wait_s=0.0, longest_wait_s=70.0)
    trial = Trial(cell(**ON), observation(samples(30), [*at_rest(), before, *pooler(**FULL)]))
    found = {name: value for name, value in trial.metrics.items() if name.startswith("pooler")}
    assert found == {
        "pooler_clients": 13,
        "pooler_waiting": 9,
        "pooler_wait": 0.75,
        "pooler_wait_max": 2.5,
    }


def test_without_it_there_are_none() -> None:
    trial = Trial(cell(), observation(samples(30)))
    assert not [name for name in trial.metrics if name.startswith("pooler")]


def test_without_a_transaction_there_is_no_mean_wait() -> None:
    idle = [reading(t, clients_active=1) for t in TIMES]
    trial = Trial(cell(**ON), observation(samples(30), [*at_rest(), *idle]))
    assert trial.metrics["pooler_clients"] == 1
    assert "pooler_wait" not in trial.metrics


def late(**stages: float) -> Sample:
    """An upload whose stages took so long beyond what they do at rest."""
    took = STAGES | {name: STAGES[name] + more for name, more in stages.items()}
    return sample(30.0, sum(took.values()), stages=took)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (FULL, {Station.POOLER: 5.003, Station.DATABASE: 0.175}),
        ({"servers_active": 3}, {Station.DATABASE: 5.178}),  # the database itself is slow
        ({"clients_waiting": 1, "servers_active": 3}, {Station.DATABASE: 5.178}),  # it opens one
    ],
    ids=["full", "idle", "not full"],
)
def test_a_wait_in_it_is_what_a_stage_takes_beyond_its_trips_while_it_is_full(
    values: dict[str, Any], expected: dict[Station, float]
) -> None:
    workers = [worker(t, inflight=9) for t in TIMES]
    evidence = [*workers, *pooler(**values), *(x for x in at_rest() if x.kind == "load")]
    upload = late(auth=2.0, write=3.0)
    life = Waiting(Trial(cell(faults=FAR, **ON), observation([upload], evidence))).life(upload)
    found = {station: (life.waits | life.service).get(station, 0.0) for station in expected}
    assert found == pytest.approx(expected)
    assert life.waited + life.served == pytest.approx(upload.latency_s)


def test_by_a_workers_record_it_lies_at_the_head_of_the_stage() -> None:
    """The first reading after the wait finds it no longer full, so the trips are the database's."""
    spans = [("pool_wait", 20.0, 0.0), ("auth", 20.0, 10.05), ("gcs", 30.05, 3.5)]
    ended = record("1", t=33.6, arrived=20.0, spans=spans, worker=1)
    full = [reading(t, **FULL) if t < 30 else reading(t, servers_active=1) for t in TIMES]
    workers = [worker(t, inflight=9) for t in TIMES]
    upload = sample(20.0, 13.6, request="1", stages={"auth": 10.05, "gcs": 3.5})
    trial = Trial(cell(faults=FAR, **ON), observation([upload], [*workers, *full, ended]))
    life = Waiting(trial).life(upload)
    assert life.waits[Station.POOLER] == pytest.approx(10.0 * 2 / 3)  # of 20, 25 and 30 s
    assert life.service[Station.DATABASE] == pytest.approx(10.0 / 3 + 0.05)


@pytest.mark.parametrize(
    ("knobs", "bound"),
    [
        # 60 threads of 3.5 s carry 17 a second, 4 connections that two transactions of 0.1 s have
        # 20, and one loop that an upload has for 0.175 s 5.7: it is not the limit …
        ({"db_call": "threadpool"}, 60 / 3.5),
        # … as 2 of them are, which carry 10; the database's cap does not count behind it.
        ({"db_call": "threadpool", "pooler_size": 2, "db_cap": 2}, 10.0),
        # A session has its own for all the time that its client has it: 1.675 s less the wait.
        ({"db_call": "threadpool", "pooler": "session"}, 4 / 0.175),
    ],
    ids=["threads", "transactions", "sessions"],
)
def test_the_capacity_bound_counts_the_time_that_a_connection_is_lent(
    knobs: dict[str, Any], bound: float
) -> None:
    """In each second 20 transactions ended, that waited 0.75 s, and two connections were lent."""
    wait = 0.75
    totals = ({"wait_s": 20 * wait * t, "transactions": 20 * t} for t in TIMES)
    lines = [reading(t, servers_active=2, **of) for t, of in zip(TIMES, totals, strict=True)]
    stages = STAGES | {"auth": STAGES["auth"] + 2 * wait}
    many = [sample(WINDOW[0] + i, 5.4, stages=stages) for i in range(30)]
    of = cell(**{**ON, "anyio_threads": 200, "max_overflow": "unlimited", **knobs})
    if knobs.get("pooler") == "session":
        of = of.model_copy(update={"knobs": of.knobs.with_settings({"gcs_threads": 256})})
    trial = Trial(of, observation(many, [*at_rest(), *lines]))
    assert capacity(trial) == pytest.approx(bound)


def test_what_waits_for_it_is_no_work_that_a_speed_does_not_divide() -> None:
    slow = [late(auth=0.75, write=0.75) for _ in range(30)]
    seen = observation(slow, [*at_rest(), *pooler(**FULL)])
    assert beyond_trips(Trial(cell(faults=FAR, **ON), seen)) == pytest.approx(0.0)
    assert beyond_trips(Trial(cell(faults=FAR), observation(slow))) == pytest.approx(1.5)


@pytest.mark.parametrize(("waiting", "ok"), [(9, True), (0, False)])
def test_the_distance_is_not_too_long_where_even_the_fastest_waited_in_it(
    waiting: int, ok: bool
) -> None:
    slow = [late(auth=0.75) for _ in range(30)]
    evidence = [*at_rest(), *pooler(**FULL | {"clients_waiting": waiting})]
    evidence = [line for line in evidence if line.kind != "upload"]
    found = {
        c.name: c.ok
        for c in database_checks(Trial(cell(faults=FAR, **ON), observation(slow, evidence)))
    }
    assert found == {"auth": ok, "release": True, "write": True}


@pytest.mark.parametrize(("connections", "ok"), [(4, True), (5, False)])
def test_it_opens_no_more_connections_than_it_may(connections: int, ok: bool) -> None:
    peak = DatabaseReading(t=40, connections=connections)
    evidence = [x for x in at_rest() if x.kind != "database"]
    trial = Trial(cell(**ON), observation(samples(30), [*evidence, peak, *pooler()]))
    [check] = [check for check in checks(trial) if check.name == "connections"]
    assert (check.expected, check.ok) == ("<= 4", ok)
    assert check.reason.startswith(f"PgBouncer opened {connections} of 4 connections")


@pytest.mark.parametrize(
    ("by_postgres", "resource", "words"),
    [
        (0, "pooler", "PgBouncer lent 1 of 4 connections at most, and it gave up on 30 of 90 up"),
        (9, "database_slots", "Postgres granted 4 of 25 connections and refused 30 of 90 uploads"),
    ],
)
def test_who_refused_an_upload_postgres_log_tells(
    by_postgres: int, resource: str, words: str
) -> None:
    failed = [sample(20 + i, 1.0, Cause.DB_REFUSED) for i in range(30)]
    evidence = [x for x in at_rest() if x.kind not in ("audit", "database")]
    evidence += [DatabaseReading(t=30, connections=4)]
    evidence += [*pooler(servers_active=1), audit(refused=by_postgres)]
    verdict = judge(cell("error_rate < 5 %", **ON), observation([*samples(60), *failed], evidence))
    assert verdict.limit
    assert verdict.limit.resource == resource
    assert verdict.limit.evidence.startswith(words)


@pytest.mark.parametrize(("told", "resource"), [(30, "pooler"), (0, "database")])
def test_whom_it_gave_up_on_its_own_log_tells(told: int, resource: str) -> None:
    failed = [sample(20 + i, 1.0, Cause.DB_ERROR) for i in range(30)]
    evidence = [x for x in at_rest() if x.kind not in ("audit", "database")]
    said = [Shortage(part="pgbouncer", of="connections", count=told)] if told else []
    evidence += [DatabaseReading(t=30, connections=4), audit(shortages=said)]
    seen = observation([*samples(60), *failed], [*evidence, *pooler(servers_active=4)])
    verdict = judge(cell("error_rate < 5 %", **ON), seen)
    assert verdict.limit
    assert verdict.limit.resource == resource


def test_readings_that_are_missing_make_a_cell_invalid() -> None:
    done = LoadDone(t=80, window=WINDOW, generator_exit=0, beat_s=0.1)
    every = [t / 10 for t in range(801)]
    lines: list[Evidence] = [done]
    for t in every:
        lines += [worker(t, cpu_s=t), DatabaseReading(t=t, connections=1)]
    lines += [line for line in at_rest() if line.kind == "audit"]
    machines = [
        m.model_copy(update={"t": float(t)})
        for t in range(81)
        for m in at_rest()
        if m.kind == "machine" and m.t == 15
    ]
    users = [sample(t, 1.0) for t in range(75)]

    def of(readings: list[Evidence], *more: Evidence) -> list[str]:
        seen = observation(users, [*lines, *machines, *readings, *more])
        return uncovered(Trial(cell(**ON), seen.model_copy(update={"beats": tuple(every)})))

    assert of([reading(t) for t in every]) == []
    [said] = of([reading(t) for t in every if not 30 < t < 40])
    assert said.startswith("nobody read PgBouncer for 10.0 s, from 30.0 s: it gave no answer")
    assert of([], PartDown(t=30, part="pgbouncer", why="killed")) == []
