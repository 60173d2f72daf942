"""The rate that a replica cannot beat: slots, divided by the time that a slot is held.

An upload passes three kinds of slot. Each kind carries at most its number of slots divided
by the time one is held (Little's law with every slot busy); the scarcest sets the capacity.
The times are this cell's own measured stages, so the bound says nothing of how fast storage
or the database should be.

    event loop    one a worker         whatever runs in it: blocking calls
    threads       gcs_call's pool      the storage call
    connections   the pools, db_cap    auth to release, and write; held across the upload: all
    PgBouncer     pooler_size          pool_mode session: the same; transaction: as it has counted,
                                       from the first statement's coming to the last one's end
    anyio         anyio's threads      the same, and the waits for a connection: db_call's pool
    nginx         nginx_connections    two for as long as the upload is with the backend
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import NamedTuple

from lab.judge import pooler
from lab.judge.gateway import ready_instances, time_held
from lab.judge.trial import Trial
from lab.model.knobs import Knobs
from lab.model.physics import pool_connections
from lab.model.replica import nginx_limits, pooled

SERVED = ("auth", "release", "gcs", "write")
"""The stages in which something is done for an upload: with nginx it is for no less time."""


class Slots(NamedTuple):
    """How many there are of a kind, and for how many seconds an upload holds one."""

    number: float
    held_s: float


def capacity(trial: Trial) -> float | None:
    """Uploads a second that this cell can carry; None where a stage was not measured."""
    stages = mean_stages(trial)
    if any(stage not in stages for stage in ("auth", "write", "gcs")):
        return None
    slots = _slots(trial, stages)
    slots += _of_pooler(trial, stages) if slots else []
    rates = [number / held_s for number, held_s in slots if held_s > 0]
    return min(rates, default=None)


def mean_stages(trial: Trial) -> dict[str, float]:
    """The mean stages, in seconds, of the uploads that the throughput counts, by their share in it.

    A rate and the times that set it are then of the same uploads. Those that were sent in the
    window are others, where most of an upload's life is spent waiting: each is served a whole
    queue later than it was sent.
    """
    means: dict[str, float] = {}
    for stage in ("auth", "release", "write", "gcs", "gcs_queue", "pool_wait", "pool_wait2"):
        of = [(s.stages[stage], share) for s, share in trial.answered if stage in s.stages]
        if total := fsum(share for _, share in of):
            means[stage] = fsum(seconds * share for seconds, share in of) / total
    return means


def _slots(trial: Trial, stages: Mapping[str, float]) -> list[Slots]:
    """Every kind of slot; none where the gateway was not read, or served nothing in the window."""
    cell = trial.cell
    if cell.target == "vm":
        nginx = Slots(nginx_limits(cell.knobs).uploads, fsum(stages.get(s, 0.0) for s in SERVED))
        return [nginx, *_of_processes(cell.knobs, cell.knobs.workers, cell.storage_slots, stages)]
    ready, held_s = ready_instances(trial), time_held(trial)
    if not ready or held_s is None:
        return []
    knobs, threads = cell.knobs, cell.storage_slots / cell.knobs.cloudrun_max_instances
    places = Slots(ready * knobs.cloudrun_concurrency, held_s)
    processes = ready * knobs.cloudrun_workers
    return [places, *_of_processes(knobs, processes, ready * threads, stages)]


def _of_processes(
    knobs: Knobs, processes: float, storage_slots: float, stages: Mapping[str, float]
) -> list[Slots]:
    database, storage = _database(stages), stages["gcs"]
    in_loop = database if knobs.db_call == "blocking" else 0.0
    connections = processes * pool_connections(knobs)
    if not pooled(knobs):
        connections = min(connections, knobs.db_cap)
    slots = [Slots(connections, _connected(knobs, stages))]
    if knobs.db_call == "threadpool":
        checkouts = stages.get("pool_wait", 0.0) + stages.get("pool_wait2", 0.0)
        slots.append(Slots(processes * knobs.anyio_threads, database + checkouts))
    if knobs.gcs_call == "blocking":
        return [*slots, Slots(processes, in_loop + storage)]
    return [*slots, Slots(processes, in_loop), Slots(storage_slots, storage)]


def _database(stages: Mapping[str, float]) -> float:
    return stages["auth"] + stages.get("release", 0.0) + stages["write"]


def _connected(knobs: Knobs, stages: Mapping[str, float]) -> float:
    """Seconds for which an upload has a connection of its worker's pool."""
    across = stages["gcs"] + stages.get("gcs_queue", 0.0) if knobs.db_session == "hold" else 0.0
    return _database(stages) + across


def _of_pooler(trial: Trial, stages: Mapping[str, float]) -> list[Slots]:
    """PgBouncer's connections of Postgres', where it was read; a wait for one holds none.

    In pool_mode session no more clients than these can ever have one, whatever each is doing.
    """
    if not pooled(trial.knobs) or not trial.pooler:
        return []
    held = pooler.upload_held_s(trial)
    if trial.knobs.pooler == "session":
        held = _connected(trial.knobs, stages) - pooler.upload_wait_s(trial)
    return [] if held is None else [Slots(trial.knobs.pooler_size, held)]
