"""The parts of a closed network as its simulation has them, and how an upload ends there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from lab.capacity.network import Network

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

Action = Callable[[float, Any], None]
"""What happens at a moment, and what it is about."""

Step = Callable[[float, "Worker", "Upload"], float]
"""A step of an upload in its loop, begun at a moment; it returns when it has ended."""

Item = tuple[Step, "Upload"]
"""What is ready in a loop."""


class Upload:
    """One attempt of a user; moments are in seconds of the simulation."""

    __slots__ = (
        *("user", "sent", "handed", "worker", "storage", "over", "connected", "token", "code"),
        *("job", "accept", "threads", "pool", "anyio", "gateway", "asked"),
    )

    def __init__(self, user: int, sent: float) -> None:
        self.user, self.sent = user, sent
        self.worker: Worker | None = None
        self.over = self.connected = self.token = False
        self.storage = self.accept = self.threads = self.pool = self.anyio = self.gateway = 0.0
        self.code = OK
        self.job = 0
        self.asked = -1.0


class Pool:
    """A worker's: connections that are idle, and how many it has opened."""

    __slots__ = ("idle", "limit", "opened", "size", "waiting")

    def __init__(self, size: float, limit: float) -> None:
        self.size, self.limit = size, limit
        self.idle = self.opened = 0
        self.waiting: deque[tuple[float, Upload, Callable[[float], None]]] = deque()


class Worker:
    """A process: what is ready in its event loop, its threads, its pool, who is inside."""

    __slots__ = (
        *("number", "ready", "turn", "idle", "free", "pool", "tokens", "queued", "queue"),
        *("inflight", "proxied", "hits", "user_hits", "instance"),
    )

    def __init__(self, number: int, network: Network, queue: list[Upload]) -> None:
        database = network.database
        self.number, self.queue = number, queue
        self.ready: list[Item] = []
        self.turn: Iterator[Item] = iter(())
        self.idle = True
        self.free = [0.0] * network.threads
        self.pool = Pool(database.pool_size, database.connections)
        self.tokens = database.threads
        self.queued: deque[Upload] = deque()
        self.inflight = self.proxied = 0
        self.hits: dict[int, deque[float]] = {}
        self.user_hits: dict[int, deque[float]] = {}
        self.instance: Instance | None = None


class Instance:
    """One of Cloud Run's: its processes, and how many requests it has."""

    __slots__ = ("ready_at", "used", "workers")

    def __init__(self, workers: list[Worker], ready_at: float) -> None:
        self.workers, self.ready_at, self.used = workers, ready_at, 0
