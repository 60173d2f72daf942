"""Was it the replica that was measured, or the lab? Reasons for which a cell is invalid.

    parts that died, evidence that is missing     nothing can be said
    a clock that was set, a part that stood still `lab.judge.coverage`
    samples against audit and records             `lab.judge.agreement`
    instances that ended before their time        a result, or not: see below
    generator, machine                            the lab itself was the limit
    speed                                         work is not divided by it: see below
    how workers shared uploads                    `lab.judge.evenness`
    injected and measured differ                  `lab.judge.injection`
    defects                                       what the replica must never do

What a speed may change in a result, `lab.model.fidelity` says; one thing more follows where a
part was killed or restarted: it is away for longer, for its start is work, and by that its excess,
as a share of the window, is held below `ALLOWED`.

Each reason has a kind, by which `lab.plan.attempts` decides whether the cell is measured again, and
the speed that would have done.

What ends an instance before its time:

    killed for its memory, also in its start-up    a result, the platform's
    fails to start, or never listens               the lab's: nothing was measured
    exits, or dies of something else               the replica's, unless it was done to it
    is frozen, and not by the gateway              somebody else's
    cannot be controlled, ended or removed         the lab's
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import fsum, inf

from lab.judge import pooler
from lab.judge.agreement import disagreements
from lab.judge.coverage import clock_was_set
from lab.judge.delays import only_delay
from lab.judge.evenness import too_even
from lab.judge.levels import times
from lab.judge.readings import machine_rate
from lab.judge.remedies import FEWER, fitting_speed, slower, too_fast
from lab.judge.trial import Trial
from lab.model.evidence import (
    LAB,
    Audit,
    Cause,
    InstanceEvent,
    LoadDone,
    PartDown,
    WorkerReading,
)
from lab.model.fault import Latency
from lab.model.fidelity import ALLOWED, RESOLUTION_S, Worker, allowed_lateness, keeps_slot
from lab.model.journeys import Journey
from lab.model.load import ClosedLoad
from lab.model.physics import SATURATED, bounds_of_others, db_trips
from lab.model.readings import MachineReading
from lab.model.units import percent
from lab.model.verdict import Check, Invalidity, InvalidityKind

WAITED = 0.5
"""Share of the readings in which somebody waits for a slot, above which its time counts."""

ENDED = {
    "start_failed": "did not start",
    "died": "died",
    "frozen": "was frozen",
    "stuck": "could not be controlled",
}
"""What befell an instance that the gateway did not mean to happen, by the event that tells it."""


OVERHEAD = 0.10
"""The share of this machine's CPU that the lab may cause beyond what its parts are read to use:
the kernel's work for them, and an engine's."""


def reasons_invalid(trial: Trial, injected: Sequence[Check]) -> tuple[Invalidity, ...]:
    """The reasons why the cell shows nothing; none where it does show something.

    Where a part was down, what is missing, differs or did not happen is taken to follow from it.
    """
    down = trial.evidence(PartDown)
    evidence: InvalidityKind = "part" if down else "evidence"
    return (
        *map(_of_part, down),
        *_all(evidence, _missing(trial)),
        *_all("clock", clock_was_set(trial)),
        *_all("standstill", trial.uncovered),
        *_all(evidence, disagreements(trial)),
        *_all("part", instances(trial)),
        *_lab_at_limit(trial),
        *scaling(trial),
        *prolonged(trial),
        *(_of_check(check, down) for check in injected if check.ok is False),
        *_all("defect", _defects(trial)),
    )


def _all(kind: InvalidityKind, reasons: Iterable[str]) -> Iterable[Invalidity]:
    return (Invalidity(kind=kind, reason=reason) for reason in reasons)


def _of_part(down: PartDown) -> Invalidity:
    """Of a part that no planned fault had struck; the lab itself only ever stood still."""
    reason = f"{down.part} was down at {down.t:.1f} s: {down.why}"
    return Invalidity(kind="standstill" if down.part == LAB else "part", reason=reason)


def _of_check(check: Check, down: Sequence[PartDown]) -> Invalidity:
    reason = f"injected and measured differ: {check.reason}"
    kind = "part" if down and check.kind == "injection" else check.kind
    return Invalidity(kind=kind, reason=reason, fitting=check.fitting)


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


LACKING: Mapping[str, tuple[InvalidityKind, str, str]] = {
    "files": ("descriptors", "file descriptor", "raise `ulimit -n` on this machine"),
    "space": ("space", "room to write to", "free some space in TMPDIR, or on the engine's disk"),
}
"""What a part runs out of that is this machine's and not the service's: kind, word and remedy."""


def _lab_at_limit(trial: Trial) -> Iterable[Invalidity]:
    """The generator, or this machine, had no time left."""
    for line in trial.evidence(LoadDone):
        if line.generator_exit:
            reason = f"the load generator ended with exit code {line.generator_exit}"
            yield Invalidity(kind="part", reason=reason)
    for of, (kind, missing, remedy) in LACKING.items():
        for part, count in trial.shortages(of).items():
            reason = f"{part} had no {missing} left, as its log says {times(count)} - {remedy}"
            yield Invalidity(kind=kind, reason=reason)
    yield from _generator(trial)
    yield from _machine(trial)


def _generator(trial: Trial) -> Iterable[Invalidity]:
    """Its one core was full, or it was late: both grow with the speed."""
    speed, cpu = trial.knobs.speed, trial.metrics.get("cpu_generator", 0.0)
    if cpu >= SATURATED:
        what = f"the load generator used {cpu:.2f} of its one core"
        yield too_fast(trial.cell, what, lambda s: cpu * s / speed < SATURATED, FEWER)
    late = trial.metrics.get("lateness", 0.0)
    allowed = allowed_lateness(trial.main.metrics.get("p50", 0.0))
    if late > allowed:
        fitting = fitting_speed(speed, lambda s: late * s / speed <= allowed)
        auto = trial.cell.auto_speed
        mend = "; `--resume` measures it again" if auto else f" or {slower(trial.cell, fitting)}"
        reason = (
            f"the load generator sent {late:.2f} s late (p95; {allowed:.2f} s is allowed)"
            f" - stop other programs{mend}"
        )
        yield Invalidity(kind="generator", reason=reason, fitting=fitting)


def _machine(trial: Trial) -> Iterable[Invalidity]:
    """Who had too much of this machine's CPU: the lab itself, or others without whom it would do.

    Of what others had, so much as the lab may have caused itself is held against it.
    """
    share, speed = trial.metrics.get("cpu_machine", 0.0), trial.knobs.speed
    if share <= SATURATED:
        return
    own = _own_share(trial, share)
    others = share - own

    def beside(taken: float) -> Callable[[float], bool]:
        return lambda at: taken + own * at / speed <= SATURATED

    alone, used = beside(min(others, OVERHEAD)), f"this machine's CPU was {percent(share)} in use"
    if not alone(speed):
        yield too_fast(trial.cell, used, alone, "stop other programs")
        return
    fitting = fitting_speed(speed, beside(others))
    mend = ""
    if trial.cell.auto_speed:
        mend = "; `--resume` measures it again"
    elif fitting or speed == 1:
        mend = f" or {slower(trial.cell, fitting)}"
    reason = f"{used}, {percent(others)} by other programs - stop them{mend}"
    yield Invalidity(kind="machine", reason=reason, fitting=fitting)


def _own_share(trial: Trial, share: float) -> float:
    """What the lab and its replica had of this machine's CPU; all, where an earlier lab read it."""
    cores = next((line.cores for line in trial.machine if line.cores), None)
    if cores is None:
        return share
    parts = {part for line in trial.machine for part in line.cpu_s}
    rates = (machine_rate(lambda line: line.cpu_s, part, trial) for part in parts)
    return min(share, fsum(filter(None, rates)) / cores)


