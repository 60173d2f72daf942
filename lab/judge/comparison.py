"""A cell beside its baseline: what changed, by how much, and how certain that is.

    two verdicts ─> a ratio, or of shares a difference, with its 95 % interval ─> better, worse …
                 ─> criteria that came out differently, and where the limit has gone

The two trials are independent, each with its own error (`lab.judge.spread`), so the logarithm of a
ratio has the sum of both variances, and as many degrees of freedom as Welch and Satterthwaite give
it. Shares near 0 have no such error: their difference is Newcombe's, from Wilson's intervals of as
many independent uploads as each share is worth (Statistics in Medicine 17, 1998, method 10).

What cannot be compared is told with the reason: the figures of a window that ended as soon as it
was decided are no estimates, and several workers share one socket more evenly the higher the speed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import exp, fsum, hypot, inf, log, sqrt
from typing import Literal, Protocol

from lab.judge.criteria import compare, show
from lab.judge.metrics import DIGITS
from lab.judge.spread import COMPARED
from lab.model.criterion import Criterion
from lab.model.fidelity import keeps_split
from lab.model.journeys import REQUESTS
from lab.model.knobs import Knobs
from lab.model.load import load_of_spec
from lab.model.metrics import BY_NAME, plain, with_journey
from lab.model.physics import ALPHA, PERCENTILES, STATISTICAL
from lab.model.run import CellResult, Summary
from lab.model.verdict import (
    Change,
    Comparison,
    Finding,
    Flip,
    Outcome,
    Resource,
    Spread,
    Tendency,
    Verdict,
)

GROWS = frozenset({"throughput", "attempt_rate", "succeeded", "served"})
"""The figures of which more is better, where no criterion says how they are wanted."""

OF_SERVED = ("throughput", "succeeded", "served")
"""The figures that say how many were served, beside the percentiles of their latency."""


def compared(summary: Summary) -> Summary:
    """A run of which every cell that has a baseline is told against it."""
    by_id = {cell.id: cell for cell in summary.cells}
    damaged = {cell.id for cell in summary.damaged}
    cells = (
        cell.model_copy(update={"against": _told(cell, by_id.get(cell.baseline), damaged)})
        if cell.baseline
        else cell
        for cell in summary.cells
    )
    return summary.model_copy(update={"cells": tuple(cells)})


def _told(cell: CellResult, baseline: CellResult | None, damaged: Collection[str]) -> Comparison:
    if baseline is None:
        why = "damaged" if cell.baseline in damaged else "not measured"
        return Comparison(baseline=cell.baseline, why_not=f"the baseline is {why}")
    return against(cell, baseline)


NAMES = "this cell", "the baseline"
"""What the two are called that are compared."""


def against(
    cell: CellResult,
    baseline: CellResult,
    alpha: float = ALPHA,
    names: tuple[str, str] = NAMES,
    *,
    anyway: bool = False,
) -> Comparison:
    """A cell beside another one: figures, criteria, and the limit.

    Args:
        cell: the one.
        baseline: the other.
        alpha: the chance that the interval of a figure misses what is true.
        names: what the two are called where one cannot be compared.
        anyway: compare figures of other files, or at speeds that share uploads otherwise, too.
    """
    for one, which in zip((cell, baseline), names, strict=True):
        if one.verdict is Outcome.INVALID:
            return Comparison(baseline=baseline.id, why_not=f"{which} is invalid")
    why_not = (no_figures if anyway else incomparable)(cell, baseline, names)
    return Comparison(
        baseline=baseline.id,
        changes=() if why_not else tuple(changes(cell, baseline, alpha)),
        flips=tuple(_flips(cell, baseline)),
        limit=_moved(cell, baseline),
        why_not=why_not,
    )


def incomparable(cell: CellResult, baseline: CellResult, names: tuple[str, str] = NAMES) -> str:
    """Why the figures of two valid cells are not to be compared; empty where they are."""
    return no_figures(cell, baseline, names) or unlike(cell, baseline)


def no_figures(cell: CellResult, baseline: CellResult, names: tuple[str, str] = NAMES) -> str:
    """Why there is nothing that could be compared, whatever anybody wishes; empty: there is."""
    here, there = load_of_spec(cell.load), load_of_spec(baseline.load)
    if here.kind != there.kind:
        return f"their loads differ: {here.kind} and {there.kind}"
    for one, which in zip((cell, baseline), names, strict=True):
        if one.decided:
            return f"{which} ended as soon as it was decided, so its figures are no estimates"
    return ""


def unlike(cell: CellResult, baseline: CellResult) -> str:
    """What keeps two cells apart that has figures of its own: files, or speeds; empty: nothing."""
    here, there = load_of_spec(cell.load), load_of_spec(baseline.load)
    if here.audio != there.audio and cell.axes.get("load") == baseline.axes.get("load"):
        return f"their files differ: {here.audio} and {there.audio}"
    return _uneven(cell, baseline)


def _uneven(cell: CellResult, baseline: CellResult) -> str:
    """Why speeds that differ keep the two apart; empty where they do not."""
    knobs = [Knobs.model_validate(one.knobs) for one in (cell, baseline)]
    if knobs[0].speed == knobs[1].speed:
        return ""
    for one, split in zip(knobs, (cell.split, baseline.split), strict=True):
        if cell.target == "vm" and not keeps_split(one.sharing, one.speed, split):
            return (
                f"at speed {one.speed:g} {one.sharing} workers share one socket more evenly than at"
                " 1, and the speeds differ"
            )
    return ""


def changes(cell: CellResult, baseline: CellResult, alpha: float = ALPHA) -> Iterator[Change]:
    """The figures that both have of those that cells are compared by, each beside the other."""
    wanted = {c.name: c for c in _criteria(cell)}
    usual = (with_journey(name, load_of_spec(cell.load).main) for name in COMPARED)
    for name in dict.fromkeys((*usual, *wanted)):
        if name in cell.metrics and name in baseline.metrics:
            yield change(name, cell, baseline, wanted.get(name), alpha)


def _criteria(cell: CellResult) -> list[Criterion]:
    return [Criterion.parse(finding.criterion) for finding in cell.findings]


class Figures(Protocol):
    """What holds the figures of a cell, and how well they are known."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """By name, with the journey."""

    @property
    def spreads(self) -> Mapping[str, Spread]:
        """Of those for which it is known."""


def change(
    name: str,
    cell: Figures,
    baseline: Figures,
    wanted: Criterion | None = None,
    alpha: float = ALPHA,
) -> Change:
    """A figure of a cell beside the same of another, with its interval.

    Args:
        name: the metric's, with its journey.
        cell: the one.
        baseline: the other.
        wanted: the criterion that says how it is to be; else what the metric is says it.
        alpha: the chance that the interval misses what is true.
    """
    row = BY_NAME[plain(name)]
    grows = wanted.op in (">", ">=") if wanted else row.name in GROWS
    now, before = cell.metrics[name], baseline.metrics[name]
    of_shares = row.unit == "share"
    spreads = cell.spreads.get(name), baseline.spreads.get(name)
    value = now - before if of_shares else now / before if before else inf if now else 1.0
    ends = _ends(of_shares, (now, before), spreads, alpha)
    return Change(
        metric=name,
        kind="difference" if of_shares else "ratio",
        value=now,
        baseline=before,
        change=min(value, MAX_RATIO),
        low=ends and ends[0],
        high=ends and ends[1],
        tendency=_tendency(ends, 0.0 if of_shares else 1.0, grows=grows),
    )


MAX_RATIO = 1e9
"""Of what was nothing before, no ratio is told that is larger."""

Ends = tuple[float, float]


def _ends(
    of_shares: bool,
    figures: tuple[float, float],
    spreads: tuple[Spread | None, Spread | None],
    alpha: float,
) -> Ends | None:
    """The ends of an interval; None where it is not known how well the figures are known."""
    here, there = spreads
    if here is None or there is None:
        return None
    if of_shares:
        return share_difference(figures, (here, there), alpha)
    return ratio(figures, (here, there), alpha) if figures[1] else None


MAX_SPREAD = log(MAX_RATIO)
"""An interval is no wider, to either side: of a figure that is known worse, nothing is known."""


def ratio(
    figures: tuple[float, float], spreads: tuple[Spread, Spread], alpha: float = ALPHA
) -> Ends:
    """The interval of the ratio of two independent figures.

    Args:
        figures: the one, and the one that it is divided by, both above 0.
        spreads: of each; its error is relative.
        alpha: the chance that the interval misses what is true.
    """
    variances = [spread.error**2 for spread in spreads]
    value = min(figures[0] / figures[1], MAX_RATIO)
    if not (variance := sum(variances)):
        return value, value
    parts = ((v / variance) ** 2 / (s.batches - 1) for v, s in zip(variances, spreads, strict=True))
    off = exp(min(_t(1 / sum(parts), alpha) * sqrt(variance), MAX_SPREAD))
    return value / off, value * off


def share_difference(
    shares: tuple[float, float], spreads: tuple[Spread, Spread], alpha: float = ALPHA
) -> Ends:
    """The interval of the difference of two independent shares, from -1 to 1.

    Args:
        shares: the one, and the one that is taken from it.
        spreads: of each, with how many independent uploads it is worth.
        alpha: the chance that the interval misses what is true.
    """
    here, there = shares
    (low, high), (below, above) = _shares(shares, spreads, alpha)
    apart = here - there
    return (
        apart - sqrt((here - low) ** 2 + (above - there) ** 2),
        apart + sqrt((high - here) ** 2 + (there - below) ** 2),
    )


def is_nearer(name: str, cell: Figures, one: Figures, other: Figures) -> bool:
    """Whether a figure of a cell is surely nearer to that of one than to that of another.

    It is, at 97.5 %, where the interval of its distance to the middle between the two lies on the
    one's side. The middle of two latencies is that of their logarithms. Shares and rates are taken
    as they are, for served uploads add up: between next to nothing and 2 uploads/s the middle is 1.
    The interval of such a sum is put together from those of its three parts (Zou and Donner,
    Statistics in Medicine 27, 2008).

    Args:
        name: the metric's, with its journey; each of the three has it.
        cell: what is asked about.
        one: the one.
        other: the other.
    """
    figures = [of.metrics[name] for of in (cell, one, other)]
    spreads = [of.spreads.get(name) for of in (cell, one, other)]
    known = [spread for spread in spreads if spread]
    scale = _scale(name)
    if len(known) < len(spreads) or not (scale == "share" or min(figures) > 0):
        return False
    ends = [_within(scale, *both) for both in zip(figures, known, strict=True)]
    values = [log(figure) for figure in figures] if scale == "ratio" else figures
    if values[1] < values[2]:  # mirrored, so that the one is above the other
        values, ends = [-value for value in values], [(-high, -low) for low, high in ends]
    here, *apart = values
    lowest = [
        here - ends[0][0],
        *((high - v) / 2 for v, (_, high) in zip(apart, ends[1:], strict=True)),
    ]
    return here - fsum(apart) / 2 > hypot(*lowest)


Scale = Literal["share", "rate", "ratio"]
"""What a figure is compared as: as it is, or, a ratio, by its logarithm."""


def _scale(name: str) -> Scale:
    row = BY_NAME[plain(name)]
    if row.unit == "share":
        return "share"
    return "rate" if row.name in GROWS else "ratio"


def _within(scale: Scale, figure: float, spread: Spread, alpha: float = ALPHA) -> Ends:
    """The interval of a share, of a rate, or of the logarithm of any other figure."""
    t = _t(spread.batches - 1, alpha)
    if scale == "share":
        return wilson(figure, spread.effective or 1.0, t)
    off = min(t * spread.error, MAX_SPREAD)
    if scale == "rate":
        return max(0.0, figure * (1 - off)), figure * (1 + off)
    return log(figure) - off, log(figure) + off


def _shares(
    shares: tuple[float, float], spreads: tuple[Spread, Spread], alpha: float = ALPHA
) -> tuple[Ends, Ends]:
    here, there = (
        _within("share", share, spread, alpha)
        for share, spread in zip(shares, spreads, strict=True)
    )
    return here, there


def wilson(share: float, count: float, z: float) -> Ends:
    """Wilson's interval of a share of so many independent uploads (J. Am. Stat. Assoc. 22, 1927).

    Args:
        share: from 0 to 1.
        count: how many, which need not be whole.
        z: how many standard errors it is to be wide, to either side.
    """
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    scatter = max(0.0, share * (1 - share))
    half = z / (1 + z * z / count) * sqrt(scatter / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _t(freedom: float, alpha: float) -> float:
    """Student's t, of so many degrees of freedom, that is passed to either side in all so often."""
    from scipy.special import stdtrit  # slow to import; many commands never judge

    return float(stdtrit(freedom, 1 - alpha / 2))


