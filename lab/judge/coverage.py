"""Was the trial watched all the time, and by one clock?

    database, machine        the lab's own readings; both missing: the lab itself stood still
    each worker              from its first reading to its end, while it had CPU
    generator, gateway       their signs of life

Each must cover the trial from the load's first moment to the last answer: what happened in a gap
is in no figure, so a peak that was not passed, or a p95, says nothing. Readings come ten times a
second of wall-clock time (of this machine, once). On two cores with four times as much to do as
they can, the longest gap of a sound trial was 0.25 s (of this machine, 1.1 s); a part that stands
still for two seconds is seen.

A gap is excused where it was meant: by a process fault, a kill for memory, or because Cloud Run
withheld the CPU of an instance without requests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from lab.judge.trial import Trial
from lab.model.clock import STILL_S, format_still
from lab.model.evidence import (
    LAB,
    DatabaseReading,
    Evidence,
    GatewayBeat,
    LoadDone,
    MachineReading,
    OomKill,
    PartDown,
    ProcessFaultRecord,
    WorkerReading,
)
from lab.model.load import Window
from lab.model.replica import GATEWAY

STEP_S = 0.1
"""A change of the wall clock against the monotonic one, in seconds, that only setting it makes."""

MACHINE_STILL_S = 1.0 + STILL_S
"""As `STILL_S`, of readings that come once a second."""

NEAR_S = 0.25
"""Wall-clock seconds within which two gaps begin, or end, together."""

NOTED_S = 2.0
"""Wall-clock seconds that may lie between a kill and its note, or between a note and the end."""

OVER = {"sigterm", "sigkill", "stopped", "died", "oom", "stuck", "removed"}
"""Events after which an instance need not write anything more."""

AGAIN = " - run the cell again"


@dataclass(frozen=True)
class Gap:
    """A time without readings, in real-world seconds; ``what`` ends in "for" before its length."""

    what: str
    start: float
    end: float
    then: str

    @property
    def length(self) -> float:
        """Its real-world seconds."""
        return self.end - self.start

    def reason(self, speed: float) -> str:
        """A sentence with its length, its beginning, and what follows."""
        lasted = format_still(self.length, speed)
        return f"{self.what} {lasted}, from {self.start:.1f} s: {self.then}{AGAIN}"


def clock_steps(evidence: Iterable[Evidence]) -> list[tuple[float, float]]:
    """When this machine's wall clock was set, and by how much, in seconds; steps of a trial."""
    read = [line for line in evidence if isinstance(line, MachineReading)]
    offsets = [(line.t, line.clock_offset) for line in read if line.clock_offset is not None]
    changes = [(t, later - before) for (_, before), (t, later) in pairwise(offsets)]
    return [(t, change) for t, change in changes if abs(change) > STEP_S]


def clock_was_set(trial: Trial) -> Iterator[str]:
    """A sentence where this machine's wall clock was set while the trial went on."""
    if steps := clock_steps(trial.observation.evidence):
        (t, change), more = steps[0], len(steps) - 1
        again = f", and {more} more times" if more else ""
        yield (
            f"this machine's clock was set by {change:+.1f} s at {t:.1f} s{again}"
            " - keep its time service from stepping it, and run the cell again"
        )


def uncovered(trial: Trial) -> list[str]:
    """Sentences, one for each kind of reading that does not cover the trial.

    None where a part of the replica was down: the trial ended with it. Nor of an earlier lab, whose
    load generator gave no signs of life.
    """
    done = trial.evidence(LoadDone)
    if any(line.part != LAB for line in trial.evidence(PartDown)) or not any(
        line.beat_s for line in done
    ):
        return []
    end = _last_answer(trial, done[-1])
    return [gap.reason(trial.knobs.speed) for gap in _gaps(trial, end)]


def _last_answer(trial: Trial, done: LoadDone) -> float:
    ends = [sample.sent_at + sample.latency_s for sample in trial.observation.samples]
    return max(ends, default=min(done.t, done.window[1]))


def _gaps(trial: Trial, end: float) -> Iterator[Gap]:
    yield from _of_the_lab(trial, end)
    yield from _of_workers(trial, end)
    still = STILL_S * trial.knobs.speed
    beats = longest_gap(trial.observation.beats, (0.0, end))
    if beats[1] - beats[0] > still:
        unknown = "what its users would have done then is unknown"
        yield Gap("the load generator stood still for", *beats, unknown)
    if trial.cell.target == "cloudrun":
        times = [beat.t for beat in trial.evidence(GatewayBeat)]
        gap = longest_gap(times, (0.0, end), _faults(trial, GATEWAY))
        if gap[1] - gap[0] > still:
            yield Gap("the gateway stood still for", *gap, "requests waited for it, not in it")


