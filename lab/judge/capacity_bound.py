"""The rate that a replica cannot beat: slots, divided by the time that a slot is held.

An upload passes three kinds of slot. Each kind carries at most its number of slots divided
by the time one is held (Little's law with every slot busy); the scarcest sets the capacity.
The times are this cell's own measured stages, so the bound says nothing of how fast storage
or the database should be.

    event loop    one a worker         whatever runs in it: blocking calls
    threads       gcs_call's pool      the storage call; of an assessment speech_threads, and of a
                                       conversion audio_threads
    connections   the pools, db_cap    auth to release, and write; held across the upload: all
    PgBouncer     pooler_size          pool_mode session: the same; transaction: as long as one is
                                       lent for it, by how many were
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

A journey's bound is of its requests alone: what others hold of the same slots is not taken off it.
What a conversion takes grows when cores are short, and its stage, so measured, has that in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum
from typing import NamedTuple

from lab.judge import pooler
from lab.judge.gateway import ready_instances, time_held
from lab.judge.trial import Trial
from lab.judge.workers import rates, several
from lab.model.journeys import Journey
from lab.model.metrics import OF_JOURNEYS
from lab.model.physics import at_once, max_processes, pool_connections
from lab.model.replica import nginx_limits, pooled

SERVED = ("auth", "release", "write")
"""The stages in which, beside its call, something is done for a request: with nginx it is for no
less time."""


class Slots(NamedTuple):
    """How many there are of a kind, and for how many seconds an upload holds one.

    Those that are ``shared`` are there for all workers; of the others each worker has as many.
    """

    number: float
    held_s: float
    shared: bool = False


CALLS: Mapping[Journey, str] = {
    Journey.UPLOAD: "gcs",
    Journey.ASSESS: "speech",
    Journey.CONVERT: "convert",
}
"""The stage in which a journey holds one of its threads; the others have none."""


def capacity(trial: Trial) -> float | None:
    """Uploads a second that this cell can carry with an even split among its workers, or what else
    the trial is of.

    None where a stage was not measured, or nothing of it needs a thread.
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
    stages, call = mean_stages(trial), CALLS.get(trial.journey)
    needed = ("auth", "write", call) if trial.journey in OF_JOURNEYS["write"] else ("auth", call)
    if any(stage not in stages for stage in needed):
        return None
    slots = _slots(trial, stages)
    slots += _of_pooler(trial, stages) if slots else []
    bounds = [
        each.number / each.held_s / (1.0 if each.shared else busiest)
        for each in slots
        if each.held_s > 0
    ]
    return min(bounds, default=None)


def mean_stages(trial: Trial) -> dict[str, float]:
    """The mean stages, in seconds, of the uploads that the throughput counts, by their share in it.

    A rate and the times that set it are then of the same uploads. Those that were sent in the
    window are others, where most of an upload's life is spent waiting: each is served a whole
    queue later than it was sent.
    """
    means: dict[str, float] = {}
    waits = ("gcs_queue", "pool_wait", "pool_wait2")
    for stage in ("auth", "release", "write", *CALLS.values(), *waits):
        of = [(s.stages[stage], share) for s, share in trial.answered if stage in s.stages]
        if total := fsum(share for _, share in of):
            means[stage] = fsum(seconds * share for seconds, share in of) / total
    return means


def _slots(trial: Trial, stages: Mapping[str, float]) -> list[Slots]:
    """Every kind of slot; none where the gateway was not read, or served nothing in the window."""
    cell, call = trial.cell, CALLS[trial.journey]
    if cell.target == "vm":
        served_s = fsum(stages.get(stage, 0.0) for stage in (*SERVED, call))
        nginx = Slots(nginx_limits(cell.knobs).uploads, served_s, shared=True)
        return [nginx, *_of_processes(trial, cell.knobs.workers, stages)]
    ready, held_s = ready_instances(trial), time_held(trial)
    if not ready or held_s is None:
        return []
    places = Slots(ready * cell.knobs.cloudrun_concurrency, held_s)
    return [places, *_of_processes(trial, ready * cell.knobs.cloudrun_workers, stages)]


def _threads(trial: Trial, processes: float) -> float:
    """The threads of so many processes that the trial's journey can be in at once."""
    cell, knobs = trial.cell, trial.knobs
    if trial.journey is Journey.UPLOAD:
        return cell.storage_slots * processes / max_processes(cell)
    speech = trial.journey is Journey.ASSESS
    return processes * at_once(cell, knobs.speech_threads if speech else knobs.audio_threads)


def _in_loop(trial: Trial) -> bool:
    """Whether what the trial's journey needs a thread for is done in the event loop instead."""
    blocking = {
        Journey.UPLOAD: trial.knobs.gcs_call == "blocking",
        Journey.CONVERT: trial.knobs.convert_call == "blocking",
    }
    return blocking.get(trial.journey, False)


def _of_processes(trial: Trial, processes: float, stages: Mapping[str, float]) -> list[Slots]:
    knobs, call, database = trial.knobs, stages[CALLS[trial.journey]], _database(stages)
    in_loop = database if knobs.db_call == "blocking" else 0.0
    connected = _connected(trial, stages)
    slots = [Slots(processes * pool_connections(knobs), connected)]
    if not pooled(knobs):
        slots.append(Slots(knobs.db_cap, connected, shared=True))
    if knobs.db_call == "threadpool":
        checkouts = stages.get("pool_wait", 0.0) + stages.get("pool_wait2", 0.0)
        slots.append(Slots(processes * knobs.anyio_threads, database + checkouts))
    if _in_loop(trial):
        return [*slots, Slots(processes, in_loop + call)]
    return [*slots, Slots(processes, in_loop), Slots(_threads(trial, processes), call)]


def _database(stages: Mapping[str, float]) -> float:
    return stages["auth"] + stages.get("release", 0.0) + stages.get("write", 0.0)


def _connected(trial: Trial, stages: Mapping[str, float]) -> float:
    """Seconds for which a request has a connection of its worker's pool."""
    across = 0.0
    if trial.knobs.db_session == "hold" and trial.journey is Journey.UPLOAD:
        across = stages["gcs"] + stages.get("gcs_queue", 0.0)
    return _database(stages) + across


def _of_pooler(trial: Trial, stages: Mapping[str, float]) -> list[Slots]:
    """PgBouncer's connections of Postgres', where it was read; a wait for one holds none.

    In pool_mode session no more clients than these can ever have one, whatever each is doing. What
    it counts is of all transactions, so nothing is said where others than uploads make some.
    """
    alone = tuple(trial.cell.load.shares) == (Journey.UPLOAD,)
    if not pooled(trial.knobs) or not trial.pooler or not alone:
        return []
    held = pooler.upload_held_s(trial)
    if trial.knobs.pooler == "session":
        held = _connected(trial, stages) - pooler.upload_wait_s(trial)
    return [] if held is None else [Slots(trial.knobs.pooler_size, held, shared=True)]
