"""The clock of all evidence, and the signs of life that are held against it.

Moments are of CLOCK_MONOTONIC (`time.monotonic`): every process of one Linux machine reads the
same, in containers too, and nobody can set it. The wall clock can be set at any moment, by a
time service or by hand; what has no other stamp (nginx's ``$msec``, the engine's events) is
converted as soon as it is read, see `from_wall`.
"""

from __future__ import annotations

import time
from functools import cache
from math import inf
from pathlib import Path

BEAT_S = 0.1
"""Wall-clock seconds between two signs of life of whatever gives them all the time."""

STILL_S = 1.5
"""Wall-clock seconds without a sign of life after which a part stood still."""

USUAL_S = 0.4
"""Wall-clock seconds without a sign of life up to which a part is late, as on a busy machine."""

_CLOSE_S = 0.0005
_TRIES = 10


@cache
def clock_name() -> str:
    """Which clock `time.monotonic` reads here: the boot and the time namespace, where known.

    Two processes whose clocks have the same name can compare their moments.
    """
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")
    try:
        return f"{boot.read_text().strip()} {namespace.readlink()}"
    except OSError:
        return boot.read_text().strip() if boot.exists() else ""


def foreign_clock(name: object) -> str | None:
    """What is wrong with moments of a clock of this name; None where it is this one's."""
    if name in (None, clock_name()):
        return None
    return (
        "its evidence is stamped by another clock than the lab's (another kernel, or a time"
        " namespace of its own)"
    )


def format_still(seconds: float, speed: float) -> str:
    """A real-world duration in which nothing came, with its wall-clock time where that differs.

    ``8.1 s of wall time (48.6 s in real time)``; ``8.1 s`` at speed 1.
    """
    if speed == 1:
        return f"{seconds:.1f} s"
    return f"{seconds / speed:.1f} s of wall time ({seconds:.1f} s in real time)"


def wall_offset() -> float:
    """The wall clock minus the monotonic one, in seconds: it changes where one of them is set.

    Both are read again where something came between, at most ten times; the closest pair counts.
    """
    closest, offset = inf, 0.0
    for _ in range(_TRIES):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        if after - before < closest:
            closest, offset = after - before, wall - (before + after) / 2
        if closest < _CLOSE_S:
            break
    return offset


def from_wall(at: float) -> float:
    """The monotonic moment of one of the wall clock, in seconds since 1970, as that runs now."""
    return at - wall_offset()
