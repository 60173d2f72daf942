"""What uploads waited for: a life taken apart into service and waiting, and who is to blame.

    sent ─ gateway ─ accept, event loop ─ anyio ─ pool ─ auth … ─ threads ─ storage ─ … write ─ end
           └──────────────────── waits ─────────────┘   service   wait      └──── service ────┘

    auth, release, write ─ PgBouncer ─ round trips        where knob pooler has it
                              wait       service

A worker's record says when each stage began and ended; what lies between two stages is a wait
for the event loop. Without a record, as in runs of an earlier lab, the stages that the answer
told are laid one after the other; an upload that no worker had waited for one all its life.

A wait is not always its own resource's. Where a resource that the upload has still to pass is
full, and others queue for it, a wait further up costs nothing: whoever had been spared it would
stand in the next queue. And where a checkout stops the event loop, or checkouts fill anyio's
threads, it is the pool that keeps everybody. So each moment of a wait belongs to the resource
furthest down the way that was full with a queue then, as the worker's readings say.

All times are real-world seconds, and moments are such after the load started.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from math import fsum

from lab.judge import pooler
from lab.judge.statistics import growth
from lab.judge.trial import Trial
from lab.model.evidence import Cause, Sample, UploadRecord, WorkerReading
from lab.model.journeys import Journey
from lab.model.knobs import Knobs
from lab.model.physics import pool_connections, worker_storage_slots


class Station(StrEnum):
    """Where an upload spends its time; those at which it waits, in the order of its way."""

    GATEWAY = "gateway"
    LOOP = "loop"
    ANYIO = "anyio"
    POOL = "pool"
    POOLER = "pooler"
    THREADS = "threads"
    SPEECH_THREADS = "speech_threads"
    AUDIO_THREADS = "audio_threads"
    STORAGE = "storage"
    DATABASE = "database"
    SPEECH = "speech"
    CONVERSION = "conversion"
    ELSEWHERE = "elsewhere"  #: on its way, or in an event loop that had nothing else to do


OWN_THREADS: Mapping[Journey, Station] = {
    Journey.UPLOAD: Station.THREADS,
    Journey.ASSESS: Station.SPEECH_THREADS,
    Journey.CONVERT: Station.AUDIO_THREADS,
}
"""The threads that a journey passes; the others are none of its."""

WAITS = (
    *(Station.GATEWAY, Station.LOOP, Station.ANYIO, Station.POOL, Station.POOLER),
    *OWN_THREADS.values(),
)

SERVICE = (Station.STORAGE, Station.DATABASE, Station.SPEECH, Station.CONVERSION)

DONE = ("gcs", "speech", "convert")
"""The stages for which a journey's threads are there; those are behind it once one has begun."""

STATION_OF = {
    "queue": Station.GATEWAY,
    "anyio_queue": Station.ANYIO,
    "pool_wait": Station.POOL,
    "pool_wait2": Station.POOL,
    "gcs_queue": Station.THREADS,
    "gcs": Station.STORAGE,
    "auth": Station.DATABASE,
    "release": Station.DATABASE,
    "write": Station.DATABASE,
    "read": Station.DATABASE,
    "speech_queue": Station.SPEECH_THREADS,
    "speech": Station.SPEECH,
    "convert_queue": Station.AUDIO_THREADS,
    "convert": Station.CONVERSION,
}
"""The station of each stage; what has none, as the cold part of a queue, is a part of another."""

TIMED_OUT = (Cause.GATEWAY_TIMEOUT, Cause.CLIENT_TIMEOUT, Cause.REQUEST_TIMEOUT)
"""The failures of uploads that somebody gave up for their time, while they were under way: of all
that are cut off (`lab.model.evidence.CUT_OFF`) those that a wait can have made."""

OF_LOOP = (Station.LOOP, Station.ANYIO)
"""Where an upload may wait for its turn in the event loop."""

BLOCKED_WALL_S = 0.05
"""A beat of the event loop that is so late, in wall-clock seconds, finds it held by a call."""


@dataclass(frozen=True)
class Stay:
    """A part of an upload's life in one station, between two moments.

    Args:
        station: where it was.
        begun: when it came there.
        until: when it left.
        stored: whether its storage call had begun, or was over; or what else it needs threads for.
    """

    station: Station
    begun: float
    until: float
    stored: bool = False

    @property
    def seconds(self) -> float:
        """How long it was there."""
        return max(0.0, self.until - self.begun)


