"""How well the figures of one trial are known that cells are compared by.

    window ─> stretches of equal length ─> a figure's scatter among them ─> its standard error

The uploads of one trial are not independent: users wait for each other, and a slow moment slows
many. So an error is not worked out from single uploads but from stretches of the window, each long
beside what links them, as batch means are (Law, Simulation Modeling and Analysis, ch. 9). A share
is a ratio of two sums over stretches (Cochran, Sampling Techniques, ch. 6), and says how many
independent uploads it is worth. A percentile's error follows from that of the share above it
(Woodruff, J. Am. Stat. Assoc. 47, 1952). Fewer independent uploads than there are is the rule;
more, as where users take turns, is not counted on.

Only a load that stays as it is has stretches that are alike, so of others nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, fsum, hypot, log, sqrt
from statistics import variance

from lab.judge.metrics import latency
from lab.judge.trial import Trial, successes
from lab.model.criterion import Criterion
from lab.model.load import OneWindow, Window
from lab.model.physics import PERCENTILES, quantile
from lab.model.verdict import Spread

MIN_STRETCHES, MAX_STRETCHES = 5, 20
"""Fewer say nothing of a scatter, and more make none of them longer than what links uploads."""

LINKED = 2.0
"""A stretch is to be this many times as long as uploads are linked for."""

TWO_SIDED = 1.96
"""The normal quantile of a two-sided 95 % interval."""

INSTANT_S = 1e-3
"""What takes less links nothing."""

COUNTING = 1 / 6
"""The variance of a stretch's count of what comes at equal intervals: so much scatter is there
always, even where few stretches happen to have as many uploads each (two edges, each uniform)."""

RATE, SHARE = "throughput", "error_rate"

COMPARED = (RATE, "p50", "p95", SHARE)
"""The figures of what a load is about that cells are compared by, whatever their criteria say."""


def spreads(trial: Trial) -> dict[str, Spread]:
    """How well the figures are known that the trial is compared by, as far as that can be told."""
    found = ((name, _spread(criterion, trial)) for name, criterion in compared(trial).items())
    return {name: spread for name, spread in found if spread}


def compared(trial: Trial) -> dict[str, Criterion]:
    """What the cell is compared by: by name with its journey, the metric and whose it is.

    Of what the load is about the usual figures, and every figure that a criterion asks for.
    """
    main, asked = trial.cell.load.main, (*trial.cell.criteria, *trial.cell.relative)
    usual = (Criterion(metric=name, op="<", bound=1.0, journey=main) for name in COMPARED)
    return {one.name: one for one in (*usual, *asked)}


def _spread(asked: Criterion, whole: Trial) -> Spread | None:
    """Of one figure; None of one that is no rate, share or percentile, or of too few uploads."""
    trial = whole.of(asked.journey)
    if not isinstance(trial.load, OneWindow) or not trial.sent:
        return None
    if asked.metric == RATE:
        return _of_rate(trial)
    if asked.metric == SHARE:
        return _of_share(trial)
    return _of_percentile(asked.metric, trial) if asked.metric in PERCENTILES else None


def _of_rate(trial: Trial) -> Spread | None:
    """Of a rate: from how many answers came in each stretch.

    The rate itself counts an upload by the share of its life in the window. In stretches that would
    hide most of the scatter, for neighbours would share uploads.
    """
    # For how long a slot was taken by each success: a rate is as steady as they come free.
    served = sorted(sample.stages.get("gcs", sample.latency_s) for sample in trial.succeeded)
    came = [sample.sent_at + sample.latency_s for sample in successes(trial.samples)]
    counts = _counted(came, list(_stretches(trial.window, quantile(served or [0.0], 0.5))))
    if not sum(counts):
        return None
    mean, scatter = sum(counts) / len(counts), max(variance(counts), COUNTING)
    return Spread(error=sqrt(scatter / len(counts)) / mean, batches=len(counts))


def _counted(moments: Sequence[float], stretches: Sequence[Window]) -> list[int]:
    """How many of the moments are in each stretch."""
    return [sum(start <= at < end for at in moments) for start, end in stretches]


def _of_share(trial: Trial) -> Spread | None:
    """Of the share that failed."""
    marked = [(s.sent_at, trial.cause_of(s) is not None) for s in trial.sent]
    share = sum(bad for _, bad in marked) / len(marked)
    batches, worth = _independent(marked, share, trial)
    error = sqrt(share * (1 - share) / worth)
    return Spread(error=error, batches=batches, effective=round(worth, 3))


def _of_percentile(metric: str, trial: Trial) -> Spread | None:
    """Of a percentile, relative to it: half of what lies between the ends of its interval.

    The ends are where the share below would be, were it off by as much as it is known. Where that
    is beyond the slowest upload, that one stands for the upper end, and both sides are taken to be
    as long as the longer, if of as many independent uploads one at least is above the percentile.
    """
    taken = ((s.sent_at, latency(s, metric, trial.timeout)) for s in trial.sent)
    timed = [(at, s) for at, s in taken if s is not None]
    ordered, p = sorted(s for _, s in timed), PERCENTILES[metric]
    if not ordered or ordered[0] <= 0:
        return None
    middle = quantile(ordered, p)
    batches, worth = _independent([(at, s > middle) for at, s in timed], 1 - p, trial)
    off = TWO_SIDED * sqrt(p * (1 - p) / worth)
    if p - off < 0 or worth * (1 - p) < 1:
        return None
    low, high = quantile(ordered, p - off), quantile(ordered, min(1.0, p + off))
    longer = max(log(high / middle), log(middle / low))
    error = (log(high / low) / 2 if p + off <= 1 else longer) / TWO_SIDED
    if _is_short(trial) and (rate := _of_rate(trial)):
        return Spread(error=hypot(error, rate.error), batches=min(batches, rate.batches))
    return Spread(error=error, batches=batches)


def _is_short(trial: Trial) -> bool:
    """Whether uploads take so long that the window has too few stretches of their length.

    Then what is left unknown of a latency is, by Little's law, what is unknown of the rate: so many
    users divided by it are the mean latency of a closed load.
    """
    start, end = trial.window
    return end - start < MIN_STRETCHES * LINKED * _life_s(trial)


def _life_s(trial: Trial) -> float:
    """The median seconds from an upload's sending to its end."""
    return quantile(sorted(sample.latency_s for sample in trial.sent), 0.5)


def _independent(
    marked: Sequence[tuple[float, bool]], share: float, trial: Trial
) -> tuple[int, float]:
    """Of how many stretches, and how many independent uploads as many as these are worth.

    Args:
        marked: when each was sent, and whether it is one of those that the share counts.
        share: how many of them there are to be.
        trial: whose they are.
    """
    stretches = list(_stretches(trial.window, _life_s(trial)))
    sent, bad = (
        _counted([at for at, is_bad in marked if is_bad or every], stretches)
        for every in (True, False)
    )
    count, sure = len(marked), share * (1 - share)
    if not sure:
        return len(stretches), float(count)
    rests = (b - share * n for n, b in zip(sent, bad, strict=True))
    scatter = fsum(rest * rest for rest in rests) * len(sent) / (len(sent) - 1)
    return len(stretches), count / max(1.0, scatter / (count * sure))


def _stretches(window: Window, linked_s: float) -> Iterator[Window]:
    """The window in stretches that are long beside how long uploads are linked, in seconds."""
    start, end = window
    fitting = (end - start) / (LINKED * max(linked_s, INSTANT_S))
    count = floor(min(MAX_STRETCHES, max(MIN_STRETCHES, fitting)))
    width = (end - start) / count
    return ((start + n * width, start + (n + 1) * width) for n in range(count))
