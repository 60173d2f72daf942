"""A criterion against the evidence: met, missed, or undecided.

``error_rate < 5 %`` and ``p95 < 10 s`` are both claims about a share: of uploads that fail,
of successes that take 10 s or more (the p95 is below 10 s exactly when that share is below
5 %). Such a claim is met when even the upper one-sided 95 % bound satisfies it, missed when
even the lower one does not, and undecided between: each wrong answer comes at most once in
twenty, and a short trial says that it was short. What is counted or averaged outright
(peaks, cores, throughput) is compared as it is; where not all of it could be seen, with both
ends that it may have (`lab.judge.unseen`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

from lab.judge.metrics import latencies
from lab.judge.sequential import as_decided, certain
from lab.judge.statistics import needed, quantile_bounds, share_bounds
from lab.judge.trial import Trial
from lab.judge.unseen import Range, between
from lab.model.criterion import Criterion
from lab.model.evidence import Cause
from lab.model.metrics import BY_NAME, STAGES, with_percentiles
from lab.model.physics import PERCENTILES, complement
from lab.model.verdict import Finding, Leak, Outcome

Decision = Literal["met", "missed", "undecided"]
Text = TypeVar("Text", bound=str)

OF_SUCCESSES = frozenset(
    with_percentiles(*(name for name, row in STAGES.items() if row.of == "successes"))
)
"""The metrics that are of successful uploads alone, beside most percentiles of latency."""

MANY_LEFT_OUT = 0.05
"""The share of uploads that such a figure leaves out above which its finding says so."""


def decide(criterion: Criterion, trial: Trial) -> Finding:
    """One criterion, held against a trial's samples and metrics.

    Returns:
        A finding whose ``low`` and ``high`` are the one-sided 95 % bounds of the metric, in
        its unit, where the claim is statistical, or the ends of what was not seen whole; a
        metric without evidence is undecided, and all are where readings have a gap. Where the
        window ended early, what was certain then stands, whatever the bounds say: they are of a
        number of uploads that is fixed before, and this one was not.
    """
    trial = trial.of(criterion.journey)
    finding = _as_stopped(criterion, trial, _decide(criterion, trial))
    note = _left_out(criterion.metric, trial)
    return finding.model_copy(update={"reason": finding.reason + note}) if note else finding


def _decide(criterion: Criterion, trial: Trial) -> Finding:
    value = trial.metrics.get(criterion.metric)
    if value is None:
        reason = f"{criterion.name}: nothing was measured to hold against {_claim(criterion)}"
        return Finding(criterion=str(criterion), outcome="undecided", value=None, reason=reason)
    if trial.uncovered:
        reason = f"{criterion.name} {show(criterion.metric, value)} is not of all of the time"
        return Finding(criterion=str(criterion), outcome="undecided", value=value, reason=reason)
    if criterion.metric == "error_rate":
        return _decide_share(criterion, value, trial)
    if criterion.metric in PERCENTILES:
        return _decide_percentile(criterion, value, trial)
    for leak in trial.leaks:
        if leak.metric == criterion.metric:
            return _decide_slope(criterion, leak)
    if known := between(criterion.metric, trial):
        return _decide_range(criterion, known)
    met = criterion.satisfied_by(value)
    reason = f"{criterion.name} {show(criterion.metric, value)} against {_claim(criterion)}"
    outcome: Decision = "met" if met else "missed"
    return Finding(criterion=str(criterion), outcome=outcome, value=value, reason=reason)


def _as_stopped(criterion: Criterion, trial: Trial, finding: Finding) -> Finding:
    """A finding with the outcome for which the window ended early, if it did."""
    so_far = None if trial.part or trial.uncovered else as_decided(trial)
    sure = certain(criterion, trial.cell, so_far) if so_far else None
    if sure is None or finding.value is None:
        return finding
    reason = finding.reason
    if sure.outcome != finding.outcome:
        measured = reason.partition(": ")[0]
        reason = (
            f"{measured}: certainly {sure.outcome}, by e-values, after {sure.uploads} {trial.noun}"
        )
    stopped = {"outcome": sure.outcome, "certain_after": sure.uploads, "reason": reason}
    return finding.model_copy(update=stopped)


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


def leading_causes(trial: Trial) -> str:
    """The three commonest causes with their counts, ``pool_timeout 41, gateway_timeout 12``.

    A client that was cut off does not say what the service found; where the service itself
    does, that follows: ``gateway_timeout 100 (the service itself: pool_timeout 85)``. So does what
    users saw of an answer that was lost: ``rate_limited 38 (users saw bad_gateway 19)``.
    """
    return ", ".join(
        f"{cause} {count}{_at_service(cause, trial)}" for cause, count in _commonest(trial.causes)
    )


def _at_service(cause: Cause, trial: Trial) -> str:
    said = Counter(trial.unseen_causes.get(cause, Counter()))
    for own, seen in trial.lost_answers.items():
        said[own] -= seen[cause]  # they are counted as the service's
    return _listed("the service itself", +said) + _listed(
        "users saw", trial.lost_answers.get(cause, Counter())
    )


def _listed(who: str, counts: Mapping[Text, int]) -> str:
    listed = ", ".join(f"{cause} {count}" for cause, count in _commonest(counts))
    return f" ({who}: {listed})" if listed else ""


def _commonest(counts: Mapping[Text, int]) -> list[tuple[Text, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3]


def show(metric: str, value: float) -> str:
    """A metric's value with its unit: ``8.24 s``, ``38.2 %``, ``0.27/s``."""
    unit = BY_NAME[metric].unit
    if unit == "seconds":
        return f"{value:.2f} s" if abs(value) >= 1 else f"{value * 1000:.0f} ms"
    if unit == "share":
        return f"{value * 100:.1f} %"
    if unit == "per second":
        return f"{value:.2f}/s"
    if unit == "cores":
        return f"{value:.2f} cores"
    if unit == "bytes":
        return f"{value / 1e6:.1f} MB"
    if unit == "bytes per second":
        return f"{value / 1e3:.1f} KB/s"
    return f"{value:g}"