@dataclass(frozen=True)
class Life:
    """What became of an upload's time, in seconds by station.

    Args:
        waits: for which it waited, by the station that kept it, wherever it stood; see the module.
            What it spent elsewhere is a wait that nobody is to blame for.
        service: in which something was done for it, by the station that did it.
        whole: whether that is all of it: the answer came, or its worker saw the end.
    """

    waits: dict[Station, float]
    service: dict[Station, float]
    whole: bool

    @property
    def waited(self) -> float:
        """Seconds for which it waited."""
        return fsum(self.waits.values())

    @property
    def served(self) -> float:
        """Seconds of service."""
        return fsum(self.service.values())


def stays(trial: Trial, sample: Sample) -> list[Stay]:
    """An upload's life in the order of its parts, each in the station where it was.

    One that was cut off goes on in its worker; its life does, too, as far as it was recorded.
    """
    record = trial.record_of(sample)
    return list(_by_record(trial, sample, record) if record else _by_answer(trial, sample))


def _outside(trial: Trial) -> Station:
    """Where an upload is before it is handed to a worker: nginx takes it in without delay."""
    return Station.ELSEWHERE if trial.cell.target == "vm" else Station.GATEWAY


def _by_record(trial: Trial, sample: Sample, record: UploadRecord) -> Iterator[Stay]:
    """As its worker recorded it."""
    ended = max(record.t, sample.sent_at + sample.latency_s)
    handed = record.arrived if record.handed is None else record.handed
    sent = sample.sent_at + sample.uplink_s
    yield Stay(Station.ELSEWHERE, sample.sent_at, sent)
    yield Stay(_outside(trial), sent, handed)
    last, stored, beyond = handed, False, pooler.beyond_trips(trial)
    for stage, begun, took in record.spans:
        yield Stay(Station.LOOP, last, begun, stored)
        stored = stored or stage in DONE
        last = begun + took
        last = ended if (stage, begun, took) == record.standing else last
        if stage in STATION_OF:
            served = begun + beyond(stage, last - begun)
            yield Stay(Station.POOLER, begun, served, stored)
            yield Stay(STATION_OF[stage], served, last, stored)
    left = ended if record.status is None else record.t
    yield Stay(Station.LOOP, last, left, stored)
    yield Stay(Station.ELSEWHERE, left, ended, stored)


def _by_answer(trial: Trial, sample: Sample) -> Iterator[Stay]:
    """By the stages of the answer; all other time is taken to come before the first of them."""
    ended = sample.sent_at + sample.latency_s
    sent = sample.sent_at + sample.uplink_s
    yield Stay(Station.ELSEWHERE, sample.sent_at, sent)
    stages = {stage: took for stage, took in sample.stages.items() if stage in STATION_OF}
    if not stages:
        yield Stay(Station.LOOP if trial.cell.target == "vm" else Station.GATEWAY, sent, ended)
        return
    last, stored = sent + stages.pop("queue", 0.0), False
    yield Stay(Station.GATEWAY, sent, last)
    first = max(last, ended - fsum(stages.values()))
    yield Stay(Station.LOOP, last, first)
    beyond = pooler.beyond_trips(trial)
    for stage, took in stages.items():
        stored, served = stored or stage in DONE, first + beyond(stage, took)
        yield Stay(Station.POOLER, first, served, stored)
        yield Stay(STATION_OF[stage], served, first + took, stored)
        first += took


@dataclass(frozen=True)
class Queues:
    """The queues of a worker, at each of its readings.

    Args:
        times: of the readings, in order.
        full: the stations that were full then, with somebody in the queue.
        busy_s: seconds for which its event loop had been busy by then; empty where it was not read.
    """

    times: list[float]
    full: list[frozenset[Station]]
    busy_s: list[float]

    def within(self, stay: Stay) -> list[frozenset[Station]]:
        """What was full at the readings in a stay; of one between two readings, at the next."""
        first, after = bisect_left(self.times, stay.begun), bisect_right(self.times, stay.until)
        return self.full[first : max(after, first + 1)] or self.full[-1:]

    def busy(self, stay: Stay) -> float:
        """The most seconds for which the event loop can have been busy in a stay."""
        if not self.busy_s:
            return stay.seconds
        before = max(0, bisect_right(self.times, stay.begun) - 1)
        after = min(bisect_left(self.times, stay.until), len(self.times) - 1)
        return growth(self.busy_s[before : after + 1])


