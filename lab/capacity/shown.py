"""What one trial shows of one criterion: a share of its uploads, and how much that share varies.

Of a latency's bound a success shows more than whether it was late. Its latency is its own answer of
storage and a rest, the waits and what else is done for it; where the two are independent, another
answer of storage would have done as well. So a success counts with the chance that an answer drawn
from all those that were measured would have made it late (a conditional expectation in the place of
an indicator: Rao and Blackwell; Asmussen and Glynn, Stochastic Simulation, 2007, V.4):

    z = mean over successes of  P(storage >= bound - rest)

That has three times less variance with one worker, and hardly less with four, whose shares vary by
the split. It is used where rest and storage are seen to be independent, else late uploads are
counted; failures are always.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, sqrt
from statistics import fmean, variance

from lab.model.capacity import CapacityTrial, CriterionCount
from lab.model.criterion import Criterion
from lab.model.physics import SATURATED
from lab.model.times import TrialTimes

MIN_STORAGE = 100
"""Fewer answers of storage do not say how long another one may take."""

UNRELATED = 3.0
"""Standard errors of a correlation coefficient (1 / sqrt n, were there none) above which rest and
storage are taken to depend on each other."""

BATCH_S = 25.0
"""About how long the batches are whose scatter is looked at, in real-world seconds."""

MIN_BATCH = 3
"""Uploads in a batch; with fewer its share says nothing of a scatter."""

MINUTE_S = 60.0
OF_LATENCY = frozenset({"p50", "p95", "p99"})
"""The percentiles of successes alone; where time-outs count as well, uploads are counted."""


@dataclass(frozen=True)
class Shown:
    """A share of one trial's uploads that is beyond a criterion's bound.

    Args:
        trial: its id.
        users: that it had.
        minutes: of its window, in real-world time.
        samples: uploads that the share is of.
        share: of them, from 0 to 1.
        smooth: whether it is a mean of chances, not of late and timely uploads.
        batches: into how many parts of `BATCH_S` the window was cut; 0 where no times are known.
        scatter: the variance of the share among them.
        batch: uploads in a batch, in the mean.
        by_storage: of a smooth share, the part of a late upload's variance that lies in its own
            answer of storage: what chances say is known no better than these answers.
    """

    trial: str
    users: int
    minutes: float
    samples: int
    share: float
    smooth: bool = False
    batches: int = 0
    scatter: float = 0.0
    batch: float = 0.0
    by_storage: float = 0.0


def shown(
    criterion: Criterion, trial: CapacityTrial, storage: Sequence[float] = ()
) -> Shown | None:
    """What a trial shows of a criterion on a share; None where it counts no upload.

    Args:
        criterion: whose share it is.
        trial: which.
        storage: answers of storage that were measured in this cell, in seconds, ascending.
    """
    count = _count_of(criterion, trial)
    if count is None or count.violations is None or not count.samples:
        return None
    minutes, times = trial.window / MINUTE_S, trial.times
    plain = Shown(trial.id, trial.users, minutes, count.samples, count.violations / count.samples)
    if times is None or not (times.sent or times.failed):
        return plain
    if criterion.metric in OF_LATENCY and times.latency:
        smooth = is_independent(times) and len(storage) >= MIN_STORAGE
        values = (
            chances(times.latency, times.storage, criterion.bound, storage)
            if smooth
            else [float(latency >= criterion.bound) for latency in times.latency]
        )
        told = _cut(plain, times.sent, values, trial.window, smooth)
        return replace(told, by_storage=by_storage(times, criterion.bound)) if smooth else told
    if criterion.metric == "error_rate":
        marks = sorted([*((t, 0.0) for t in times.sent), *((t, 1.0) for t in times.failed)])
        return _cut(plain, [t for t, _ in marks], [v for _, v in marks], trial.window, False)
    return plain


def _count_of(criterion: Criterion, trial: CapacityTrial) -> CriterionCount | None:
    return next((count for count in trial.criteria if count.criterion == str(criterion)), None)


def _cut(
    plain: Shown, sent: Sequence[float], values: Sequence[float], window: float, smooth: bool
) -> Shown:
    """The same with the mean of values, and their scatter among parts of the window."""
    batches, scatter, batch = scatter_of(sent, values, window)
    share = fsum(values) / len(values)
    return Shown(
        plain.trial,
        plain.users,
        plain.minutes,
        len(values),
        share,
        smooth,
        batches,
        scatter,
        batch,
    )


def scatter_of(
    at: Sequence[float], values: Sequence[float], window: float, length: float = BATCH_S
) -> tuple[int, float, float]:
    """The variance of a mean among parts of a window: how many there are, it, and their size.

    Args:
        at: when each value was, in seconds after the window's begin.
        values: of uploads.
        window: its length in seconds.
        length: about how long a part is to be.

    Returns:
        No parts where the window has not two of them with `MIN_BATCH` values each.
    """
    parts = round(window / length)
    if parts < 2:
        return 0, 0.0, 0.0
    sums, counts = [0.0] * parts, [0] * parts
    for moment, value in zip(at, values, strict=True):
        part = min(parts - 1, max(0, int(moment / window * parts)))
        sums[part] += value
        counts[part] += 1
    full = [(total, n) for total, n in zip(sums, counts, strict=True) if n >= MIN_BATCH]
    if len(full) < 2:
        return 0, 0.0, 0.0
    mean = fsum(total for total, _ in full) / sum(n for _, n in full)
    size = fmean(n for _, n in full)
    squares = fsum(n * (total / n - mean) ** 2 for total, n in full)
    return len(full), squares / (len(full) - 1) / size, size


def chances(
    latency: Sequence[float], own: Sequence[float], bound: float, storage: Sequence[float]
) -> list[float]:
    """Of each upload the chance that it is late with an answer of storage drawn from all.

    Args:
        latency: of each, in seconds.
        own: its own answer of storage.
        bound: from which on an upload is late.
        storage: the answers that are drawn from, ascending.
    """
    of = len(storage)
    return [
        1 - bisect_left(storage, bound - (took - answer)) / of
        for took, answer in zip(latency, own, strict=True)
    ]


def by_storage(times: TrialTimes, bound: float) -> float:
    """The part of the variance of being late that lies in an upload's own answer of storage.

    Var E[late | storage] / Var[late] (Hoeffding's decomposition), from 0 to 1. Little where
    an upload has to wait to be late as well; nearly all where some answers alone make it late.
    """
    rests = sorted(took - own for took, own in zip(times.latency, times.storage, strict=True))
    of = len(rests)
    late = [1 - bisect_left(rests, bound - own) / of for own in times.storage]
    mean = fmean(late)
    sure = mean * (1 - mean)
    return min(1.0, variance(late) / sure) if sure > 0 and of > 1 else 0.0


def is_independent(times: TrialTimes) -> bool:
    """Whether an upload's rest does not depend on its own answer of storage, as far as is seen.

    A loop without room makes whoever waits depend on every answer that it waits for.
    """
    if times.loop is None or times.loop >= SATURATED:
        return False
    rests = [took - own for took, own in zip(times.latency, times.storage, strict=True)]
    return abs(correlation(rests, times.storage)) * sqrt(len(rests)) <= UNRELATED


def correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's coefficient; 0 of values that do not vary."""
    if len(first) < 2:
        return 0.0
    mean, other = fmean(first), fmean(second)
    both = fsum((a - mean) * (b - other) for a, b in zip(first, second, strict=True))
    squares = fsum((a - mean) ** 2 for a in first) * fsum((b - other) ** 2 for b in second)
    return both / sqrt(squares) if squares > 0 else 0.0


def storage_of(trials: Sequence[CapacityTrial]) -> list[float]:
    """All answers of storage that trials have measured, in seconds, ascending."""
    return sorted(s for trial in trials if trial.times for s in trial.times.storage)


MOVED = 0.10
"""How far a stage's mean may move from one half of a window to the other."""

FLOOR_S, BY_CHANCE = 0.010, 3.0
"""What moves by less, in real-world seconds, changes nothing that is looked for; and what moves by
fewer of its standard errors may be chance, as with few uploads."""


def has_moved(trial: CapacityTrial) -> bool:
    """Whether the stage times moved within a trial: then it is of two systems, and of neither.

    Seen to matter: in simulations with slow moments that were not looked for a third of the
    intervals was wrong.
    """
    if trial.times is None or not trial.times.halves:
        return False
    pairs = trial.times.halves.values()
    first, second = fsum(a for a, _ in pairs), fsum(b for _, b in pairs)
    chance = BY_CHANCE * trial.times.halves_error
    return abs(second - first) > max(FLOOR_S, MOVED * min(first, second), chance)


def unsteadiness(trials: Sequence[CapacityTrial]) -> float:
    """How much the stages together vary among halves of trials: a variance relative to the mean.

    What they vary by because each half has few uploads is taken off.
    """
    times = [trial.times for trial in trials if trial.times and trial.times.halves]
    totals = [fsum(pair[half] for pair in one.halves.values()) for one in times for half in (0, 1)]
    if not totals or (mean := fmean(totals)) <= 0:
        return 0.0
    chance = fmean(one.halves_error**2 / 2 for one in times)
    return max(0.0, variance(totals) - chance) / mean**2
