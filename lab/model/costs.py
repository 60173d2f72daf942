"""What an upload costs this machine: CPU of every part, and the time of a round trip itself.

No delay that is injected is among it: it is what a speed does not divide. `lab.plan.speed` chooses
from it, and every finished cell tells it anew.

    one trial's TrialCost, … ─ least squares ─> WorkCost of each part: at rest, an upload, a byte
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import fsum, inf
from operator import mul
from typing import Annotated

from pydantic import Field

from lab.model.base import Frozen

Seconds = Annotated[float, Field(ge=0, le=3600)]

GENERATOR = "generator"
"""The part that has one core for itself."""

WORKER = "backend"
"""The part whose CPU is an event loop's."""


class TrialCost(Frozen):
    """What one trial cost, or one probe.

    Args:
        workers: that shared them; the more there are, the more each upload costs.
        uploads: how many it had.
        size: their mean, in bytes.
        wall_s: wall seconds for each of them: a rate, turned over.
        cpu_s: CPU-seconds for each by part, what a part does at rest included.
        machine_s: seconds for each in which all of this machine's cores were busy, with whatever.
        trip_s: wall seconds that a round trip to the database took beyond its delay; None where
            none was timed.
        call_s: wall seconds that a call of storage took beyond its delay; None where that is not
            known. It is a small difference of two times that a speed has made long: the higher the
            ``speed``, the better it is known.
        speed: of the trial.
        loop_s: seconds for each in which an event loop worked, and did not wait for a delay; None
            where that is not known.
    """

    workers: Annotated[int, Field(ge=1, le=1000)]
    uploads: Annotated[int, Field(ge=1, le=10**9)]
    size: Annotated[float, Field(ge=0, le=10**10)]
    wall_s: Annotated[float, Field(gt=0, le=3600)]
    cpu_s: dict[str, Seconds]
    machine_s: Seconds
    trip_s: Seconds | None = None
    loop_s: Seconds | None = None
    call_s: Seconds | None = None
    speed: Annotated[float, Field(ge=1, le=1000)] = 1.0

    def others(self, cores: int) -> float:
        """Cores that were busy beside the replica's parts and the generator."""
        return max(0.0, self.machine_s * cores - fsum(self.cpu_s.values())) / self.wall_s


class WorkCost(Frozen):
    """What something is busy for: so long at rest in a second, by the upload, and by its bytes.

    Args:
        rest: seconds in a wall second, whatever is uploaded.
        upload_s: seconds for an upload.
        byte_s: seconds for each of its bytes.
    """

    upload_s: Seconds
    byte_s: Annotated[float, Field(ge=0, le=1)] = 0.0
    rest: Annotated[float, Field(ge=0, le=10**4)] = 0.0

    def of(self, size: float) -> float:
        """Seconds for an upload of this many bytes."""
        return self.upload_s + self.byte_s * size


NOTHING = WorkCost(upload_s=0.0)


class Costs(Frozen):
    """What is known of a machine's costs.

    Args:
        parts: CPU-seconds of each part.
        machine: seconds in which all of the machine's cores are busy.
        trip_s: wall seconds of a round trip beyond its delay.
        loop: seconds in which an event loop works; None where that is not known.
        call_s: wall seconds of a call of storage beyond its delay.
    """

    parts: dict[str, WorkCost]
    machine: WorkCost
    trip_s: Seconds
    loop: WorkCost | None = None
    call_s: Seconds = 0.0

    def of(self, part: str) -> WorkCost:
        """A part's; nothing of one that is not known."""
        return self.parts.get(part, NOTHING)

    def cpu_s(self, size: float) -> float:
        """CPU-seconds of an upload of this many bytes, all parts together."""
        return fsum(cost.of(size) for cost in self.parts.values())


SPREAD = 4.0
"""How many times as large the largest has to be as the smallest, of sizes or of rates, to tell
what comes with each byte, or with each second at rest."""


ALIKE = 1e-6
"""Columns are alike whose normal equations have no pivot above this share of the largest."""

QUIET = 0.3
"""So many cores other programs may use, and what an upload costs is still what it costs alone."""


