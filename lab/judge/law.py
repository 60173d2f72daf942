"""The law a replica cannot beat: slots, divided by the time that a slot is held.

An upload passes three kinds of slot. Each kind carries at most its number of slots divided
by the time one is held (Little's law with every slot busy); the scarcest sets the capacity.
The times are this cell's own measured stages, so the law says nothing of how fast storage
or the database should be.

    event loop    one a worker         whatever runs in it: blocking calls
    threads       gcs_call's pool      the storage call
    connections   the pools, db_cap    auth to release, and write; held across the upload: all
"""

from __future__ import annotations

from collections.abc import Mapping

from lab.judge.metrics import ready_instances, time_held
from lab.judge.trial import window_of
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.knobs import Knobs

Slot = tuple[float, float]
"""How many there are, and for how many seconds an upload holds one."""


def capacity(cell: Cell, observation: Observation, stages: Mapping[str, float]) -> float | None:
    """Uploads a second that this cell can carry; None where a stage was not measured.

    Args:
        cell: with its knobs.
        observation: says how many instances were ready, and for how long a place was held.
        stages: means in seconds, of the uploads whose rate is held against this: ``auth``,
            ``write``, ``gcs_latency``, and ``release`` and ``gcs_queue`` where there are such.
    """
    if any(stage not in stages for stage in ("auth", "write", "gcs_latency")):
        return None
    slots = _slots_of_vm(cell, stages)
    if cell.target == "cloudrun":
        slots = _slots_of_instances(cell, observation, stages)
    laws = [count / held for count, held in slots if held > 0]
    return min(laws) if laws else None


def _slots_of_vm(cell: Cell, stages: Mapping[str, float]) -> list[Slot]:
    return _slots(cell.knobs, cell.knobs.workers, cell.storage_slots, stages)


def _slots_of_instances(
    cell: Cell, observation: Observation, stages: Mapping[str, float]
) -> list[Slot]:
    """None where the front was not read, or served nothing in the window."""
    window = window_of(cell, observation)
    ready, held = ready_instances(observation, window), time_held(observation, window)
    if not ready or held is None:
        return []
    knobs = cell.knobs
    each = cell.storage_slots / knobs.cloudrun_max_instances
    places = (ready * knobs.cloudrun_concurrency, held)
    return [places, *_slots(knobs, ready, ready * each, stages)]


def _slots(
    knobs: Knobs, processes: float, storage_slots: float, stages: Mapping[str, float]
) -> list[Slot]:
    """Each kind of slot of so many processes."""
    database = stages["auth"] + stages.get("release", 0.0) + stages["write"]
    storage = stages["gcs_latency"]
    in_loop = database if knobs.db_call == "blocking" else 0.0
    pools = processes * (knobs.pool_size + knobs.max_overflow)
    connected = database
    if knobs.db_session == "hold":
        connected += storage + stages.get("gcs_queue", 0.0)
    slots = [(min(pools, knobs.db_cap), connected)]
    if knobs.gcs_call == "blocking":
        slots.append((processes, in_loop + storage))
    else:
        slots += [(processes, in_loop), (storage_slots, storage)]
    return slots
