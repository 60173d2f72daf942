"""Is a criterion certain, by a test that may be looked at again and again?

Of the uploads sent before a moment, some are still under way; who looks at the others alone sees
the quick ones. So each that is under way counts as whatever it may still become that is worst for
the claim: what is known is never more than what will be known once all are answered.

    sent before      ───────────────|──────────────────────|─────> now
    the first moment: all answered  |  a later one: more uploads, some of them under way

The evidence is an e-value (`lab.model.evalues`): of all the moments before which uploads are sent,
the chance that it ever passes 1 / alpha for a claim that is untrue is alpha at most. So the moment
may be chosen that shows the most, and one may look as often as one likes. Those still under way
that were sent before the window count too: who waits all the time would otherwise be overlooked.

Uploads of a minute are correlated, and how that is spread within the minute is not known: all of
them may have as much in common (then the minute is the batch), or those of a few seconds far more
(then so much of a minute that has begun tells little). A claim is certain when it is so in batches
of a minute and in shorter ones, whose correlation is higher in proportion. Both kinds are simulated
in `tests.statistics.test_sequential`. All times are real-world seconds after the load started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import ceil, log
from typing import Literal, NamedTuple

from lab.judge.metrics import judged
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evalues import BATCH_S, Counts, Side, correlation_of, log_e
from lab.model.evidence import Sample
from lab.model.experiment import Cell
from lab.model.journeys import Journey
from lab.model.physics import ALPHA, PERCENTILES, countable_share
from lab.model.run import LoadSoFar
from lab.model.verdict import EarlyEnd

ENOUGH = log(1 / ALPHA)
"""An e-value above this, a logarithm, is certain: wrong once in twenty at most, as a bound is."""

BATCHES_S = (BATCH_S, BATCH_S / 2)
"""Lengths of the batches, in seconds.

In simulations at the allowed share, with a look every 2 to 5 s for 4 minutes, minutes alone are
wrong in up to 9 % of windows where what uploads share lasts for 5 s, halves of them alone in up to
6 %, and both together in at most 5 %, in each of the cases.
"""

MOMENTS = 8
"""At so many moments at the most, evenly among those at which uploads under way were sent, what was
sent before is looked at: to try each costs more than it gains."""

OUTCOMES: dict[Side, Literal["met", "missed"]] = {"held": "met", "broke": "missed"}


class Certain(NamedTuple):
    """A criterion that is certain, and how many answered uploads of the window it counts."""

    outcome: Literal["met", "missed"]
    uploads: int


class JudgedUpload(NamedTuple):
    """An upload by when it was sent, and what it is, or may still become.

    One that has ended either violates the bound or satisfies it. One that is under way may do both,
    or end so that the criterion does not count it at all: then it is not ``counted`` for sure.
    """

    sent_at: float
    may_violate: bool
    may_satisfy: bool
    counted: bool

    def at_worst(self, side: Side) -> bool | None:
        """Whether it violates the bound, as is worst for a side; None: it does not count."""
        if self.may_violate if side == "held" else self.may_satisfy:
            return side == "held"
        return side == "broke" if self.counted else None


def all_certain(cell: Cell, so_far: LoadSoFar) -> bool:
    """Whether every criterion of a cell is certain, each for itself; a cell without has none."""
    return bool(cell.criteria) and all(certain(c, cell, so_far) for c in cell.criteria)


def certain(criterion: Criterion, cell: Cell, so_far: LoadSoFar) -> Certain | None:
    """What a criterion certainly is, met or missed; None while it is neither, or no such claim."""
    allowed = countable_share(criterion, cell.load.timeout_of(criterion.journey))
    so_far = so_far.of(criterion.journey)
    if allowed is None:
        return None
    ended = [*_ended(criterion, cell, so_far)]
    under_way = [_under_way(criterion, sent, so_far.at) for sent in sorted(so_far.under_way)]
    most = _evidence(ended, under_way, cell, allowed, so_far.at)
    shown = [side for side in OUTCOMES if most[side] >= ENOUGH]
    return Certain(OUTCOMES[shown[0]], len(ended)) if len(shown) == 1 else None


def early_end(trial: Trial) -> EarlyEnd | None:
    """How a trial's window ended before its time; None where it did not."""
    so_far = as_decided(trial)
    if so_far is None:
        return None
    start, end = trial.load.measured
    planned = trial.cell.load.measured[1] - start
    return EarlyEnd(
        uploads=len(_answered(trial.cell, so_far.of(trial.journey))),
        after_s=round(so_far.at - start, 3),
        window_s=round(end - start, 3),
        planned_s=round(planned, 3),
    )


