"""What a trial of a cell can have written at most: beyond it, what is stored is damaged.

A changed byte makes another number of a number, and a valid one: a user 749,958,119, an upload
that took 30 years. What is judged of it would be wrong, or take for ever, so what no generator and
no replica can have written is refused where it is read. The bounds are far above what a trial
writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from lab.model.evidence import LoadDone, Sample
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.load import ClosedLoad, OneWindow, StagesLoad, end_of
from lab.model.physics import max_processes

SAMPLES_PER_S = 4000
"""Uploads that a generator, which has one core, sends in a wall-clock second at most: Locust sends
about a thousand, and without a body about four thousand."""

READINGS_PER_S = 50
"""Readings of the machine, the database, PgBouncer and the gateway a wall-clock second: there are
about 25."""

PROCESS_READINGS_PER_S = 20
"""The same of a worker or an instance, which are read 10 times, and twice."""

BEATS_PER_S = 20
"""Signs of life of the generator a wall-clock second: there are 10."""

LINES_PER_SAMPLE = 10
"""Lines of evidence about one upload: its record, and about six that the gateway noted of it."""

SPARE_LINES = 1000
SPARE_S = 300
"""Wall-clock seconds around a load in which parts are read: its generator starts, faults end."""

AWAY_S = 86400
"""Wall-clock seconds for which a machine may sleep while a load goes on."""

SPARE_BYTES = 1024
"""A WAV file's header, and the rounding of a size to whole frames."""


@dataclass(frozen=True)
class Extent:
    """Of a trial of this cell."""

    cell: Cell

    @cached_property
    def last_s(self) -> float:
        """When the last upload can have ended, in real-world seconds after the load started."""
        load = self.cell.load
        return end_of(load) + load.followed_s + AWAY_S * self.cell.knobs.speed

    @cached_property
    def wall_s(self) -> float:
        """For how many wall-clock seconds parts are read."""
        load = self.cell.load
        return (end_of(load) + load.followed_s) / self.cell.knobs.speed + SPARE_S

    @cached_property
    def lines_of_load(self) -> int:
        """How many uploads there can have been, and signs of life between them."""
        load, sent_s = self.cell.load, end_of(self.cell.load) / self.cell.knobs.speed
        uploads = load.peak_users + round(SAMPLES_PER_S * sent_s) + SPARE_LINES
        return uploads + round(BEATS_PER_S * self.wall_s)

    def lines(self, samples: int) -> int:
        """How many lines of evidence there can be beside so many samples."""
        rate = READINGS_PER_S + PROCESS_READINGS_PER_S * max_processes(self.cell)
        return SPARE_LINES + round(rate * self.wall_s) + LINES_PER_SAMPLE * samples

    def no_line_of_load(self) -> Callable[[int, object], str]:
        """Tells why a line, the n-th, is not of such a trial's load; empty: it may be.

        It is to be asked of each line, because a user does one thing at a time: uploads and pauses
        of all of them take no longer than all users have. Of health probes so many can be under way
        as fall within one's time-out.
        """
        load, slack = self.cell.load, SPARE_S * self.cell.knobs.speed
        at_once = load.probe_timeout / load.health_every + 1 if load.health_every else 0.0
        has_s = (load.peak_users + at_once) * (end_of(load) + load.followed_s + slack)
        pauses = isinstance(load, ClosedLoad | StagesLoad)
        taken_s = 0.0

        def problem(number: int, line: object) -> str:
            nonlocal taken_s
            if number > self.lines_of_load:
                return f"no load of this cell writes more than {self.lines_of_load} lines"
            if not isinstance(line, Sample):
                return ""
            pause = load.backoff if line.error else load.think
            is_users = pauses and line.journey is not Journey.HEALTH
            taken_s += line.latency_s + (pause.low if is_users else 0.0)
            return self._impossible(line) or (
                f"{load.peak_users} users have no time for so many uploads"
                if taken_s > has_s
                else ""
            )

        return problem

    def _impossible(self, sample: Sample) -> str:
        ended, last = sample.sent_at + sample.latency_s, self.last_s
        load, largest = self.cell.load, self.cell.load.audio.high + SPARE_BYTES
        stages = len(load.stages) if isinstance(load, StagesLoad) else 1
        users = load.peak_users + (load.health_every is not None)
        if sample.user >= users:
            return f"user {sample.user}, and there are {users}"
        if sample.stage >= stages:
            return f"stage {sample.stage}, and there are {stages}"
        for what, t in (("planned", sample.planned_at), ("ended", ended)):
            if t > last:
                return f"{what} at {t:.0f} s, and no load of this cell lasts beyond {last:.0f} s"
        if sample.bytes > largest:
            return f"{sample.bytes} bytes, and the largest file has {load.audio.high}"
        return ""

    def no_evidence(self, samples: int) -> Callable[[int, object], str]:
        """Tells why a line, the n-th, is no evidence beside so many samples; empty: it may be."""
        limit = self.lines(samples)
        too_many = f"no trial of this cell leaves more than {limit} lines of evidence"

        def problem(number: int, line: object) -> str:
            if number > limit:
                return too_many
            return self._no_early_end(line) if isinstance(line, LoadDone) else ""

        return problem

    def _no_early_end(self, done: LoadDone) -> str:
        """Why a window cannot have ended so, before its time; empty: it has not, or may have."""
        (start, end), (first, last), at = self.cell.load.measured, done.window, done.decided_at
        if at is None:
            return ""
        if not self.cell.stop_when_decided or not isinstance(self.cell.load, OneWindow):
            return "no window of this cell ends before its time"
        if first != start or not start < at <= last <= end:
            return f"no window of this cell, from {start:.0f} to {end:.0f} s, ends so"
        return ""
