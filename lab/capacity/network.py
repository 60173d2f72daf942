"""The closed network of one cell: what the model of a capacity is made of; pure.

    users ─think─> proxy or gateway ─> workers: event loop ─> pool, database ─> threads, storage
      ^                                                  └─> pool, database ─┐
      └──────────────────────────── answered, refused or cut off <───────────┘

A cell's knobs and the replica's constants say all of it (`network_of`); what work costs on a
machine is taken as that of a usual one, or from a cell that was measured (`StageTimes`).

A speed divides no work. So at speed s the work of a loop costs s times as much of real-world time,
delays cost what they do: with ``speed`` the network is that of the replica at this speed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import fsum, inf
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from lab.errors import UsageError
from lab.model.costs import WORKER
from lab.model.experiment import Cell
from lab.model.fault import Fault, Latency, ProxyName
from lab.model.journeys import Journey
from lab.model.knobs import Knobs
from lab.model.load import ClosedLoad
from lab.model.physics import (
    CONNECT_TRIPS,
    checkout_trips,
    db_trips,
    max_processes,
    pool_connections,
)
from lab.model.replica import POOLER_PATIENCE_S, file_limit, nginx_limits, pooled
from lab.model.units import RateLimit, SizeRange, Span
from lab.plan.speed import TYPICAL

Floats = NDArray[np.float64]
Balance = Literal["shared_socket", "round_robin", "least_conn", "gateway"]

BEFORE = 0.9
"""The share of an upload's work in the loop that is done before its first query: its body is read
and its form parsed; the answer is short."""

FEWEST_TURNS = 3
"""Turns of an event loop from accepting a connection to the first query of a small upload: the
connection is made, its request read, its form parsed."""

TURN_BYTES = 145_000
"""Bytes of a body that one turn reads, measured on loopback: of a busy loop each turn of which took
0.7 s, a file of 0.7 MB needed 4.6 s to be read, one of 0.1 MB 1.7 s."""

SPOOLED, SPOOLED_TURNS = 1024**2, 4
"""Above so many bytes a file is written to disk, in a thread, piece by piece (Starlette's
SpooledTemporaryFile): a turn more for each piece, and so many for the first and to read it."""

SIZES = 64
"""So many sizes stand for a load's."""

REFUSAL = 0.35
"""The share of it that one costs which is refused unread: its connection, and an answer."""

OPENING_S = 0.004
"""Seconds of work to open a connection. Measured from 1.5 to 5.5 times as fast, it took 0.13 to
0.15 s at 25 ms a round trip, one trip more than `CONNECT_TRIPS`; and one that the database refuses
as long, for it does so once the client has proved who it is."""

TYPICAL_LEAD = {2: 0.72}
"""λ where none is known: with two workers 0.72 to 0.73 was measured, of uploads that found both
idle; with more of them the first to accept wins as often against each (`MORE_LEAD`)."""

MORE_LEAD = 0.55

START_S = 3.0
"""Seconds in which an instance of Cloud Run starts, where none was measured: the report says 2 to
5, and a Python service takes 1 to 3 at one CPU."""


@dataclass(frozen=True, eq=False)
class StageTimes:
    """What was measured of a cell's uploads, in real-world seconds.

    Args:
        auth, release, write: means of these stages; 0 where a cell has not such a stage.
        cpu: for which an upload held the event loop outside of its stages, in the mean.
        storage: the times of storage's answers, 1-D, of uploads that succeeded.
        speed: of the cell that was measured: its work took so many times as long.
        start: in which an instance of Cloud Run started; None where none did.
    """

    auth: float
    release: float
    write: float
    cpu: float
    storage: Floats
    speed: float = 1.0
    start: float | None = None


