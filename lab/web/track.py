"""A cell's trial as it is known so far, and how it stood at a moment of it.

    samples, readings ──add──> Track (bins of a second, or a few) ──frame(t)──> Frame

A track is added to while the trial goes on, and read at any moment: what a frame shows follows
from the lines up to its moment alone, so a live page and any replay of the same lines come to the
same end. Bins keep it small, however long the trial is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import fsum
from typing import Any

from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.load import end_of, users_at
from lab.model.physics import quantile

MAX_BINS = 600
"""That a trial is kept in; the last one holds whatever comes later."""

WIDTHS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Of a bin, in real-world seconds."""

RECENT_S = 10.0
"""Real-world seconds over which what happens now is averaged, or two bins where these are wider."""

MAX_HISTORY = 150
"""The most points of a figure over time."""

Line = Mapping[str, Any]

COUNTS = (
    *("checked_out", "waiting", "threads_busy", "threads_queued", "inflight"),
    *("speech_busy", "speech_queued", "audio_busy", "audio_queued", "inside", "loop_lag"),
)
"""What of a worker's reading is shown as it is; what an earlier lab did not read is 0."""


@dataclass(frozen=True)
class Reading:
    """What a worker said last in a bin.

    ``busy_s`` and ``stood`` are running totals of wall-clock seconds, as in `WorkerReading`.
    """

    t: float
    counts: Mapping[str, float]
    busy_s: float | None
    stood: Mapping[str, float]


@dataclass
class Bin:
    """What came in a stretch of the trial; latencies and stages are of successes."""

    sent: int = 0
    answered: int = 0
    failed: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    workers: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)
    staged: int = 0
    uplink_s: float = 0.0
    readings: dict[int, Reading] = field(default_factory=dict)
    connections: int | None = None
    gateway: Mapping[str, int] | None = None


@dataclass(frozen=True)
class WorkerNow:
    """A worker at a moment: ``share`` of the requests so far, and how its slots and loop are.

    ``busy`` is the share of the last seconds in which its event loop did not wait; None where
    nothing tells.
    """

    worker: int
    requests: int
    share: float
    counts: Mapping[str, float] = field(default_factory=dict)
    busy: float | None = None


@dataclass(frozen=True)
class StandsAt:
    """A line of the service in which an event loop stood, and for how much of the last seconds."""

    place: str
    share: float
    worker: int


@dataclass(frozen=True)
class PastPoint:
    """A moment of the trial's past: users, and successes and failures a second."""

    t: float
    users: int
    rate: float
    errors: float


@dataclass(frozen=True)
class Frame:
    """A trial at a moment.

    Counts are since its start, of all that users asked; ``rate``, ``errors`` (a second), ``p50``,
    ``p95`` and ``stages`` (mean seconds, in the order of their coming) are of the last seconds,
    and the stage named ``""`` is what no other tells of: event loop, proxy and network.
    """

    t: float
    users: int
    in_flight: int
    sent: int
    answered: int
    failed: int
    rate: float
    errors: float
    p50: float | None
    p95: float | None
    causes: tuple[tuple[str, int], ...]
    stages: tuple[tuple[str, float], ...]
    workers: tuple[WorkerNow, ...]
    standing: tuple[StandsAt, ...]
    connections: int | None
    gateway: Mapping[str, int] | None
    history: tuple[PastPoint, ...]