def _tendency(ends: Ends | None, same: float, *, grows: bool) -> Tendency:
    if ends is None:
        return "unclear"
    low, high = ends
    if low <= same <= high:
        return "no difference"
    return "better" if (low > same) is grows else "worse"


MOST_FAILED = 0.05
"""The largest share of failures beside which a percentile of the successes tells how users fare."""

MATTERS, SHARE_MATTERS = 0.05, 0.01
"""A ratio nearer to 1, and a difference of shares nearer to 0, is no reason to do anything."""


def matters(change: Change) -> bool:
    """Whether a change, were it true to the digit, would be a reason to do anything."""
    if change.kind == "difference":
        return abs(change.change) > SHARE_MATTERS
    return change.change <= 0 or abs(log(change.change)) > log(1 + MATTERS)


def _flips(cell: CellResult, baseline: CellResult) -> Iterator[Flip]:
    before = {finding.criterion: finding.outcome for finding in baseline.findings}
    for finding in cell.findings:
        was = before.get(finding.criterion, finding.outcome)
        if was != finding.outcome:
            yield Flip(criterion=finding.criterion, before=was, after=finding.outcome)


def _moved(cell: CellResult, baseline: CellResult) -> tuple[Resource, Resource] | None:
    if not cell.limit or not baseline.limit or cell.limit.resource is baseline.limit.resource:
        return None
    return baseline.limit.resource, cell.limit.resource