class Waiting:
    """Takes the lives of a trial's uploads apart."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def life(self, sample: Sample) -> Life:
        """An upload's time by station, each wait laid to the one that kept it."""
        record = self._trial.record_of(sample)
        waits: dict[Station, float] = defaultdict(float)
        service: dict[Station, float] = defaultdict(float)
        for stay in stays(self._trial, sample):
            for station, seconds in self._kept_by(stay, record).items():
                (service if station in SERVICE else waits)[station] += seconds
        ended = sample.error not in TIMED_OUT if record is None else record.status is not None
        return Life(dict(waits), dict(service), ended)

    def spent(self, sample: Sample) -> dict[Station, float]:
        """The seconds of an upload until its client had its answer, or gave up, by station.

        Each wait is laid to the one that kept it, as in `life`.
        """
        record = self._trial.record_of(sample)
        seconds: dict[Station, float] = defaultdict(float)
        ended = sample.sent_at + sample.latency_s
        for stay in stays(self._trial, sample):
            part = replace(stay, until=min(stay.until, ended))
            for station, of in self._kept_by(part, record).items():
                seconds[station] += of
        return seconds

    def in_queue(self, sample: Sample, station: Station) -> dict[Station, float]:
        """The seconds of an upload that gave up in a station, by the one that kept it there.

        That it did is proof that the station was full, whatever the readings caught.
        """
        record = self._trial.record_of(sample)
        seconds: dict[Station, float] = defaultdict(float)
        for stay in stays(self._trial, sample):
            for keeper, s in self._kept_by(stay, record).items() if stay.station is station else ():
                seconds[station if keeper is Station.DATABASE else keeper] += s
        return dict(seconds)

    def _kept_by(self, stay: Stay, record: UploadRecord | None) -> dict[Station, float]:
        """The seconds of a stay by the station that kept it; an idle event loop keeps nobody."""
        if stay.station not in WAITS or not stay.seconds:
            return {stay.station: stay.seconds}
        way, workers = self._way(stay), self._workers_of(record)
        readings = Counter(
            next((further for further in reversed(way) if further in full), _own(stay, full))
            for worker in workers
            for full in worker.within(stay)
        )
        if not readings:
            return {stay.station: stay.seconds}
        count = readings.total()
        seconds = {station: stay.seconds * n / count for station, n in readings.items()}
        if stay.station in OF_LOOP and Station.LOOP in seconds:
            busy = min(seconds[Station.LOOP], max(worker.busy(stay) for worker in workers))
            seconds |= {Station.ELSEWHERE: seconds[Station.LOOP] - busy, Station.LOOP: busy}
        return seconds

    def _way(self, stay: Stay) -> list[Station]:
        """What comes after a station: to the storage call, or from there to the end.

        The write needs a connection of its own only where the session was released; where it is
        held, a checkout can still be in the way if it stops the loop, or fills anyio's threads.
        """
        way = WAITS[WAITS.index(stay.station) + 1 :]
        knobs = self._trial.knobs
        held = stay.stored and knobs.db_session == "hold" and knobs.db_call == "threadpool"
        own = OWN_THREADS.get(self._trial.journey)
        left_out = {threads for threads in OWN_THREADS.values() if stay.stored or threads != own}
        if held and stay.station is Station.LOOP:
            left_out |= {Station.POOL, Station.POOLER}
        return [station for station in way if station not in left_out]

    def _workers_of(self, record: UploadRecord | None) -> list[Queues]:
        """The worker that had an upload; all of them where none is known to have had it."""
        if record and record.worker in self._workers:
            return [self._workers[record.worker]]
        return list(self._workers.values())

    @cached_property
    def _workers(self) -> dict[int, Queues]:
        """The queues of each worker, by its pid, in the whole trial."""
        readings: dict[int, list[WorkerReading]] = defaultdict(list)
        for reading in self._trial.evidence(WorkerReading):
            readings[reading.pid].append(reading)
        return {pid: self._queues(of) for pid, of in readings.items()}

    def _queues(self, readings: Sequence[WorkerReading]) -> Queues:
        speed = self._trial.knobs.speed
        busy_s = [r.loop_busy_s * speed for r in readings if r.loop_busy_s is not None]
        return Queues(
            times=[reading.t for reading in readings],
            full=[self._full(reading) for reading in readings],
            busy_s=busy_s if len(busy_s) == len(readings) else [],
        )

    @cached_property
    def _pooler_full(self) -> Callable[[float], bool]:
        return pooler.full_at(self._trial)

    def _full(self, reading: WorkerReading) -> frozenset[Station]:
        """The stations that were full at a reading, with somebody in the queue."""
        full = full_stations(self._trial, reading)
        return full | {Station.POOLER} if self._pooler_full(reading.t) else full