def _defects(trial: Trial) -> Iterable[str]:
    """What the replica must never do, whatever its settings; a part's death may do it all."""
    if trial.evidence(PartDown):
        return
    if lost := int(trial.metrics.get("lost", 0)):
        yield f"{lost} uploads were answered 200 but are not there: a defect of the replica"
    if trial.audit and (scores := len(trial.audit.lost_scores)):
        yield f"{scores} assessments were answered 200 but are not there: a defect of the replica"
    samples = trial.observation.samples
    if broken := sum(sample.error == Cause.INTERNAL_ERROR for sample in samples):
        yield f"{broken} answers were 500 without a cause: a defect of the replica"


def overstated(trial: Trial) -> Worker | None:
    """What this cell's speed adds to its busiest worker; None without a rate to go by.

    The busiest worker's share of the uploads is taken to be its share of the CPU. Whatever users
    ask for counts as an upload, which makes more calls to the database than the others.
    """
    metrics, knobs, (start, end) = trial.metrics, trial.knobs, trial.window
    if end <= start:
        return None
    cores = metrics.get("cpu_worker_max", 0.0)
    even = metrics.get("cpu_backend", 0.0) / knobs.workers
    share = (cores / even if even else 1.0) / knobs.workers / (end - start)
    asked = [trial.of(journey).metrics for journey in trial.cell.load.shares]
    rate, carried = (
        fsum(of.get(name, 0.0) for of in asked) * share for name in ("attempts", "succeeded")
    )
    if not rate:
        return None
    calls, added = sum(metrics.get(stage, 0.0) for stage in db_trips(knobs)), beyond_trips(trial)
    # An upload that failed made few of the calls, or none; its CPU is among the cores.
    work = (cores + carried * added) / knobs.speed
    metered = metrics.get("loop_busy", inf)
    if knobs.gcs_call == "blocking" and metered < inf:  # storage keeps it from everything else
        return Worker(rate, max(cores, metered), work, knobs.speed)
    blocks = knobs.db_call == "blocking"
    # The sum counts CPU within a call twice; the loop's own meter counts waits for a connection,
    # and not those for threads that compute: they take its time all the same.
    busy = max(cores, min(cores + carried * calls * blocks, metered))
    waits = carried * (calls - added) * blocks
    loop_work = min(work, max(0.0, metered - waits) / knobs.speed)
    return Worker(rate, busy, work, knobs.speed, loop_work, threads_used(trial))