def _of_the_lab(trial: Trial, end: float) -> Iterator[Gap]:
    """The database's gap and this machine's; one for both where they are the same."""
    speed = trial.knobs.speed
    database = longest_gap(
        [reading.t for reading in trial.evidence(DatabaseReading)],
        (0.0, end),
        _faults(trial, "postgres"),
    )
    times = [reading.t for reading in trial.evidence(MachineReading)]
    machine = longest_gap(times, (0.0, end))
    unread = database[1] - database[0] > STILL_S * speed
    near = NEAR_S * speed
    if unread and not any(database[0] + near < t < database[1] - near for t in times):
        then = "what the replica and this machine did then is unknown"
        yield Gap("the lab itself stood still for", *database, then)
        return
    if unread:
        yield Gap("nobody read the database for", *database, "it gave no answer")
    if machine[1] - machine[0] > MACHINE_STILL_S * speed:
        yield Gap("nobody read this machine for", *machine, "its CPU and memory are unknown then")


def _of_workers(trial: Trial, end: float) -> Iterator[Gap]:
    """The longest gap of all workers that have one."""
    lives: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in trial.evidence(WorkerReading):
        lives[reading.pid].append(reading)
    faults = _faults(trial, "backend")
    gaps = []
    for pid, life in lives.items():
        span = max(0.0, life[0].t), end
        times, instance = [reading.t for reading in life], life[0].instance
        excused = [*faults, *_kills(trial, pid, times), *_withheld(trial, instance)]
        start, until = longest_gap(times, span, excused)
        if until - start > STILL_S * trial.knobs.speed:
            name = f"worker {pid}" + (f" of {instance}" if instance else "")
            gaps.append(Gap(f"{name} wrote nothing for", start, until, "it stood still"))
    if gaps:
        yield max(gaps, key=lambda gap: gap.length)


def longest_gap(times: Iterable[float], span: Window, excused: Sequence[Window] = ()) -> Window:
    """The longest time of a span, in one piece, in which nothing came and nothing excuses that.

    Args:
        times: when something came.
        span: start and end of what has to be covered; nothing, where it ends before it starts.
        excused: times that need not be covered.
    """
    start, end = span
    edges = [start, *sorted(t for t in times if start < t < end), max(start, end)]
    pieces = (piece for gap in pairwise(edges) for piece in _without(gap, excused))
    return max(pieces, key=lambda piece: piece[1] - piece[0], default=(start, start))


def _without(gap: Window, excused: Sequence[Window]) -> Iterator[Window]:
    """The pieces of a gap that lie in none of the excused times."""
    start, end = gap
    for begun, over in sorted(excused):
        if start < min(begun, end):
            yield start, min(begun, end)
        start = max(start, over)
    if start < end:
        yield start, end


def _faults(trial: Trial, part: str) -> list[Window]:
    """When a part was away on purpose."""
    return [
        (line.t, inf if line.until is None else line.until)
        for line in trial.evidence(ProcessFaultRecord)
        if line.part == part
    ]


def _kills(trial: Trial, pid: int, times: Sequence[float]) -> Iterator[Window]:
    """When a worker was away because it, or its whole container, was killed for its memory.

    It may still write between the kill's stamp and its end: a container outlives its process.
    """
    speed = trial.knobs.speed
    for kill in trial.evidence(OomKill):
        for last, next_one in pairwise([*times, inf]):
            begun = max(last, kill.t - NEAR_S * speed)
            if kill.pid in (0, pid) and last <= kill.t + NOTED_S * speed and begun < next_one:
                yield begun, next_one


def _withheld(trial: Trial, instance: str) -> Iterator[Window]:
    """When an instance had no CPU, or had ended; nothing on the VM."""
    paused: float | None = None
    for line in trial.instance_events:
        if line.instance != instance:
            continue
        if line.event == "paused":
            paused = line.t
        elif line.event == "resumed" and paused is not None:
            yield paused, line.t
            paused = None
        elif line.event in OVER:
            yield line.t - NOTED_S, inf
    if paused is not None:
        yield paused, inf
