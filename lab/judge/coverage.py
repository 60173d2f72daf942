"""Was the trial watched all the time, and by one clock?

    database, machine        the lab's own readings; both missing: the lab itself stood still
    PgBouncer                likewise, where there is one
    each worker              from its first reading to its end, while it had CPU
    generator, gateway       their signs of life

Each must cover the trial from the load's first moment to the last answer: what happened in a gap
is in no figure, so a peak that was not passed, or a p95, says nothing. Readings come ten times a
second of wall-clock time (of this machine, once). On two cores with four times as much to do as
they can, the longest gap of a sound trial was 0.25 s (of this machine, 1.1 s). Two rules, in
wall-clock time:

    one gap          at most `STILL_S`, wherever it is
    all gaps         those above `USUAL_S` at most a share, `ALLOWED`, of the window, and of the
                     whole load; and always `FLOOR_S`, lest one gap condemns a short window

Of readings of this machine a gap counts by what it is longer than a second.

A gap is excused where it was meant: by a process fault, a kill for memory, health probes that
failed, or because Cloud Run withheld the CPU of an instance without requests. What is left of one
that is excused in part is held against the first rule alone: whoever was away needs a moment until
it writes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import fsum, inf
from typing import NamedTuple

from lab.judge.trial import Trial
from lab.model.clock import STILL_S, USUAL_S, format_still
from lab.model.evidence import (
    LAB,
    Evidence,
    GatewayBeat,
    LoadDone,
    OomKill,
    PartDown,
    ProcessFaultRecord,
    WorkerReading,
)
from lab.model.fidelity import ALLOWED
from lab.model.load import Window
from lab.model.pooler import PoolerReading
from lab.model.readings import DatabaseReading, MachineReading
from lab.model.replica import GATEWAY, POOLER, pooled

STEP_S = 0.1
"""A change of the wall clock against the monotonic one, in seconds, that only setting it makes."""

MACHINE_S = 1.0
"""Wall-clock seconds between two readings of this machine."""

FLOOR_S = 0.5
"""Wall-clock seconds that all gaps together may last, however short the window is."""

NEAR_S = 0.25
"""Wall-clock seconds within which two gaps begin, or end, together."""

NOTED_S = 2.0
"""Wall-clock seconds that may lie between a kill and its note, or between a note and the end."""

OVER = {"sigterm", "sigkill", "stopped", "died", "oom", "stuck", "removed"}
"""Events after which an instance need not write anything more."""

AGAIN = " - run the cell again"


class Gaps(NamedTuple):
    """Times without readings, in real-world seconds.

    Args:
        pieces: their starts and ends.
        of: ``window`` or ``load``, where all of them together are too much of it; empty if there
            is one, which is too long anyway.
        whole_s: the length of that.
    """

    pieces: Sequence[Window]
    of: str = ""
    whole_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Real-world seconds of all of them."""
        return fsum(end - start for start, end in self.pieces)

    def lasted(self, speed: float) -> str:
        """How long they lasted and from when on, as the middle of a sentence."""
        start = self.pieces[0][0]
        if not self.of:
            return f" for {format_still(self.total_s, speed)}, from {start:.1f} s"
        times = "once" if len(self.pieces) == 1 else f"{len(self.pieces)} times"
        share = f"{self.total_s / speed:.1f} s of the {self.of}'s {self.whole_s / speed:.1f} s"
        return f" {times}, for {share} (wall time), from {start:.1f} s on"


class Uncovered(NamedTuple):
    """Who was not read or stood still, when, and what follows from it."""

    what: str
    gaps: Gaps
    then: str

    def reason(self, speed: float) -> str:
        """A sentence of it."""
        return f"{self.what}{self.gaps.lasted(speed)}: {self.then}{AGAIN}"


@dataclass(frozen=True)
class Measured:
    """The times of a trial that have to be covered, in real-world seconds.

    Args:
        speed: of its cell.
        window: its start and end.
        end: of the last answer; the load began at 0.
    """

    speed: float
    window: Window
    end: float

    def gaps(
        self,
        times: Sequence[float],
        excused: Sequence[Window] = (),
        every_s: float = 0.0,
        begun: float = 0.0,
    ) -> Gaps | None:
        """What is missing, if it is too much: the longest gap, or all of them.

        Args:
            times: when something came.
            excused: times that need not be covered.
            every_s: wall-clock seconds of a gap that are no gap yet.
            begun: from when on something has to come.
        """
        longest = longest_gap(times, (begun, self.end), excused)
        if self._over(longest, every_s) > STILL_S * self.speed:
            return Gaps([longest])
        for of, (start, end) in {"window": self.window, "load": (0.0, self.end)}.items():
            span = max(start, begun), min(end, self.end)
            pieces = [
                gap
                for gap in _between(times, span)
                if self._over(gap, every_s) > USUAL_S * self.speed
                and [*_without(gap, excused)] == [gap]
            ]
            most = max(ALLOWED * (end - start), FLOOR_S * self.speed)
            if fsum(self._over(gap, every_s) for gap in pieces) > most:
                return Gaps(pieces, of, end - start)
        return None

    def _over(self, gap: Window, every_s: float) -> float:
        return gap[1] - gap[0] - every_s * self.speed


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
    speed, end = trial.knobs.speed, _last_answer(trial, done[-1])
    measured = Measured(speed, trial.window, end)
    return [part.reason(speed) for part in _uncovered(trial, measured)]