def threads_used(trial: Trial) -> float | None:
    """What was carried, as a share of what the threads for storage carry at speed 1.

    None without threads, where users do not wait for their answers or do other things than upload,
    and where the delay of a call is not the only thing that was injected into it.
    """
    cell, metrics, span = trial.cell, trial.metrics, only_delay(trial.cell, "gcs")
    uploads = isinstance(cell.load, ClosedLoad) and set(cell.load.shares) == {Journey.UPLOAD}
    if cell.knobs.gcs_call == "blocking" or not uploads or span is None:
        return None
    call_s, rate = metrics.get("gcs_latency"), metrics.get("throughput")
    if call_s is None or rate is None:
        return None
    real_s = span.mean + max(0.0, call_s - span.mean) / cell.knobs.speed
    return rate * real_s / cell.storage_slots


def beyond_trips(trial: Trial) -> float:
    """Seconds that an upload's calls to the database take beyond their injected round trips.

    A wait in PgBouncer is for others' calls, which the speed divides.
    """
    span, metrics = only_delay(trial.cell, "db"), trial.metrics
    made = {stage: n for stage, n in db_trips(trial.knobs).items() if stage in metrics}
    if span is None:
        return 0.0
    beyond = sum(metrics[stage] - n * span.mean for stage, n in made.items())
    return max(0.0, beyond - pooler.upload_wait_s(trial))


