"""The VM's workers side by side: who had which uploads, and who stood idle while others queued.

    answers, records ─> uploads and rate by worker ─> shares, and the law for the measured split
    readings         ─> at each moment: where uploads queued, who had a free slot

On Cloud Run the gateway shares uploads out among instances, and a process of one takes what it
is given: nothing of this is said of it, nor of a single worker.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from math import fsum, inf
from typing import NamedTuple

from lab.judge.statistics import mean
from lab.judge.trial import Trial
from lab.judge.waiting import full_stations
from lab.model.evidence import UploadRecord, WorkerReading
from lab.model.physics import upload_slots, worker_storage_slots
from lab.model.verdict import WorkerShare

STALE_WALL_S = 0.5
"""A worker that has not written for this long, at ten readings a second, is gone."""


def standing(
    readings: Iterable[WorkerReading], speed: float
) -> Iterator[tuple[float, list[WorkerReading]]]:
    """The time of each reading, and how every worker stood then.

    Workers write at moments of their own, a tenth of a wall-clock second apart; at each
    reading the others still stand as they last said.
    """
    latest: dict[int, WorkerReading] = {}
    for reading in readings:
        latest[reading.pid] = reading
        oldest = reading.t - STALE_WALL_S * speed
        yield reading.t, [other for other in latest.values() if other.t >= oldest]


def several(trial: Trial) -> bool:
    """Whether uploads are shared out among workers of the VM."""
    return trial.cell.target == "vm" and trial.knobs.workers > 1


def uploads_by_worker(trial: Trial) -> Counter[int]:
    """Of the uploads that count, how many each worker had; what came to none is left out."""
    workers = map(trial.worker_of, trial.sent)
    return Counter(worker for worker in workers if worker is not None)


def rates(trial: Trial) -> dict[int, float]:
    """The throughput by worker, in successes a second; empty where no worker is known."""
    start, end = trial.window
    parts: dict[int, list[float]] = defaultdict(list)
    for sample, share in trial.answered:
        if share and (worker := trial.worker_of(sample)) is not None:
            parts[worker].append(share)
    return {worker: fsum(part) / (end - start) for worker, part in parts.items()}


def worker_share_max(trial: Trial) -> float | None:
    """The busiest worker's share of the uploads that count."""
    uploads = uploads_by_worker(trial) if several(trial) else Counter()
    return max(uploads.values()) / uploads.total() if uploads else None


def connections_reused(trial: Trial) -> float | None:
    """The share of the uploads that count whose connection had brought another request before.

    A connection is known by its worker and the port of the proxy's end, which the kernel gives to a
    later connection too, once the first is closed: of 650 that were used once each, up to 8 % were
    counted for that, measured. So less than a tenth says that none is kept.
    """
    came = [record for sample in trial.sent if (record := trial.record_of(sample))]
    first: dict[tuple[int, int | None], float] = {}
    for record in trial.evidence(UploadRecord):
        key = record.worker, record.peer
        first[key] = min(first.get(key, inf), record.arrived)
    return mean(r.arrived > first[r.worker, r.peer] for r in came if r.peer is not None)


class Stand(NamedTuple):
    """The workers at one moment: at which uploads queued, and which had a free slot."""

    queued: frozenset[int]
    free: frozenset[int]


def stands(trial: Trial) -> list[Stand]:
    """Every moment of the window at which all workers were read.

    Uploads queue at a worker where one of its resources is full with somebody in the queue
    (`lab.judge.waiting.full_stations`). A slot is free where nothing is, and fewer uploads are
    inside than can be in a storage call at once.
    """
    cell, found = trial.cell, []
    slots = upload_slots(cell) // cell.knobs.workers
    for _, readings in standing(trial.workers, trial.knobs.speed):
        if len(readings) < cell.knobs.workers:
            continue
        queued = frozenset(r.pid for r in readings if full_stations(trial, r))
        free = frozenset(r.pid for r in readings if r.pid not in queued and r.inflight < slots)
        found.append(Stand(queued, free))
    return found


def split_idle(trial: Trial) -> float | None:
    """The share of the moments at which a worker had a free slot, and uploads queued at another."""
    moments = stands(trial) if several(trial) else []
    return mean(bool(stand.queued and stand.free) for stand in moments)


def worker_shares(trial: Trial) -> tuple[WorkerShare, ...]:
    """Each of several workers, the one with the most uploads first; none where nothing is known."""
    uploads = uploads_by_worker(trial) if several(trial) else Counter()
    if not uploads:
        return ()
    answered, moments, slots = rates(trial), stands(trial), worker_storage_slots(trial.cell)
    lives = {life[0].pid: life for life in trial.by_worker}
    rows = [
        WorkerShare(
            worker=pid,
            uploads=uploads[pid],
            share=_rounded(uploads[pid] / uploads.total()),
            rate=_rounded(answered.get(pid, 0.0)),
            busy=_rounded(mean(r.threads_busy / slots for r in lives.get(pid, ()))),
            queued=_rounded(mean(pid in stand.queued for stand in moments)),
            idle=_rounded(mean(pid in stand.free and bool(stand.queued) for stand in moments)),
        )
        for pid in uploads.keys() | lives.keys()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.uploads, row.worker)))


def _rounded(value: float | None) -> float:
    return round(value or 0.0, 6)