@dataclass(frozen=True)
class Connections:
    """A worker's pool and the database behind it; durations in seconds.

    Args:
        auth, release, write: what each step takes with a connection at hand.
        held: whether the session, and so its connection, is kept across the storage call.
        threads: anyio's threads that queries run in; 0: they block the event loop.
        pool_size, max_overflow: connections that a pool keeps, and opens beyond; infinite without
            a limit. A pool that keeps none has a size of 0.
        pool_timeout: how long a checkout waits.
        checkout: what a checkout takes that has a connection at hand.
        connect: what opening a connection takes, or being refused one.
        slots: connections that the database grants to all workers.
        lent: connections of the database's that a pooler lends for a transaction (its waits have no
            failure within ``patience``); 0: there is no pooler.
    """

    auth: float
    release: float
    write: float
    held: bool
    threads: int
    pool_size: float
    max_overflow: float
    pool_timeout: float
    checkout: float
    connect: float
    slots: int
    lent: int = 0
    by_session: bool = False
    patience: float = POOLER_PATIENCE_S

    @property
    def connections(self) -> float:
        """Those that one worker's pool may have out at once."""
        return self.pool_size + self.max_overflow

    @property
    def queries(self) -> float:
        """Seconds of an upload's queries, without its checkouts."""
        return self.auth + self.release + self.write


@dataclass(frozen=True)
class InstanceGateway:
    """Cloud Run's before its instances; durations in seconds.

    Args:
        instances: as many as there may be.
        warm: as many as are always there.
        concurrency: requests that one is given at once.
        workers: processes in each.
        pending: how long a request waits for a place; then 429.
        start: in which an instance starts.
    """

    instances: int
    warm: int
    concurrency: int
    workers: int
    pending: float
    start: float


@dataclass(frozen=True, eq=False)
class Network:
    """The closed network of one cell, all times in real-world seconds.

    Args:
        workers: processes that serve: the VM's, or those of all instances.
        threads: places for storage calls in each: own threads, the default executor's, or 1 where
            the call blocks the event loop.
        blocks_loop: whether it does.
        lead: λ, how often the worker that is woken first takes an upload which finds it idle; else
            the next idle one does, as often, and so on. 0: each idle one as often, and wherever a
            proxy shares uploads out.
        balance: who shares uploads out among the workers.
        cpu_before, cpu_after: for which an upload holds the loop, beside its queries, before its
            first query, and for its answer.
        database: pools and database.
        storage: the shortest and the longest answer of storage, uniform; or measured ones, 1-D, of
            which each upload draws one.
        think, backoff: pauses of a user, after a success and after a failure; uniform.
        uplink: how long a user's line carries a file, in the mean.
        network: a request is sent, buffered and passed on within this long, uniform.
        turns: of the loop that an upload's body takes to be read once it is accepted, 1-D; each
            upload draws one of them.
        user_timeout: after which a user leaves.
        proxy_timeout: after which the proxy answers 504, from when it passed the upload on.
        oversize: share of the files that are refused for their size before anything is done.
        at_once: uploads that the proxy passes on at once; one more is refused.
        max_inflight: uploads that a worker takes in at once; None: all.
        global_limit, upload_limit: limits of rate, of an address and of a user; each worker counts
            for itself. ``one_address`` is whether all users have the same.
        gateway: Cloud Run's; None on the VM.
        ramp: over which users begin, one after the other.
    """

    workers: int
    threads: int
    blocks_loop: bool
    lead: float
    balance: Balance
    cpu_before: float
    cpu_after: float
    database: Connections
    storage: tuple[float, float] | Floats
    think: tuple[float, float] = (0.0, 0.0)
    backoff: tuple[float, float] = (1.0, 1.0)
    uplink: float = 0.0
    network: float = 0.005
    turns: Floats = field(default_factory=lambda: np.array([float(FEWEST_TURNS)]))
    user_timeout: float = 120.0
    proxy_timeout: float = 60.0
    oversize: float = 0.0
    at_once: float = inf
    max_inflight: int | None = None
    global_limit: RateLimit | None = None
    one_address: bool = True
    upload_limit: RateLimit | None = None
    gateway: InstanceGateway | None = None
    ramp: float = 5.0

    @property
    def storage_mean(self) -> float:
        """Mean seconds of storage's answers."""
        return float(np.mean(self.storage))

    @property
    def in_loop(self) -> float:
        """Seconds for which an upload holds its worker's event loop, in the mean."""
        database = self.database
        queries = database.queries + database.checkout * (1 if database.held else 2)
        storage = self.storage_mean if self.blocks_loop else 0.0
        return self.cpu + storage + (0.0 if database.threads else queries)

    @property
    def cpu(self) -> float:
        """Seconds of an upload in the loop beside its queries, before and after storage."""
        return self.cpu_before + self.cpu_after

    @property
    def alone(self) -> float:
        """Seconds of an upload that meets nobody, in the mean."""
        queries = self.database.queries + self.database.checkout * (1 if self.database.held else 2)
        return self.uplink + self.network / 2 + self.cpu + queries + self.storage_mean

    def with_lead(self, lead: float) -> Network:
        """The same with another λ."""
        return replace(self, lead=lead)