def as_decided(trial: Trial) -> LoadSoFar | None:
    """A trial's uploads as they stood when its window was decided; None where that never was."""
    at = trial.decided_at
    if at is None:
        return None
    samples = trial.observation.samples
    open_then: dict[Journey, list[float]] = {journey: [] for journey in Journey}
    for sample in samples:
        if sample.sent_at <= at < sample.sent_at + sample.latency_s:
            open_then[sample.journey].append(sample.sent_at)
    return LoadSoFar(at, samples, open_then.pop(Journey.UPLOAD), open_then)


def _answered(cell: Cell, so_far: LoadSoFar) -> list[Sample]:
    """The uploads of the window that had ended."""
    start, at = cell.load.measured[0], so_far.at
    return [s for s in so_far.samples if s.sent_at >= start and s.sent_at + s.latency_s <= at]


def _ended(criterion: Criterion, cell: Cell, so_far: LoadSoFar) -> Iterator[JudgedUpload]:
    uploads = _answered(cell, so_far)
    for sample, at_or_above in judged(criterion, uploads, cell.load.timeout_of(criterion.journey)):
        violates = at_or_above is not (criterion.op in (">", ">="))
        yield JudgedUpload(sample.sent_at, violates, not violates, counted=True)


def _under_way(criterion: Criterion, sent_at: float, at: float) -> JudgedUpload:
    """What an upload may still become: one that has waited beyond a latency's bound is known to
    be above it, unless it fails and counts for nothing."""
    is_above = criterion.metric in PERCENTILES and at - sent_at >= criterion.bound
    violates_below = criterion.op in (">", ">=")
    return JudgedUpload(
        sent_at,
        may_violate=not (is_above and violates_below),
        may_satisfy=not (is_above and not violates_below),
        counted=False,
    )


def _evidence(
    ended: Iterable[JudgedUpload],
    under_way: Sequence[JudgedUpload],
    cell: Cell,
    allowed: float,
    at: float,
) -> dict[Side, float]:
    """The most that is shown for each side, of the moments up to which no more are under way."""
    start, correlation = cell.load.measured[0], correlation_of(cell)
    moments = sorted({at, *(upload.sent_at for upload in under_way if upload.sent_at > start)})
    moments = [*moments[:: ceil(len(moments) / MOMENTS)], at]
    coming = sorted([*ended, *under_way], key=lambda upload: upload.sent_at, reverse=True)
    worst: dict[Side, _Counts] = {"held": _Counts(start), "broke": _Counts(start)}
    most: dict[Side, float] = dict.fromkeys(worst, 0.0)
    for moment in moments:
        while coming and coming[-1].sent_at < moment:
            upload = coming.pop()
            for side, counts in worst.items():
                counts.add(upload.sent_at, upload.at_worst(side))
        for side, counts in worst.items():
            shown = (log_e(of, allowed, side) for of in counts.in_batches(correlation))
            most[side] = max(most[side], min(shown))
    return most


class _Counts:
    """Counts of uploads by batch of the window; what was sent before it is of the first."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._counts = [(length, Counter[int](), Counter[int]()) for length in BATCHES_S]

    def add(self, sent_at: float, violates: bool | None) -> None:
        """Count an upload; None: it does not count."""
        if violates is None:
            return
        for length, violations, of in self._counts:
            batch = max(0, int((sent_at - self._start) // length))
            violations[batch] += violates
            of[batch] += 1

    def in_batches(self, correlation: float) -> Iterator[Counts]:
        """The counts, once for each length of batch; ``correlation`` is that within a minute."""
        for length, violations, of in self._counts:
            within = correlation * BATCH_S / length
            yield [(violations[batch], number, within) for batch, number in of.items()]
