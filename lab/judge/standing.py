"""In which lines of the service the event loop stood, as a share of the time.

    readings: seconds by line, a running total ─> their growth in the window ─> shares ─> rows

A worker's evidence thread looks where its event loop stands
(`lab.services.backend.core.standing`), and says which line was called when a turn of the loop was
late. Looks are samples: a line that was met by few of them may be chance, as where the machine took
the core away in just that line, so it is named from `NAMED` and `MIN_WALL_S` on.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import fsum

from lab.judge.readings import growths
from lab.judge.trial import Trial
from lab.model.evidence import ELSEWHERE, WorkerReading
from lab.model.verdict import Stood

NAMED = 0.01
"""The smallest share of the time for which a line is named."""

MIN_WALL_S = 0.1
"""The fewest wall-clock seconds for which a line is named: three looks."""


def was_read(trial: Trial) -> bool:
    """Whether the workers looked where their loops stand; an earlier lab's did not."""
    return bool(trial.workers) and all(reading.stood is not None for reading in trial.workers)


def stood(trial: Trial) -> tuple[Stood, ...]:
    """The lines in which the event loop stood, those of the most time first.

    Of several workers it is the one whose event loop stood most; what is not of the service's own
    lines, and what is too little, is not among them.
    """
    return max(_by_worker(trial), key=_total, default=()) if was_read(trial) else ()


def stood_share(trial: Trial) -> float | None:
    """The share of the time in which it stood in these lines together; None where nobody looked."""
    return _total(trial.stood) if was_read(trial) else None


def _total(rows: Iterable[Stood]) -> float:
    return fsum(row.share for row in rows)


def _by_worker(trial: Trial) -> list[tuple[Stood, ...]]:
    lives, speed = trial.by_worker, trial.knobs.speed
    rows: list[list[Stood]] = [[] for _ in lives]
    for place in sorted({place for reading in trial.workers for place in _stood_in(reading)}):
        grown = growths(partial(_seconds, place), trial)
        for row, life, wall_s in zip(rows, lives, grown, strict=False):
            lived = life[-1].t - life[0].t
            share = min(1.0, wall_s * speed / lived) if lived > 0 else 0.0
            if share >= NAMED and wall_s >= MIN_WALL_S:
                row.append(Stood(place=place, share=round(share, 4)))
    return [tuple(sorted(row, key=lambda one: -one.share)) for row in rows]


def _seconds(place: str, reading: WorkerReading) -> float:
    return _stood_in(reading).get(place, 0.0)


def _stood_in(reading: WorkerReading) -> dict[str, float]:
    stood = reading.stood or {}
    return {place: seconds for place, seconds in stood.items() if place != ELSEWHERE}