def network_of(
    cell: Cell,
    stages: StageTimes | None = None,
    lead: float | None = None,
    speed: float = 1.0,
    *,
    for_bounds: bool = False,
) -> Network:
    """The network of a cell, from its knobs, load and faults, and the replica's constants.

    Args:
        cell: its own speed is not looked at.
        stages: of this cell or of one like it, measured; None: as on a usual machine.
        lead: λ, where workers share a socket; None: as usual.
        speed: at which the replica would run it: its work takes so many times as long.
        for_bounds: whether it is asked for bounds alone, which know PgBouncer, and never simulated.

    Raises:
        UsageError: the cell has something that the model does not know, or its load has no users.
    """
    _refuse_unknown(cell)
    if pooled(cell.knobs) and not for_bounds:
        raise UsageError(f"{cell.id}: the model does not simulate PgBouncer", "set pooler: off")
    knobs, load = cell.knobs, cast(ClosedLoad, cell.load)
    shared = cell.target == "vm" and knobs.workers > 1 and knobs.balance == "shared_socket"
    usual = TYPICAL_LEAD.get(knobs.workers, MORE_LEAD) if shared else 0.0
    cpu = stages.cpu / stages.speed if stages else TYPICAL.of(WORKER).of(load.audio.mean)
    if cell.target == "cloudrun":
        cpu /= min(1.0, knobs.cloudrun_cpus)
    nginx, limit = nginx_limits(knobs), file_limit(cell.target, knobs)
    on_vm = cell.target == "vm"
    return Network(
        workers=max_processes(cell),
        threads=knobs.instance_worker_slots
        if not on_vm
        else cell.storage_slots // max(1, knobs.workers),
        blocks_loop=knobs.gcs_call == "blocking",
        lead=(usual if lead is None else lead) if shared else 0.0,
        balance=knobs.balance if on_vm else "gateway",
        cpu_before=BEFORE * cpu * speed,
        cpu_after=(1 - BEFORE) * cpu * speed,
        database=_database(cell, stages, speed),
        storage=_storage(cell, stages),
        think=(load.think.low, load.think.high),
        backoff=(load.backoff.low, load.backoff.high),
        uplink=load.uplink_s,
        turns=_turns(load.audio, limit),
        user_timeout=load.timeout,
        proxy_timeout=nginx.read_s if on_vm else knobs.cloudrun_timeout,
        oversize=0.0 if limit is None else load.audio.share_above(limit),
        at_once=nginx.uploads if on_vm else inf,
        max_inflight=knobs.max_inflight_uploads,
        global_limit=knobs.global_rate_limit,
        one_address=not (knobs.rate_limit_key == "forwarded" and knobs.nginx == "recommended"),
        upload_limit=knobs.upload_rate_limit,
        gateway=None if on_vm else _gateway(knobs, stages),
        ramp=load.ramp,
    )


def _turns(audio: SizeRange, limit: int | None) -> Floats:
    """The turns that files take to be read which nobody refuses for their size."""
    high = min(audio.high, limit or audio.high)
    shares = (np.arange(SIZES) + 0.5) / SIZES
    size = audio.low * (max(high, audio.low) / audio.low) ** shares  # log-uniform
    spooled = np.maximum(0.0, size - SPOOLED)
    turns = FEWEST_TURNS + (size + spooled) / TURN_BYTES + SPOOLED_TURNS * (spooled > 0)
    return np.asarray(np.rint(turns), dtype=np.float64)


