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

from lab.model.knobs import Knobs


def capacity(knobs: Knobs, stages: Mapping[str, float]) -> float | None:
    """Uploads a second that these knobs can carry; None where a stage was not measured.

    Args:
        knobs: of the cell.
        stages: means in seconds: ``auth``, ``write``, ``gcs_latency``, and ``release`` and
            ``gcs_queue`` where there are such.
    """
    if any(stage not in stages for stage in ("auth", "write", "gcs_latency")):
        return None
    laws = [slots / held for slots, held in _slots(knobs, stages) if held > 0]
    return min(laws) if laws else None


def _slots(knobs: Knobs, stages: Mapping[str, float]) -> list[tuple[int, float]]:
    """Each kind of slot: how many there are, and for how many seconds an upload holds one."""
    database = stages["auth"] + stages.get("release", 0.0) + stages["write"]
    storage = stages["gcs_latency"]
    in_loop = database if knobs.db_call == "blocking" else 0.0
    pools = knobs.workers * (knobs.pool_size + knobs.max_overflow)
    connected = database
    if knobs.db_session == "hold":
        connected += storage + stages.get("gcs_queue", 0.0)
    slots = [(min(pools, knobs.db_cap), connected)]
    if knobs.gcs_call == "blocking":
        slots.append((knobs.workers, in_loop + storage))
    else:
        slots += [(knobs.workers, in_loop), (knobs.storage_slots, storage)]
    return slots