def scaling(trial: Trial) -> Iterable[Invalidity]:
    """The reasons why this speed makes the cell untrue."""
    speed = trial.knobs.speed
    unreal = trial.busiest
    if speed > 1 and unreal:
        p50 = trial.main.metrics.get("p50", inf)

        others = bounds_of_others(trial.cell)

        def fits(at: float) -> bool:
            rest = (unreal.answers(at, criterion.bound) for criterion in others)
            return unreal.carries(at) and unreal.answers(at, p50) and all(rest)

        if not unreal.carries(speed):
            what = (
                f"at speed {speed:g} {percent(unreal.loop_share)} of what keeps the"
                " busiest event loop busy is work that speed does not divide"
            )
            yield too_fast(trial.cell, f"{what} ({percent(ALLOWED)} is allowed)", fits)
        if not unreal.answers(speed, p50):
            what = (
                f"at speed {speed:g} an upload takes {unreal.excess / unreal.rate:.2f} s longer"
                f" than it would, against a median of {p50:.2f} s"
            )
            yield too_fast(trial.cell, f"{what} ({percent(ALLOWED)} is allowed)", fits)
        for criterion in others:
            if not unreal.answers(speed, criterion.bound):
                what = (
                    f"at speed {speed:g} a request takes {unreal.excess / unreal.rate:.3f} s longer"
                    f" than it would, against {criterion}"
                )
                yield too_fast(trial.cell, f"{what} ({percent(ALLOWED)} is allowed)", fits)
    yield from _held_longer(trial)
    yield from too_even(trial)
    yield from _timers(trial)


def _held_longer(trial: Trial) -> Iterable[Invalidity]:
    """Of slots that uploads wait for, one that a call to the database holds for too long."""
    speed, added = trial.knobs.speed, beyond_trips(trial)
    for slot, held in _held(trial).items():

        def fits(at: float, held: float = held) -> bool:
            # Of what is added, the part of one speed is real, the rest comes with the others.
            return keeps_slot(at, added / speed, held)

        if speed > 1 and not fits(speed):
            what = (
                f"at speed {speed:g} an upload holds {slot} {added * (1 - 1 / speed):.3f} s longer"
                f" than it would, of {held:.3f} s, and others wait for it ({percent(ALLOWED)} is"
                " allowed)"
            )
            yield too_fast(trial.cell, what, fits)


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


def _timers(trial: Trial) -> Iterable[Invalidity]:
    speed = trial.knobs.speed
    for fault in trial.cell.faults:
        for toxic in fault.toxics:
            mean = toxic.span(trial.knobs).mean if isinstance(toxic, Latency) else 0.0
            if 0 < mean / speed < RESOLUTION_S:
                what = (
                    f"at speed {speed:g} {fault.fault} delays by {mean / speed * 1000:.2f} ms of"
                    " wall time, which timers do not keep"
                )
                yield too_fast(trial.cell, what, partial(_kept, mean), instead="lengthen the delay")


def _kept(delay: float, speed: float) -> bool:
    return delay / speed >= RESOLUTION_S


def prolonged(trial: Trial) -> Iterable[Invalidity]:
    """A reason for each part that this speed kept away for longer than is true."""
    speed, (start, end) = trial.knobs.speed, trial.cell.load.measured
    for part, away_s in _away(trial):
        wall_s = away_s / speed

        def fits(at: float, wall_s: float = wall_s) -> bool:
            return keeps_slot(at, wall_s, end - start)

        if not fits(speed):
            what = (
                f"at speed {speed:g} {part} was away {wall_s * (speed - 1):.1f} s longer"
                f" than it would be, in a window of {end - start:.0f} s ({percent(ALLOWED)} is"
                " allowed)"
            )
            yield too_fast(trial.cell, what, fits)


def _away(trial: Trial) -> Iterable[tuple[str, float]]:
    """Each part that was started anew, and for how long it was away beyond what was planned."""
    for planned in trial.cell.process_faults:
        happened = trial.process_faults.get(planned.fault)
        if happened and happened.until is not None:
            yield planned.part, happened.until - happened.t - planned.lasts
    for ended, back in zip(trial.probes("ended"), trial.probes("back"), strict=False):
        yield "the backend, which did not answer its probes,", back.t - ended.t
