"""The verdict of one cell: held, broke, undecided, or invalid.

cell + observation ─> Trial ─┬─> checks of what was injected ─> reasons why it shows nothing
                             ├─> how well its figures are known
                             ├─> a finding for each criterion ─> outcome
                             ├─> bottleneck
                             └─> timeline, leaks, where the event loop stood, the workers' shares,
                                 where an upload's time goes, how latencies are distributed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.judge.comparison import Reference
from lab.judge.costs import cost_of
from lab.judge.criteria import decide, leading_causes, outcome_of
from lab.judge.decision import bottleneck
from lab.judge.distribution import latencies
from lab.judge.injection import checks
from lab.judge.metrics import measure_all
from lab.judge.sequential import early_end
from lab.judge.sizes import by_size
from lab.judge.spread import spreads
from lab.judge.time_spent import time_spent
from lab.judge.timeline import timeline
from lab.judge.times import times_of
from lab.judge.trial import Trial
from lab.judge.validity import reasons_invalid
from lab.judge.workers import worker_shares
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.journeys import REQUESTS
from lab.model.load import OpenLoad
from lab.model.units import percent
from lab.model.verdict import Bottleneck, Finding, Invalidity, Outcome, Verdict


def judge(cell: Cell, observation: Observation, reference: Reference | None = None) -> Verdict:
    """What the evidence says of a cell; the same evidence gives the same verdict, to the byte.

    Invalid where the lab cannot vouch for the trial; else broke if a criterion is missed;
    else undecided if one is, or if nothing was sent; else held.

    Args:
        cell: which.
        observation: the evidence.
        reference: what its relative criteria are held against.
    """
    trial = Trial(cell, observation)
    metrics, known = measure_all(trial), spreads(trial)
    injected = checks(trial)
    invalid = reasons_invalid(trial, injected)
    reference = reference or Reference(cell.baseline)
    relative = [reference.decide(criterion, metrics, known) for criterion in cell.relative]
    absolute = [decide(criterion, trial) for criterion in cell.criteria]
    findings = (*absolute, *relative)
    main = trial.main
    outcome = Outcome.INVALID if invalid else outcome_of(findings, attempts=len(main.sent))
    decided = early_end(main)
    return Verdict(
        cell=cell.id,
        outcome=outcome,
        reasons=(
            *_reasons(main, outcome, invalid, findings),
            *([str(decided)] if decided else []),
        ),
        metrics=metrics,
        findings=findings,
        injected=injected,
        limit=_limit(trial, (*absolute, *map(reference.resolved, relative)), invalid),
        course=timeline(trial) if trial.sent else None,
        leaks=trial.leaks,
        stood=trial.stood,
        decided=decided,
        cost=cost_of(trial),
        invalid=invalid,
        workers=worker_shares(trial),
        sizes=by_size(trial),
        spreads=known,
        times=times_of(trial),
        time_spent=time_spent(main),
        latencies=latencies(main),
    )


def _limit(
    trial: Trial, findings: Sequence[Finding], invalid: Sequence[Invalidity]
) -> Bottleneck | None:
    return bottleneck(trial, findings) if trial.main.sent and not invalid else None


def _reasons(
    trial: Trial, outcome: Outcome, invalid: Sequence[Invalidity], findings: Sequence[Finding]
) -> tuple[str, ...]:
    """What decides, first: why it is invalid, then the criteria that were missed.

    That less was offered than asked for stands before what was met all the same.
    """
    reasons = [
        *(one.reason for one in invalid),
        *([] if trial.sent else [_why_nothing_sent(trial)]),
    ]
    reasons += [f.reason for kind in ("missed", "undecided") for f in findings if f.outcome == kind]
    reasons += _not_sent(trial)
    reasons += [f.reason for f in findings if f.outcome == "met"]
    causes = leading_causes(trial)
    if outcome != Outcome.INVALID and causes and not any(causes in reason for reason in reasons):
        reasons.append(f"{trial.noun} failed: {causes}")
    if unheard := int(trial.metrics.get("unheard", 0)):
        reasons.append(f"uploads stored whose users were never told: {unheard}")
    if wasted := trial.metrics.get("wasted"):
        reasons.append(f"storage calls for users who had left by their end: {percent(wasted)}")
    return tuple(reasons)


def _not_sent(trial: Trial) -> Iterator[str]:
    """What an open load kept back: the cell was offered less than its rate."""
    dropped, load = int(trial.metrics.get("dropped", 0)), trial.cell.load
    if dropped and isinstance(load, OpenLoad):
        arrived = dropped + len(trial.counted(trial.by_users))
        what = "requests" if load.mix else "uploads"
        yield (
            f"{dropped} of {arrived} arrivals of the window were not sent:"
            f" {load.max_in_flight} {what} were in flight (max_in_flight)"
        )


def _why_nothing_sent(trial: Trial) -> str:
    """In a closed load, perhaps because nobody was answered in time."""
    start, end = trial.load.measured
    samples = trial.by_users
    waiting = sum(s.sent_at < start < s.sent_at + s.latency_s for s in samples)
    reason = f"no {REQUESTS[trial.journey].noun} was sent in the window"
    if not waiting:
        return reason
    last = max(sample.sent_at + sample.latency_s for sample in samples)
    return (
        f"{reason}: {waiting} users were still waiting for an earlier answer, the last until"
        f" {last:.0f} s - let the window end ({end:.0f} s) later"
    )
