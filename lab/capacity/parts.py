"""The parts of a closed network as its simulation has them, and how an upload ends there."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from lab.capacity.network import Floats, Network

DRAWN = 4096
"""So many random numbers are drawn at once."""

OK, CUT_PROXY, CUT_USER, OVERSIZE, LIMITED = range(5)
OVERLOADED, NO_CONNECTION, SLOTS, PROXY_FULL, NO_PLACE = range(5, 10)
CAUSES = (
    *("", "gateway_timeout", "client_timeout", "body_too_large", "rate_limited", "overloaded"),
    *("pool_timeout", "db_refused", "proxy_error", "no_instance"),
)
"""How an upload ended, by its code: the causes of `lab.model.evidence.Cause`, "" for a success."""

WAITS = ("accept", "threads", "pool", "anyio", "gateway")
"""What an upload waits for, beside its event loop."""

COLUMNS = ("ended", "latency", "storage", "worker", "code", *WAITS)
"""What is kept of each upload that ended in the window, in this order."""

Rows: TypeAlias = "array[float]"
"""The columns of all uploads, one upload after the other."""

Action = Callable[[float, Any], None]
"""What happens at a moment, and what it is about."""

Step = Callable[[float, "SimulatedWorker", "SimulatedUpload"], float]
"""A step of an upload in its loop, begun at a moment; it returns when it has ended."""

Item = tuple[Step, "SimulatedUpload"]
"""What is ready in a loop."""


class SimulatedUpload:
    """One attempt of a user; moments are in seconds of the simulation.

    Its attributes are the class's until they are set: an upload that waits for nothing sets few.
    """

    worker: SimulatedWorker | None = None
    over = connected = token = False
    storage = accept = threads = pool = anyio = gateway = 0.0
    handed = asked = -1.0
    code = OK
    job = 0

    def __init__(self, user: int, sent: float) -> None:
        self.user, self.sent = user, sent


class SimulatedPool:
    """A worker's: connections that are idle, and how many it has opened."""

    __slots__ = ("idle", "limit", "opened", "size", "waiting")

    def __init__(self, size: float, limit: float) -> None:
        self.size, self.limit = size, limit
        self.idle = self.opened = 0
        self.waiting: deque[tuple[float, SimulatedUpload, Callable[[float], None]]] = deque()


class SimulatedWorker:
    """A process: what is ready in its event loop, its threads, its pool, who is inside.

    ``turns`` counts those of its loop; ``later`` are items by the turn in which they are ready.
    """

    __slots__ = (
        *("number", "ready", "turn", "idle", "free", "pool", "tokens", "queued", "queue"),
        *("inflight", "proxied", "hits", "user_hits", "instance", "turns", "later"),
    )

    def __init__(self, number: int, network: Network, queue: list[SimulatedUpload]) -> None:
        database = network.database
        self.number, self.queue = number, queue
        self.ready: list[Item] = []
        self.turn: Iterator[Item] = iter(())
        self.turns = 0
        self.later: dict[int, list[Item]] = {}
        self.idle = True
        self.free = [0.0] * network.threads
        self.pool = SimulatedPool(database.pool_size, database.connections)
        self.tokens = database.threads
        self.queued: deque[SimulatedUpload] = deque()
        self.inflight = self.proxied = 0
        self.hits: dict[int, deque[float]] = {}
        self.user_hits: dict[int, deque[float]] = {}
        self.instance: SimulatedInstance | None = None


class SimulatedInstance:
    """One of Cloud Run's: its processes, and how many requests it has."""

    __slots__ = ("ready_at", "used", "workers")

    def __init__(self, workers: list[SimulatedWorker], ready_at: float) -> None:
        self.workers, self.ready_at, self.used = workers, ready_at, 0


class Draws:
    """The random numbers of a replication, without end.

    Args:
        network: whose uploads draw them.
        users, seed: the same give the same.
    """

    def __init__(self, network: Network, users: int, seed: int) -> None:
        numbers = np.random.default_rng((seed, users))
        storage, turns = network.storage, network.turns
        self.uniform = _endless(lambda: numbers.random(DRAWN))
        self.turns: Iterator[int] = repeat(int(turns[0]))
        if turns.size > 1:
            self.turns = map(int, _endless(lambda: numbers.choice(turns, DRAWN)))
        if isinstance(storage, tuple):
            low, high = storage
            self.storage = _endless(lambda: numbers.uniform(low, high, DRAWN))
        else:
            self.storage = _endless(lambda: numbers.choice(storage, DRAWN))


def _endless(draw: Callable[[], Floats]) -> Iterator[float]:
    while True:
        yield from draw().tolist()
