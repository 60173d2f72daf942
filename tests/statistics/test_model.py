"""The model against simulations of the replica that know nothing of the lab."""

from __future__ import annotations

from statistics import fmean

import pytest

from lab.capacity.curve import threshold
from lab.capacity.model import simulate
from lab.capacity.network import Connections, Network
from lab.model.criterion import Criterion
from validation import drawn_limits, oracle

DRAWN = 6

SYSTEMS = [
    (oracle.System("to_thread"), 14),
    (oracle.System("executor", threads=11), 26),
    (oracle.System("blocking"), 2),
    (oracle.System("to_thread", workers=2, lead=0.72), 18),
    (oracle.System("executor", threads=11, workers=2, lead=0.72), 38),
    (oracle.System("to_thread", workers=4, lead=0.55), 46),
]


def network_like(system: oracle.System) -> Network:
    """The oracle's system as the model has it."""
    return Network(
        workers=system.workers,
        threads=system.slots or 1,
        blocks_loop=system.call == "blocking",
        lead=system.lead,
        balance="shared_socket",
        cpu_before=system.cpu,
        cpu_after=0.0,
        database=Connections(
            auth=system.auth,
            release=system.release,
            write=system.write,
            held=False,
            threads=0,
            pool_size=float(system.pool),
            max_overflow=0.0,
            pool_timeout=10.0,
            checkout=0.0,
            connect=0.1,
            slots=200,
        ),
        storage=system.storage,
    )


@pytest.mark.parametrize(("system", "users"), SYSTEMS, ids=str)
def test_the_oracle_carries_as_much_and_takes_as_long(system: oracle.System, users: int) -> None:
    seeds, window = range(1, 5), 1500.0
    mine = [
        simulate(network_like(system), users, seed=seed, warmup=60.0, window=window)
        for seed in seeds
    ]
    other = [oracle.simulate(system, users, seed, window=window) for seed in seeds]
    rate = fmean(one.throughput for one in other)
    assert fmean(one.throughput for one in mine) == pytest.approx(rate, rel=0.03)
    p95 = fmean(one.quantile(0.95) for one in other)
    assert fmean(one.percentile(0.95) for one in mine) == pytest.approx(p95, rel=0.09)


@pytest.mark.parametrize(("call", "holds"), [("to_thread", 13), ("blocking", 2)])
def test_the_oracle_breaks_at_as_many_users(call: str, holds: int) -> None:
    system = oracle.System(call)  # type: ignore[arg-type]
    found = threshold(network_like(system), Criterion.parse("p95 < 10 s"), 200)
    assert abs(found - oracle.threshold(system, trials=5)) <= 1
    assert abs(found - holds) <= 1


@pytest.mark.parametrize(
    "drawn", drawn_limits.draw(6, seed=1), ids=lambda one: str(one.combination)
)
def test_drawn_combinations_have_the_same_figures(drawn: drawn_limits.Drawn) -> None:
    """Sessions that are held, queries in threads: one worker, with its part of the users."""
    combination = drawn.combination
    system = combination.system
    net = Network(
        workers=1,
        threads=system.threads,
        blocks_loop=system.call == "blocking",
        lead=0.0,
        balance="shared_socket",
        cpu_before=system.cpu,
        cpu_after=0.0,
        database=Connections(
            auth=2 * 0.0254,
            release=0.0254,
            write=4 * 0.0254,
            held=system.session == "hold",
            threads=system.anyio_threads,
            pool_size=float(system.pool_size),
            max_overflow=0.0,
            pool_timeout=system.pool_timeout,
            checkout=0.0,
            connect=4 * 0.0254,
            slots=system.db_cap,
        ),
        storage=system.storage,
        proxy_timeout=system.proxy_timeout,
        ramp=2.0,
    )
    other = drawn_limits.figures(system, combination.users_each, 1, 1500.0)
    seen = simulate(net, combination.users_each, seed=1, warmup=20.0, window=1500.0)
    assert seen.throughput == pytest.approx(other.rate, rel=0.03)
    assert seen.percentile(0.95) == pytest.approx(other.p95, rel=0.09)