def _refuse_unknown(cell: Cell) -> None:
    """Refuse what the model has no part for.

    Raises:
        UsageError: there is something of it.
    """
    knobs, load = cell.knobs, cell.load
    if not isinstance(load, ClosedLoad):
        raise UsageError(
            f"{cell.id}: a load of kind {load.kind} has no number of users to predict for",
            "give it users and a window",
        )
    unknown = {
        "a load in which users do other things than upload": (
            "leave mix out",
            tuple(load.shares) != (Journey.UPLOAD,),
        ),
        f"a leak of {knobs.leak}": ("set leak: off", knobs.leak != "off"),
        "a part that is killed or paused": (
            "leave the process fault out",
            bool(cell.process_faults),
        ),
        "a fault that does more than delay answers": (
            "leave it out",
            any(map(_does_more, cell.faults)),
        ),
    }
    for what, (remedy, is_there) in unknown.items():
        if is_there:
            raise UsageError(f"{cell.id}: the model does not know {what}", remedy)


def _does_more(fault: Fault) -> bool:
    return fault.down or any(
        not isinstance(toxic, Latency) or toxic.toxicity < 1 for toxic in fault.toxics
    )


def _delays(cell: Cell, proxy: ProxyName) -> Iterator[Span]:
    for fault in cell.faults:
        for toxic in fault.toxics:
            if fault.proxy == proxy and isinstance(toxic, Latency):
                yield toxic.span(cell.knobs)


def _storage(cell: Cell, stages: StageTimes | None) -> tuple[float, float] | Floats:
    """Storage's times: those measured, or the delay's span."""
    if stages is not None and stages.storage.size:
        return stages.storage
    spans = list(_delays(cell, "gcs"))
    return fsum(span.low for span in spans), fsum(span.high for span in spans)


def _database(cell: Cell, stages: StageTimes | None, speed: float) -> Connections:
    """Pools and database: each round trip takes its delay, and what it costs itself."""
    knobs, trips = cell.knobs, db_trips(cell.knobs)
    delay = fsum(span.mean for span in _delays(cell, "db"))
    trip = delay + TYPICAL.trip_s * speed

    def taking(stage: Literal["auth", "release", "write"]) -> float:
        count = trips.get(stage, 0)
        if stages is None or not count:
            return count * trip
        measured: float = getattr(stages, stage)
        beyond = max(0.0, measured - count * delay) / stages.speed
        return count * delay + beyond * speed

    kept = knobs.pool_class == "QueuePool"
    return Connections(
        auth=taking("auth"),
        release=taking("release"),
        write=taking("write"),
        held=knobs.db_session == "hold",
        threads=knobs.anyio_threads if knobs.db_call == "threadpool" else 0,
        pool_size=float(knobs.pool_size) if kept else 0.0,
        max_overflow=pool_connections(knobs) - (knobs.pool_size if kept else 0.0),
        pool_timeout=knobs.pool_timeout if kept else inf,
        checkout=checkout_trips(knobs) * trip if kept else 0.0,
        connect=(CONNECT_TRIPS + 1) * trip + OPENING_S * speed,
        slots=knobs.db_cap,
        lent=knobs.pooler_size if pooled(knobs) else 0,
        by_session=knobs.pooler == "session",
    )


def _gateway(knobs: Knobs, stages: StageTimes | None) -> InstanceGateway:
    start = START_S if stages is None or stages.start is None else stages.start
    return InstanceGateway(
        instances=knobs.cloudrun_max_instances,
        warm=knobs.cloudrun_min_instances,
        concurrency=knobs.cloudrun_concurrency,
        workers=knobs.cloudrun_workers,
        pending=max(knobs.cloudrun_pending, 3.5 * start),
        start=start,
    )
