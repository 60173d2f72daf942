"""The simulated network where its figures are known: by hand, by Little's law, by bounds."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from lab.capacity import operational
from lab.capacity.engine import Engine
from lab.capacity.jobs import JobEngine
from lab.capacity.model import Simulated, simulate
from lab.capacity.network import InstanceGateway, Network
from lab.capacity.parts import Draws
from lab.capacity.plain import is_plain, run_plain
from lab.model.units import RateLimit
from tests.unit.capacity.networks import BLOCKING, network

NETWORKS = {
    "threads": network(BLOCKING, cpu_before=0.006, cpu_after=0.001, storage=(2.0, 5.0)),
    "blocks": network(BLOCKING, blocks_loop=True, threads=1, storage=(2.0, 5.0)),
    "thinks": network(BLOCKING, think=(1.0, 6.0), storage=(2.0, 5.0), network=0.005),
    "too large": network(BLOCKING, oversize=0.2, backoff=(1.0, 2.0), storage=(2.0, 5.0)),
    "even": network(BLOCKING, workers=3, storage=(2.0, 5.0), network=0.005),
    "leads": network(BLOCKING, workers=2, lead=0.72, storage=(2.0, 5.0), network=0.005),
    "least_conn": network(BLOCKING, workers=2, balance="least_conn", storage=(2.0, 5.0)),
    "round_robin": network(BLOCKING, workers=2, balance="round_robin", storage=(2.0, 5.0)),
    "reads long": network(
        BLOCKING, turns=np.array([3.0, 9.0, 20.0]), storage=np.array([2.0, 3.0, 9.0])
    ),
}
"""All of them plain."""


def window(net: Network, users: int, seconds: float = 600.0, seed: int = 1) -> Simulated:
    return simulate(net, users, seed=seed, warmup=30.0, window=seconds)


def test_users_who_fit_wait_for_nobody() -> None:
    seen = window(network(), 4)
    assert np.allclose(seen.latency, 3.0)
    assert seen.throughput == pytest.approx(4 / 3, rel=0.01)


def test_deterministic_service_queues_as_it_must() -> None:
    # Six users at four threads of exactly 3 s each: of each a turn takes 6 / (4 / 3) = 4.5 s.
    seen = window(network(ramp=3.0), 6)
    assert seen.throughput == pytest.approx(4 / 3, rel=0.01)
    assert seen.latency.mean() == pytest.approx(4.5, rel=0.01)
    assert seen.waits["threads"].mean() == pytest.approx(1.5, rel=0.02)


def test_a_call_that_blocks_makes_one_after_the_other() -> None:
    seen = window(network(blocks_loop=True, threads=1), 2)
    assert np.allclose(seen.latency, 6.0)


def test_thought_is_no_part_of_latency() -> None:
    seen = window(network(think=(2.0, 2.0)), 2)
    assert np.allclose(seen.latency, 3.0)
    assert seen.throughput == pytest.approx(2 / 5, rel=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_little_holds(name: str) -> None:
    net, users = NETWORKS[name], 12
    seen = window(net, users, 6000.0)
    spent = seen.throughput * (seen.latency[seen.ok].mean() + sum(net.think) / 2)
    refused = (~seen.ok).sum() / seen.window * (sum(net.backoff) / 2)
    assert spent + refused == pytest.approx(users, rel=0.01)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_bound_is_met_and_not_passed(name: str) -> None:
    net = NETWORKS[name]
    seen = window(net, 14, 3000.0)
    bound = operational.capacity(net).rate
    assert seen.throughput <= 1.03 * bound  # by chance storage is a little faster
    if net.workers == 1 or net.balance == "least_conn":
        assert seen.throughput > 0.95 * bound


@pytest.mark.parametrize("until", [300.0, inf], ids=["cut", "followed"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_quick_loop_gives_the_engines_uploads(name: str, until: float) -> None:
    # What happens at the very same moment may be in another order: so nobody sends at once.
    net, users = replace(NETWORKS[name], network=0.005), 9
    assert is_plain(net, users)
    quick = run_plain(net, users, Draws(net, users, 3), (20.0, 300.0), until)
    engine = Engine(net, users, 3, (20.0, 300.0), until)
    engine.run(users)
    assert quick is not None
    assert quick[0] == engine.rows
    assert len(engine.rows) > 100
    assert quick[1] == pytest.approx(engine.inside)


def test_a_session_that_is_released_is_the_same_in_threads_where_none_are_scarce() -> None:
    apart = window(network({**BLOCKING, "threads": 40}, storage=(2.0, 5.0)), 8, 6000.0)
    plain = window(network(BLOCKING, storage=(2.0, 5.0)), 8, 6000.0)
    assert apart.throughput == pytest.approx(plain.throughput, rel=0.02)


def test_a_seed_gives_the_same_and_another_does_not() -> None:
    net = NETWORKS["leads"]
    first, again, other = window(net, 12), window(net, 12), window(net, 12, seed=2)
    assert np.array_equal(first.latency, again.latency)
    assert not np.array_equal(first.latency[:50], other.latency[:50])


def test_more_users_wait_longer() -> None:
    shares = [window(NETWORKS["threads"], users, 3000.0).late(10.0) for users in (6, 9, 12, 15)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] > 0.5


def test_arrays_are_in_order_and_as_long_as_one_another() -> None:
    seen = window(NETWORKS["leads"], 12)
    assert (np.diff(seen.ended) >= 0).all()
    assert 0 <= seen.ended[0] <= seen.ended[-1] < seen.window
    arrays = (seen.latency, seen.storage, seen.worker, seen.ok, seen.code, *seen.waits.values())
    assert {array.size for array in arrays} == {seen.ended.size}


def test_those_inside_are_all_where_nobody_pauses() -> None:
    seen = window(NETWORKS["leads"], 12)
    assert seen.inside.sum() == pytest.approx(12, rel=0.01)
    assert seen.inside[0] > seen.inside[1]


def test_what_was_sent_in_the_window_is_followed_to_its_end() -> None:
    seen = simulate(network(ramp=3.0), 12, seed=1, warmup=10.0, window=20.0, follow=True)
    sent = seen.ended - seen.latency
    assert sent.max() < 20.0 < seen.ended.max()


def test_a_held_session_stops_the_loop_that_would_return_its_connection() -> None:
    # Two connections, three users: the third checkout stands for the whole of pool_timeout.
    net = network({"held": True, "pool_size": 2.0, "pool_timeout": 10.0})
    seen = window(net, 3)
    assert seen.causes["pool_timeout"] > 0.2
    assert seen.latency[~seen.ok].min() >= 10.0


def test_a_held_session_in_threads_waits_for_a_connection() -> None:
    net = network({"held": True, "pool_size": 2.0, "threads": 40, "pool_timeout": 60.0})
    seen = window(net, 4)
    assert seen.causes == {}
    assert seen.throughput == pytest.approx(2 / 3, rel=0.02)
    assert seen.waits["pool"].mean() == pytest.approx(3.0, rel=0.05)


def test_a_checkout_in_a_thread_gives_up() -> None:
    net = network({"held": True, "pool_size": 1.0, "threads": 40, "pool_timeout": 2.0})
    seen = window(net, 6)
    assert seen.causes["pool_timeout"] > 0.3
    assert seen.throughput == pytest.approx(1 / 3, rel=0.1)


def test_the_database_refuses_who_comes_beyond_its_slots() -> None:
    net = network({"held": True, "threads": 40, "slots": 3, "connect": 0.1})
    assert set(window(net, 4).causes) == {"db_refused"}
    assert window(net, 3).causes == {}


def test_anyio_is_a_limit_of_its_own() -> None:
    net = network({"auth": 1.0, "write": 1.0, "threads": 2}, threads=40, storage=(0.1, 0.1))
    seen = window(net, 12)
    assert seen.throughput == pytest.approx(1.0, rel=0.02)
    assert seen.waits["anyio"].mean() > seen.waits["threads"].mean()


def test_the_proxy_and_users_give_up() -> None:
    seen = window(network(proxy_timeout=10.0), 20)
    assert set(seen.causes) == {"gateway_timeout"}
    assert np.allclose(seen.latency[~seen.ok], 10.0)
    assert set(window(network(user_timeout=8.0), 20).causes) == {"client_timeout"}


def test_a_worker_goes_on_with_who_was_cut_off() -> None:
    # Fifteen users at 4 / 3 uploads a second, each cut off after 4 s: the threads never rest.
    seen = window(network(proxy_timeout=4.0), 15)
    assert seen.inside.sum() > 15


def test_full_proxies_workers_and_limits_refuse() -> None:
    assert set(window(network(at_once=3), 5).causes) == {"proxy_error"}
    assert set(window(network(max_inflight=3), 5).causes) == {"overloaded"}
    limited = window(network(global_limit=RateLimit(count=30, per=60.0)), 4, 3000.0)
    assert set(limited.causes) == {"rate_limited"}
    assert limited.throughput == pytest.approx(0.5, rel=0.03)
    own = window(network(upload_limit=RateLimit(count=10, per=60.0)), 1, 3000.0)
    assert own.throughput == pytest.approx(1 / 6, rel=0.05)


def test_files_that_are_too_large_come_back_at_once() -> None:
    seen = window(network(oversize=0.25), 3, 6000.0)
    assert seen.causes == {"body_too_large": pytest.approx(0.25, abs=0.02)}


def test_a_gateway_gives_an_instance_no_more_than_its_concurrency() -> None:
    gateway = InstanceGateway(
        instances=2, warm=0, concurrency=1, workers=1, pending=10.0, start=3.0
    )
    net = network(workers=2, balance="gateway", gateway=gateway)
    seen = window(net, 2)
    assert seen.causes == {}
    assert seen.throughput == pytest.approx(2 / 3, rel=0.02)
    crowd = window(net, 20)
    assert set(crowd.causes) == {"no_instance"}
    assert crowd.waits["gateway"].max() <= 10.0


def test_an_uneven_split_carries_less_than_an_even_one() -> None:
    carried = {
        lead: window(network(workers=2, lead=lead, ramp=3.0), 9, 3000.0).throughput
        for lead in (0.5, 0.95)
    }
    assert carried[0.95] < carried[0.5]


def test_little_work_in_the_loop_is_split_less_evenly() -> None:
    """Who is busy accepts nothing: so work, which a speed makes longer, evens the split out."""
    shares = []
    for work in (0.001, 0.05, 0.1):
        net = network(workers=2, threads=11, lead=0.72, cpu_before=work, storage=(2.0, 5.0))
        inside = window(net, 18, 3000.0).inside
        shares.append(inside[0] / inside.sum())
    assert shares == sorted(shares, reverse=True)


def test_no_users_and_no_window_are_refused() -> None:
    with pytest.raises(ValueError, match="0 users"):
        simulate(network(), 0, seed=1, warmup=0.0, window=1.0)
    with pytest.raises(ValueError, match="window of 0 s"):
        simulate(network(), 1, seed=1, warmup=0.0, window=0.0)


def test_connections_that_are_shared_have_an_engine_of_their_own() -> None:
    held = network({"held": True})
    assert not is_plain(held, 4)
    engine = JobEngine(held, 4, 1, (0.0, 60.0), 60.0)
    engine.run(4)
    assert len(engine.rows) > 0
