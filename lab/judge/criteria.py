"""A criterion against the evidence: met, missed, or undecided.

``error_rate < 5 %`` and ``p95 < 10 s`` are both claims about a share: of uploads that fail,
of successes that take 10 s or more (the p95 is below 10 s exactly when that share is below
5 %). Such a claim is met when even the upper one-sided 95 % bound satisfies it, missed when
even the lower one does not, and undecided between: each wrong answer comes at most once in
twenty, and a short trial says that it was short. What is counted or averaged outright
(peaks, cores, throughput) is compared as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lab.judge.leaks import leaks
from lab.judge.metrics import PERCENTILES, causes, latencies
from lab.judge.statistics import complement, needed, quantile_bounds, share_bounds
from lab.judge.text import show
from lab.judge.trial import sent_in_window
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Observation, Sample
from lab.model.experiment import Cell
from lab.model.verdict import Finding, Leak, Outcome

Decision = Literal["met", "missed", "undecided"]


def decide(
    criterion: Criterion, cell: Cell, observation: Observation, metrics: Mapping[str, float]
) -> Finding:
    """One criterion, held against a cell's samples and its `measure`-d metrics.

    Returns:
        A finding whose ``low`` and ``high`` are the one-sided 95 % bounds of the metric, in
        its unit, where the claim is statistical; a metric without evidence is undecided.
    """
    value = metrics.get(criterion.metric)
    if value is None:
        reason = f"{criterion.metric}: nothing was measured to hold against {_claim(criterion)}"
        return Finding(criterion=str(criterion), outcome="undecided", value=None, reason=reason)
    sent = sent_in_window(cell, observation)
    if criterion.metric == "error_rate":
        return _decide_share(criterion, value, sent)
    if criterion.metric in PERCENTILES:
        return _decide_percentile(criterion, value, cell, sent)
    grown = [leak for leak in leaks(cell, observation) if leak.metric == criterion.metric]
    if grown:
        return _decide_slope(criterion, grown[0])
    met = criterion.satisfied_by(value)
    reason = f"{criterion.metric} {show(criterion.metric, value)} against {_claim(criterion)}"
    outcome: Decision = "met" if met else "missed"
    return Finding(criterion=str(criterion), outcome=outcome, value=value, reason=reason)


def compare(criterion: Criterion, low: float | None, high: float | None) -> Decision:
    """Whether a claim is true of all, of none, or of some of what lies between two bounds."""
    best, worst = (low, high) if criterion.op in ("<", "<=") else (high, low)
    if criterion.op == "==":
        if low is not None and low == high == criterion.bound:
            return "met"
        above = low is not None and low > criterion.bound
        below = high is not None and high < criterion.bound
        return "missed" if above or below else "undecided"
    if worst is not None and criterion.satisfied_by(worst):
        return "met"
    return "missed" if best is not None and not criterion.satisfied_by(best) else "undecided"


def outcome_of(findings: Sequence[Finding], attempts: int) -> Outcome:
    """Broke if a criterion is missed; undecided if one is, or if nothing was sent; else held."""
    outcomes = {finding.outcome for finding in findings}
    if "missed" in outcomes:
        return Outcome.BROKE
    if "undecided" in outcomes or not outcomes or not attempts:
        return Outcome.UNDECIDED
    return Outcome.HELD


def leading_causes(samples: Sequence[Sample], most: int = 3) -> str:
    """The commonest causes with their counts, ``pool_timeout 41, gateway_timeout 12``."""
    counted = sorted(causes(samples).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{cause} {count}" for cause, count in counted[:most] if count)


def _decide_share(criterion: Criterion, value: float, sent: Sequence[Sample]) -> Finding:
    failed = sum(sample.error is not None for sample in sent)
    low, high = share_bounds(failed, len(sent))
    finding = _statistical(criterion, value, low, high, failed / len(sent), criterion.bound, sent)
    why = leading_causes(sent)
    return finding.model_copy(update={"reason": f"{finding.reason}: {why}"}) if why else finding


def _decide_percentile(
    criterion: Criterion, value: float, cell: Cell, sent: Sequence[Sample]
) -> Finding:
    p, ordered = PERCENTILES[criterion.metric], latencies(cell, sent, criterion.metric)
    low, high = quantile_bounds(ordered, p)
    open_ended = criterion.metric == "p95_all" and _timed_out(sent)
    if open_ended and high is not None:
        # One that timed out took at least the timeout: from there on nothing is known.
        high = high if high < cell.load.timeout else None
    above = sum(latency >= criterion.bound for latency in ordered) / len(ordered)
    found = _statistical(criterion, value, low, high, above, complement(p), ordered)
    if open_ended and criterion.bound > cell.load.timeout:
        # Nor is it known on which side of a later bound they are, so there is no count.
        return found.model_copy(update={"samples": None, "beyond": None, "allowed": None})
    return found


def _decide_slope(criterion: Criterion, leak: Leak) -> Finding:
    """Held against the slope's 95 % confidence interval."""
    outcome = compare(criterion, leak.low, leak.high)
    return Finding(
        criterion=str(criterion),
        outcome=outcome,
        value=leak.slope,
        low=leak.low,
        high=leak.high,
        reason=f"{leak.reason.partition(': ')[0]} against {_claim(criterion)}",
    )


def _timed_out(sent: Sequence[Sample]) -> bool:
    return any(sample.error == Cause.CLIENT_TIMEOUT for sample in sent)


def _statistical(
    criterion: Criterion,
    value: float,
    low: float | None,
    high: float | None,
    share: float,
    bound: float,
    samples: Sequence[object],
) -> Finding:
    outcome = compare(criterion, low, high)
    measured = f"{criterion.metric} {show(criterion.metric, value)}"
    doubt = _doubt(criterion, outcome, low, high)
    reason = f"{measured}{doubt} against {_claim(criterion)}"
    if outcome == "undecided":
        reason = f"{reason}: {_too_few(len(samples), share, bound)}"
    return Finding(
        criterion=str(criterion),
        outcome=outcome,
        value=value,
        low=low,
        high=high,
        reason=reason,
        **_counted(criterion, round(share * len(samples)), len(samples), bound),
    )


def _counted(criterion: Criterion, above: int, of: int, bound: float) -> dict[str, Any]:
    """The count behind a claim about a share; a claim of equality has no wrong side."""
    if criterion.op == "==":
        return {}
    if criterion.op in (">", ">="):  # it is those below that may not be many
        above, bound = of - above, complement(bound)
    return {"samples": of, "beyond": above, "allowed": bound}


def _claim(criterion: Criterion) -> str:
    return str(criterion).removeprefix(f"{criterion.metric} ")


def _doubt(criterion: Criterion, outcome: Decision, low: float | None, high: float | None) -> str:
    """The bound that decided, or both where neither did."""
    upper_decides = (criterion.op in ("<", "<=")) == (outcome == "met")
    parts = []
    if low and (outcome == "undecided" or not upper_decides):
        parts.append(f">= {show(criterion.metric, low)}")
    if high is not None and (outcome == "undecided" or upper_decides):
        parts.append(f"<= {show(criterion.metric, high)}")
    return f" ({' and '.join(parts)} at 95 %)" if parts else ""


def _too_few(count: int, share: float, bound: float) -> str:
    if not 0 < bound < 1:
        return "no number of uploads can show this"
    enough = needed(share, bound)
    if enough is None:
        return f"{count} uploads are too near the bound to tell"
    kind = "straight successes" if share == 0 else "such uploads"
    return f"{count} uploads are too few, {max(enough, count + 1)} {kind} would tell"
