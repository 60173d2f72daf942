"""What a network carries at most and what fails first, by the laws of operational analysis; pure.

    rate   at most the least of places / seconds for which an upload has one     (utilisation law)
    users  of whom each takes R + Z for a turn: N = X (R + Z)                    (Little's law)

So with N users the time of an upload is at least N / X - Z, and each failure that comes of waiting
begins at a number of users (asymptotic bounds; Denning and Buzen, 1978; Lazowska et al., 1984,
ch. 5). Nothing is simulated: a hundred thousand users cost no more than ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, exp, inf, sqrt
from statistics import fmean
from typing import NamedTuple

from lab.capacity.network import Network

RARE = 1e-3
"""How seldom a pool has more connections out than it is taken to have had at most."""

OF_BOUND = 0.85
"""The part of a bound of p95 that the mean may take: for one worker at its threshold, simulated."""


class Carries(NamedTuple):
    """What a resource carries: uploads a second, at most."""

    resource: str
    rate: float


class FailsFrom(NamedTuple):
    """What fails as users grow: from how many on, by which resource, and how."""

    users: float
    resource: str
    how: str


def carried(network: Network) -> list[Carries]:
    """What each resource carries, the scarcest first; those that are no limit are left out."""
    database, workers = network.database, network.workers
    checkouts = database.checkout * (1 if database.held else 2)
    connected = database.queries + (network.storage_mean if database.held else 0.0)
    found = [
        ("event_loop", _rate(workers, network.in_loop)),
        ("pool", _rate(workers * database.connections, connected)),
        ("database_slots", _rate(database.slots, connected)),
        ("nginx_connections", _rate(network.at_once, network.alone)),
    ]
    if not network.blocks_loop:
        found.append(("threads", _rate(workers * network.threads, network.storage_mean)))
    if database.threads:
        in_thread = database.queries + checkouts
        found.append(("anyio_threads", _rate(workers * database.threads, in_thread)))
    if database.lent:
        found.append(("pooler", _rate(database.lent, connected)))
    if gateway := network.gateway:
        places = gateway.instances * gateway.concurrency
        found.append(("instance_queue", _rate(places, network.alone)))
    if (limit := network.global_limit) and network.one_address:
        found.append(("rate_limit", workers * limit.count / limit.per))
    known = [Carries(*one) for one in found if one[1] < inf]
    return sorted(known, key=lambda one: one.rate)


def _rate(places: float, seconds: float) -> float:
    return places / seconds if seconds else inf


def capacity(network: Network) -> Carries:
    """What limits a network of enough users, but for limits of rate, which turn others away."""
    served = [one for one in carried(network) if one.resource != "rate_limit"]
    return served[0] if served else Carries("none", inf)


def throughput(network: Network, users: int) -> float:
    """Uploads a second at most, of so many users."""
    turn = network.alone + fmean(network.think)
    return min(users / turn, *(one.rate for one in carried(network))) if turn else inf


def latency(network: Network, users: int) -> float:
    """Seconds of an upload at least, in the mean, of so many users."""
    return max(network.alone, users / capacity(network).rate - fmean(network.think))


def users_at(network: Network, seconds: float) -> float:
    """The users with whom an upload takes so long in the mean, by the law; infinite of no limit."""
    return capacity(network).rate * (seconds + fmean(network.think))


def failures(network: Network, bound: float, errors: float) -> list[FailsFrom]:
    """What fails as users grow, what does so first at the front.

    Args:
        network: that they upload to.
        bound: seconds that 95 % of uploads may take; infinite: any.
        errors: the share of them that may fail.
    """
    found = [one for one in _all(network, bound, errors) if one.users < inf]
    return sorted(found, key=lambda one: one.users)


def _all(network: Network, bound: float, errors: float) -> Iterator[FailsFrom]:
    limit = capacity(network).resource
    late = users_at(network, OF_BOUND * bound) if bound > network.alone / OF_BOUND else 1.0
    yield FailsFrom(late, limit, f"5 % of the uploads take {bound:g} s or longer")
    if network.oversize > errors:
        share = f"{100 * network.oversize:.0f} %"
        yield FailsFrom(1, "body_limit", f"{share} of the files are refused for their size")
    proxy, user = network.proxy_timeout, network.user_timeout
    yield FailsFrom(users_at(network, proxy), limit, f"the proxy gives up after {proxy:g} s (504)")
    yield FailsFrom(users_at(network, user), limit, f"users give up after {user:g} s")
    yield from _of_connections(network)
    yield from _turned_away(network)


def _of_connections(network: Network) -> Iterator[FailsFrom]:
    """Pools and the database's slots."""
    database, workers = network.database, network.workers
    slots = next((users for users in _growing() if opened(network, users) > database.slots), inf)
    most = f"{opened(network, 10**9):.0f} connections for {database.slots} slots"
    how = f"the database refuses connections, which pools keep once they are open: up to {most}"
    yield FailsFrom(slots, "database_slots", how)
    if not database.held or database.connections == inf:
        return
    if not database.threads:
        inside = workers * database.connections + 1
        how = "a checkout stops the event loop that would return a connection"
        yield FailsFrom(inside, "pool", f"{how}, for {database.pool_timeout:g} s each")
    else:
        rate = _rate(workers * database.connections, database.queries + network.storage_mean)
        wait = database.pool_timeout + network.alone + fmean(network.think)
        how = f"checkouts give up after {database.pool_timeout:g} s"
        yield FailsFrom(rate * wait, "pool", how)


