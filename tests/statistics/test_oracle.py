"""The oracle against what must be true of any closed network."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

from validation import oracle
from validation.oracle import NETWORK_S, System, is_slow, share_slow, simulate, threshold

LOOP_S = 0.007 + 0.050 + 0.025 + 0.100
"""What the event loop of a worker is held for by an upload that leaves it for storage."""

STORAGE_S = 3.5
SYSTEMS = [System("blocking"), System("to_thread", workers=2), System("executor", threads=8)]


def test_it_uses_nothing_of_the_lab() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} & {"lab", "tests"} == set()


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.call)
def test_a_single_user_waits_for_nobody(system: System) -> None:
    result = simulate(system, users=1, window=7000)
    expected = LOOP_S + STORAGE_S + NETWORK_S / 2
    assert result.mean == pytest.approx(expected, rel=0.02)
    assert min(result.latencies) >= LOOP_S + 2.0
    assert max(result.latencies) <= LOOP_S + 5.0 + NETWORK_S
    assert result.throughput == pytest.approx(1 / expected, rel=0.02)


@pytest.mark.parametrize(
    ("system", "per_second"),
    [
        (System("blocking"), 1 / (LOOP_S + STORAGE_S)),
        (System("blocking", workers=2), 2 / (LOOP_S + STORAGE_S)),
        (System("to_thread"), 6 / STORAGE_S),
        (System("to_thread", cpus=4), 8 / STORAGE_S),
        (System("to_thread", workers=2), 12 / STORAGE_S),
        (System("executor", threads=8), 8 / STORAGE_S),
        (System("executor", threads=50), 1 / LOOP_S),
    ],
    ids=lambda each: f"{each.call}-{each.workers}-{each.slots}" if isinstance(each, System) else "",
)
def test_at_saturation_it_carries_slots_by_the_time_one_is_held(
    system: System, per_second: float
) -> None:
    # Many more users than slots, so that none is idle for long, however they are split. One
    # blocking worker answers all of them in turn, and then at once: in many such rounds.
    result = simulate(system, users=100, warmup=300, window=9000)
    assert result.throughput == pytest.approx(per_second, rel=0.03)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.call)
@pytest.mark.parametrize("users", [3, 12])
def test_littles_law_holds(system: System, users: int) -> None:
    result = simulate(system, users, window=6000)
    assert result.in_flight == pytest.approx(users, rel=1e-6)
    assert result.throughput * result.mean == pytest.approx(users, rel=0.03)


@pytest.mark.parametrize("call", ["blocking", "to_thread", "executor"])
def test_the_event_loop_lets_one_upload_at_a_time_reach_the_pool(call: str) -> None:
    result = simulate(System(call), users=30, window=120)  # type: ignore[arg-type]
    assert result.connections == 1


def test_two_users_of_a_blocking_worker_wait_for_one_another() -> None:
    # Both storage calls, one after the other: the sum of two uniform times is triangular.
    slow = share_slow(System("blocking"), users=2, trials=40)
    over = 10 - (10 - 2 * LOOP_S)
    assert slow == pytest.approx(over**2 / 2 / 3**2, abs=0.003)


def test_a_seed_gives_the_same_trial_again_and_another_seed_another() -> None:
    first, again, other = (simulate(System("to_thread"), 9, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("system", "bound", "holds"),
    [
        (System("blocking"), 10.0, 2),
        (System("blocking"), 1.0, 0),
        (System("executor", threads=1), 10.0, 2),
    ],
)
def test_the_threshold_is_the_most_users_below_the_bound(
    system: System, bound: float, holds: int
) -> None:
    assert threshold(system, bound, trials=4) == holds


def test_a_share_that_may_lie_on_either_side_of_the_bound_takes_more_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def slow(_system: System, users: int, seed: int, _bound: float) -> tuple[int, int]:
        asked.append(seed)
        if users == 1:
            return 2 if seed % 2 else 3, 1000
        return (70 if seed % 2 else 34, 1000) if seed <= 4 else (45 + seed % 2, 1000)

    monkeypatch.setattr("validation.oracle._slow", slow)
    assert not is_slow(System("blocking"), 1, bound=10.0, tail=0.05, trials=4)
    assert asked == [1, 2, 3, 4]
    asked.clear()
    assert not is_slow(System("blocking"), 2, bound=10.0, tail=0.05, trials=4)
    assert 4 < len(asked) <= 48


@pytest.mark.parametrize(("lead", "threads_of_the_first"), [(1.0, 3), (0.0, 0)])
def test_of_idle_workers_the_one_that_leads_takes_an_upload(
    lead: float, threads_of_the_first: int
) -> None:
    # 3 users whom one worker serves without a queue: another is not needed, but may be first.
    system = System("executor", workers=2, threads=3, cpu=0.0, auth=0.0, release=0.0, write=0.0)
    result = simulate(dataclasses.replace(system, lead=lead), users=3)
    assert result.busiest[0] == threads_of_the_first


def test_users_that_workers_share_unevenly_are_fewer() -> None:
    even = System("to_thread", workers=2)
    shares = [share_slow(dataclasses.replace(even, lead=lead), 19) for lead in (0.5, 0.7, 0.9)]
    assert shares == sorted(set(shares))


def test_more_slots_carry_more_users() -> None:
    found = [
        threshold(System("executor", workers=workers, threads=threads), trials=2)
        for workers, threads in ((1, 2), (1, 5), (2, 5))
    ]
    assert found == sorted(set(found))