# Criteria that are relative to the baseline.


@dataclass(frozen=True)
class Reference:
    """What a relative criterion is held against: the baseline's id, and its verdict if it has one.

    A cell without a baseline has none of both; one that is ``damaged`` has a verdict that cannot be
    read.
    """

    id: str = ""
    verdict: Verdict | None = None
    damaged: bool = False

    @property
    def problem(self) -> str:
        """Why nothing can be held against it; empty where it can."""
        if self.verdict is None:
            return f"the baseline, {self.id}, is {'damaged' if self.damaged else 'not measured'}"
        invalid = self.verdict.outcome is Outcome.INVALID
        return f"the baseline, {self.id}, is invalid" if invalid else ""

    def decide(
        self, criterion: Criterion, metrics: Mapping[str, float], spreads: Mapping[str, Spread]
    ) -> Finding:
        """A relative criterion against a cell's figures, and how well they are known.

        Returns:
            A finding whose value is the ratio, with the ends of its 95 % interval where the figure
            is a rate, a share or a percentile; a count or a mean is compared as it is.
        """
        name = criterion.name
        now, before = metrics.get(name), self._figures.get(name)
        problem = self.problem or self._unserved(criterion) or _incomparable(criterion, now, before)
        if problem or now is None or not before:
            return _finding(criterion, "undecided", None, None, f"{name}: {problem}")
        known = spreads.get(name), self._spreads.get(name)
        ends = multiple(name, (now, before), known)
        outcome = compare(criterion, *(ends or (None, None)))
        measured = f"{name} {show(criterion.metric, now)}, {now / before:.3g} x baseline"
        label = f" ({ends[0]:.3g} .. {ends[1]:.3g} at 95 %)" if ends and ends[0] < ends[1] else ""
        reason = f"{measured}{label} against {str(criterion).removeprefix(f'{name} ')}"
        if ends is None:
            reason += ": it is not known how well both are known"
        return _finding(criterion, outcome, now / before, ends, reason)

    def _unserved(self, criterion: Criterion) -> str:
        """Why a rate or a latency is no multiple of a baseline that served nobody; else empty."""
        of_served = criterion.metric in (*OF_SERVED, *PERCENTILES)
        if not of_served or self._figures.get(criterion.name):
            return ""
        if self._figures.get(with_journey("throughput", criterion.journey)) != 0:
            return ""
        noun = REQUESTS[criterion.journey].noun
        return f"the baseline, {self.id}, served no {noun}, and of nothing there is no multiple"

    def resolved(self, finding: Finding) -> Finding:
        """A finding of `decide` as one on a bound in the metric's own unit."""
        relative = Criterion.parse(finding.criterion)
        bound = round(relative.bound * self._figures.get(relative.name, 0.0), DIGITS)
        absolute = relative.model_copy(update={"bound": bound, "relative": False})
        return finding.model_copy(update={"criterion": str(absolute)})

    @property
    def _figures(self) -> Mapping[str, float]:
        return self.verdict.metrics if self.verdict else {}

    @property
    def _spreads(self) -> Mapping[str, Spread]:
        return self.verdict.spreads if self.verdict else {}