def costs_of(seen: Sequence[TrialCost], cores: int, workers: int) -> Costs | None:
    """What trials on a machine with so many cores tell of so many workers; None of none.

    Those count in which the machine was quiet, of as many workers where there are such; where it
    never was quiet, what other programs used is taken to go on. Of each part the costs that fit
    best and are not below zero: least squares over the trials, weighed by their uploads. What
    sizes, or rates, that are too alike cannot tell apart is laid to the upload itself.
    """
    quiet = [trial for trial in seen if trial.others(cores) <= QUIET]
    trials = quiet or list(seen)
    trials = [trial for trial in trials if trial.workers == workers] or trials
    if not trials:
        return None
    names = sorted({part for trial in trials for part in trial.cpu_s})
    trips = [(trial.trip_s, trial.uploads) for trial in trials if trial.trip_s is not None]
    calls = [
        (trial.call_s, trial.uploads * trial.speed**2)
        for trial in trials
        if trial.call_s is not None
    ]
    loops = [(trial, trial.loop_s) for trial in trials if trial.loop_s is not None]
    return Costs(
        parts={
            name: _fitted([(trial, trial.cpu_s[name]) for trial in trials if name in trial.cpu_s])
            for name in names
        },
        machine=_fitted([(trial, trial.machine_s) for trial in trials])
        if quiet
        else _beside_others(trials, cores),
        trip_s=_mean(trips),
        call_s=_mean(calls),
        loop=_fitted(loops) if loops else None,
    )


def _mean(weighed: Sequence[tuple[float, float]]) -> float:
    """Of figures, each with its weight; 0 of none."""
    weight = fsum(of for _, of in weighed)
    return fsum(figure * of for figure, of in weighed) / weight if weight else 0.0


def _beside_others(trials: Sequence[TrialCost], cores: int) -> WorkCost:
    """What all parts cost a machine that is busy with other programs as well, at rest too."""
    own = _fitted([(trial, fsum(trial.cpu_s.values()) / cores) for trial in trials])
    others = max(trial.others(cores) for trial in trials) / cores
    return own.model_copy(update={"rest": own.rest + others})


def _fitted(costs: Sequence[tuple[TrialCost, float]]) -> WorkCost:
    """Weighted least squares over the seconds that an upload took in each trial, none below zero.

    With three unknowns it is exact to try each set of those that are above zero: the best fit
    without bounds on the right set is the best fit with them (Lawson and Hanson, Solving Least
    Squares Problems, 1974, ch. 23).
    """
    trials, wanted = [trial for trial, _ in costs], [cost_s for _, cost_s in costs]
    weights = [float(trial.uploads) for trial in trials]
    columns = {"upload_s": [1.0] * len(trials)}
    for name, values in {
        "byte_s": [trial.size for trial in trials],
        "rest": [trial.wall_s for trial in trials],
    }.items():
        if max(values) >= SPREAD * min(values) > 0:
            columns[name] = values
    best, least = {"upload_s": 0.0}, inf
    for names in _sets(columns, len(trials)):
        chosen = [columns[name] for name in names]
        found = _solved(chosen, wanted, weights)
        if (
            found is not None
            and min(found) >= 0
            and (off := _off(chosen, found, wanted, weights)) < least
        ):
            best, least = dict(zip(names, found, strict=True)), off
    return WorkCost(**{"upload_s": 0.0, **best})


def _sets(names: Iterable[str], most: int) -> Iterator[tuple[str, ...]]:
    """Every set of names but the empty one, with so many at most, the smallest first."""
    names = list(names)
    for count in range(1, min(len(names), most) + 1):
        yield from combinations(names, count)


Numbers = Sequence[float]


def _off(columns: Sequence[Numbers], found: Numbers, wanted: Numbers, weights: Numbers) -> float:
    """The weighted sum of squares by which a fit is off."""
    fitted = [fsum(map(mul, found, row)) for row in zip(*columns, strict=True)]
    return fsum(w * (y - f) ** 2 for w, y, f in zip(weights, wanted, fitted, strict=True))


def _solved(columns: Sequence[Numbers], wanted: Numbers, weights: Numbers) -> list[float] | None:
    """The coefficients of the columns that fit best; None where the columns are alike.

    The normal equations by Gauss's elimination, each column scaled to 1 at its largest.
    """
    scales = [max(column) for column in columns]
    scaled = [[x / s for x in column] for column, s in zip(columns, scales, strict=True)]

    def product(left: Numbers, right: Numbers) -> float:
        return fsum(w * a * b for w, a, b in zip(weights, left, right, strict=True))

    rows = [[*(product(left, right) for right in scaled), product(left, wanted)] for left in scaled]
    size, largest = len(rows), max(rows[i][i] for i in range(len(rows)))
    for i in range(size):
        pivot = max(range(i, size), key=lambda j: abs(rows[j][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        if abs(rows[i][i]) < ALIKE * largest:
            return None
        for j in range(size):
            if j != i:
                factor = rows[j][i] / rows[i][i]
                rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    return [rows[i][size] / rows[i][i] / scales[i] for i in range(size)]
