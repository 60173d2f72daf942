"""Was it the replica that was measured, or the lab? Reasons for which a cell is invalid.

    parts that died, evidence that is missing     nothing can be said
    a clock that was set, a part that stood still `lab.judge.coverage`
    samples against audit and records             `lab.judge.agreement`
    instances that ended before their time        a result, or not: see below
    generator, machine                            the lab itself was the limit
    speed                                         work is not divided by it: see below
    injected and measured differ                  `lab.judge.injection`
    defects                                       what the replica must never do

At speed s every wait is s times shorter, but work is not: what takes e seconds of CPU or
overhead looks like s e seconds of real time, s e - e of which are not real. Four things
follow, and each is held below `ALLOWED`:

    each upload takes longer                       excess / latency
    an event loop near saturation carries fewer    excess / busy
    connections, or anyio's threads, that uploads
    wait for are held for longer                   excess / time held
    a part that was killed or restarted is away    excess / window
    for longer, for its start is work

What ends an instance before its time:

    killed for its memory, also in its start-up    a result, the platform's
    fails to start, or never listens               the lab's: nothing was measured
    exits, or dies of something else               the replica's, unless it was done to it
    is frozen, and not by the gateway              somebody else's
    cannot be controlled, ended or removed         the lab's
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from lab.judge.agreement import disagreements
from lab.judge.coverage import clock_was_set
from lab.judge.delays import ALLOWED, only_delay, true_speed
from lab.judge.levels import times
from lab.judge.trial import Trial
from lab.model.evidence import (
    Audit,
    Cause,
    InstanceEvent,
    LoadDone,
    MachineReading,
    PartDown,
    WorkerReading,
)
from lab.model.fault import Latency
from lab.model.physics import SATURATED, db_trips
from lab.model.verdict import Check

LATE_S = 0.25
LATE_SHARE = 0.01
"""How late a request may be sent, in real-world seconds: 0.25 s and 1 % of the median latency.

A user's cycle is at least one answer of storage, 3.5 s in the mean: a quarter second makes
the offered load 7 % less than the cell says, and beside a queue of a minute the 1 % keeps
the same figure from condemning what no longer matters.
"""

WAITED = 0.5
"""Share of the readings in which somebody waits for a slot, above which its time counts."""

RESOLUTION_S = 0.001
"""The shortest injected delay, in wall-clock seconds, that timers keep."""

ENDED = {
    "start_failed": "did not start",
    "died": "died",
    "frozen": "was frozen",
    "stuck": "could not be controlled",
}
"""What befell an instance that the gateway did not mean to happen, by the event that tells it."""


def reasons_invalid(trial: Trial, injected: Sequence[Check]) -> list[str]:
    """Sentences, one for each reason why the cell shows nothing; empty where it does."""
    return [
        *(f"{d.part} was down at {d.t:.1f} s: {d.why}" for d in trial.evidence(PartDown)),
        *_missing(trial),
        *clock_was_set(trial),
        *trial.uncovered,
        *disagreements(trial),
        *instances(trial),
        *_lab_at_limit(trial),
        *scaling(trial),
        *prolonged(trial),
        *(
            f"injected and measured differ: {check.reason}"
            for check in injected
            if check.ok is False
        ),
        *_defects(trial),
    ]


def _missing(trial: Trial) -> Iterable[str]:
    """What has to be there before anything can be said: no evidence is not good evidence.

    On Cloud Run there is no worker to be read where no instance was ever ready.
    """
    on_vm = trial.cell.target == "vm"
    served = on_vm or any(reading.ready for reading in trial.gateway_readings)
    if not trial.evidence(LoadDone):
        yield "the load never finished"
    if served and not trial.evidence(WorkerReading):
        yield "no worker was read, so its CPU and pool are unknown"
    if not trial.evidence(MachineReading):
        yield "the machine was not read, so the lab's own CPU is unknown"
    if not trial.evidence(Audit):
        yield "there was no audit, so lost uploads cannot be ruled out"
    if not (on_vm or trial.gateway_readings):
        yield "the gateway was not read, so its queue and instances are unknown"


def instances(trial: Trial) -> Iterable[str]:
    """A sentence for each way in which instances failed that is no result, with the first one."""
    failures: dict[str, list[InstanceEvent]] = {}
    for line in trial.instance_events:
        if line.event in ENDED and not _is_result(line, trial):
            failures.setdefault(f"{ENDED[line.event]}: {line.why}", []).append(line)
    for failure, lines in failures.items():
        first = lines[0]
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        yield f"{first.instance}{more} {failure} (at {first.t:.1f} s)"


def _is_result(line: InstanceEvent, trial: Trial) -> bool:
    if line.event in ("stuck", "frozen"):
        return False
    killed = any(e.event == "oom" and e.instance == line.instance for e in trial.instance_events)
    planned = any(fault.part == "backend" for fault in trial.cell.process_faults)
    # A death in the start-up is noted twice: as such, and as a start that failed.
    noted_twice = line.event == "died" and line.during == "starting"
    return killed or planned or noted_twice


def _lab_at_limit(trial: Trial) -> Iterable[str]:
    """The generator, or this machine, had no time left."""
    for line in trial.evidence(LoadDone):
        if line.generator_exit:
            yield f"the load generator ended with exit code {line.generator_exit}"
    for part, count in trial.shortages("files").items():
        yield (
            f"{part} had no file descriptor left, as its log says {times(count)}"
            " - raise `ulimit -n` on this machine"
        )
    cpu = trial.metrics.get("cpu_generator", 0.0)
    if cpu >= SATURATED:
        yield f"the load generator used {cpu:.2f} of its one core - lower the users or --speed"
    late = trial.metrics.get("lateness", 0.0)
    allowed = LATE_S + LATE_SHARE * trial.metrics.get("p50", 0.0)
    if late > allowed:
        yield (
            f"the load generator sent {late:.2f} s late (p95; {allowed:.2f} s is allowed)"
            " - lower the users or --speed"
        )
    share = trial.metrics.get("cpu_machine", 0.0)
    if share > SATURATED:
        yield f"this machine's CPU was {share:.0%} in use - stop other programs or lower --speed"


def _defects(trial: Trial) -> Iterable[str]:
    """What the replica must never do, whatever its settings; a part's death may do it all."""
    if trial.evidence(PartDown):
        return
    if lost := int(trial.metrics.get("lost", 0)):
        yield f"{lost} uploads were answered 200 but are not there: a defect of the replica"
    samples = trial.observation.samples
    if broken := sum(sample.error == Cause.INTERNAL_ERROR for sample in samples):
        yield f"{broken} answers were 500 without a cause: a defect of the replica"