def _decide_share(criterion: Criterion, value: float, trial: Trial) -> Finding:
    sent, failed = len(trial.sent), trial.causes.total()
    low, high = share_bounds(failed, sent)
    bounds = (low, high)
    finding = _statistical(criterion, value, bounds, failed / sent, criterion.bound, trial, sent)
    why = leading_causes(trial)
    return finding.model_copy(update={"reason": f"{finding.reason}: {why}"}) if why else finding


def _decide_percentile(criterion: Criterion, value: float, trial: Trial) -> Finding:
    p, timeout = PERCENTILES[criterion.metric], trial.timeout
    ordered = latencies(trial.sent, criterion.metric, timeout)
    low, high = quantile_bounds(ordered, p)
    timed_out = any(sample.error == Cause.CLIENT_TIMEOUT for sample in trial.sent)
    open_ended = criterion.metric == "p95_all" and timed_out
    if open_ended and high is not None:
        # One that timed out took at least the timeout: from there on nothing is known.
        high = high if high < timeout else None
    above = sum(latency >= criterion.bound for latency in ordered) / len(ordered)
    share, count = complement(p), len(ordered)
    finding = _statistical(criterion, value, (low, high), above, share, trial, count)
    if open_ended and criterion.bound > timeout:
        # Nor is it known on which side of a later bound they are, so there is no count.
        return finding.model_copy(update={"samples": None, "beyond": None, "allowed": None})
    return finding


def _decide_range(criterion: Criterion, known: Range) -> Finding:
    """Held against both ends of a figure of which not all could be seen."""
    outcome = compare(criterion, known.low, known.high)
    exact = known.low == known.high
    measured = f"{criterion.name} {_range_label(criterion.metric, known)}"
    reason = f"{measured} against {_claim(criterion)}"
    return Finding(
        criterion=str(criterion),
        outcome=outcome,
        value=known.value,
        low=None if exact else known.low,
        high=None if exact else known.high,
        reason=f"{reason}: {known.why}" if outcome == "undecided" else reason,
    )


def _range_label(metric: str, known: Range) -> str:
    low = show(metric, known.low)
    high = "or more" if known.high is None else f"to {show(metric, known.high)}"
    label = low if known.low == known.high else f"{low} {high}"
    return f"{label} ({known.seen_by})" if known.seen_by else label


def _left_out(metric: str, trial: Trial) -> str:
    """How many uploads a figure of those that came through leaves out, where they are many."""
    if metric in PERCENTILES:
        counted = len(latencies(trial.sent, metric, trial.timeout))
    else:
        counted = len(trial.succeeded if metric in OF_SUCCESSES else trial.sent)
    left, sent = len(trial.sent) - counted, len(trial.sent)
    if not counted or left <= MANY_LEFT_OUT * sent:
        return ""
    why = "got no answer" if metric == "p95_all" else "failed"
    return f"; {left} of {sent} {trial.noun} {why} and do not count"


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


def _statistical(
    criterion: Criterion,
    value: float,
    bounds: tuple[float | None, float | None],
    share: float,
    bound: float,
    trial: Trial,
    samples: int,
) -> Finding:
    low, high = bounds
    outcome = compare(criterion, low, high)
    measured = f"{criterion.name} {show(criterion.metric, value)}"
    label = _bounds_label(criterion, outcome, low, high)
    reason = f"{measured}{label} against {_claim(criterion)}"
    if outcome == "undecided":
        reason = f"{reason}: {_too_few(samples, trial, share, bound)}"
    above, allowed = round(share * samples), bound
    if criterion.op in (">", ">="):  # it is those below that may not be many
        above, allowed = samples - above, complement(bound)
    is_counted = criterion.op != "=="  # a claim of equality has no wrong side
    return Finding(
        criterion=str(criterion),
        outcome=outcome,
        value=value,
        low=low,
        high=high,
        reason=reason,
        samples=samples if is_counted else None,
        beyond=above if is_counted else None,
        allowed=allowed if is_counted else None,
    )


def _claim(criterion: Criterion) -> str:
    return str(criterion).removeprefix(f"{criterion.name} ")


def _bounds_label(
    criterion: Criterion, outcome: Decision, low: float | None, high: float | None
) -> str:
    """The bound that decided, or both where neither did."""
    upper_decides = (criterion.op in ("<", "<=")) == (outcome == "met")
    parts = []
    if low and (outcome == "undecided" or not upper_decides):
        parts.append(f">= {show(criterion.metric, low)}")
    if high is not None and (outcome == "undecided" or upper_decides):
        parts.append(f"<= {show(criterion.metric, high)}")
    return f" ({' and '.join(parts)} at 95 %)" if parts else ""


def _too_few(count: int, trial: Trial, share: float, bound: float) -> str:
    if not 0 < bound < 1:
        return f"no number of {trial.noun} can show this"
    enough = needed(share, bound)
    if enough is None:
        return f"{count} {trial.noun} are too near the bound to tell"
    kind = "straight successes" if share == 0 else f"such {trial.noun}"
    return f"{count} {trial.noun} are too few, {max(enough, count + 1)} {kind} would tell"
