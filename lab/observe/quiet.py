"""Is this machine quiet? A cell that was disturbed waits for that before it is measured again.

Quiet is a machine of whose CPU, over a few seconds, little is in use: of two cores, half of one. A
wait ends there, or after `MAX_WAIT_S`; as long as the machine has not been quiet since, a later
wait looks no longer than it takes to see that it is, so that a run on a machine that stays busy
comes to its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean

import psutil

from lab.model.units import percent

MAX_WAIT_S = 60.0
QUIET_S = 3.0
POLL_S = 0.5
"""Wall-clock seconds: of the longest wait, of quiet that is enough, between two looks."""

QUIET_SHARE = 0.25
"""The share of this machine's CPU that may be in use where it is quiet."""

MAX_NAMES = 3
WORTH_NAMING = 0.02
"""So many programs are named as those that keep it busy, with that share of its CPU or more."""


@dataclass(frozen=True)
class CpuUse:
    """CPU of this machine since the last look, as shares of it: all, and by program."""

    share: float
    programs: Mapping[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """``93 % of its CPU is in use (chrome 45 %, python 30 %)``."""
        largest = sorted(self.programs.items(), key=lambda item: -item[1])[:MAX_NAMES]
        worth = ((name, share) for name, share in largest if share > WORTH_NAMING)
        named = ", ".join(f"{name} {percent(share)}" for name, share in worth)
        return f"{percent(self.share)} of its CPU is in use" + (f" ({named})" if named else "")


class CpuMeter:
    """Reads who uses this machine's CPU; each look counts from the one before."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._used: dict[int, float] = {}
        psutil.cpu_percent()  # sets the mark that the next one counts from
        self()

    def __call__(self) -> CpuUse:
        """What was used since the last look."""
        now, used, programs = time.monotonic(), dict[int, float](), dict[str, float]()
        whole = max(now - self._last, 1e-3) * (psutil.cpu_count() or 1)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
                grown = used[process.pid] - self._used.get(process.pid, used[process.pid])
                if grown > 0:
                    name = process.name()
                    programs[name] = programs.get(name, 0.0) + grown / whole
        self._last, self._used = now, used
        return CpuUse(psutil.cpu_percent() / 100, programs)


class QuietMachine:
    """Waits until this machine is quiet.

    Args:
        meter: makes what tells who uses the CPU between two looks.
        now: a clock, in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        meter: Callable[[], Callable[[], CpuUse]] = CpuMeter,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._meter = meter
        self._now = now
        self._sleep = sleep
        self._patience = MAX_WAIT_S

    def wait(self, show: Callable[[str], None]) -> bool:
        """Return when this machine is quiet, or has not become so; whether it is.

        Args:
            show: called at each look with what keeps it busy, as a phrase.
        """
        read, until = self._meter(), self._now() + self._patience
        looks: deque[float] = deque(maxlen=round(QUIET_S / POLL_S))
        while True:
            self._sleep(POLL_S)
            usage = read()
            looks.append(usage.share)
            if len(looks) == looks.maxlen:
                if fmean(looks) <= QUIET_SHARE:
                    self._patience = MAX_WAIT_S
                    return True
                if self._now() >= until:
                    self._patience = 0.0
                    return False
            show(usage.text())
