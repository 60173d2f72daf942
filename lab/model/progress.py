"""How far a run is: what the runner tells whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["applying", "arming", "ramp", "warm-up", "window", "drain", "auditing", "judging"]


@dataclass(frozen=True)
class LoadTick:
    """The load, seen from its driver while it runs; times in real-world seconds.

    ``users`` are those active now; ``sent``, ``answered`` and ``failed`` are running totals;
    ``rate`` is successes a second over the last few seconds.
    """

    t: float
    users: int
    sent: int
    answered: int
    failed: int
    rate: float


@dataclass(frozen=True)
class Progress:
    """One moment of a run; ``left_s`` is an estimate of the wall-clock seconds still to go."""

    cell: str
    index: int
    cells: int
    phase: Phase
    left_s: float
    tick: LoadTick | None = None
