"""A load while it is offered: the plan, the clock and the files that all users share.

It is part of the generator's process. Users enter a gate, and when all have, `start` sets
t = 0; from then on `now` is in real-world seconds, ``speed`` of them to a wall-clock second.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import gevent
from gevent.event import Event

from lab.files import cell_folder
from lab.load import schedule
from lab.load.audio import DEVICE_RATE, SAMPLE_RATE, recordings
from lab.load.plan import EndOrder, GeneratorStatus, LoadPlan
from lab.load.upload import multipart, stages
from lab.model.clock import BEAT_S
from lab.model.evidence import Cause
from lab.model.journeys import REQUESTS, Journey
from lab.model.load import BurstLoad, OpenLoad, end_of

RATES = {Journey.CONVERT: DEVICE_RATE}
"""Samples a second of the audio of a journey, where they are not the usual ones."""

LEAD = 0.05
"""Wall seconds between writing t = 0 down and t = 0, so that readers are ready."""


@dataclass(frozen=True)
class Attempt:
    """A request that a user, or the prober, sends.

    Args:
        user: who sends it; the prober's number is the one after the last user's.
        request: its id.
        journey: what it is.
        planned: when it is due, in real-world seconds after t = 0.
        size: bytes of its audio; 0 where it has none.
        body: what is sent; empty where nothing is.
    """

    user: int
    request: str
    journey: Journey
    planned: float
    size: int
    body: bytes


@dataclass(frozen=True)
class AttemptAnswer:
    """What came of it; ``status`` is 0 if nothing came, ``timing`` is Server-Timing.

    ``stored`` is the id of what was stored. ``uplink_s`` is the wall seconds for which the user's
    line carried the body, if it has a limit, ``worker`` who answered.
    """

    error: Cause | None
    status: int = 0
    stored: str | None = None
    timing: str = ""
    length: int = 0
    uplink_s: float = 0.0
    worker: int | None = None


class LoadSession:
    """What all users share.

    Bodies are made here, before the load: a bounded set that users cycle through. ``sent``
    counts attempts, including those in flight, and ``dropped`` the arrivals of the window that
    were not sent, because as many as may be were in flight. Nothing is sent that is due after
    ``end``, which the driver may bring forward.
    """

    def __init__(self, plan: LoadPlan) -> None:
        load = plan.load
        self.plan, self.load, self.speed = plan, load, plan.speed
        self.timeout = load.timeout / plan.speed
        self.uplink = load.uplink and load.uplink * plan.speed
        self.end = end_of(load)
        self.planned = self._arrivals()
        rates = {journey: RATES.get(journey, SAMPLE_RATE) for journey in load.shares}
        made = {rate: self._made(rate) for rate in set(rates.values())}
        self.bodies = {journey: made[rate] for journey, rate in rates.items()}
        self.all_waiting, self.all_finished = Event(), Event()
        self.probed = Event()
        self.sent = self.dropped = 0
        self._under_way: dict[str, tuple[Journey, float]] = {}
        self._ended_at: float | None = None
        self._ended = Event()
        self._samples = cell_folder(plan.samples.parent).appending(plan.samples.name)
        self._gate = Event()
        self._origin = 0.0
        self._waiting = self._finished = 0
        self._free_since = 0.0  # when the user was answered that takes the next arrival

    def now(self) -> float:
        """Real-world seconds after the load started."""
        return (time.monotonic() - self._origin) * self.speed

    def sleep_until(self, t: float) -> None:
        """Sleep until ``t`` is past, or the window has been ended early.

        A timer may be early by its resolution, so it repeats.
        """
        while (left := t - self.now()) > 0 and not self._ended.is_set():
            if self.plan.end is None:
                gevent.sleep(left / self.speed)
            else:
                self._ended.wait(left / self.speed)

    def awaits_probe(self, t: float) -> bool:
        """Sleep until a health probe is due; whether it still is: no later than users send, and in
        a burst, as long as one of them waits for its answer."""
        if isinstance(self.load, BurstLoad):
            return not self.all_finished.wait(max(0.0, t - self.now()) / self.speed)
        if t < self.end:
            self.sleep_until(t)
        return t < self.end

    def _arrivals(self) -> Iterator[float]:
        """The arrivals of an open load, each for the user that takes it; others have none.

        A user takes one as soon as it is free, so one from before that moment has found none
        free: with a cap it is dropped, without one it is sent late, and that shows.
        """
        load = self.load
        if not isinstance(load, OpenLoad):
            return
        start = load.measured[0]
        for at in schedule.arrivals(load, self.plan.seed):
            if load.max_in_flight is None or at >= self._free_since:
                yield at
            elif start <= at < self.end:
                self.dropped += 1

    def over(self, planned: float, t: float) -> bool:
        """Whether at ``t`` nothing is sent that was planned for then or earlier.

        What has arrived of an open load is sent however late it is taken, and its lateness shows;
        so is all of a burst.
        """
        if isinstance(self.load, BurstLoad):
            return False
        return (planned if isinstance(self.load, OpenLoad) else t) >= self.end

    def _made(self, rate: int) -> list[tuple[int, bytes]]:
        """Bodies whose audio is at a rate, each with its size."""
        made = recordings(self.load.audio, self.plan.seed, rate)
        return [(len(of), multipart(of, f"recording-{n:02d}.wav")) for n, of in enumerate(made)]

    def attempt(self, user: int, number: int, planned: float) -> Attempt:
        """A user's next attempt, its number from 1; the files go round."""
        journey = schedule.journey_of(self.load, self.plan.seed, user, number, planned)
        size, body = 0, b""
        if REQUESTS[journey].audio:
            bodies = self.bodies[journey]
            size, body = bodies[(user + number - 1) % len(bodies)]
        return Attempt(user, f"{user}-{number}", journey, planned, size, body)

    def probe(self, number: int, planned: float) -> Attempt:
        """A health probe."""
        user = self.load.peak_users
        return Attempt(user, f"health-{number}", Journey.HEALTH, planned, 0, b"")

    def begin(self, attempt: Attempt, sent: float) -> None:
        """Note that an attempt is sent; health probes are none of the load's own."""
        self.sent += attempt.journey is not Journey.HEALTH
        self._under_way[attempt.request] = attempt.journey, round(sent, 6)

    def enter(self) -> None:
        """Have a user wait at the gate until the load starts."""
        self._waiting += 1
        if self._waiting == self.load.peak_users:
            self.all_waiting.set()
        self._gate.wait()

    def leave(self) -> None:
        """Note that a user has followed its last upload to its end."""
        self._finished += 1
        if self._finished == self.load.peak_users:
            self.all_finished.set()

    def start(self) -> None:
        """Set t = 0, write it down, and open the gate."""
        gc.freeze()  # collections examine only what is allocated from now on
        self._origin = time.monotonic() + LEAD
        self.report(done=False)
        self._gate.set()

    def report(self, done: bool) -> None:
        """Write the status file."""
        at, under_way = round(self.now(), 6), defaultdict[Journey, list[float]](list)
        for journey, sent in self._under_way.values() if self.plan.end else ():
            under_way[journey].append(sent)
        status = GeneratorStatus(
            self._origin,
            self.sent,
            done,
            self.dropped,
            at,
            tuple(under_way.pop(Journey.UPLOAD, ())),
            self._ended_at,
            {journey: tuple(sent) for journey, sent in under_way.items()},
        )
        status.write(self.plan.status)

    def obey(self) -> None:
        """End the window now, if the driver says so and it has not ended yet."""
        if self.plan.end is None or self._ended.is_set() or not EndOrder.read(self.plan.end):
            return
        now = round(self.now(), 6)
        if now < self.end:
            self._ended_at = self.end = now
            self._ended.set()

    def beat(self) -> None:
        """Append a `Beat` ten times a second, for as long as the process lives and runs.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        while True:
            self._append({"beat": round(self.now(), 3)})
            gevent.sleep(BEAT_S)

    def record(self, attempt: Attempt, sent: float, answer: AttemptAnswer) -> float:
        """Append an attempt that ends now, as a line in a single write; returns the time.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        ended = self.now()
        if attempt.journey is not Journey.HEALTH:
            self._free_since = ended
        self._under_way.pop(attempt.request, None)
        sample: dict[str, object] = {
            "planned_at": round(attempt.planned, 6),
            "sent_at": round(sent, 6),
            "latency_s": round(ended - sent, 6),
            "status": answer.status,
            "error": answer.error,
            "bytes": attempt.size,
            "user": attempt.user,
            "stage": schedule.stage_at(self.load, sent),
            "stages": stages(answer.timing, self.speed),
            "recording": answer.stored,
            "request": attempt.request,
            "uplink_s": round(answer.uplink_s * self.speed, 6),
            "worker": answer.worker,
        }
        if attempt.journey is not Journey.UPLOAD:
            sample["journey"] = attempt.journey
        self._append(sample)
        return ended

    def _append(self, entry: Mapping[str, object]) -> None:
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if os.write(self._samples, line) < len(line):
            raise OSError(errno.ENOSPC, "a sample did not fit on the disk", str(self.plan.samples))
