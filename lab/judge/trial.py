"""One cell and what was seen of it, with everything that is derived from both, derived once.

    cell + observation ─> sent, readings, kills … ─> metrics, leaks, peak ─> rules and checks

Rules and checks are functions of a `Trial`. A part of one (a stage of the load, the peak) is a
trial again: what was sent and read within it. So is that of one journey (`Trial.of`), which has the
same readings: without one a trial is of the uploads, and so are all figures of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import fsum
from typing import TypeVar, cast

from lab.model.evidence import (
    ANSWER_LOST,
    AUDIT,
    CUT_OFF,
    SERVICE_CAUSES,
    Audit,
    Cause,
    Evidence,
    GatewayReading,
    GatewayRequest,
    InstanceEvent,
    LoadDone,
    Observation,
    OomKill,
    PartDown,
    ProcessFaultRecord,
    Sample,
    UploadRecord,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.fidelity import Worker
from lab.model.journeys import REQUESTS, Journey
from lab.model.knobs import Knobs
from lab.model.load import AnyLoad, BurstLoad, StagesLoad, Window, shortened, users_at
from lab.model.pooler import PoolerReading
from lab.model.probe import ProbeRecord
from lab.model.readings import DatabaseReading, MachineReading
from lab.model.verdict import Leak, Stood

Line = TypeVar("Line")

TIMED = (
    *(WorkerReading, DatabaseReading, PoolerReading, MachineReading, OomKill, ProbeRecord),
    *(GatewayReading, InstanceEvent),
)
"""The evidence that belongs to its moment; the rest holds for the whole trial."""


def successes(samples: Iterable[Sample]) -> list[Sample]:
    """The samples that were answered 200."""
    return [sample for sample in samples if sample.error is None]


@dataclass(frozen=True, eq=False)
class Trial:
    """What a verdict is of; of a part of a trial, ``part`` is where it begins and ends.

    Its samples, and what is derived from them, are those of one ``journey``.
    """

    cell: Cell
    observation: Observation
    part: Window | None = None
    journey: Journey = Journey.UPLOAD

    @property
    def knobs(self) -> Knobs:
        """The cell's knobs."""
        return self.cell.knobs

    @cached_property
    def window(self) -> Window:
        """What counts: the part, or the load's window; of a burst, until its last answer."""
        if self.part:
            return self.part
        if isinstance(self.cell.load, BurstLoad) and self.by_users:
            return 0.0, max(sample.sent_at + sample.latency_s for sample in self.by_users)
        return self.load.measured

    @cached_property
    def load(self) -> AnyLoad:
        """The load as it was offered: its window is shorter where it was decided early."""
        load, done = self.cell.load, self.evidence(LoadDone)[-1:]
        ends = [line.window[1] for line in done if line.decided_at is not None]
        return shortened(load, ends[0]) if ends else load

    @property
    def decided_at(self) -> float | None:
        """When every criterion was certain, so that the window ended; None where it was whole."""
        return next((line.decided_at for line in self.evidence(LoadDone)[-1:]), None)

    def restricted(self, part: Window) -> Trial:
        """What was read within a part of the trial; what holds for all of it stays.

        So does how things stood at the gateway when the part began, and every upload: a rate
        counts those of before that are answered in the part.
        """
        start, end = part
        stood = [line for line in self.gateway_readings if line.t < start][-1:]
        evidence = tuple(
            line
            for line in self.observation.evidence
            if not isinstance(line, TIMED) or start <= line.t <= end or line in stood
        )
        seen = self.observation.model_copy(update={"evidence": evidence})
        return Trial(self.cell, seen, part, self.journey)

    def of(self, journey: Journey) -> Trial:
        """The same trial with another journey in the place of the uploads."""
        if journey is self.journey:
            return self
        if journey not in self._by_journey:
            self._by_journey[journey] = Trial(self.cell, self.observation, self.part, journey)
        return self._by_journey[journey]

    @cached_property
    def _by_journey(self) -> dict[Journey, Trial]:
        return {}

    @property
    def main(self) -> Trial:
        """The trial of what the load is about: of uploads, where there are any."""
        return self.of(self.cell.load.main)

    @property
    def timeout(self) -> float:
        """Seconds for which its clients waited for an answer."""
        return self.cell.load.timeout_of(self.journey)

    @property
    def noun(self) -> str:
        """What its samples are called in sentences: ``uploads``, ``assessments``."""
        return f"{REQUESTS[self.journey].noun}s"

    @property
    def one(self) -> str:
        """One of them: ``an upload``, ``a conversion``."""
        noun = REQUESTS[self.journey].noun
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"

    @cached_property
    def peak(self) -> Trial:
        """The part in which a load in stages was near its most users; else the same trial."""
        load = self.cell.load
        return self.restricted(load.peak) if isinstance(load, StagesLoad) else self

    # What the users saw.

    @cached_property
    def samples(self) -> list[Sample]:
        """All of the trial's samples that are of its journey."""
        return [sample for sample in self.observation.samples if sample.journey is self.journey]

    @cached_property
    def by_users(self) -> list[Sample]:
        """All that users sent, whatever it was; health is asked for beside them."""
        samples = self.observation.samples
        return [sample for sample in samples if sample.journey is not Journey.HEALTH]

    @cached_property
    def sent(self) -> list[Sample]:
        """The uploads that count: all of a burst, else those sent in the window."""
        return self.counted(self.samples)

    def counted(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those that count: all of a burst, else those sent in the window."""
        if isinstance(self.cell.load, BurstLoad):
            return list(samples)
        start, end = self.window
        return [sample for sample in samples if start <= sample.sent_at < end]

    @cached_property
    def succeeded(self) -> list[Sample]:
        """Of the uploads that count, those that were answered 200."""
        return successes(self.sent)

    @cached_property
    def causes(self) -> Counter[Cause]:
        """Of the uploads that count, how many failed of each cause."""
        causes = (self.cause_of(sample) for sample in self.sent)
        return Counter(cause for cause in causes if cause is not None)

    @cached_property
    def answered(self) -> list[tuple[Sample, float]]:
        """Each success with the share of its life that lies in the window; of a burst, all of it.

        So an upload that began before the window or ended after it counts in part, and a
        steady flow is measured without an edge, however long an upload takes.
        """
        whole = isinstance(self.cell.load, BurstLoad)
        good = successes(self.samples)
        return [(sample, 1.0 if whole else _share_inside(sample, self.window)) for sample in good]

    @cached_property
    def inflight(self) -> Callable[[float], int]:
        """How many of the users' requests were sent and not yet answered at a moment, in seconds,
        whatever they were."""
        sent = sorted(sample.sent_at for sample in self.by_users)
        ended = sorted(sample.sent_at + sample.latency_s for sample in self.by_users)
        return lambda t: bisect_right(sent, t) - bisect_right(ended, t)

    def users_at(self, t: float) -> int:
        """Users at a moment of the trial, in seconds."""
        return users_at(self.load, t, self.inflight(t))

    # What the replica and this machine said.

    @cached_property
    def _lines(self) -> dict[type, list[Evidence]]:
        lines: dict[type, list[Evidence]] = defaultdict(list)
        for line in sorted(self.observation.evidence, key=lambda line: line.t):
            lines[type(line)].append(line)
        return dict(lines)

    def evidence(self, kind: type[Line]) -> list[Line]:
        """The evidence of one kind in the order of its times, from the whole trial."""
        return cast("list[Line]", self._lines.get(kind, []))

    @cached_property
    def workers(self) -> list[WorkerReading]:
        """The readings of all workers in the window, in the order of their times."""
        return [reading for reading in self.evidence(WorkerReading) if self._inside(reading.t)]

    @cached_property
    def records(self) -> dict[str, UploadRecord]:
        """The workers' records of the journey, by request; none of an earlier lab."""
        records = self.evidence(UploadRecord)
        return {r.request: r for r in records if r.journey is self.journey}

    def record_of(self, sample: Sample) -> UploadRecord | None:
        """What the worker that had an upload recorded of it; None if none had it."""
        return self.records.get(sample.request) if sample.request else None

    def worker_of(self, sample: Sample) -> int | None:
        """The worker that had an upload, by its record or by the answer; None if none is known."""
        record = self.record_of(sample)
        return record.worker if record else sample.worker

    def service_cause(self, sample: Sample) -> str | None:
        """The cause that the service itself named for an upload, whoever heard of it."""
        record = self.record_of(sample)
        return record.cause if record else None

    def cause_of(self, sample: Sample) -> Cause | None:
        """What an upload failed of: what its client was told, or the answer that was lost.

        Where the service has answered with a cause of its own and its client saw a broken
        connection, or nginx's 502 for one, the upload failed of what the service says.
        """
        record = self.record_of(sample) if sample.error in ANSWER_LOST else None
        answered = record.cause if record and record.status is not None else None
        return Cause(answered) if answered in SERVICE_CAUSES else sample.error

    @cached_property
    def lost_answers(self) -> dict[Cause, Counter[Cause]]:
        """By what uploads failed of: what their clients saw in place of the service's answer."""
        lost: dict[Cause, Counter[Cause]] = defaultdict(Counter)
        for sample in self.sent:
            cause = self.cause_of(sample)
            if cause and sample.error and cause is not sample.error:
                lost[cause][sample.error] += 1
        return lost

    def failed_of(self, cause: str) -> list[Sample]:
        """The uploads that count of which the client, or the service itself, says this cause."""
        return [s for s in self.sent if cause in (self.cause_of(s), self.service_cause(s))]

    @cached_property
    def unseen_causes(self) -> dict[Cause, Counter[str]]:
        """By what clients saw: the causes that the service named for these uploads instead."""
        unseen: dict[Cause, Counter[str]] = defaultdict(Counter)
        for sample in self.sent:
            cause = self.service_cause(sample)
            if cause and sample.error in CUT_OFF:
                unseen[sample.error][cause] += 1
        return unseen

    @cached_property
    def unanswered(self) -> list[Sample]:
        """The uploads that count which were cut off, and of which no record says how they ended.

        They never came to a worker, were still inside when the evidence ended, or died with
        their worker; or an earlier lab kept no records.
        """
        return [s for s in self.sent if s.error in CUT_OFF and not self.ended(s)]

    def ended(self, sample: Sample) -> bool:
        """Whether a worker recorded how the service answered an upload, or what it failed of."""
        record = self.record_of(sample)
        return record is not None and (record.status is not None or record.cause is not None)

    @cached_property
    def by_worker(self) -> list[list[WorkerReading]]:
        """The same, worker by worker."""
        lives: dict[int, list[WorkerReading]] = defaultdict(list)
        for reading in self.workers:
            lives[reading.pid].append(reading)
        return [lives[pid] for pid in sorted(lives)]

    @cached_property
    def database(self) -> list[DatabaseReading]:
        """The readings of ``pg_stat_activity`` in the window."""
        return [reading for reading in self.evidence(DatabaseReading) if self._inside(reading.t)]

    @cached_property
    def pooler(self) -> list[PoolerReading]:
        """The readings of PgBouncer in the window; none where there was none."""
        return [reading for reading in self.evidence(PoolerReading) if self._inside(reading.t)]

    @cached_property
    def machine(self) -> list[MachineReading]:
        """The readings of this machine in the window."""
        return [reading for reading in self.evidence(MachineReading) if self._inside(reading.t)]

    @property
    def gateway_readings(self) -> list[GatewayReading]:
        """How things stood at Cloud Run's gateway, from the whole trial."""
        return self.evidence(GatewayReading)

    @property
    def gateway_requests(self) -> list[GatewayRequest]:
        """What became of each request there."""
        return self.evidence(GatewayRequest)

    @property
    def instance_events(self) -> list[InstanceEvent]:
        """The lives of its instances."""
        return self.evidence(InstanceEvent)

    def shortages(self, of: str) -> dict[str, int]:
        """How often each part had none left of something, as `Shortage.of` says it."""
        told = self.evidence(Audit)[-1:]
        return {s.part: s.count for audit in told for s in audit.shortages if s.of == of}

    @property
    def audit(self) -> Audit | None:
        """The bucket and the table against the samples; None where that could not be done."""
        audits = self.evidence(Audit)
        failed = any(down.part == AUDIT for down in self.evidence(PartDown))
        return audits[-1] if audits and not failed else None

    @cached_property
    def kills(self) -> list[float]:
        """When workers, or instances of Cloud Run, were killed for their memory, in order."""
        instances = [line.t for line in self.instance_events if line.event == "oom"]
        return sorted([line.t for line in self.evidence(OomKill)] + instances)

    def probes(self, event: str) -> list[ProbeRecord]:
        """The health probes that failed, or what followed from it, as `ProbeRecord.event` says."""
        return [record for record in self.evidence(ProbeRecord) if record.event == event]

    @property
    def process_faults(self) -> dict[str, ProcessFaultRecord]:
        """What befell parts on purpose, by fault."""
        return {line.fault: line for line in self.evidence(ProcessFaultRecord)}

    def _inside(self, t: float) -> bool:
        start, end = self.window
        return start <= t <= end

    # What follows from both.

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Every metric that there is evidence for: see `lab.judge.metrics.measure`."""
        from lab.judge.metrics import measure  # which takes a Trial

        return measure(self)

    @cached_property
    def durations(self) -> dict[str, list[float]]:
        """The times of each stage: see `lab.judge.stages.durations`."""
        from lab.judge.stages import durations  # which takes a Trial

        return durations(self)

    @cached_property
    def uncovered(self) -> list[str]:
        """What was not read all the time: see `lab.judge.coverage.uncovered`."""
        from lab.judge.coverage import uncovered  # which takes a Trial

        return uncovered(self)

    @cached_property
    def busiest(self) -> Worker | None:
        """What its speed adds to its busiest worker: see `lab.judge.validity.overstated`."""
        from lab.judge.validity import overstated  # which takes a Trial

        return overstated(self)

    @cached_property
    def stood(self) -> tuple[Stood, ...]:
        """In which lines the event loop stood: see `lab.judge.standing.stood`."""
        from lab.judge.standing import stood  # which takes a Trial

        return stood(self)

    @cached_property
    def leaks(self) -> tuple[Leak, ...]:
        """What grows for as long as the load goes on: see `lab.judge.leaks.leaks`."""
        from lab.judge.leaks import leaks  # which takes a Trial

        return leaks(self)

    def failed(self, *causes: Cause) -> int:
        """How many uploads of the window failed with these causes."""
        return round(fsum(self.metrics.get(f"errors.{cause}", 0.0) for cause in causes))


def _share_inside(sample: Sample, window: Window) -> float:
    start, end = window
    if sample.latency_s <= 0:
        return float(start <= sample.sent_at < end)
    inside = min(end, sample.sent_at + sample.latency_s) - max(start, sample.sent_at)
    return max(0.0, inside) / sample.latency_s