@dataclass(frozen=True)
class Overstated:
    """What is not real of the busiest worker's time, as shares of real time.

    Args:
        rate: uploads a second of that worker, failed ones too.
        busy: of its event loop: CPU, and blocking calls to the database.
        work: the part of its time that is work, as speed 1 would have it.
        speed: at which all this was measured.
    """

    rate: float
    busy: float
    work: float
    speed: float

    @property
    def excess(self) -> float:
        """The part of its time that is work which speed 1 would not have."""
        return self.excess_at(self.speed)

    def excess_at(self, speed: float) -> float:
        """The same at another speed: work is that many times as dense there."""
        return self.work * (speed - 1)

    def busy_at(self, speed: float) -> float:
        """How busy the event loop would be at another speed."""
        return max(0.0, self.busy - self.work * (self.speed - speed))

    def carries(self, speed: float) -> bool:
        """Whether at a speed the event loop carries what it would in real time, or is no limit."""
        busy = self.busy_at(speed)
        return busy < SATURATED or self.excess_at(speed) <= ALLOWED * busy

    def answers(self, speed: float, p50: float) -> bool:
        """Whether at a speed an upload, of this median in seconds, takes as long as it would."""
        return self.excess_at(speed) <= ALLOWED * p50 * self.rate


def overstated(trial: Trial) -> Overstated | None:
    """What this cell's speed adds to its busiest worker; None without a rate to go by.

    The busiest worker's share of the uploads is taken to be its share of the CPU.
    """
    metrics, knobs, (start, end) = trial.metrics, trial.knobs, trial.window
    if end <= start:
        return None
    cores = metrics.get("cpu_worker_max", 0.0)
    even = metrics.get("cpu_backend", 0.0) / knobs.workers
    share = (cores / even if even else 1.0) / knobs.workers / (end - start)
    rate, carried = (metrics.get(name, 0.0) * share for name in ("attempts", "succeeded"))
    if not rate:
        return None
    trips = db_trips(knobs)
    calls = sum(metrics.get(stage, 0.0) for stage in trips)
    in_loop = calls if knobs.db_call == "blocking" else 0.0
    added = beyond_trips(trial)
    # An upload that failed made few of the calls, or none; its CPU is among the cores.
    work = (cores + carried * added) / knobs.speed
    # The sum counts CPU within a call twice; the loop's own meter counts waits for storage, and
    # not those for threads that compute: they take its time all the same.
    busy = max(cores, min(cores + carried * in_loop, metrics.get("loop_busy", inf)))
    return Overstated(rate, busy, work, knobs.speed)