def _last_answer(trial: Trial, done: LoadDone) -> float:
    ends = [sample.sent_at + sample.latency_s for sample in trial.observation.samples]
    return max(ends, default=min(done.t, done.window[1]))


def _uncovered(trial: Trial, measured: Measured) -> Iterator[Uncovered]:
    yield from _of_the_lab(trial, measured)
    if pooled(trial.knobs):
        read = [reading.t for reading in trial.evidence(PoolerReading)]
        if gaps := measured.gaps(read, _faults(trial, POOLER)):
            yield Uncovered("nobody read PgBouncer", gaps, "it gave no answer")
    yield from _of_workers(trial, measured)
    if gaps := measured.gaps(trial.observation.beats):
        unknown = "what its users would have done then is unknown"
        yield Uncovered("the load generator stood still", gaps, unknown)
    if trial.cell.target == "cloudrun":
        times = [beat.t for beat in trial.evidence(GatewayBeat)]
        if gaps := measured.gaps(times, _faults(trial, GATEWAY)):
            waited = "requests waited for it, not in it"
            yield Uncovered("the gateway stood still", gaps, waited)


def _of_the_lab(trial: Trial, measured: Measured) -> Iterator[Uncovered]:
    """The database's gaps and this machine's; those of both where they are the same."""
    read = [reading.t for reading in trial.evidence(DatabaseReading)]
    times = [reading.t for reading in trial.evidence(MachineReading)]
    database = measured.gaps(read, _faults(trial, "postgres"))
    machine = measured.gaps(times, every_s=MACHINE_S)
    if database and _empty(database, times, measured.speed):
        long = any(end - start >= MACHINE_S * measured.speed for start, end in database.pieces)
        if long:
            then = "what the replica and this machine did then is unknown"
            yield Uncovered("the lab itself stood still", database, then)
            return
        then = "it gave no answer, or the lab itself stood still"
        yield Uncovered("nobody read the database", database, then)
    elif database:
        yield Uncovered("nobody read the database", database, "it gave no answer")
    if machine:
        then = "its CPU and memory are unknown then"
        yield Uncovered("nobody read this machine", machine, then)


def _empty(gaps: Gaps, times: Sequence[float], speed: float) -> bool:
    """Whether nothing came in any of these gaps, but near their ends."""
    near = NEAR_S * speed
    return not any(start + near < t < end - near for start, end in gaps.pieces for t in times)


def _of_workers(trial: Trial, measured: Measured) -> Iterator[Uncovered]:
    """The worker that has the most missing."""
    lives: dict[int, list[WorkerReading]] = defaultdict(list)
    for reading in trial.evidence(WorkerReading):
        lives[reading.pid].append(reading)
    faults, found = _faults(trial, "backend"), []
    for pid, life in lives.items():
        times, instance = [reading.t for reading in life], life[0].instance
        excused = [*faults, *_kills(trial, pid, times), *_withheld(trial, instance)]
        if gaps := measured.gaps(times, excused, begun=max(0.0, life[0].t)):
            name = f"worker {pid}" + (f" of {instance}" if instance else "")
            found.append(Uncovered(f"{name} wrote nothing", gaps, "it stood still"))
    if found:
        yield max(found, key=lambda part: part.gaps.total_s)


def longest_gap(times: Iterable[float], span: Window, excused: Sequence[Window] = ()) -> Window:
    """The longest time of a span, in one piece, in which nothing came and nothing excuses that.

    Args:
        times: when something came.
        span: start and end of what has to be covered; nothing, where it ends before it starts.
        excused: times that need not be covered.
    """
    pieces = (piece for gap in _between(times, span) for piece in _without(gap, excused))
    return max(pieces, key=lambda piece: piece[1] - piece[0], default=(span[0], span[0]))


def _between(times: Iterable[float], span: Window) -> Iterator[Window]:
    """The times of a span between what came."""
    start, end = span
    return pairwise([start, *sorted(t for t in times if start < t < end), max(start, end)])


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
    """When a worker was away because it, or all there was, was killed for its memory, or because
    the backend did not answer its health probes.

    It may still write between the kill's stamp and its end: a container outlives its process.
    """
    speed = trial.knobs.speed
    kills = [kill.t for kill in trial.evidence(OomKill) if kill.pid in (0, pid)]
    for t in (*kills, *(record.t for record in trial.probes("ended"))):
        for last, next_one in pairwise([*times, inf]):
            begun = max(last, t - NEAR_S * speed)
            if last <= t + NOTED_S * speed and begun < next_one:
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
