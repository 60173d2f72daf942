"""Uploads by size of their file: which are refused for it, which take longer.

    50 KB ─ 100 KB ─ 200 KB ─ 500 KB ─ 1.05 MB ─ 2 MB
                                       └ what nginx as found lets through

Classes are of the load's own range, cut at 1, 2 and 5 of each power of ten and where a file is too
large for nginx, the platform or the backend, so that no class has both kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, floor, log10

from lab.judge.statistics import mean
from lab.judge.trial import Trial, successes
from lab.model.distribution import SizeClass
from lab.model.evidence import Sample
from lab.model.journeys import Journey
from lab.model.physics import PERCENTILES, quantile
from lab.model.replica import file_limit
from lab.model.units import SizeRange

APART = 1.25
"""A boundary is left out that is nearer than this, as a ratio, to an end or to the limit."""

WIDE = 1000
"""A range whose ends are further apart than this, as a ratio, is cut at powers of ten alone."""


def uploads(trial: Trial) -> list[Sample]:
    """The uploads that count, which alone are held against a limit of size."""
    return [sample for sample in trial.sent if sample.journey is Journey.UPLOAD]


def oversize(trial: Trial) -> float | None:
    """The share of the uploads sent that are larger than somebody on their way takes.

    None where nobody has a limit, or nothing was sent.
    """
    limit = file_limit(trial.cell.target, trial.knobs)
    if limit is None:
        return None
    return mean(sample.bytes > limit for sample in uploads(trial))


def by_size(trial: Trial) -> tuple[SizeClass, ...]:
    """The uploads that count by class of size; nothing where all files are of one size."""
    audio, sent = trial.cell.load.audio, uploads(trial)
    if audio.low == audio.high or not sent:
        return ()
    ends = boundaries(audio, file_limit(trial.cell.target, trial.knobs))
    # Whatever the generator rounded away or added belongs to the class at that end.
    spans = list(pairwise([0, *ends[1:-1], max(s.bytes for s in sent) + 1]))
    return tuple(
        _class(trial, low, high, [s for s in sent if above < s.bytes <= to])
        for (low, high), (above, to) in zip(pairwise(ends), spans, strict=True)
    )


def boundaries(audio: SizeRange, limit: int | None) -> Sequence[int]:
    """Where classes of a range begin and end, in bytes of file; its own ends included."""
    fixed = [audio.low, audio.high]
    if limit is not None and audio.low < limit < audio.high:
        fixed.append(limit)
    near = [size for size in _round(audio) if all(_apart(size, one) for one in fixed)]
    return sorted([*fixed, *near])


def _round(audio: SizeRange) -> Iterable[int]:
    """Round sizes within a range, in bytes: 1, 2 and 5 of each power of ten, or 1 of a wide one."""
    steps = (1,) if audio.high / audio.low > WIDE else (1, 2, 5)
    powers = range(floor(log10(audio.low)), ceil(log10(audio.high)) + 1)
    sizes = (step * 10**power for power in powers for step in steps)
    return (size for size in sizes if audio.low < size < audio.high)


def _apart(size: int, other: int) -> bool:
    return max(size, other) >= APART * min(size, other)


def _class(trial: Trial, low: int, high: int, sent: Sequence[Sample]) -> SizeClass:
    causes = Counter(cause for sample in sent if (cause := trial.cause_of(sample)))
    took = sorted(sample.latency_s for sample in successes(sent))
    p50, p95 = (
        round(quantile(took, PERCENTILES[name]), 6) if took else None for name in ("p50", "p95")
    )
    return SizeClass(
        from_=low,
        to=high,
        attempts=len(sent),
        failed=sum(causes.values()),
        causes={str(cause): count for cause, count in causes.most_common()},
        p50=p50,
        p95=p95,
    )
