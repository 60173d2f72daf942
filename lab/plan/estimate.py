"""What can be said of a run before anything is started: how long it takes, what it cannot show.

The time is for ``--dry-run`` and for the time left. Whether a load is fast enough and long
enough in fact, the verdict says from the evidence; here stands only what no trial could refute.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

from lab.errors import UsageError
from lab.model.criterion import Criterion
from lab.model.experiment import Cell
from lab.model.journeys import REQUESTS, Journey
from lab.model.load import BurstLoad, OpenLoad, end_of
from lab.model.physics import (
    SATURATED,
    allowed_share,
    attempt_s,
    service_s,
    straight_successes,
    upload_slots,
)
from lab.model.units import format_rate, format_size
from lab.plan.sharing import SplitModel
from lab.plan.speed import guessed

OVERHEAD_S = 2.5
"""Wall-clock seconds between two loads: restarts, injection, start of the generator, audit."""


def estimate(cells: Sequence[Cell], model: SplitModel | None = None) -> float:
    """Wall-clock seconds that a run of these cells most likely takes.

    One whose speed is still to be chosen is taken to run as fast as on a usual machine.

    Args:
        cells: which.
        model: of how workers of one socket share, by which speeds are chosen.
    """
    paced = [guessed(cell, model) for cell in cells]
    return sum(OVERHEAD_S + (end_of(c.load) + drain(c)) / c.knobs.speed for c in paced)


def drain(cell: Cell) -> float:
    """Real-world seconds from the last request sent to the last answer: a guess.

    The users there are, each in turn on one of the workers' upload slots, for one upload's
    service time (Little's law at saturation), after their lines have carried what they send; no
    longer than the client waits, nor on Cloud Run than a request waits for an instance, and in it.
    """
    slots, service, knobs = upload_slots(cell), service_s(cell), cell.knobs
    waits = service * max(1.0, cell.load.peak_users / slots)
    if cell.target == "cloudrun":
        inside = knobs.cloudrun_max_instances * knobs.cloudrun_concurrency / slots
        waits = min(waits, knobs.cloudrun_pending + service * inside)
    return min(cell.load.timeout, cell.load.uplink_s + waits)


UPLOAD_S, BYTE_S = 150e-6, 0.3e-9
"""CPU-seconds of the generator for an upload, and for a byte of it, at the least.

Chosen below what `benchmarks.generator` measures, by about a third, so that hardly a load is
refused that a faster machine could send. On a slower one the generator's own CPU, which is read
in every trial, makes the cell invalid.
"""

INSTANT_S = 1e-3
"""An upload takes this long at the least, where no delay is injected."""


def check_pace(cells: Sequence[Cell]) -> None:
    """Refuse an open load faster than one core can send it.

    Raises:
        UsageError: with the fastest that could be sent.
    """
    for cell in cells:
        load, speed = cell.load, cell.knobs.speed
        if not isinstance(load, OpenLoad):
            continue
        size = load.audio.mean
        max_rate = SATURATED / (UPLOAD_S + BYTE_S * size)
        if load.rate * speed > max_rate:
            raise UsageError(
                f"{cell.id}: {format_rate(load.rate)} at speed {speed:g} are"
                f" {load.rate * speed:.0f} uploads a second, and the load generator, on its one"
                f" core, sends at most {max_rate:.0f} of {format_size(round(size))}",
                "lower the rate, the audio or --speed",
            )


def too_few(cell: Cell) -> list[str]:
    """A sentence for each criterion that this load is too small to decide."""
    return [
        f"{cell.id}: {criterion} cannot be shown to hold: about {there_are} {noun}s count at most,"
        f" and it takes {enough} with none beyond the bound"
        for criterion in cell.criteria
        if (enough := min_uploads(criterion)) is not None
        and (there_are := max_requests(cell, criterion.journey)) < enough
        and (noun := REQUESTS[criterion.journey].noun)
    ]


def min_uploads(criterion: Criterion) -> int | None:
    """Uploads that it takes at the least to show that a criterion is met; None: not a share."""
    tail = tail_of(criterion)
    if criterion.op not in ("<", "<=") or tail is None:
        return None
    return straight_successes(tail)


def tail_of(criterion: Criterion) -> float | None:
    """The share that a criterion lets be beyond its bound; None where no number of uploads can
    show it: it is no matter of shares, or allows none, or all."""
    tail = allowed_share(criterion)
    return tail if tail is not None and 0 < tail < 1 else None


def is_share(criterion: Criterion) -> bool:
    """Whether a criterion is a claim about a share of uploads: that fail, or that are slow."""
    return allowed_share(criterion) is not None


def max_requests(cell: Cell, journey: Journey) -> int:
    """How many requests of a journey can count: of a mix, half as many again as its share of all
    that users would send if nobody had to wait."""
    load, share = cell.load, cell.load.shares.get(journey, 0.0)
    start, end = load.measured
    if journey is Journey.HEALTH:
        return ceil((end - start) / (load.health_every or inf))
    if share == 1 and journey is Journey.UPLOAD:
        return max_uploads(cell)
    if isinstance(load, BurstLoad):
        return min(load.burst, ceil(1.5 * load.burst * share))
    rate = load.rate if isinstance(load, OpenLoad) else load.peak_users / cycle_s(cell)
    return ceil(1.5 * share * rate * (end - start))


def cycle_s(cell: Cell) -> float:
    """Seconds from one attempt of a closed user to its next, where it waits for nobody."""
    return max(attempt_s(cell) + cell.load.uplink_s + cell.load.think.mean, INSTANT_S)


def max_uploads(cell: Cell) -> int:
    """How many uploads can count: half as many again as the load, or the slots, give in the mean.

    A closed user waits for its answer, so no more are sent than the storage slots carry, and
    no more than the users ask for.
    """
    load = cell.load
    if isinstance(load, BurstLoad):
        return load.burst
    start, end = load.measured
    if isinstance(load, OpenLoad):
        return ceil(1.5 * load.rate * (end - start))
    service = service_s(cell)
    busy = min(load.peak_users, upload_slots(cell)) if service else load.peak_users
    per_slot = ceil((end - start) / max(service, INSTANT_S) * 1.5)
    return load.peak_users + busy * per_slot
