"""How latencies are distributed: uploads counted by how long they took, failures apart.

Classes go by the E24 series of preferred numbers (IEC 60063): each is a tenth wider than the one
before, so that 2 s and 60 s are told alike.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from math import floor, log10

from lab.judge.trial import Trial
from lab.model.distribution import Latencies

E24 = (
    *(10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30),
    *(33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91),
)
"""Tenths, of each power of ten."""

FASTEST_S = 1e-3
"""The first class holds whatever is faster too."""


def latencies(trial: Trial) -> Latencies | None:
    """The uploads that count by how long they took; None where none was sent."""
    if not trial.sent:
        return None
    good = [sample.latency_s for sample in trial.sent if sample.error is None]
    bad = [sample.latency_s for sample in trial.sent if sample.error is not None]
    edges = boundaries(min((*good, *bad)), max((*good, *bad)))
    return Latencies(edges=edges, succeeded=_counts(good, edges), failed=_counts(bad, edges))


def boundaries(fastest: float, slowest: float) -> list[float]:
    """Ends of the classes in seconds, from below the fastest to above the slowest."""
    first = floor(log10(max(fastest, FASTEST_S)))
    last = floor(log10(max(slowest, FASTEST_S)))
    ends = [float(f"{tenths}e{power - 1}") for power in range(first, last + 2) for tenths in E24]
    below = max(0, bisect_right(ends, max(fastest, FASTEST_S)) - 1)
    return ends[below : bisect_right(ends, max(slowest, FASTEST_S)) + 1]


def _counts(values: Iterable[float], edges: Sequence[float]) -> list[int]:
    """How many values each class holds: its lower end belongs to it."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[max(0, bisect_right(edges, value) - 1)] += 1
    return counts