def full_stations(trial: Trial, reading: WorkerReading) -> frozenset[Station]:
    """The stations of a worker's own that were full at a reading, with somebody in the queue."""
    cell, knobs = trial.cell, trial.knobs
    slots, threads = worker_storage_slots(cell), storage_threads(reading, knobs)
    queues = {
        Station.LOOP: _keeps_others(trial, reading),
        Station.ANYIO: bool(reading.anyio_queued) and _all_taken(reading, knobs),
        Station.POOL: reading.waiting > 0 and reading.checked_out >= pool_connections(knobs),
        Station.THREADS: reading.threads_queued > 0 and threads >= slots,
        Station.SPEECH_THREADS: bool(reading.speech_queued),
        Station.AUDIO_THREADS: bool(reading.audio_queued),
    }
    return frozenset(station for station, full in queues.items() if full)


def _all_taken(reading: WorkerReading, knobs: Knobs) -> bool:
    """Whether none of anyio's threads is free; a call that waits beside a free one waits for the
    event loop, which starts it."""
    return (reading.anyio_busy or 0) >= knobs.anyio_threads


def _keeps_others(trial: Trial, reading: WorkerReading) -> bool:
    """Whether the event loop is late, and somebody else than who has it is there."""
    late = reading.loop_lag > BLOCKED_WALL_S * trial.knobs.speed
    return late and students_inside(reading) > (trial.journey is not Journey.HEALTH)


def students_inside(reading: WorkerReading) -> int:
    """Requests of students inside a worker, whatever they are; health probes are none of theirs."""
    return max(reading.inflight, reading.inside or 0)


def storage_threads(reading: WorkerReading, knobs: Knobs) -> int:
    """Threads in use of those that storage calls run in; conversions may share them."""
    shared = reading.audio_busy if knobs.gcs_call == "audio_pool" else 0
    return reading.threads_busy + (shared or 0)


def _own(stay: Stay, full: Collection[Station]) -> Station:
    """Who keeps an upload where nothing further down does.

    A checkout from a pool that is not full waits for the database, to open a connection, and so
    does what PgBouncer did not keep waiting: its round trips took longer. A call for which one of
    anyio's threads is free waits for its turn in the event loop.
    """
    if stay.station is Station.ANYIO and stay.station not in full:
        return Station.LOOP
    kept = stay.station not in (Station.POOL, Station.POOLER) or stay.station in full
    return stay.station if kept else Station.DATABASE


def excess(life: Life, bound: float, rest_s: float = 0.0) -> dict[Station, float]:
    """The seconds by which an upload was late, its excess, by the stations that made them.

    Waits come first, as much as there is of them: without them it would have been in time, if
    what was done for it fits into the bound. What does not is the service's own.

    Args:
        life: the upload's.
        bound: the most that it might have taken, in seconds.
        rest_s: seconds of its storage call that were still to come, of one whose end nobody saw.

    Returns:
        Seconds by station; empty of an upload that was in time.
    """
    service = dict(life.service)
    if not life.whole:
        service[Station.STORAGE] = service.get(Station.STORAGE, 0.0) + rest_s
    served = fsum(service.values())
    over = life.waited + served - bound
    if over <= 0:
        return {}
    waits = min(life.waited, over)
    parts = {
        station: seconds / life.waited * waits for station, seconds in life.waits.items() if waits
    }
    rest = over - waits
    if rest > 0 and served:
        parts |= {station: s / served * rest for station, s in service.items()}
    return parts
