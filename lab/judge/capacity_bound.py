"""The rate that a replica cannot beat: slots, divided by the time that a slot is held.

An upload passes three kinds of slot. Each kind carries at most its number of slots divided
by the time one is held (Little's law with every slot busy); the scarcest sets the capacity.
The times are this cell's own measured stages, so the bound says nothing of how fast storage
or the database should be.

    event loop    one a worker         whatever runs in it: blocking calls
    threads       gcs_call's pool      the storage call
    connections   the pools, db_cap    auth to release, and write; held across the upload: all
    anyio         anyio's threads      the same, and the waits for a connection: db_call's pool
    nginx         nginx_connections    two for as long as the upload is with the backend

That is the law where each worker has its even share. Where worker i has a share s_i of what is
carried, its rate is s_i X, and its own slots carry c_i / t at most: so X is at most the least of
c_i / (s_i t) over the workers, and with as many slots in each that is the busiest's,

    capacity_split = c / (s_max t) = (even law of the workers' own slots) / (n s_max)

or the law of what they share (db_cap, nginx), where that is less. In a closed load whose users go
to a worker whatever its queue, s_i is also the share of what is sent, and X cannot be more however
many users there are: the others wait for the busiest (visit ratios; Lazowska et al., 1984, ch. 3).
In an open load of rate r, of which p_i is sent to worker i, it carries the lesser of p_i r and
c / t, and the shares of what is carried give the sum of these, once the busiest is full.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import NamedTuple

from lab.judge.gateway import ready_instances, time_held
from lab.judge.trial import Trial
from lab.judge.workers import rates, several
from lab.model.knobs import Knobs
from lab.model.physics import pool_connections
from lab.model.replica import nginx_limits

SERVED = ("auth", "release", "gcs", "write")
"""The stages in which something is done for an upload: with nginx it is for no less time."""


class Slots(NamedTuple):
    """How many there are of a kind, and for how many seconds an upload holds one.

    Those that are ``shared`` are there for all workers; of the others each worker has as many.
    """

    number: float
    held_s: float
    shared: bool = False


def capacity(trial: Trial) -> float | None:
    """Uploads a second that this cell can carry with an even split among its workers.

    None where a stage was not measured.
    """
    return _law(trial, 1.0)


def capacity_split(trial: Trial) -> float | None:
    """The same with the split that was measured; see the module.

    None where there is a single worker, where none is known, and where one was replaced: what
    each of two had, of which one took the other's place, is no share of a split.
    """
    carried = rates(trial) if several(trial) else {}
    if not carried or len(carried) > trial.knobs.workers:
        return None
    return _law(trial, trial.knobs.workers * max(carried.values()) / fsum(carried.values()))


def _law(trial: Trial, busiest: float) -> float | None:
    """The bound where the busiest worker has so many times its even share."""
    stages = mean_stages(trial)
    if any(stage not in stages for stage in ("auth", "write", "gcs")):
        return None
    bounds = [
        slots.number / slots.held_s / (1.0 if slots.shared else busiest)
        for slots in _slots(trial, stages)
        if slots.held_s > 0
    ]
    return min(bounds, default=None)


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
        served_s = fsum(stages.get(stage, 0.0) for stage in SERVED)
        nginx = Slots(nginx_limits(cell.knobs).uploads, served_s, shared=True)
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
    database = stages["auth"] + stages.get("release", 0.0) + stages["write"]
    storage = stages["gcs"]
    in_loop = database if knobs.db_call == "blocking" else 0.0
    connected = database
    if knobs.db_session == "hold":
        connected += storage + stages.get("gcs_queue", 0.0)
    slots = [
        Slots(processes * pool_connections(knobs), connected),
        Slots(knobs.db_cap, connected, shared=True),
    ]
    if knobs.db_call == "threadpool":
        checkouts = stages.get("pool_wait", 0.0) + stages.get("pool_wait2", 0.0)
        slots.append(Slots(processes * knobs.anyio_threads, database + checkouts))
    if knobs.gcs_call == "blocking":
        return [*slots, Slots(processes, in_loop + storage)]
    return [*slots, Slots(processes, in_loop), Slots(storage_slots, storage)]