def _incomparable(criterion: Criterion, now: float | None, before: float | None) -> str:
    """Why one figure is no multiple of another; empty where it is."""
    if now is None or before is None:
        return "nothing was measured to compare"
    return "" if before else f"of the baseline's {show(criterion.metric, 0)} nothing is a multiple"


def multiple(
    name: str, figures: tuple[float, float], spreads: tuple[Spread | None, Spread | None]
) -> Ends | None:
    """The ends between which the ratio of two figures lies, at 95 %.

    Args:
        name: the metric's, with its journey.
        figures: the one, and the one that it is divided by.
        spreads: how well each is known.

    Returns:
        None where that is not known of a figure that is; of others the ratio itself, twice.
    """
    here, there = spreads
    of_shares = BY_NAME[plain(name)].unit == "share"
    if here and there and of_shares:
        (low, high), (below, above) = _shares(figures, (here, there))
        return low / above, high / below if below else inf
    if here and there:
        return ratio(figures, (here, there))
    return None if plain(name) in STATISTICAL else (figures[0] / figures[1],) * 2


def _finding(
    criterion: Criterion, outcome: str, value: float | None, ends: Ends | None, reason: str
) -> Finding:
    told = {"low": ends[0], "high": min(ends[1], MAX_RATIO)} if ends and ends[0] < ends[1] else {}
    return Finding.model_validate(
        {"criterion": str(criterion), "outcome": outcome, "value": value, "reason": reason} | told
    )
