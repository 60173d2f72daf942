"""The simulation of what uploads wait for, against what must be true of any such system."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from validation import oracle_waits, wait_meter
from validation.oracle_waits import NETWORK_S, Offered, System, simulate
from validation.wait_meter import Upload, blame

HOLD = {"auth": 2, "write": 3}
EXACT = {"trip": (0.0, 0.0), "trip_cpu": 0.0, "cpu": 0.0, "proxy_cpu": 0.0}
"""A system in which storage alone takes time."""
Blame = dict[str, float]


def closed(users: int, window: float = 60.0, warmup: float = 10.0, **more: Any) -> Offered:
    end = 5 + warmup + window
    spans = [[(5 * user / users, end)] for user in range(users)]
    return Offered(spans, (5 + warmup, end), **more)


def burst(users: int, **more: Any) -> Offered:
    return Offered([[(0.0, 1e-9)]] * users, (0.0, 1e9), **more)


def shares(uploads: Sequence[Upload], bound: float) -> Blame:
    seconds = blame(uploads, bound)
    return {name: amount / sum(seconds.values()) for name, amount in seconds.items()}


def nonzero(seconds: Blame) -> Blame:
    return {name: amount for name, amount in seconds.items() if amount > 1e-9}


def throughput(uploads: Sequence[Upload], seconds: float) -> float:
    return sum(upload.cause is None for upload in uploads) / seconds


def causes(uploads: Sequence[Upload]) -> dict[str | None, int]:
    return Counter(upload.cause for upload in uploads)


@pytest.mark.parametrize("module", [oracle_waits, wait_meter])
def test_it_uses_nothing_of_the_lab(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} & {"lab", "tests"} == set()


@pytest.mark.parametrize("call", ["blocking", "threads"])
@pytest.mark.parametrize("database", ["blocking", "threadpool"])
def test_a_single_user_waits_for_nobody(call: Any, database: Any) -> None:
    system = System(call, database=database, storage=(3.0, 3.0))
    uploads = simulate(system, closed(1, window=200))
    expected = system.proxy_cpu + system.cpu + 7 * (0.025 + system.trip_cpu) + 3.0
    assert len(uploads) > 50
    for upload in uploads:
        assert sum(upload.waited.values()) == pytest.approx(0.0, abs=1e-9)
        assert upload.served["storage"] == pytest.approx(3.0)
        assert expected <= upload.latency <= expected + NETWORK_S


@pytest.mark.parametrize(
    "system",
    [
        System("blocking", workers=2),
        System("threads", threads=6, session="hold", trips=HOLD),
        System("threads", database="threadpool", anyio_threads=3, pool_size=2, max_overflow=0),
    ],
    ids=["blocking", "hold", "threadpool"],
)
def test_every_second_of_a_life_is_waiting_or_service(system: System) -> None:
    uploads = simulate(system, closed(20))
    assert len(uploads) > 20
    for upload in uploads:
        on_the_way = upload.life - sum(upload.seconds.values())
        assert 0 <= on_the_way <= NETWORK_S + 20 * system.proxy_cpu


@pytest.mark.parametrize(
    ("system", "per_second"),
    [
        (System("blocking"), 1 / (0.007 + 7 * 0.0254 + 3.5)),
        (System("threads", threads=8), 8 / 3.5),
        (System("threads", threads=8, workers=2, lead=0.5), 16 / 3.5),
        (System("threads", threads=50), 1 / (0.007 + 7 * 0.0254)),
        (  # connections are held for all but the CPU
            System("threads", threads=50, database="threadpool", session="hold", trips=HOLD,
                   pool_size=5, max_overflow=0, pool_timeout=600, anyio_threads=100),
            5 / (5 * 0.0254 + 3.5),
        ),
        (  # anyio's threads: three and four round trips, and a step without one
            System("threads", threads=200, database="threadpool", trip=(0.5, 0.5), db_cap=150,
                   storage=(2.0, 2.0), pool_size=120, max_overflow=0),
            40 / (7 * 0.5004),
        ),
    ],
    ids=["blocking", "threads", "two-workers", "loop", "pool", "anyio"],
)  # fmt: skip
def test_at_saturation_it_carries_slots_by_the_time_one_is_held(
    system: System, per_second: float
) -> None:
    offered = closed(100, window=1500, warmup=100, timeout=1e6)
    system = replace(system, proxy_timeout=1e6)
    assert throughput(simulate(system, offered), 1500) == pytest.approx(per_second, rel=0.03)


def test_of_a_burst_the_batches_wait_for_those_before() -> None:
    system = System("threads", threads=40, storage=(10.0, 10.0), **EXACT)  # type: ignore[arg-type]
    uploads = simulate(system, burst(100))
    assert Counter(round(upload.latency) for upload in uploads) == {10: 40, 20: 40, 30: 20}
    for upload in uploads:
        assert upload.waited.get("threads", 0.0) == pytest.approx(
            upload.latency - 10, abs=NETWORK_S
        )
    assert nonzero(blame(uploads, 20)) == {"threads": pytest.approx(20 * 10, abs=0.5)}


def test_a_frozen_loop_counts_for_the_pool_for_which_it_waits() -> None:
    # The report's storm: checkouts block the loop, in which a connection would be returned.
    system = System("threads", threads=50, session="hold", trips=HOLD, pool_size=5, max_overflow=5)
    uploads = simulate(system, closed(50))
    assert throughput(uploads, 60) < 0.2
    assert {"gateway_timeout"} <= causes(uploads).keys()
    assert shares(uploads, 10)["pool"] > 0.95


@pytest.mark.parametrize(
    ("system", "bound", "resource"),
    [
        (System("blocking"), 10, "event_loop"),
        (System("threads", threads=50, trip=(0.1, 0.1), storage=(0.2, 0.5)), 10, "event_loop"),
        (System("threads", threads=6), 10, "threads"),
        (System("threads", threads=30, database="threadpool", session="hold", trips=HOLD,
                pool_size=5, max_overflow=0, pool_timeout=60, anyio_threads=100), 10, "pool"),
        # Connections are there for twenty, who queue for six threads.
        (System("threads", threads=6, database="threadpool", session="hold", trips=HOLD,
                pool_size=20, max_overflow=0, pool_timeout=60), 10, "threads"),
        (System("threads", threads=90, database="threadpool", trip=(0.1, 0.1), storage=(0.2, 0.2),
                pool_size=40, anyio_threads=3), 3, "anyio_threads"),
        # Anyio's threads are full of checkouts.
        (System("threads", threads=90, database="threadpool", trip=(0.1, 0.1), storage=(0.2, 0.2),
                pool_size=3, max_overflow=0, anyio_threads=10, pool_timeout=60), 3, "pool"),
    ],
    ids=["blocking", "loop", "threads", "pool", "held-for-threads", "anyio", "full-of-checkouts"],
)  # fmt: skip
def test_waits_count_for_what_is_scarce(system: System, bound: float, resource: str) -> None:
    assert shares(simulate(system, closed(50)), bound)[resource] > 0.9


@pytest.mark.parametrize(
    ("system", "bound", "resource"),
    [
        (System("threads", threads=10, storage=(12.0, 12.0)), 8, "storage"),
        (System("threads", threads=10, trip=(0.3, 0.3), storage=(0.1, 0.1)), 1, "database"),
    ],
    ids=["storage", "database"],
)
def test_service_makes_late_where_nobody_waits(system: System, bound: float, resource: str) -> None:
    assert shares(simulate(system, closed(1)), bound)[resource] > 0.85


def test_a_wait_before_full_threads_counts_for_those() -> None:
    # Fifty at once keep the loop for 4 s, and twenty threads are full before half of it is over.
    system = System("threads", threads=20)
    down, where_spent = (simulate(system, burst(50), further_down=way) for way in (True, False))
    assert [u.latency for u in down] == [u.latency for u in where_spent]
    assert shares(down, 10)["threads"] > 0.65
    assert shares(where_spent, 10)["event_loop"] > shares(down, 10)["event_loop"]


@pytest.mark.parametrize(
    ("system", "offered", "cause", "latency"),
    [
        (System("threads", database="threadpool", session="hold", pool_size=1, max_overflow=0,
                storage=(30.0, 30.0)), burst(2), "pool_timeout", 10.0),
        (System("threads", database="threadpool", session="hold", pool_size=5, db_cap=1), burst(2),
         "db_refused", 0.05),
        (System("threads", max_inflight=1), burst(2), "overloaded", 0.0),
        (System("blocking", storage=(70.0, 70.0)), burst(1), "gateway_timeout", 60.0),
        (System("blocking", storage=(70.0, 70.0)), burst(1, timeout=20.0), "client_timeout", 20.0),
    ],
    ids=["pool_timeout", "db_refused", "overloaded", "gateway_timeout", "client_timeout"],
)  # fmt: skip
def test_an_upload_fails_as_the_parts_say(
    system: System, offered: Offered, cause: str, latency: float
) -> None:
    failed = [upload for upload in simulate(system, offered) if upload.cause]
    assert [upload.cause for upload in failed] == [cause]
    assert failed[0].latency == pytest.approx(latency, abs=0.2)


def test_the_worker_goes_on_with_an_upload_that_was_cut_off() -> None:
    system = System("blocking", storage=(40.0, 40.0), **EXACT)  # type: ignore[arg-type]
    first, second = sorted(simulate(system, burst(2)), key=lambda upload: upload.life)
    assert (first.cause, second.cause) == (None, "gateway_timeout")
    assert second.life == pytest.approx(80, abs=0.1)
    assert nonzero(blame([first, second], 50)) == {"event_loop": pytest.approx(20, abs=0.1)}


def made(**more: Any) -> Upload:
    upload = Upload(0.0, None)  # type: ignore[arg-type]
    for name, value in more.items():
        setattr(upload, name, value)
    return upload


@pytest.mark.parametrize(
    ("upload", "seconds"),
    [
        (made(latency=9.9, seconds={"pool": 9.0}), {}),
        (made(latency=14, seconds={"pool": 9.0, "threads": 3.0}), {"pool": 3.0, "threads": 1.0}),
        (made(latency=16, seconds={"pool": 2.0, "storage": 3.0, "database": 1.0}),
         {"pool": 2.0, "storage": 3.0, "database": 1.0}),
        (made(latency=14, cause="pool_timeout", seconds={"pool": 10.0}), {}),
        (made(latency=60, life=70.0, cause="gateway_timeout", cut_off=True,
              seconds={"pool": 66.0}), {"pool": 10.0}),
    ],
    ids=["in-time", "in-proportion", "service", "another-cause", "cut-off"],
)  # fmt: skip
def test_what_an_upload_is_late_by_is_its_waits_and_then_its_service(
    upload: Upload, seconds: Blame
) -> None:
    assert nonzero(blame([upload], 10.0)) == pytest.approx(seconds)


def test_a_seed_gives_the_same_trial_again_and_another_seed_another() -> None:
    first, again, other = (
        [upload.latency for upload in simulate(System("threads"), closed(9), seed)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
