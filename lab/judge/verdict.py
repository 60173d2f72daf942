"""The verdict of one cell: held, broke, undecided, or invalid.

cell + observation ─> Trial ─┬─> checks of what was injected ─> reasons why it shows nothing
                             ├─> a finding for each criterion ─> outcome
                             ├─> bottleneck
                             └─> timeline, leaks
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.judge.criteria import decide, leading_causes, outcome_of
from lab.judge.decision import bottleneck
from lab.judge.injection import checks
from lab.judge.timeline import timeline
from lab.judge.trial import Trial
from lab.judge.validity import reasons_invalid
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.verdict import Finding, Outcome, Verdict


def judge(cell: Cell, observation: Observation) -> Verdict:
    """What the evidence says of a cell; the same evidence gives the same verdict, to the byte.

    Invalid where the lab cannot vouch for the trial; else broke if a criterion is missed;
    else undecided if one is, or if nothing was sent; else held.
    """
    trial = Trial(cell, observation)
    injected = checks(trial)
    invalid = reasons_invalid(trial, injected)
    findings = tuple(decide(criterion, trial) for criterion in cell.criteria)
    outcome = Outcome.INVALID if invalid else outcome_of(findings, attempts=len(trial.sent))
    return Verdict(
        cell=cell.id,
        outcome=outcome,
        reasons=_reasons(trial, outcome, invalid, findings),
        metrics=trial.metrics,
        findings=findings,
        injected=injected,
        limit=bottleneck(trial, findings) if trial.sent and not invalid else None,
        course=timeline(trial) if trial.sent else None,
        leaks=trial.leaks,
    )


def _reasons(
    trial: Trial, outcome: Outcome, invalid: Sequence[str], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """What decides, first: why it is invalid, then the criteria that were missed."""
    order = ("missed", "undecided", "met")
    reasons = [*invalid, *([] if trial.sent else [_why_nothing_sent(trial)])]
    reasons += [f.reason for f in sorted(findings, key=lambda f: order.index(f.outcome))]
    causes = leading_causes(trial)
    if outcome != Outcome.INVALID and causes and not any(causes in reason for reason in reasons):
        reasons.append(f"uploads failed: {causes}")
    if unheard := int(trial.metrics.get("unheard", 0)):
        reasons.append(f"uploads stored whose users were never told: {unheard}")
    return tuple(reasons)


def _why_nothing_sent(trial: Trial) -> str:
    """In a closed load, perhaps because nobody was answered in time."""
    start, end = trial.cell.load.measured
    samples = trial.observation.samples
    waiting = sum(s.sent_at < start < s.sent_at + s.latency_s for s in samples)
    reason = "no upload was sent in the window"
    if not waiting:
        return reason
    last = max(sample.sent_at + sample.latency_s for sample in samples)
    return (
        f"{reason}: {waiting} users were still waiting for an earlier answer, the last until"
        f" {last:.0f} s - let the window end ({end:.0f} s) later"
    )
