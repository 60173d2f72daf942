"""The bottleneck of cells whose limit is known because they are made so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.judge import judge
from lab.judge.bottleneck import DIED_WITH, RULES, rule
from lab.judge.decision import bottleneck
from lab.judge.levels import Level
from lab.judge.trial import Trial
from lab.judge.waiting import Life, Station, Waiting, excess
from lab.model.evidence import Cause, Evidence, LoadDone, Observation, OomKill, Shortage
from lab.model.experiment import Cell
from lab.model.pooler import PoolerReading
from lab.model.probe import ProbeRecord
from lab.model.readings import DatabaseReading
from lab.model.verdict import Bottleneck, Resource
from tests.unit.judge.observations import (
    STAGES,
    WINDOW,
    at_rest,
    audit,
    cell,
    cut_off,
    front,
    instance,
    machine,
    observation,
    record,
    sample,
    worker,
)

TIMES = range(15, 76, 5)

ENDED_FOR_SILENCE = [
    *(
        ProbeRecord(t=30 + n, event="failed", why="no answer within 1 s", in_row=n)
        for n in (1, 2, 3)
    ),
    ProbeRecord(t=33, event="ended", why="no answer within 1 s", in_row=3),
]


def lived(
    *, busy: float = 0.2, cores: float = 0.05, pg: int = 1, pid: int = 1, **gauges: Any
) -> list[Evidence]:
    """What a trial leaves whose workers stood at these gauges throughout.

    Args:
        busy: share of the time that the event loop is busy.
        cores: CPU that the worker uses.
        pg: connections that Postgres has granted.
        gauges: of every reading.
    """
    at = {"inflight": 5} | gauges
    workers = [worker(t, pid, loop_busy_s=busy * t, cpu_s=cores * t, **at) for t in TIMES]
    rest = [line for line in at_rest() if line.kind in ("load", "audit")]
    machines = [machine(t, generator=t / 10, backend=t / 20) for t in TIMES]
    return [*workers, *machines, *(DatabaseReading(t=t, connections=pg) for t in TIMES), *rest]


def uploads(
    count: int = 100, latency: float = 4.0, stages: dict[str, float] = STAGES, **failed: int
) -> list[Any]:
    """That many successes of one latency, and so many failures of each cause."""
    found = [sample(WINDOW[0] + 50 * i / count, latency, stages=stages) for i in range(count)]
    for cause, number in failed.items():
        took = 30.0 if cause == "gateway_timeout" else 1.0
        found += [sample(20 + i / 100, took, Cause(cause)) for i in range(number)]
    return found


def limit(of: Cell, seen: Observation) -> Bottleneck:
    verdict = judge(of, seen)
    assert verdict.limit, verdict.reasons
    return verdict.limit


def pooler(**gauges: int) -> list[Evidence]:
    """What PgBouncer says throughout, of clients that each make a transaction a second."""
    zero = {name: 0 for name in PoolerReading.model_fields if name not in ("kind", "t")}
    totals = ({"t": t, "transactions": t, "wait_s": 3.0 * t} for t in TIMES)
    return [PoolerReading.model_validate(zero | total | gauges) for total in totals]


RAN_OUT = Shortage(part="nginx", of="connections", count=2)
SLOW = 20.0
"""Seconds, where the criterion allows 10."""

BEHIND = uploads(99, SLOW, STAGES | {"gcs_queue": 16.2})
ASSESSING: dict[str, Any] = {"users": 5, "mix": {"upload": "50 %", "assess": "50 %"}}
CONVERTED = {"auth": 0.05, "convert_queue": 2.9, "convert": 0.05}


def assessments(**stages: float) -> list[Any]:
    """A hundred, beside as many uploads."""
    whole = {"auth": 0.05, **stages, "write": 0.1}
    times = [one.sent_at for one in uploads()]
    return uploads() + [sample(t, 11.2, journey="assess", stages=whole) for t in times]


HOLD: dict[str, Any] = {"db_session": "hold"}
BY_CONSTRUCTION: list[tuple[str, dict[str, Any], list[Any], list[Evidence], str, str]] = [
    (
        "one worker is full, and the other is not",
        {"gcs_threads": 8, "workers": 2, "load": {"users": 60}},
        [one.model_copy(update={"worker": 1 + i % 3 // 2}) for i, one in enumerate(BEHIND)],
        [
            *lived(threads_busy=8, threads_queued=12),
            *(line for line in lived(pid=2, threads_busy=4) if line.kind == "worker"),
        ],
        "worker_split",
        "the busiest of 2 workers had 67 % of the uploads and was full, while another used 50 % of"
        " its slots: they carried 1.57 uploads/s, and an even split would carry 4.57;",
    ),
    (
        "more assessments than there are speech threads",
        {"load": ASSESSING, "criteria": ["p95(assess) < 5 s"]},
        assessments(speech_queue=9.0, speech=2.0),
        lived(speech_busy=20, speech_queued=15),
        "speech_threads",
        "speech threads 100 % busy, 20 threads, assessments queued 100 % of the time; what 100",
    ),
    (
        "a speech service that takes its time",
        {"load": ASSESSING, "criteria": ["p95(assess) < 5 s"]},
        assessments(speech=11.0),
        lived(speech_busy=4),
        "speech",
        "speech took 11.00 s of an assessment of 11.20 s (p50); what 100 assessments were late for",
    ),
    (
        "more conversions than there are audio threads",
        {"load": {"users": 5, "mix": {"convert": "100 %"}}, "criteria": ["p95(convert) < 1 s"]},
        [sample(s.sent_at, 3.0, journey="convert", stages=CONVERTED) for s in uploads()],
        lived(audio_busy=10, audio_queued=15),
        "audio_threads",
        "audio threads 100 % busy, 10 threads, conversions queued 100 % of the time; what 100",
    ),
    (  # a call to storage in the event loop
        "a blocking call to storage",
        {"gcs_call": "blocking"},
        uploads(60, SLOW),
        lived(busy=0.99, inflight=30, threads_busy=1, checked_out=1),
        "event_loop",
        "event loop busy 99 % (storage 3.50 s an upload, database 0.18 s an upload);"
        " what 60 uploads were late for: event loop 98 %; pool never above 1 of 20",
    ),
    (
        "blocking calls to the database",
        {"gcs_threads": 60},
        uploads(100, SLOW),
        lived(busy=0.97, inflight=40, threads_busy=30, checked_out=1),
        "event_loop",
        "event loop busy 97 % (database 0.18 s an upload); what 100 uploads were late for: event"
        " loop 98 %; storage threads never above 30 of 60",
    ),
    (
        "a pool that a leak has used up",
        HOLD,
        uploads(50, SLOW, pool_timeout=50),
        lived(busy=0.99, checked_out=20, waiting=1, abandoned=18),
        "pool_leak",
        "18 of the pool's 20 connections were checked out and never returned: a leak, which a"
        " larger pool would only put off; what 100 uploads were late for: pool leak 99 %",
    ),
    (
        "Postgres' slots that a leak has used up",
        {"pool_class": "NullPool"},
        uploads(60, db_refused=40),
        lived(pg=25, checked_out=20, abandoned=20),
        "pool_leak",
        "20 of Postgres' 25 connections were checked out and never returned",
    ),
    (
        "a pool that is too small even without a leak",
        HOLD,
        uploads(50, SLOW, pool_timeout=50),
        lived(busy=0.99, checked_out=20, waiting=1, abandoned=4),
        "pool",
        "pool 100 % checked out, 20 of 20 at most",
    ),
    (
        "6 threads on 2 cores",
        {"gcs_call": "to_thread"},
        uploads(100, SLOW),
        lived(busy=0.3, inflight=30, threads_busy=6, threads_queued=24),
        "default_executor",
        "default executor 100 % busy, 6 threads, uploads queued 100 % of the time;"
        " what 100 uploads were late for: default executor 100 %; event loop busy 30 %",
    ),
    (
        "a pool of its own",
        {"gcs_threads": 8},
        uploads(100, SLOW),
        lived(threads_busy=8, threads_queued=12),
        "own_threads",
        "storage threads 100 % busy, 8 threads, uploads queued 100 % of the time",
    ),
    (
        "the audio threads, shared",
        {"gcs_call": "audio_pool"},
        uploads(100, SLOW),
        lived(threads_busy=10, threads_queued=12),
        "own_threads",
        "audio threads 100 % busy, 10 threads, uploads queued 100 % of the time",
    ),
    (
        "sessions held: a checkout stops the loop",
        HOLD,
        uploads(50, SLOW, pool_timeout=50),
        lived(busy=0.99, checked_out=20, waiting=1, threads_busy=3),
        "pool",
        "pool 100 % checked out, 20 of 20 at most, 50 of 100 uploads gave up waiting;"
        " what 100 uploads were late for: pool 99 %; event loop busy 99 %"
        " (database 0.18 s an upload), 99 % of the time in wait for a"
        " connection; storage threads never above 3 of 20 threads",
    ),
    (
        "sessions held, off the loop: uploads wait for connections, and are cut off",
        HOLD | {"db_call": "threadpool", "pool_timeout": "120 s"},
        uploads(50, SLOW, gateway_timeout=50),
        lived(busy=0.2, checked_out=20, waiting=30, threads_busy=19),
        "pool",
        "pool 100 % checked out, 20 of 20 at most, checkouts waited 100 % of the time",
    ),
    (
        "more pools than slots",
        HOLD | {"workers": 2},
        uploads(50, 4.0, db_refused=30, pool_timeout=40),
        [*lived(pg=25, checked_out=20, waiting=1), *lived(pid=2, pg=25, checked_out=5)],
        "database_slots",
        "Postgres granted 25 of 25 connections and refused 30 of 120 uploads",
    ),
    (
        "sessions held, and PgBouncer has fewer connections than there are",
        HOLD | {"pooler": "transaction", "pooler_size": 5, "db_call": "threadpool"},
        uploads(100, SLOW, STAGES | {"auth": 16.0}),
        [*lived(checked_out=18, pg=5), *pooler(clients_waiting=13, servers_active=5)],
        "pooler",
        "PgBouncer's 5 connections 100 % lent, clients waited 100 % of the time, 0.0 s at most;"
        " what 100 uploads were late for: pooler 99 %",
    ),
    (
        "more connections than nginx has: it closes those that have not sent anything yet",
        {"criteria": ["error_rate < 5 %"]},
        uploads(60, connection=30, proxy_error=10),
        [*lived(), audit(shortages=[RAN_OUT])],
        "nginx_connections",
        "nginx's 1024 connections, enough for 511 uploads at once, were used up by 45 (its log"
        " says so 2 times), 40 of 100 uploads cut off; event loop busy 20 %",
    ),
    (
        "more new connections than the kernel keeps until they are accepted",
        {"criteria": ["p95 < 10 s"]},
        [sample(15 + i, 20.0, stages=STAGES, request=str(i)) for i in range(60)],
        [
            *lived(),
            *(
                record(
                    str(i),
                    t=35.0 + i,
                    arrived=31.0 + i,
                    handed=31.0 + i,
                    spans=[
                        ("auth", 31.0 + i, 0.1),
                        ("gcs", 31.1 + i, 3.5),
                        ("write", 34.6 + i, 0.3),
                    ],
                )
                for i in range(60)
            ),
            audit(shortages=[Shortage(part="machine", of="accept_queue", count=60)]),
        ],
        "accept_queue",
        "the kernel's queue of new connections overflowed 60 times; what 60 uploads were late for:"
        " accept queue 10",
    ),
    (
        "recordings larger than the application takes",
        {"backend_body": "1 MB"},
        uploads(60, upload_too_large=40),
        lived(),
        "body_limit",
        "40 of 100 uploads were refused: their body is above 1 MB (backend_body); event loop busy",
    ),
    (
        "recordings of 2 MB",
        {},
        uploads(60, body_too_large=40),
        lived(),
        "body_limit",
        "40 of 100 uploads were refused: their body is above 1 MiB; event loop busy 20 %",
    ),
    (
        "recordings beyond a limit of its own",
        {"nginx_body": "1500 KB"},
        uploads(60, body_too_large=40),
        lived(),
        "body_limit",
        "40 of 100 uploads were refused: their body is above 1500 KB; event loop busy 20 %",
    ),
    (
        "cut off by a limit of its own",
        {"nginx_read_timeout": "45 s", "gcs_threads": 60},
        uploads(10, gateway_timeout=90),
        lived(threads_busy=40),
        "proxy_timeout",
        "nginx cut off 90 of 100 uploads after 45 s; what 90 uploads were late for: proxy timeout",
    ),
    (
        "cut off by a proxy that waits for answers, but not for the backend to accept",
        {"nginx": "recommended", "nginx_read_timeout": "off", "gcs_threads": 60},
        uploads(10, gateway_timeout=90),
        lived(threads_busy=40),
        "proxy_timeout",
        "nginx cut off 90 of 100 uploads after 60 s; what 90 uploads were late for: proxy timeout",
    ),
    (
        "storage slower than the proxy waits",
        {"nginx": "recommended", "gcs_threads": 60},
        uploads(10, gateway_timeout=90),
        lived(threads_busy=40),
        "proxy_timeout",
        "nginx cut off 90 of 100 uploads after 30 s; what 90 uploads were late for: proxy timeout",
    ),
    (
        "500 a minute, all users behind one address",
        {},
        uploads(400, rate_limited=300),
        lived(),
        "rate_limit",
        "300 of 700 uploads were refused: the limit is 500/min an address, and all users are one",
    ),
    (
        "backpressure that protects those it lets in",
        {"max_inflight_uploads": 20},
        uploads(100, 4.5, overloaded=80),
        lived(inflight=20, threads_busy=19),
        "backpressure",
        "80 of 180 uploads were refused: a worker takes 20 at once, and those it took were"
        " answered within 4.5 s (p95)",
    ),
    (
        "a worker killed for its memory",
        {"vm_memory": "256 MiB"},
        uploads(60, connection=30, bad_gateway=10),
        [*lived(rss=260_000_000), OomKill(t=40, pid=1, rss=270_000_000)],
        "memory",
        "memory 260 MB at most of 256 MiB, 1 kill, 40 of 100 uploads lost with them",
    ),
    (
        "a backend that did not answer its probes, for its event loop was held",
        {"gcs_call": "blocking", "health_probe": "10 s"},
        uploads(60, connection=30, bad_gateway=10),
        [
            *lived(busy=0.99),
            *ENDED_FOR_SILENCE,
        ],
        "health_probe",
        "3 health probes failed, 3 of 3 in a row at most (no answer within 1 s), so the backend was"
        " ended once, 40 of 100 uploads lost with it; the event loop, which answers them, was 99 %"
        " busy",
    ),
    (
        "a core that is used up",
        {},
        uploads(100, SLOW),
        lived(busy=0.99, cores=0.97, inflight=40),
        "cpu",
        "busiest worker used 0.97 of its one core; what 100 uploads were late for: cpu 98 %",
    ),
    (
        "two limits at the same load",
        {},
        uploads(100, SLOW),
        [
            *(r for r in lived(busy=0.98, threads_busy=20, threads_queued=9) if r.t < 46),
            *(r for r in lived(busy=0.98, inflight=50, threads_busy=20) if r.t > 46),
        ],
        "unclear",
        "2 compete: storage threads 100 % busy, 20 threads, uploads queued 54 % of the time; event"
        " loop busy 98 % (database 0.18 s an upload); what 100 uploads were late for: own threads"
        " 50 %, event loop 49 %",
    ),
    (
        "half refused for their size, the others late",
        {"gcs_call": "blocking"},
        uploads(60, SLOW, body_too_large=40),
        lived(busy=0.99, inflight=30),
        "unclear",
        "2 compete: 40 of 100 uploads were refused: their body is above 1 MiB; event loop busy"
        " 99 %",
    ),
    (
        "two kinds of refusal",
        {"upload_rate_limit": "10/min"},
        uploads(60, body_too_large=40, rate_limited=30),
        lived(),
        "unclear",
        "2 compete: 40 of 130 uploads were refused: their body is above 1 MiB; 30 of 130",
    ),
    (
        "storage is down",
        {"gcs_threads": 60},
        uploads(60, gcs_error=40),
        lived(threads_busy=20),
        "storage",
        "storage failed 40 of 100 uploads; event loop busy 20 %",
    ),
    (
        "storage alone takes too long",
        {},
        uploads(100, SLOW, stages=STAGES | {"gcs": SLOW - 0.5}),
        lived(threads_busy=5),
        "storage",
        "storage took 19.50 s of an upload of 20.00 s (p50); what 100 uploads were late for:"
        " storage 96 %; event loop busy 20 %",
    ),
    (
        "a database that is far away",
        {},
        uploads(100, SLOW, stages=STAGES | {"auth": 4.0, "write": 12.0}),
        lived(threads_busy=5),
        "database",
        "the database took 16.02 s of an upload of 20.00 s (p50)",
    ),
    (
        "queries in anyio's threads, of which there are too few",
        {"db_call": "threadpool"},
        uploads(100, SLOW, stages=STAGES | {"anyio_queue": 15.0}),
        lived(anyio_busy=40, anyio_queued=60),
        "anyio_threads",
        "anyio's threads 100 % busy, 40 threads, calls queued 100 % of the time",
    ),
    (
        "time that nobody took",
        {},
        uploads(100, SLOW),
        lived(threads_busy=5),
        "none",
        "nothing was at its limit; storage threads never above 5 of 20 threads; event loop busy",
    ),
    (
        "most failures that no resource made, and as many again refused for their rate",
        {"upload_rate_limit": "10/min"},
        uploads(40, bad_upload=40, rate_limited=30),
        lived(),
        "unclear",
        "2 compete: what no resource made; 30 of 110 uploads were refused: the limit is",
    ),
    (
        "audio that is not audio",
        {},
        uploads(60, bad_upload=40),
        lived(),
        "none",
        "nothing was at its limit; event loop busy 20 % (database 0.18 s an upload); storage"
        " threads never above 0 of 20 threads; pool never above 0 of 20; bad_upload 40",
    ),
]


@pytest.mark.parametrize(
    ("settings", "sent", "evidence", "resource", "words"),
    [case[1:] for case in BY_CONSTRUCTION],
    ids=[case[0] for case in BY_CONSTRUCTION],
)
def test_a_limit_made_by_construction_is_found(
    settings: dict[str, Any],
    sent: list[Any],
    evidence: Sequence[Evidence],
    resource: str,
    words: str,
) -> None:
    knobs = {name: value for name, value in settings.items() if name != "criteria"}
    found = limit(cell(*settings.get("criteria", ()), **knobs), observation(sent, evidence))
    assert found.evidence.startswith(words)
    assert found.resource == resource


def test_kills_are_made_by_memory_though_no_upload_failed_of_them() -> None:
    lines = [*lived(busy=0.99), OomKill(t=40, pid=1, rss=270_000_000)]
    of = cell("oom_kills == 0", vm_memory="256 MiB", gcs_call="blocking")
    assert limit(of, observation(uploads(), lines)).resource == "memory"


def test_a_peak_is_of_all_workers_not_of_the_one_that_is_fullest_in_the_mean() -> None:
    brief = [worker(t, 2, loop_busy_s=0.1 * t, checked_out=19 * (t == 40)) for t in TIMES]
    lines = [*lived(busy=0.99, checked_out=5), *brief]
    found = limit(cell(workers=2, gcs_call="blocking"), observation(uploads(60, SLOW), lines))
    assert "pool never above 19 of 20" in found.evidence


@pytest.mark.parametrize("pool", [{"max_overflow": "unlimited"}, {"pool_class": "NullPool"}])
def test_a_pool_without_a_limit_is_never_at_it(pool: dict[str, Any]) -> None:
    lines = lived(busy=0.99, inflight=90, checked_out=90, waiting=1)
    of = cell(gcs_call="blocking", db_session="hold", **pool)
    found = limit(of, observation(uploads(60, SLOW), lines))
    assert found.resource == "event_loop"
    assert "pool" not in {str(each.resource) for each in found.candidates}
    assert found.evidence.startswith("event loop busy 99 % (storage 3.50 s an upload, database")
    assert "in wait for a connection" not in found.evidence


def test_a_process_of_an_instance_is_held_against_its_own_share() -> None:
    """Two processes of four threads each; what an instance is given at once is not the limit."""
    of = cell(target="cloudrun", gcs_threads=4, cloudrun_workers=2, cloudrun_concurrency=20)
    full, idle = lived(threads_busy=4, threads_queued=3), lived(pid=2)
    trial = Trial(of, observation(uploads(60, SLOW), [*full, *idle]))
    threads = RULES[Resource.OWN_THREADS].examine(trial)
    evidence = "storage threads 100 % busy, 4 threads, uploads queued 100 % of the time"
    assert threads == Level(1.0, True, evidence)


def test_a_loop_that_was_full_is_full_though_its_worker_was_started_anew() -> None:
    lines = [
        worker(t, loop_busy_s=0.99 * (t if t < 45 else t - 45), cpu_s=0.01 * t, inflight=5)
        for t in TIMES
    ]
    found = limit(
        cell(gcs_call="blocking"), observation(uploads(60, SLOW), [*lines, *lived()[len(lines) :]])
    )
    assert found.resource == "event_loop"


def test_every_candidate_has_a_cell_of_its_own() -> None:
    named = {Resource(case[4]) for case in BY_CONSTRUCTION}
    on_cloudrun = {Resource(case[3]) for case in ON_CLOUDRUN}
    assert named | on_cloudrun == set(Resource)
    assert set(RULES) == set(Resource) - {Resource.NONE, Resource.UNCLEAR}


def test_a_cell_that_held_names_what_uploads_queued_for() -> None:
    evidence = lived(threads_busy=8, threads_queued=2)
    verdict = judge(cell(gcs_threads=8), observation(uploads(), evidence))
    assert verdict.outcome == "held"
    assert verdict.limit
    assert verdict.limit.resource == "own_threads"


@pytest.mark.parametrize(
    ("latency", "resource"), [(4.0, "storage"), (8.0, "event_loop")], ids=["alone", "with another"]
)
def test_a_busy_loop_limits_only_where_it_keeps_somebody_else(
    latency: float, resource: str
) -> None:
    seen = observation(uploads(60, latency), lived(busy=0.99))
    assert limit(cell("p95 < 3 s", gcs_call="blocking"), seen).resource == resource


@pytest.mark.parametrize(("out", "station"), [(20, Station.POOL), (3, Station.DATABASE)])
def test_a_checkout_from_a_pool_that_is_not_full_waits_for_a_new_connection(
    out: int, station: Station
) -> None:
    stages = STAGES | {"pool_wait": 2.0}
    waits = sample(40, sum(stages.values()), stages=stages)
    trial = Trial(cell(), observation([waits], lived(checked_out=out, waiting=1)))
    life = Waiting(trial).life(waits)
    expected = 2.0 + STAGES["pool_wait2"]
    expected += sum(STAGES[stage] for stage in ("auth", "release", "write")) * (out == 3)
    assert (life.waits | life.service)[station] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("life", "late"),
    [
        (Life({}, {Station.STORAGE: 4.0}, whole=True), {}),
        (Life({Station.LOOP: 9.0}, {Station.STORAGE: 4.0}, whole=True), {Station.LOOP: 3.0}),
        (  # waits first, and what they leave is the service's
            Life({Station.LOOP: 1.0, Station.POOL: 3.0}, {Station.STORAGE: 14.0}, whole=True),
            {Station.LOOP: 1.0, Station.POOL: 3.0, Station.STORAGE: 4.0},
        ),
        (  # cut off in storage, with 5 s of it to come
            Life({Station.LOOP: 2.0}, {Station.STORAGE: 8.0}, whole=False),
            {Station.LOOP: 2.0, Station.STORAGE: 3.0},
        ),
        (Life({Station.LOOP: 10.0}, {}, whole=False), {Station.LOOP: 5.0}),
    ],
    ids=["in time", "by its wait", "by both", "cut off in storage", "cut off in a queue"],
)
def test_an_excess_is_made_by_waits_first(life: Life, late: dict[Station, float]) -> None:
    assert excess(life, 10.0, rest_s=5.0) == pytest.approx(late)


def test_what_a_loop_kept_nobody_from_is_nobodys() -> None:
    """Of 16 s between the stages an event loop that was busy for 5 s took no more than these."""
    idle = [
        worker(t, loop_busy_s=5.0 * (t >= 45), inflight=5) if line.kind == "worker" else line
        for line in lived()
        for t in [line.t]
    ]
    trial = Trial(cell(), observation([sample(40, SLOW, stages=STAGES)], idle))
    [only] = trial.sent
    life = Waiting(trial).life(only)
    assert life.waits[Station.LOOP] == pytest.approx(5.0)
    assert life.waits[Station.ELSEWHERE] == pytest.approx(SLOW - sum(STAGES.values()) - 5.0)
    assert life.waited + life.served == pytest.approx(SLOW)


@pytest.mark.parametrize(("queued", "resource"), [(0, "none"), (1, "own_threads")])
def test_full_threads_limit_only_where_somebody_waits_for_one(queued: int, resource: str) -> None:
    seen = observation(uploads(100, SLOW), lived(threads_busy=20, threads_queued=queued))
    assert limit(cell(), seen).resource == resource


def test_backpressure_that_lets_in_too_much_is_not_the_limit() -> None:
    evidence = lived(busy=0.99, inflight=20)
    seen = observation(uploads(60, SLOW, overloaded=200), evidence)
    of = cell(gcs_call="blocking", max_inflight_uploads=20)
    assert limit(of, seen).resource == "event_loop"


def test_time_outs_are_made_by_what_the_uploads_queued_for() -> None:
    evidence = lived(busy=0.99, inflight=40)
    seen = observation(uploads(60, 9.0, gateway_timeout=60), evidence)
    of = cell("error_rate < 5 %", gcs_call="blocking")
    assert limit(of, seen).resource == "event_loop"


@pytest.mark.parametrize(("refused", "resource"), [(18, "database_slots"), (0, "pool")])
def test_too_many_connections_are_the_limit_where_more_were_refused(
    refused: int, resource: str
) -> None:
    evidence = lived(threads_busy=8, threads_queued=12, pg=25)
    seen = observation(uploads(100 - refused, db_refused=refused), evidence)
    of = cell("pg_connections <= 20", gcs_threads=8, **HOLD)
    assert limit(of, seen).resource == resource


@pytest.mark.parametrize(
    ("latency", "gauges", "resource"),
    [
        (SLOW, {"threads_busy": 8, "threads_queued": 12}, "own_threads"),
        (4.0, {"threads_busy": 5}, "storage"),  # nobody waits: service takes as long as it does
    ],
)
def test_arrivals_that_were_dropped_are_due_to_what_those_in_flight_waited_for(
    latency: float, gauges: dict[str, int], resource: str
) -> None:
    load = {"rate": "5/s", "warmup": "15 s", "window": "60 s", "max_in_flight": 40}
    done = LoadDone(t=80, window=WINDOW, generator_exit=0, dropped=50)
    evidence = [done, *(line for line in lived(**gauges) if line.kind != "load")]
    of = cell("dropped == 0", load=load, gcs_threads=8)
    assert limit(of, observation(uploads(100, latency), evidence)).resource == resource


def test_one_full_worker_of_two_is_enough() -> None:
    idle = lived(pid=2, threads_busy=1)
    seen = observation(uploads(100, SLOW), [*lived(threads_busy=4, threads_queued=3), *idle])
    assert limit(cell(workers=2, gcs_threads=4), seen).resource == "own_threads"


def test_of_a_load_in_stages_only_the_peak_is_looked_at() -> None:
    load = {"stages": [{"users": 5, "hold": "60 s"}, {"users": 30, "hold": "15 s"}]}
    quiet = [line for line in lived(threads_busy=1) if line.t < 60 or line.kind == "load"]
    full = [line for line in lived(threads_busy=4, threads_queued=9) if line.t >= 60]
    late = [sample(60 + i / 10, SLOW, stages=STAGES) for i in range(20)]
    seen = observation([*uploads(60), *late], [*quiet, *full])
    assert limit(cell(load=load, gcs_threads=4), seen).resource == "own_threads"


def test_a_loop_that_was_not_read_is_told_by_the_law_of_utilisation() -> None:
    evidence = [
        line.model_copy(update={"loop_busy_s": None}) if line.kind == "worker" else line
        for line in lived(inflight=40)
    ]
    of = cell("p50 < 10 s", gcs_call="blocking")
    # An upload holds the loop for 3.5 s + 0.175 s: 60 s have room for 16.3 of them.
    sent = [sample(15 + 3.5 * i, 3.0, stages=STAGES) for i in range(16)]
    many = limit(of, observation(sent, evidence))
    assert many.resource == "event_loop"
    assert "event loop busy 98 %" in many.evidence
    few = limit(of, observation(sent[:12], evidence))
    assert few.resource == "none"
    assert "event loop busy 74 %" in few.evidence


def test_at_the_peak_of_stages_that_law_takes_the_rate_of_the_peak() -> None:
    load = {"stages": [{"users": 5, "hold": "60 s"}, {"users": 30, "hold": "15 s"}]}
    evidence = [
        line.model_copy(update={"loop_busy_s": None}) if line.kind == "worker" else line
        for line in lived(inflight=40)
    ]
    sent = [sample(60 + 3.7 * i, 3.6, stages=STAGES) for i in range(4)]  # 4 in 15 s
    seen = limit(cell("p50 < 10 s", gcs_call="blocking", load=load), observation(sent, evidence))
    assert seen.resource == "event_loop"
    assert seen.evidence.startswith("event loop busy 98 %")


def test_an_invalid_cell_and_an_empty_one_have_no_limit() -> None:
    assert judge(cell(), observation(uploads(), [])).limit is None
    assert judge(cell(), observation([], lived())).limit is None


def test_what_explains_another_is_never_explained_by_it() -> None:
    for row in RULES.values():
        assert not any(row.resource in RULES[effect].explains for effect in row.explains)
        assert not (row.queue and row.causes) or row.resource in GIVEN_UP


GIVEN_UP = (Resource.POOL, Resource.POOLER, Resource.INSTANCE_QUEUE)
"""The queues in which uploads give up, each with a cause of its own, but that PgBouncer is as full
as Postgres to who is refused."""


def test_no_failure_names_two_resources_but_where_evidence_of_its_own_tells_them_apart() -> None:
    named = [cause for row in RULES.values() for cause in row.causes]
    shared = {cause for cause in named if named.count(cause) > 1}
    assert shared == {
        *DIED_WITH,  # kills for memory, probes unanswered, or nginx's log
        *(Cause.DB_REFUSED, Cause.DB_ERROR),  # Postgres' log, or PgBouncer's
    }


@pytest.mark.parametrize(
    ("more", "resource"),
    [
        ([], "none"),
        ([OomKill(t=40, pid=1, rss=270_000_000)], "memory"),
        (ENDED_FOR_SILENCE, "health_probe"),
        ([OomKill(t=40, pid=1, rss=270_000_000), *ENDED_FOR_SILENCE], "unclear"),
        ([audit(shortages=[RAN_OUT])], "nginx_connections"),
        ([OomKill(t=40, pid=1, rss=270_000_000), audit(shortages=[RAN_OUT])], "unclear"),
    ],
)
def test_who_cut_connections_is_told_by_evidence_of_its_own(
    more: list[Evidence], resource: str
) -> None:
    seen = observation(uploads(60, connection=30), [*lived(), *more])
    of = cell(vm_memory="256 MiB", health_probe="10 s")
    assert limit(of, seen).resource == resource


def test_instances_that_their_probes_ended_did_not_die_of_their_memory() -> None:
    of = cell(target="cloudrun", load={"users": 5}, health_probe="10 s")
    up = [front(0.0, ready=1), front(14.0, ready=1)]
    evidence = [*lived(inflight=1), *up, *ENDED_FOR_SILENCE]
    found = limit(of, observation(uploads(40, instance_died=20), evidence))
    assert found.resource == "health_probe"
    assert "so instances were ended once, 20 of 60 uploads lost with it" in found.evidence


def test_probes_that_failed_now_and_then_ended_nobody() -> None:
    failed = [ProbeRecord(t=t, event="failed", why="it answered 429", in_row=1) for t in (30, 50)]
    of = cell(health_probe="10 s")
    found = limit(of, observation(uploads(100), [*lived(), *failed]))
    [probe] = [one for one in found.candidates if one.resource == "health_probe"]
    assert (round(probe.level, 3), probe.at_limit) == (0.333, False)
    assert probe.evidence.startswith("2 health probes failed, 1 of 3 in a row at most (it answered")


@pytest.mark.parametrize(
    ("cause", "seen"),
    [(Cause.BAD_GATEWAY, "nginx's 502"), (Cause.CONNECTION, "a broken connection")],
)
def test_a_refusal_that_its_user_never_heard_is_the_refusers(cause: Cause, seen: str) -> None:
    lost = cut_off(19, cause, latency=1.0)
    records = [record(one.request or "", 429, "rate_limited", t=30.0) for one in lost]
    of = cell(upload_rate_limit="10/min")
    verdict = judge(of, observation([*uploads(40, rate_limited=19), *lost], [*lived(), *records]))
    assert verdict.metrics["errors.rate_limited"] == 38
    assert verdict.metrics[f"errors.{cause}"] == 0
    assert verdict.limit
    assert verdict.limit.resource == "rate_limit"
    assert verdict.limit.evidence.startswith(
        "38 of 78 uploads were refused: the limit is 500/min an address, and all users are one and"
        f" 10/min a user, and 19 of them reached their users as {seen}"
    )
    assert f"rate_limited 38 (users saw: {cause} 19)" in " ".join(verdict.reasons)
    assert verdict.course
    assert [(failure.cause, failure.count) for failure in verdict.course.failures] == [
        ("rate_limited", 38)
    ]


@pytest.mark.parametrize(("status", "cause"), [(None, "rate_limited"), (200, None), (499, None)])
def test_a_502_that_no_refusal_made_stays_what_it_is(status: int | None, cause: str | None) -> None:
    lost = cut_off(19, Cause.BAD_GATEWAY, latency=1.0)
    records = [record(one.request or "", status, cause, t=30.0) for one in lost]
    verdict = judge(cell(), observation([*uploads(40), *lost], [*lived(), *records]))
    assert verdict.metrics["errors.bad_gateway"] == 19
    assert verdict.metrics["errors.rate_limited"] == 0


def test_a_claim_on_a_refusal_counts_those_that_were_lost_and_says_what_users_saw() -> None:
    lost = cut_off(3, Cause.BAD_GATEWAY, latency=1.0)
    records = [record(one.request or "", 503, "overloaded", t=30.0) for one in lost]
    seen = observation([*uploads(40, overloaded=2), *lost], [*lived(), *records])
    [finding] = judge(cell("errors.overloaded < 5"), seen).findings
    assert (finding.outcome, finding.value) == ("missed", 5)
    assert "users saw 2" in finding.reason
    [finding] = judge(cell("errors.bad_gateway == 0"), seen).findings
    assert finding.outcome == "met"


def test_a_rule_takes_part_in_the_decision_because_it_is_registered() -> None:
    trial = Trial(cell(), observation(uploads(60, bad_upload=40), lived()))
    findings = judge(trial.cell, trial.observation).findings
    assert bottleneck(trial, findings).resource == "none"
    rules = dict(RULES)

    @rule(Resource.BODY_LIMIT, causes=(Cause.BAD_UPLOAD,), explains=(Resource.CPU,), into=rules)
    def no_audio(trial: Trial) -> Level:
        return Level(0.4, True, f"no audio in {trial.failed(Cause.BAD_UPLOAD)}")

    answer = bottleneck(trial, findings, rules)
    assert answer.resource == "body_limit"
    assert answer.evidence.startswith("no audio in 40; event loop busy 20 %")
    assert RULES[Resource.BODY_LIMIT].examine is not no_audio


def test_every_candidate_that_was_looked_at_is_told_those_at_their_limit_first() -> None:
    of = cell(gcs_threads=8)
    seen = observation(uploads(100, SLOW), lived(threads_busy=8, threads_queued=12, pg=12))
    verdict = judge(of, seen)
    found = bottleneck(Trial(of, seen), verdict.findings)
    assert found == verdict.limit
    looked_at = {name for name, row in RULES.items() if row.candidate(Trial(of, seen))}
    assert len(looked_at) >= 12
    assert "default_executor" not in looked_at  # no upload goes through it
    assert {one.resource for one in found.candidates} == looked_at
    assert [one.at_limit for one in found.candidates] == [True] + [False] * (len(looked_at) - 1)


def test_audits_that_counted_refusals_agree_with_the_uploads() -> None:
    evidence = [*lived(pg=25, checked_out=10), audit(refused=9)]
    seen = observation(uploads(60, db_refused=9), evidence)
    assert limit(cell(**HOLD), seen).resource == "database_slots"


LOAD = {"users": 5}
MANY = {"cloudrun_concurrency": 80, "cloudrun_enforce": "none"}


def on_cloudrun(
    settings: dict[str, Any], samples: list[Any], evidence: list[Evidence], ready: int = 1
) -> Bottleneck:
    of = cell(target="cloudrun", load=LOAD, **settings)
    return limit(of, observation(samples, [*evidence, front(0.0, ready=ready)]))


def killed(peak: float) -> Evidence:
    return instance(30.0, "oom", why="out of memory", during="ready", peak_bytes=peak)


ON_CLOUDRUN: list[tuple[dict[str, Any], list[Any], list[Evidence], str, str]] = [
    (
        {},
        uploads(20, no_instance=80),
        lived(inflight=1),
        "instance_queue",
        "80 of 100 uploads were refused: no instance was free in time, of 1 at most, 1 at once"
        " in each",
    ),
    (
        MANY,
        uploads(20, instance_died=80),
        [*lived(), killed(256 * 1024**2)],
        "memory",
        "memory 268 MB at most of 256 MiB, 1 kill, 80 of 100 uploads lost with them",
    ),
    (
        {"gcs_call": "blocking", **MANY},
        uploads(60, SLOW),
        lived(busy=0.99, inflight=30, threads_busy=1),
        "event_loop",
        "event loop busy 99 % (storage 3.50 s an upload, database 0.18 s an upload)",
    ),
    (
        {"gcs_threads": 60, **MANY},
        uploads(60, SLOW),
        lived(busy=0.99, cores=0.49, inflight=30),
        "cpu",
        "busiest worker used 0.49 of its 0.5 of a core",
    ),
    (
        {"gcs_call": "to_thread", **MANY},
        uploads(60, SLOW),
        lived(inflight=30, threads_busy=5, threads_queued=3),
        "default_executor",
        "default executor 100 % busy, 5 threads, uploads queued 100 % of the time",
    ),
    (
        {**MANY, "gcs_threads": 20, "cloudrun_concurrency": 4},
        uploads(60, SLOW),
        lived(inflight=30, threads_busy=4, threads_queued=3),
        "own_threads",
        "storage threads 100 % busy, 4 threads, uploads queued 100 % of the time"
        " (4 of its 20 threads can be used at once, by concurrency 4)",
    ),
    (
        {**MANY, "gcs_call": "to_thread", "cloudrun_concurrency": 2},
        uploads(60, SLOW),
        lived(inflight=30, threads_busy=2, threads_queued=3),
        "default_executor",
        "default executor 100 % busy, 2 threads, uploads queued 100 % of the time"
        " (2 of its 5 threads can be used at once, by concurrency 2)",
    ),
    (
        {},
        uploads(20, SLOW, stages={"queue": 16.0, **STAGES}),
        [*lived(inflight=1), front(1.0, queue=3, in_flight=1, ready=1)],
        "instance_queue",
        "requests waited for an instance 100 % of the time, of 1 at most, 1 at once in each,"
        " those answered 16.0 s in the mean; what 20 uploads were late for: instance queue",
    ),
    (  # the instance has room for more, but its event loop has not
        {"gcs_call": "blocking", **MANY},
        uploads(20, SLOW, stages={"queue": 16.0, **STAGES}),
        lived(busy=0.99, inflight=80, loop_lag=1.0),
        "event_loop",
        "event loop busy 99 %",
    ),
]


@pytest.mark.parametrize(("settings", "samples", "evidence", "resource", "words"), ON_CLOUDRUN)
def test_the_limit_is_what_the_cell_is_made_to_have(
    settings: dict[str, Any],
    samples: list[Any],
    evidence: list[Evidence],
    resource: str,
    words: str,
) -> None:
    answer = on_cloudrun(settings, samples, evidence)
    assert answer.resource == resource
    assert answer.evidence.startswith(words)
    assert Resource.PROXY_TIMEOUT not in {one.resource for one in answer.candidates}


def test_the_cores_of_all_instances_count_together() -> None:
    evidence = [*lived(cores=0.3, pid=1), *lived(cores=0.3, pid=2)]
    answer = on_cloudrun({"cloudrun_max_instances": 2}, uploads(60, 4.0), evidence, ready=2)
    (cpu,) = [one for one in answer.candidates if one.resource is Resource.CPU]
    assert cpu.level == pytest.approx(0.6)
    assert not cpu.at_limit
