"""Is a trial at speed s still true? Where it is not, the reasons.

At speed s every wait is s times shorter, but work is not: what takes e seconds of CPU or
overhead looks like s e seconds of real time, s e - e of which are not real. Two things
follow, and both are held below `ALLOWED`:

    each upload takes longer               excess / latency
    an event loop near saturation carries  excess / busy
    fewer uploads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf

from lab.judge.distance import db_trips, only_delay
from lab.judge.window import Window
from lab.model.cell import Cell
from lab.model.fault import Latency

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
        window: what they are of, as `lab.judge.window.window_of` has it.
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
        window: what they are of, as `lab.judge.window.window_of` has it.
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
