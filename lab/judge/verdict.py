"""The verdict of one cell: held, broke, undecided, or invalid."""

from __future__ import annotations

from collections.abc import Sequence

from lab.judge.criteria import decide, leading_causes, outcome_of
from lab.judge.injection import checks
from lab.judge.leaks import leaks
from lab.judge.limits import limiting_factor, look_at
from lab.judge.metrics import measure
from lab.judge.timeline import course
from lab.judge.trial import sent_in_window
from lab.judge.validity import guard
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.verdict import Finding, Outcome, Verdict


def judge(cell: Cell, observation: Observation) -> Verdict:
    """What the evidence says of a cell; the same evidence gives the same verdict, to the byte.

    Invalid where the lab cannot vouch for the trial; else broke if a criterion is missed;
    else undecided if one is, or if nothing was sent; else held.
    """
    metrics = measure(cell, observation)
    injected = checks(cell, observation, metrics)
    findings = tuple(decide(c, cell, observation, metrics) for c in cell.criteria)
    invalid = guard(cell, observation, metrics, injected)
    sent = sent_in_window(cell, observation)
    outcome = Outcome.INVALID if invalid else outcome_of(findings, attempts=len(sent))
    vouched = sent and not invalid
    limit = limiting_factor(look_at(cell, observation, metrics), findings) if vouched else None
    silence = [] if sent else [_silence(cell, observation)]
    reasons = [*invalid, *silence, *_told(findings)]
    why = leading_causes(sent)
    if outcome == Outcome.BROKE and why and not any(why in reason for reason in reasons):
        reasons.append(f"uploads failed: {why}")
    return Verdict(
        cell=cell.id,
        outcome=outcome,
        reasons=tuple(reasons),
        metrics=metrics,
        findings=findings,
        injected=injected,
        limit=limit,
        course=course(cell, observation) if sent else None,
        leaks=leaks(cell, observation),
    )


def _silence(cell: Cell, observation: Observation) -> str:
    """Why nothing was sent: in a closed load, perhaps because nobody was answered in time."""
    start, end = cell.load.measured
    waiting = sum(
        s.sent_at < start and s.sent_at + s.latency_s > start for s in observation.samples
    )
    reason = "no upload was sent in the window"
    if not waiting:
        return reason
    last = max(sample.sent_at + sample.latency_s for sample in observation.samples)
    return (
        f"{reason}: {waiting} users were still waiting for an earlier answer, the last until"
        f" {last:.0f} s - let the window end ({end:.0f} s) later"
    )


def _told(findings: Sequence[Finding]) -> list[str]:
    """The findings' reasons, those that decide first."""
    order = ("missed", "undecided", "met")
    return [f.reason for f in sorted(findings, key=lambda f: order.index(f.outcome))]
