"""What a speed may do to a result: one set of bounds, to choose it by and to judge it by.

At speed s every wait is s times shorter, but work is not: what takes e seconds of CPU or overhead
looks like s e seconds of real time, s e - e of which are not real. What follows from that is held
below `ALLOWED`:

    each upload takes longer                       excess / latency
    so does what else users ask for, of which a
    criterion says how long it may take            excess / bound
    an event loop near saturation carries fewer    excess / busy, unless threads are full behind it
    connections, or anyio's threads, that uploads
    wait for are held for longer                   excess / time held
    workers of one socket share more evenly        latency against that at speed 1, by a model
                                                   (`lab.model.split`)

and what a call of storage takes beyond its delay is held below `CALL_SHARE`.

The machine and the generator's one core have so many seconds of CPU to a wall second, which a
speed asks s times as much of; timers keep no delay below `RESOLUTION_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from lab.model.physics import SATURATED
from lab.model.speed import MAX_SPEED
from lab.model.split import Split

ALLOWED = 0.05
"""How much longer an upload may seem, or how much less a busy resource may carry."""

RESOLUTION_S = 0.001
"""The shortest injected delay, in wall-clock seconds, that timers keep."""

LATE_S = 0.25
LATE_SHARE = 0.01
"""How late a request may be sent, in real-world seconds: 0.25 s and 1 % of the median latency.

A user's cycle is at least one answer of storage, 3.5 s in the mean: a quarter second makes
the offered load 7 % less than the cell says, and beside a queue of a minute the 1 % keeps
the same figure from condemning what no longer matters.
"""


def true_speed(speed: float, fits: Callable[[float], bool]) -> float:
    """The highest speed below this one, in halves, at which something fits; 1 where none does."""
    return next((half / 2 for half in range(ceil(2 * speed) - 1, 2, -1) if fits(half / 2)), 1.0)


SPLIT = {1: MAX_SPEED, 2: 3.0, 3: 2.5}
"""The highest speed by number of workers that accept from one socket (``balance: shared_socket``),
where no model of the cell says what a speed does; more than three have that of three.

How evenly they share depends on how dense arrivals are in wall time: 38 users on two workers of
eleven threads were late for 3.5 % at speed 3 and for 0.4 to 1.2 % at 8."""


def keeps_split(workers: int, speed: float, split: Split | None = None) -> bool:
    """Whether workers share uploads at a speed as they would at 1.

    By a model, where there is one of the cell: latency moves by no more than `ALLOWED`.

    Args:
        workers: that accept from one socket; 1 where each has its own.
        speed: at which.
        split: what a model of the cell says.
    """
    if split is not None:
        return split.moved_at(speed) <= ALLOWED
    return speed <= SPLIT.get(workers, SPLIT[3])


def allowed_lateness(p50: float) -> float:
    """How late a request may be sent, of uploads with this median, both in real-world seconds."""
    return LATE_S + LATE_SHARE * p50


CALL_SHARE = 0.04
"""What a called service, its proxy and its client may add to a delay, as a share of its mean."""

TICK_WALL_S = 0.001
"""Toxiproxy holds whole milliseconds of wall time."""


def keeps_call(speed: float, added: float, delay: float, share: float = CALL_SHARE) -> bool:
    """Whether at a speed a call takes about as long as the delay that is injected into it.

    Args:
        speed: at which.
        added: wall seconds that a call takes beyond its delay.
        delay: its mean, in real-world seconds.
        share: of the delay that may be added, beside what the proxy's clock rounds.
    """
    return added * speed <= share * delay + TICK_WALL_S * speed


@dataclass(frozen=True)
class Worker:
    """How busy the busiest worker is, as shares of real time, and what of it is work.

    Args:
        rate: uploads a second of that worker, failed ones too.
        busy: of its event loop: CPU, and blocking calls to the database.
        work: the part of its time that is work, as speed 1 would have it: of its event loop, of its
            threads, and what calls take beyond their delays.
        speed: at which ``busy`` is.
        loop_work: of that what its event loop does; None where it is not known, and may be all.
        threads_used: what was carried of closed users, as a share of what all threads for storage
            carry at speed 1; None where that is not known, or is no bound.
    """

    rate: float
    busy: float
    work: float
    speed: float = 1.0
    loop_work: float | None = None
    threads_used: float | None = None

    @property
    def excess(self) -> float:
        """The part of its time that is work which speed 1 would not have."""
        return self.excess_at(self.speed)

    def excess_at(self, speed: float) -> float:
        """The same at another speed: work is that many times as dense there."""
        return self.work * (speed - 1)

    @property
    def loop_share(self) -> float:
        """The part of what keeps its event loop busy that speed 1 would not have."""
        return self._loop_excess_at(self.speed) / self.busy

    def busy_at(self, speed: float) -> float:
        """How busy the event loop would be at another speed."""
        return max(0.0, self.busy - self._loop_work * (self.speed - speed))

    def carries(self, speed: float, allowed: float = ALLOWED, full: float = SATURATED) -> bool:
        """Whether at a speed the event loop carries what it would in real time, or is no limit.

        However busy it is, it is none where the threads behind it carry almost all that they can.
        Of N closed users who pause for Z seconds an upload takes N / X - Z in the mean, so that
        latency is off by little more than the rate X is (Little's law; Lazowska et al., 1984,
        ch. 3): who waits for the loop waits for a thread the less.

        Args:
            speed: at which, this worker's or a lower one.
            allowed: the share by which it may carry less.
            full: the share of its time from which on it is a limit.
        """
        busy = self.busy_at(speed)
        if self.threads_used is not None and self.threads_used >= 1 - allowed:
            return True
        return busy < full or self._loop_excess_at(speed) <= allowed * busy

    def answers(self, speed: float, p50: float, allowed: float = ALLOWED) -> bool:
        """Whether at a speed an upload, of this median in seconds, takes as long as it would."""
        return self.excess_at(speed) <= allowed * p50 * self.rate

    @property
    def _loop_work(self) -> float:
        return self.work if self.loop_work is None else self.loop_work

    def _loop_excess_at(self, speed: float) -> float:
        return self._loop_work * (speed - 1)


def keeps_slot(speed: float, added: float, held: float, allowed: float = ALLOWED) -> bool:
    """Whether at a speed a slot that uploads wait for is held about as long as it would be.

    Args:
        added: wall seconds that a holder takes beyond its injected delays.
        held: real-world seconds for which it holds the slot.
    """
    return added * (speed - 1) <= allowed * held
