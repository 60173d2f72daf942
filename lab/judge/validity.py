"""Was it the replica that was measured, or the lab? Reasons for which a cell is invalid.

Is a trial at speed s still true? Where it is not, the reasons.

At speed s every wait is s times shorter, but work is not: what takes e seconds of CPU or
overhead looks like s e seconds of real time, s e - e of which are not real. Two things
follow, and both are held below `ALLOWED`:

    each upload takes longer               excess / latency
    an event loop near saturation carries  excess / busy
    fewer uploads

What ends an instance before its time: a result, or a reason why a cell shows nothing.

killed for its memory, also in its start-up      a result, the platform's
fails to start, or never listens                 the lab's: nothing was measured
exits, or dies of something else                 the replica's, unless it was struck
cannot be ruled, ended or removed                the lab's
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from lab.judge.distance import db_trips, only_delay
from lab.judge.trial import Window, readings, struck, window_of
from lab.model.evidence import (
    Audit,
    Cause,
    Evidence,
    GatewayReading,
    InstanceEvent,
    LoadDone,
    MachineReading,
    Observation,
    PartDown,
    WorkerReading,
)
from lab.model.experiment import Cell
from lab.model.fault import Latency
from lab.model.verdict import Check

BUSY = 0.90
"""Of its one core, the generator's use from which it sends late; of all cores, the machine's."""

LATE_S = 0.25
LATE_SHARE = 0.01
"""How late a request may be sent, in real-world seconds: 0.25 s and 1 % of the median latency.

A user's cycle is at least one answer of storage, 3.5 s in the mean: a quarter second makes
the offered load 7 % less than the cell says, and beside a queue of a minute the 1 % keeps
the same figure from condemning what no longer matters.
"""


def guard(
    cell: Cell, observation: Observation, metrics: Mapping[str, float], checks: Sequence[Check]
) -> list[str]:
    """Sentences, one for each reason why the cell shows nothing; empty where it does."""
    return [
        *_parts(observation.evidence),
        *_evidence(cell, observation.evidence),
        *instance_reasons(cell, observation),
        *_generator(observation.evidence, metrics),
        *_machine(metrics),
        *scaling(cell, metrics, window_of(cell, observation)),
        *prolonged(cell, observation),
        *(f"injected and measured differ: {check.reason}" for check in checks if check.ok is False),
        *_defects(observation, metrics),
    ]


def _parts(evidence: Iterable[Evidence]) -> Iterable[str]:
    for line in evidence:
        if isinstance(line, PartDown):
            yield f"{line.part} was down at {line.t:.1f} s: {line.why}"


def _evidence(cell: Cell, evidence: Sequence[Evidence]) -> Iterable[str]:
    """What has to be there before anything can be said: no evidence is not good evidence.

    On Cloud Run there is no worker to be read where no instance was ever ready.
    """
    needed: dict[type[Evidence], str] = {
        LoadDone: "the load never finished",
        WorkerReading: "no worker was read, so its CPU and pool are unknown",
        MachineReading: "the machine was not read, so the lab's own CPU is unknown",
        Audit: "there was no audit, so lost uploads cannot be ruled out",
    }
    if cell.target == "cloudrun":
        needed[GatewayReading] = "the front was not read, so its queue and instances are unknown"
        if not any(isinstance(line, GatewayReading) and line.ready for line in evidence):
            del needed[WorkerReading]
    there = {type(line) for line in evidence}
    return (reason for kind, reason in needed.items() if kind not in there)


def _generator(evidence: Iterable[Evidence], metrics: Mapping[str, float]) -> Iterable[str]:
    for line in evidence:
        if isinstance(line, LoadDone) and line.generator_exit:
            yield f"the load generator ended with exit code {line.generator_exit}"
    cpu = metrics.get("cpu_generator", 0.0)
    if cpu >= BUSY:
        yield f"the load generator used {cpu:.2f} of its one core - lower the users or --speed"
    late, allowed = metrics.get("lateness", 0.0), LATE_S + LATE_SHARE * metrics.get("p50", 0.0)
    if late > allowed:
        yield (
            f"the load generator sent {late:.2f} s late (p95; {allowed:.2f} s is allowed)"
            " - lower the users or --speed"
        )


def _machine(metrics: Mapping[str, float]) -> Iterable[str]:
    share = metrics.get("cpu_machine", 0.0)
    if share > BUSY:
        yield f"this machine's CPU was {share:.0%} in use - stop other programs or lower --speed"


def _defects(observation: Observation, metrics: Mapping[str, float]) -> Iterable[str]:
    """What the replica must never do, whatever its settings."""
    if lost := int(metrics.get("lost", 0)):
        yield f"{lost} uploads were answered 200 but are not there: a defect of the replica"
    broken = sum(sample.error == Cause.INTERNAL_ERROR for sample in observation.samples)
    if broken:
        yield f"{broken} answers were 500 without a cause: a defect of the replica"


ALLOWED = 0.05
"""How much longer an upload may seem, or how much less a busy event loop may carry."""

SATURATED = 0.90
"""Share of its time that a loop is busy from which on it may limit what a worker carries.