def beyond_trips(trial: Trial) -> float:
    """Seconds that an upload's calls to the database take beyond their injected round trips."""
    span, metrics = only_delay(trial.cell, "db"), trial.metrics
    made = {stage: n for stage, n in db_trips(trial.knobs).items() if stage in metrics}
    if span is None:
        return 0.0
    return max(0.0, sum(metrics[stage] - n * span.mean for stage, n in made.items()))


def scaling(trial: Trial) -> Iterable[str]:
    """Sentences, one for each reason why this speed makes the cell untrue."""
    speed = trial.knobs.speed
    unreal = overstated(trial)
    if speed > 1 and unreal:
        p50 = trial.metrics.get("p50", inf)
        fitting = true_speed(speed, lambda s: unreal.carries(s) and unreal.answers(s, p50))
        remedy = f"({ALLOWED:.0%} is allowed) - lower --speed, to about {fitting:g}"
        if not unreal.carries(speed):
            yield (
                f"at speed {speed:g} {unreal.excess / unreal.busy:.0%} of what keeps the busiest"
                f" event loop busy is work that speed does not divide {remedy}"
            )
        if not unreal.answers(speed, p50):
            yield (
                f"at speed {speed:g} an upload takes {unreal.excess / unreal.rate:.2f} s longer"
                f" than it would, against a median of {p50:.2f} s {remedy}"
            )
    yield from _held_longer(trial)
    yield from _timers(trial)


def _held_longer(trial: Trial) -> Iterable[str]:
    """Of slots that uploads wait for, one that a call to the database holds for too long."""
    speed, added = trial.knobs.speed, beyond_trips(trial)
    for slot, held in _held(trial).items():

        def true(at: float, held: float = held) -> bool:
            # Of what is added, the part of one speed is real, the rest comes with the others.
            return added / speed * (at - 1) <= ALLOWED * held

        if speed > 1 and not true(speed):
            yield (
                f"at speed {speed:g} an upload holds {slot} {added * (1 - 1 / speed):.3f} s longer"
                f" than it would, of {held:.3f} s, and others wait for it ({ALLOWED:.0%} is"
                f" allowed) - lower --speed, to about {true_speed(speed, true):g}"
            )


def _held(trial: Trial) -> dict[str, float]:
    """Seconds for which an upload has each slot that others waited for in half of the readings."""
    metrics, readings = trial.metrics, trial.workers
    calls = sum(metrics.get(stage, 0.0) for stage in db_trips(trial.knobs))
    storage = metrics.get("gcs_latency", 0.0) + metrics.get("gcs_queue", 0.0)
    waited = {
        "a connection of its pool": sum(reading.waiting > 0 for reading in readings),
        "a thread of anyio's": sum((reading.anyio_queued or 0) > 0 for reading in readings),
    }
    held = {
        "a connection of its pool": calls + storage * (trial.knobs.db_session == "hold"),
        "a thread of anyio's": calls + metrics.get("pool_wait", 0.0),
    }
    return {slot: held[slot] for slot, count in waited.items() if count > WAITED * len(readings)}


def _timers(trial: Trial) -> Iterable[str]:
    speed = trial.knobs.speed
    for fault in trial.cell.faults:
        for toxic in fault.toxics:
            mean = toxic.span(trial.knobs).mean if isinstance(toxic, Latency) else 0.0
            if 0 < mean / speed < RESOLUTION_S:
                yield (
                    f"at speed {speed:g} {fault.fault} delays by {mean / speed * 1000:.2f} ms of"
                    " wall time, which timers do not keep - lower --speed"
                )


def prolonged(trial: Trial) -> Iterable[str]:
    """Sentences, one for each part that this speed kept away for longer than is true."""
    speed, (start, end) = trial.knobs.speed, trial.cell.load.measured
    for planned in trial.cell.process_faults:
        happened = trial.process_faults.get(planned.fault)
        if happened is None or happened.until is None:
            continue
        longer = (happened.until - happened.t - planned.lasts) * (1 - 1 / speed)
        if longer > ALLOWED * (end - start):
            yield (
                f"at speed {speed:g} {planned.part} was away {longer:.1f} s longer than it would"
                f" be, in a window of {end - start:.0f} s ({ALLOWED:.0%} is allowed)"
                " - lower --speed"
            )