class Track:
    """All that is known of a cell's trial.

    Args:
        cell: as it was measured.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        load = cell.load
        planned = max(1.0, end_of(load)) + load.followed_s
        self.width = float(next((w for w in WIDTHS_S if planned / w <= MAX_BINS), WIDTHS_S[-1]))
        self.unread = 0
        self._bins: list[Bin] = [Bin()]
        self._last = 0.0
        self._window_end = end_of(load)

    @property
    def full_at(self) -> float:
        """The moment at which a trial that is over is best looked at: when its window ended.

        A burst has none, and is looked at once its last bin of sending is over.
        """
        return min(self._last, self._window_end or RECENT_S)

    @property
    def end(self) -> float:
        """When the last thing came that is known, in real-world seconds after the load started."""
        return self._last

    def _bin(self, t: float) -> Bin:
        index = min(int(max(0.0, t) // self.width), MAX_BINS)
        while len(self._bins) <= index:
            self._bins.append(Bin())
        return self._bins[index]

    def add_load(self, line: Line) -> None:
        """A line of the load's: a sample, or a sign of life.

        Raises:
            KeyError, TypeError, ValueError: it is neither; nothing of it is kept.
        """
        if "beat" in line:
            self._last = max(self._last, float(line["beat"]))
            return
        if line.get("journey") == Journey.HEALTH:
            return
        sent, latency, error = float(line["sent_at"]), float(line["latency_s"]), line["error"]
        stages = {str(name): float(took) for name, took in (line.get("stages") or {}).items()}
        worker, uplink = line.get("worker"), float(line.get("uplink_s") or 0.0)
        ended = sent + latency
        self._last = max(self._last, ended)
        self._bin(sent).sent += 1
        came = self._bin(ended)
        came.answered += 1
        if worker is not None:
            came.workers[int(worker)] += 1
        if error is not None:
            came.failed += 1
            came.causes[str(error)] += 1
            return
        came.latencies.append(latency)
        came.uplink_s += uplink
        came.staged += 1
        stages[""] = max(0.0, latency - uplink - fsum(stages.values()))
        for name, took in stages.items():
            came.stages[name] = came.stages.get(name, 0.0) + took

    def add_worker(self, t: float, line: Line) -> None:
        """A worker's reading at ``t``; errors as of `add_load`."""
        counts = {name: float(line.get(name) or 0) for name in COUNTS}
        busy = line.get("loop_busy_s")
        stood = {str(place): float(s) for place, s in (line.get("stood") or {}).items()}
        reading = Reading(t, counts, None if busy is None else float(busy), stood)
        pid = int(line["pid"])
        if t >= 0:
            self._bin(t).readings[pid] = reading
            self._last = max(self._last, t)

    def add_connections(self, t: float, count: int) -> None:
        """The application's connections that Postgres has at ``t``."""
        if t >= 0:
            self._bin(t).connections = int(count)

    def add_window(self, end: float) -> None:
        """The load's window ended at ``end``, which may be before its time."""
        self._window_end = end

    def add_gateway(self, t: float, line: Line) -> None:
        """How things stood at Cloud Run's gateway from ``t`` on; errors as of `add_load`."""
        keys = ("queue", "in_flight", "starting", "ready", "stopping")
        self._bin(t).gateway = {key: int(line[key]) for key in keys}

    # How it stood.

    def frame(self, t: float, sent: int | None = None) -> Frame:
        """The trial at ``t``, in real-world seconds after the load started.

        Args:
            t: of what comes later than the bin that it lies in, nothing is told.
            sent: requests of users so far, those in flight included, where that is known; what
                has ended tells of no other.
        """
        current = min(int(max(0.0, t) // self.width), MAX_BINS)
        first = max(0, current - self._recent)
        past, recent = self._bins[: current + 1], self._bins[first : current + 1]
        # A bin that is not over counts less than a whole one: what happens is told of the others.
        over = recent[: max(1, current - first)]
        span = max(1, current - first) * self.width
        answered = sum(one.answered for one in past)
        total = max(sent or 0, sum(one.sent for one in past), answered)
        failed = sum(one.failed for one in past)
        latencies = sorted(took for one in over for took in one.latencies)
        return Frame(
            t=t,
            users=users_at(self.cell.load, t, total - answered),
            in_flight=total - answered,
            sent=total,
            answered=answered,
            failed=failed,
            rate=len(latencies) / span,
            errors=sum(one.failed for one in over) / span,
            p50=quantile(latencies, 0.50) if latencies else None,
            p95=quantile(latencies, 0.95) if latencies else None,
            causes=_most_first(sum((one.causes for one in past), Counter[str]())),
            stages=_mean_stages(over),
            workers=self._workers(past, recent),
            standing=self._standing(recent),
            connections=next((b.connections for b in reversed(recent) if _known(b)), None),
            gateway=next((b.gateway for b in reversed(past) if b.gateway is not None), None),
            history=tuple(self._history(past)),
        )

    @property
    def _recent(self) -> int:
        """How many bins the last seconds are."""
        return max(2, round(RECENT_S / self.width))

    def _workers(self, past: list[Bin], recent: list[Bin]) -> tuple[WorkerNow, ...]:
        """Those that have answered, or said something in the last seconds, by their numbers."""
        requests = sum((one.workers for one in past), Counter[int]())
        latest = {pid: reading for one in recent for pid, reading in one.readings.items()}
        rows = [
            WorkerNow(
                worker=pid,
                requests=requests[pid],
                share=requests[pid] / requests.total() if requests else 0.0,
                counts=latest[pid].counts if pid in latest else {},
                busy=self._busy(pid, recent),
            )
            for pid in sorted(requests.keys() | latest.keys())
        ]
        return tuple(rows)

    def _life(self, pid: int, recent: list[Bin]) -> tuple[Reading, Reading, float] | None:
        """A worker's first and last reading of the last seconds, and the wall seconds between."""
        life = [one.readings[pid] for one in recent if pid in one.readings]
        if len(life) < 2 or life[-1].t <= life[0].t:
            return None
        return life[0], life[-1], (life[-1].t - life[0].t) / self.cell.knobs.speed

    def _busy(self, pid: int, recent: list[Bin]) -> float | None:
        life = self._life(pid, recent)
        if life is None or life[0].busy_s is None or life[1].busy_s is None:
            return None
        return min(1.0, max(0.0, (life[1].busy_s - life[0].busy_s) / life[2]))

    def _standing(self, recent: list[Bin]) -> tuple[StandsAt, ...]:
        """Where event loops stood in the last seconds, the longest first."""
        found = []
        for pid in {pid for one in recent for pid in one.readings}:
            if life := self._life(pid, recent):
                first, last, wall = life
                for place, total in last.stood.items():
                    share = (total - first.stood.get(place, 0.0)) / wall
                    if share >= 0.01:
                        found.append(StandsAt(place, min(1.0, share), pid))
        return tuple(sorted(found, key=lambda one: (-one.share, one.place, one.worker)))

    def _history(self, past: list[Bin]) -> Iterator[PastPoint]:
        """Users, rate and errors over time, in no more points than can be told apart."""
        step = -(-len(past) // MAX_HISTORY)
        sent = answered = 0
        for first in range(0, len(past), step):
            part = past[first : first + step]
            sent += sum(one.sent for one in part)
            answered += sum(one.answered for one in part)
            end, span = (first + len(part)) * self.width, len(part) * self.width
            users = users_at(self.cell.load, end - self.width / 2, max(0, sent - answered))
            good = sum(len(one.latencies) for one in part)
            yield PastPoint(end, users, good / span, sum(one.failed for one in part) / span)


def _known(one: Bin) -> bool:
    return one.connections is not None


def _most_first(causes: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(causes.items(), key=lambda item: (-item[1], item[0])))


def _mean_stages(recent: list[Bin]) -> tuple[tuple[str, float], ...]:
    """The mean seconds of each stage over the successes of these bins, as they follow each other.

    A request that has not had a stage counts with none.
    """
    staged = sum(one.staged for one in recent)
    totals: dict[str, float] = {}
    for one in recent:
        for name, total in one.stages.items():
            totals[name] = totals.get(name, 0.0) + total
    order = {name: place for place, name in enumerate(STAGE_ORDER)}
    names = sorted(totals, key=lambda name: order.get(name, len(order)))
    return tuple((name, totals[name] / staged) for name in names) if staged else ()


STAGE_ORDER = (
    *("", "queue", "cold", "anyio_queue", "pool_wait", "auth", "release", "gcs_queue", "gcs"),
    *("speech_queue", "speech", "convert_queue", "convert", "pool_wait2", "read", "write"),
)
"""The stages of ``Server-Timing`` in the order in which a request has them."""