def _growing() -> Iterator[int]:
    users = 1
    while users < 10**7:
        yield users
        users = max(users + 1, users * 102 // 100)


def opened(network: Network, users: int) -> float:
    """Connections that all pools have opened after a while with so many users.

    A pool keeps what it once needed at the same moment, up to its size, so this is of its worst
    moment: in a worker that serves m at once in the mean, a Poisson number that is passed in one
    of a thousand looks.
    """
    database, workers = network.database, network.workers
    turn = network.alone + fmean(network.think)
    rate = min(users / turn, capacity_beside_slots(network))
    connected = database.queries + (network.storage_mean if database.held else 0.0)
    if not database.threads and not database.held:
        return float(workers)  # its event loop makes one query at a time
    each = rate / workers * connected
    if database.held and users > rate * turn:
        each = users / workers
    return workers * min(database.connections, users, max(1, _worst(each)))


def capacity_beside_slots(network: Network) -> float:
    """What the network would carry if the database granted every connection."""
    others = ("rate_limit", "database_slots")
    return min((one.rate for one in carried(network) if one.resource not in others), default=inf)


def _worst(mean: float) -> int:
    """The smallest number that a Poisson variable of this mean passes in `RARE` of all cases."""
    if mean > 100:
        return ceil(mean + 3.09 * sqrt(mean))
    below, chance, number = exp(-mean), exp(-mean), 0
    while below < 1 - RARE:
        number += 1
        chance *= mean / number
        below += chance
    return number


def _turned_away(network: Network) -> Iterator[FailsFrom]:
    """Who is refused before anything is done."""
    workers, think = network.workers, fmean(network.think)
    turn = network.alone + think
    if network.at_once < inf:
        users = network.at_once + capacity(network).rate * think
        yield FailsFrom(users, "nginx_connections", "nginx has no connection left (500)")
    if network.max_inflight is not None:
        inside = workers * network.max_inflight + 1 + capacity(network).rate * think
        yield FailsFrom(inside, "backpressure", "workers that are full refuse uploads (503)")
    limit = network.global_limit
    if limit and network.one_address:
        rate = workers * limit.count / limit.per
        users = rate * turn if rate < capacity(network).rate else inf
        how = f"all users have one address, of which a worker takes {limit} (429)"
        yield FailsFrom(users, "rate_limit", how)
    own = network.upload_limit
    if own and workers * own.count / own.per < 1 / turn:
        yield FailsFrom(1, "rate_limit", f"a user uploads more often than {own} (429)")
    if gateway := network.gateway:
        rate = _rate(gateway.instances * gateway.concurrency, network.alone)
        users = rate * (gateway.pending + network.alone + think)
        how = f"requests wait longer than {gateway.pending:g} s for an instance (429)"
        yield FailsFrom(users, "instance_queue", how)