Below, something else does: in a closed network the busiest station alone sets the rate once
there are many more users than stations (asymptotic bounds; Lazowska et al., Quantitative
System Performance, 1984, ch. 5).
"""

RESOLUTION_S = 0.001
"""The shortest injected delay, in wall-clock seconds, that timers keep."""


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


def true_speed(speed: float, fits: Callable[[float], bool]) -> float:
    """The highest speed below this one, in halves, at which something fits; 1 where none does."""
    return next((half / 2 for half in range(ceil(2 * speed) - 1, 2, -1) if fits(half / 2)), 1.0)


def overstated(cell: Cell, metrics: Mapping[str, float], window: Window) -> Overstated | None:
    """What this cell's speed adds to its busiest worker; None without a rate to go by.

    The busiest worker's share of the uploads is taken to be its share of the CPU.

    Args:
        cell: its knobs and faults.
        metrics: its metrics.
        window: what they are of, as `lab.judge.trial.window_of` has it.
    """
    start, end = window
    if end <= start:
        return None
    cores = metrics.get("cpu_worker_max", 0.0)
    even = metrics.get("cpu_backend", 0.0) / cell.knobs.workers
    each = (cores / even if even else 1.0) / cell.knobs.workers / (end - start)
    rate, carried = (metrics.get(name, 0.0) * each for name in ("attempts", "succeeded"))
    if not rate:
        return None
    trips = db_trips(cell)
    calls = sum(metrics.get(stage, 0.0) for stage in trips)
    in_loop = calls if cell.knobs.db_call == "blocking" else 0.0
    span = only_delay(cell, "db")
    expected = sum(n * span.mean for stage, n in trips.items() if span and stage in metrics)
    added = max(0.0, calls - expected) if span else 0.0
    # An upload that failed made few of the calls, or none; its CPU is among the cores.
    speed = cell.knobs.speed
    work = (cores + carried * added) / speed
    # The sum counts CPU within a call twice; the loop's own meter counts waits for storage, and
    # not those for threads that compute: they take its time all the same.
    busy = max(cores, min(cores + carried * in_loop, metrics.get("loop_busy", inf)))
    return Overstated(rate, busy, work, speed)


def scaling(cell: Cell, metrics: Mapping[str, float], window: Window) -> Iterable[str]:
    """Sentences, one for each reason why this speed makes the cell untrue.

    Args:
        cell: its knobs and faults.
        metrics: its metrics.
        window: what they are of, as `lab.judge.trial.window_of` has it.
    """
    speed = cell.knobs.speed
    found = overstated(cell, metrics, window)
    if speed > 1 and found:
        p50 = metrics.get("p50", inf)
        fitting = true_speed(speed, lambda s: found.carries(s) and found.answers(s, p50))
        mend = f"({ALLOWED:.0%} is allowed) - lower --speed, to about {fitting:g}"
        if not found.carries(speed):
            yield (
                f"at speed {speed:g} {found.excess / found.busy:.0%} of what keeps the busiest"
                f" event loop busy is work that speed does not divide {mend}"
            )
        if not found.answers(speed, p50):
            yield (
                f"at speed {speed:g} an upload takes {found.excess / found.rate:.2f} s longer than"
                f" it would, against a median of {p50:.2f} s {mend}"
            )
    yield from _timers(cell)


def _timers(cell: Cell) -> Iterable[str]:
    speed = cell.knobs.speed
    for fault in cell.faults:
        for toxic in fault.toxics:
            mean = toxic.span(cell.knobs).mean if isinstance(toxic, Latency) else 0.0
            if 0 < mean / speed < RESOLUTION_S:
                yield (
                    f"at speed {speed:g} {fault.fault} delays by {mean / speed * 1000:.2f} ms of"
                    " wall time, which timers do not keep - lower --speed"
                )


_WORDS = {"start_failed": "did not start", "died": "died", "stuck": "could not be ruled"}


def instance_reasons(cell: Cell, observation: Observation) -> Iterable[str]:
    """A sentence for each way in which instances failed that is no result, with the first one."""
    events = readings(InstanceEvent, observation.evidence)
    struck = any(planned.part == "backend" for planned in cell.process_faults)
    found: dict[str, list[InstanceEvent]] = {}
    for line in events:
        if line.event in _WORDS and not _is_result(line, events, struck):
            found.setdefault(f"{_WORDS[line.event]}: {line.why}", []).append(line)
    for what, lines in found.items():
        first = lines[0]
        more = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
        yield f"{first.instance}{more} {what} (at {first.t:.1f} s)"


def _is_result(line: InstanceEvent, events: Sequence[InstanceEvent], struck: bool) -> bool:
    if line.event == "stuck":
        return False
    killed = any(other.event == "oom" and other.instance == line.instance for other in events)
    # A death in the start-up is told twice: as such, and as a start that failed.
    twice = line.event == "died" and line.during == "starting"
    return killed or struck or twice


def prolonged(cell: Cell, observation: Observation) -> Iterable[str]:
    """Sentences, one for each part that this speed kept away for longer than is true."""
    done_to_it, speed = struck(observation), cell.knobs.speed
    start, end = cell.load.measured
    for planned in cell.process_faults:
        done = done_to_it.get(planned.fault)
        if done is None or done.until is None:
            continue
        longer = (done.until - done.t - planned.lasts) * (1 - 1 / speed)
        if longer > ALLOWED * (end - start):
            yield (
                f"at speed {speed:g} {planned.part} was away {longer:.1f} s longer than it would"
                f" be, in a window of {end - start:.0f} s ({ALLOWED:.0%} is allowed)"
                " - lower --speed"
            )
