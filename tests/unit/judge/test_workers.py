"""Workers side by side: their shares, who stood idle, the two laws, and when the split limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.metrics import measure
from lab.judge.split import carried_evenly
from lab.judge.trial import Trial
from lab.judge.workers import worker_shares
from lab.model.evidence import Cause, Evidence, Sample
from lab.model.verdict import Resource
from tests.unit.judge.observations import (
    STAGES,
    WINDOW,
    at_rest,
    cell,
    observation,
    on_cloudrun,
    record,
    sample,
    worker,
)
from tests.unit.judge.test_bottleneck import HOLD, SLOW, limit, lived

QUEUE = STAGES | {"gcs_queue": 16.2}
"""The stages of an upload that waited 16 s for a thread."""

Gauges = Mapping[str, Any]
THREADS: Gauges = {"inflight": 20, "threads_busy": 8, "threads_queued": 12}
"""A worker whose eight threads are full, with a queue."""
HALF: Gauges = {"inflight": 4, "threads_busy": 4}


def split(*counts: int, latency: float = 4.0, stages: dict[str, float] = STAGES) -> list[Sample]:
    """So many uploads of each worker, numbered from 1, all over the first 50 s of the window.

    Those of the first take longer where ``latency`` says so.
    """
    return [
        sample(
            WINDOW[0] + 50 * i / count,
            latency if pid == 1 else 4.0,
            stages=stages if pid == 1 else STAGES,
            worker=pid,
        )
        for pid, count in enumerate(counts, start=1)
        for i in range(count)
    ]


def side_by_side(*workers: Gauges) -> list[Evidence]:
    """The evidence of workers, numbered from 1, that stood at these gauges throughout."""
    first, *others = workers
    beside = [line for pid, gauges in enumerate(others, 2) for line in lived(pid=pid, **gauges)]
    return [*lived(**first), *(line for line in beside if line.kind == "worker")]


MANY = {"users": 60}
TWO: dict[str, Any] = {"workers": 2, "gcs_threads": 8, "load": MANY}
LATE = split(60, 30, latency=SLOW, stages=QUEUE)
ANYIO = {"inflight": 20, "anyio_busy": 40, "anyio_queued": 9}
NO_WAIT = {"inflight": 4, "anyio_busy": 3}

CELLS: list[tuple[str, dict[str, Any], list[Sample], list[Evidence], str]] = [
    (
        "one of two workers is full, the other half",
        TWO,
        LATE,
        side_by_side(THREADS, HALF),
        "worker_split",
    ),
    (
        "one of four, that shares their audio threads with nobody",
        {"workers": 4, "gcs_call": "audio_pool", "audio_threads": 8, "load": MANY},
        split(60, 20, 20, 20, latency=SLOW, stages=QUEUE),
        side_by_side(THREADS, HALF, HALF, HALF),
        "worker_split",
    ),
    (
        "one event loop, held by storage calls, has a queue, and the other waits for work",
        {"workers": 2, "gcs_call": "blocking", "load": MANY},
        split(14, 7, latency=SLOW),
        side_by_side(
            {"busy": 0.99, "inflight": 20, "threads_busy": 1, "loop_lag": 5},
            {"busy": 0.5, "inflight": 1, "threads_busy": 1},
        ),
        "worker_split",
    ),
    (
        "one worker's pool is empty, and the other's is not",
        {**TWO, **HOLD, "db_call": "threadpool", "pool_size": 5, "max_overflow": 0},
        split(60, 30, latency=SLOW, stages=STAGES | {"pool_wait": 16.0}),
        side_by_side(
            {"inflight": 20, "checked_out": 5, "waiting": 15, "threads_busy": 5},
            {"inflight": 2, "checked_out": 2, "threads_busy": 2},
        ),
        "worker_split",
    ),
    (
        "one worker's threads of anyio are full",
        {**TWO, "db_call": "threadpool"},
        split(60, 30, latency=SLOW, stages={"anyio_queue": 16.0, **STAGES}),
        side_by_side(ANYIO, NO_WAIT),
        "worker_split",
    ),
    ("both are full", TWO, LATE, side_by_side(THREADS, THREADS), "own_threads"),
    (
        "a single worker has a queue",
        {"gcs_threads": 8, "load": MANY},
        split(60, latency=SLOW, stages=QUEUE),
        side_by_side(THREADS),
        "own_threads",
    ),
    (
        "least_conn shares out evenly what is too much for both",
        {**TWO, "balance": "least_conn"},
        [*split(45, latency=SLOW, stages=QUEUE), *LATE[:45]],
        side_by_side(THREADS, {**THREADS, "threads_queued": 11}),
        "own_threads",
    ),
    (
        "all that arrives is carried, however it is split",
        {**TWO, "load": {"rate": "1.5/s", "warmup": "15 s", "window": "60 s"}},
        LATE,
        side_by_side(THREADS, HALF),
        "own_threads",
    ),
    (
        "a worker took the place of one that died",
        TWO,
        LATE,
        side_by_side(THREADS, HALF, HALF),
        "own_threads",
    ),
]
"""Ten cells, whose limit is known because they are made so."""


@pytest.mark.parametrize(
    ("settings", "sent", "evidence", "resource"),
    [case[1:] for case in CELLS],
    ids=[case[0] for case in CELLS],
)
def test_the_split_limits_where_one_is_full_and_another_is_not(
    settings: dict[str, Any], sent: list[Sample], evidence: list[Evidence], resource: str
) -> None:
    assert limit(cell(**settings), observation(sent, evidence)).resource == resource


def test_its_evidence_says_what_an_even_split_would_carry() -> None:
    found = limit(cell(**TWO), observation(LATE, side_by_side(THREADS, HALF)))
    even = 16 / 3.5  # threads of both, by the seconds that one is held
    assert found.evidence.startswith(
        "the busiest of 2 workers had 67 % of the uploads and was full, while another used 50 % of"
        f" its slots: they carried 1.45 uploads/s, and an even split would carry {even:.2f}; "
    )


@pytest.mark.parametrize(
    ("load", "even"),
    [
        (MANY, 16 / 3.5),
        ({"users": 8}, 8 / 3.675),
        ({"users": 8, "think": "2 s"}, 8 / 5.675),
        ({"rate": "2/s"}, 2.0),
        ({"rate": "9/s"}, 16 / 3.5),
        ({"burst": 30}, 16 / 3.5),
    ],
)
def test_an_even_split_carries_no_more_than_is_offered(load: dict[str, Any], even: float) -> None:
    trial = Trial(cell(**{**TWO, "load": load}), observation(split(30, 10), []))
    assert carried_evenly(trial) == pytest.approx(even, abs=1e-5)


def test_a_cell_that_held_names_the_split_that_would_be_the_first_limit() -> None:
    verdict = judge(cell(**TWO), observation(split(60, 30), side_by_side(THREADS, HALF)))
    assert verdict.outcome == "held"
    assert verdict.limit
    assert verdict.limit.resource is Resource.WORKER_SPLIT


def test_a_cloud_run_instance_knows_no_split() -> None:
    of = on_cloudrun(workers=2, gcs_threads=8)
    verdict = judge(of, observation(LATE, side_by_side(THREADS, HALF)))
    assert verdict.workers == ()
    assert not {"capacity_split", "worker_share_max", "split_idle"} & verdict.metrics.keys()


def test_each_worker_has_a_row_and_the_one_with_most_is_first() -> None:
    rows = worker_shares(Trial(cell(**TWO), observation(LATE, side_by_side(HALF, THREADS))))
    served = split(60, 30, latency=SLOW)
    inside = [(75 - s.sent_at) / s.latency_s for s in served]
    first, second = (
        sum(min(1.0, share) for s, share in zip(served, inside, strict=True) if s.worker == pid)
        for pid in (1, 2)
    )
    told = [(row.worker, row.uploads, row.busy, row.queued, row.idle) for row in rows]
    assert told == [(1, 60, 0.5, 0.0, 1.0), (2, 30, 1.0, 1.0, 0.0)]
    assert [row.share for row in rows] == pytest.approx([2 / 3, 1 / 3], abs=1e-6)
    assert [row.rate for row in rows] == pytest.approx([first / 60, second / 60], abs=1e-6)


def test_a_worker_is_known_by_the_record_or_else_by_the_answer() -> None:
    sent = [
        sample(20, request="a", worker=1),
        sample(21, 4.0, Cause.CLIENT_TIMEOUT, request="b"),
        sample(22, 4.0, Cause.CONNECTION, request="c"),
    ]
    trial = Trial(cell(**TWO), observation(sent, [record("b", worker=2)]))
    assert [trial.worker_of(one) for one in sent] == [1, 2, None]
    assert measure(trial)["worker_share_max"] == 0.5


@pytest.mark.parametrize(
    ("settings", "even", "busiest"),
    [
        ({"gcs_threads": 8}, 16 / 3.5, 8 / 3.5 / 0.75),
        ({"gcs_call": "blocking"}, 2 / 3.675, 1 / 3.675 / 0.75),
        ({"gcs_threads": 60}, 2 / 0.175, 1 / 0.175 / 0.75),
        ({"gcs_threads": 60, "db_call": "threadpool", "db_cap": 1}, 1 / 0.175, 1 / 0.175),
        ({"gcs_threads": 8, "workers": 4}, 32 / 3.5, 8 / 3.5 / 0.75),
    ],
    ids=["threads", "loops", "loops and the database", "what both share", "two never seen"],
)
def test_the_law_of_the_split_is_that_of_the_busiest_worker(
    settings: dict[str, Any], even: float, busiest: float
) -> None:
    of = cell(**{"workers": 2, **settings})
    found = measure(Trial(of, observation(split(30, 10), [])))
    assert found["capacity"] == pytest.approx(even, abs=1e-5)
    assert found["capacity_split"] == pytest.approx(busiest, abs=1e-5)
    assert found["utilisation_split"] == pytest.approx(found["throughput"] / busiest, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"workers": 1}, split(30)),
        ({"workers": 2}, [sample(stages=STAGES)]),
        ({"workers": 2}, split(10, 10, 10)),
    ],
    ids=["a single worker", "nobody says who answered", "one was replaced"],
)
def test_without_a_split_there_is_no_law_of_it(
    settings: dict[str, Any], sent: list[Sample]
) -> None:
    found = measure(Trial(cell(**settings), observation(sent, [])))
    assert "capacity" in found
    assert not {"capacity_split", "utilisation_split"} & found.keys()


def test_a_closed_load_that_goes_where_it_will_is_carried_as_the_law_of_the_split_says() -> None:
    """Two workers of two threads, of which the first is sent two of three uploads, and users that
    wait for nothing else: the first is always full, and sets the rate of both."""
    sent: list[Sample] = []
    free, now, turn = {1: [0.0, 0.0], 2: [0.0, 0.0]}, [0.0] * 20, 0
    while min(now) < 400:
        user = now.index(min(now))
        pid = 2 if turn % 3 == 2 else 1
        begun = max(now[user], min(free[pid]))
        free[pid].remove(min(free[pid]))
        free[pid].append(begun + 3.5)
        stages = {"auth": 0.0, "write": 0.0, "gcs": 3.5, "gcs_queue": begun - now[user]}
        sent.append(sample(now[user], begun + 3.5 - now[user], stages=stages, worker=pid))
        now[user], turn = begun + 3.5, turn + 1
    load = {"users": 20, "ramp": "0 s", "warmup": "100 s", "window": "300 s"}
    found = measure(Trial(cell(workers=2, gcs_threads=2, load=load), observation(sent, [])))
    assert found["worker_share_max"] == pytest.approx(2 / 3, abs=0.02)
    assert found["throughput"] == pytest.approx(2 / 3.5 * 1.5, rel=0.03)
    assert found["utilisation_split"] == pytest.approx(1.0, abs=0.03)
    assert found["utilisation"] == pytest.approx(0.75, abs=0.03)


FREE, QUEUED = {"inflight": 7, "threads_busy": 7}, {**THREADS}
FULL = {"inflight": 8, "threads_busy": 8}


@pytest.mark.parametrize(
    ("first", "second", "idle"),
    [
        (QUEUED, FREE, 1.0),
        (QUEUED, FULL, 0.0),
        (QUEUED, QUEUED, 0.0),
        (FREE, FREE, 0.0),
        ({"inflight": 2, "loop_lag": 1}, {"inflight": 0}, 1.0),
        ({"inflight": 1, "loop_lag": 1}, {"inflight": 0}, 0.0),
    ],
)
def test_a_worker_stands_idle_where_it_has_a_free_slot_and_another_a_queue(
    first: Gauges, second: Gauges, idle: float
) -> None:
    readings = [worker(20 + i / 10, 1 + i % 2, **(second if i % 2 else first)) for i in range(20)]
    found = measure(Trial(cell(**TWO), observation(evidence=readings)))
    assert found["split_idle"] == idle


def test_moments_at_which_a_worker_was_not_read_count_for_nothing() -> None:
    beside = [line for t in (20.0, 40.0) for line in (worker(t, 1, **QUEUED), worker(t + 0.1, 2))]
    alone = [worker(30 + i, 1, **QUEUED) for i in range(5)]
    found = measure(Trial(cell(**TWO), observation(evidence=[*beside, *alone])))
    assert found["split_idle"] == 1.0
    assert "split_idle" not in measure(Trial(cell(**TWO), observation(evidence=alone)))


def test_a_connection_is_reused_that_brought_its_worker_a_request_before() -> None:
    ports = {"a": (1, 7), "b": (1, 8), "c": (1, 7), "d": (2, 7), "e": (2, None)}
    came = [
        record(name, worker=pid, peer=peer, arrived=20.0 + number)
        for number, (name, (pid, peer)) in enumerate(ports.items())
    ]
    sent = [sample(20.0 + number, request=name) for number, name in enumerate(ports)]
    before = record("of a probe", worker=2, peer=7, arrived=3.0)
    measured = measure(Trial(cell(), observation(sent, [*at_rest(), *came])))
    assert measured["connections_reused"] == 0.25
    measured = measure(Trial(cell(), observation(sent, [*at_rest(), *came, before])))
    assert measured["connections_reused"] == 0.5
    unknown = [one.model_copy(update={"peer": None}) for one in came]
    assert "connections_reused" not in measure(Trial(cell(), observation(sent, unknown)))
