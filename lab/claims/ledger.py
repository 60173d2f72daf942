"""Every claim against stored evidence; pure, and the same byte for byte.

    stored cell + what claims ask of it ─> Trial ─> a finding for each condition ─> outcome

A cell is judged anew from its evidence with the criteria of the claims in the place of its
spec's, by the judge that decides those. Its limit is the one that its stored verdict names: what
the uploads waited for that missed the spec's own criteria.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, log

from lab.judge.comparison import Reference, incomparable
from lab.judge.criteria import decide
from lab.judge.metrics import measure_all
from lab.judge.spread import spreads
from lab.judge.trial import Trial
from lab.model.claims import (
    ClaimCell,
    ClaimFinding,
    ClaimOutcome,
    ClaimVerdict,
    Condition,
    DecidingCell,
    Ledger,
    LedgerRun,
    ReportClaim,
)
from lab.model.criterion import Criterion
from lab.model.evidence import Observation
from lab.model.experiment import Cell
from lab.model.run import CellResult, RunInfo
from lab.model.verdict import Finding, Resource, Verdict

MAX_FACTOR = 20
"""Where a window would have to be so many times as long, a comparison is too near its bound."""

A_RUN = "a run, as `lab claims --run` makes it"


@dataclass(frozen=True)
class StoredCell:
    """A cell as it was measured, and is not invalid, and the run that it was found in."""

    info: RunInfo
    cell: Cell
    observation: Observation
    verdict: Verdict
    result: CellResult


Found = Mapping[ClaimCell, StoredCell | str]
"""By cell, what is stored of it, or why nothing is."""


def ledger(claims: Sequence[ReportClaim], found: Found) -> Ledger:
    """Decide claims by what is stored of their cells."""
    asked = _asked(claims)
    measured = {
        cell: _Measured(stored, asked.get(cell, ()))
        for cell, stored in found.items()
        if not isinstance(stored, str)
    }
    used = {cell for claim in claims for cell in claim.cells.values()}
    runs = {one.stored.info.name: one.stored.info for c, one in measured.items() if c in used}
    return Ledger(
        claims=tuple(_verdict(claim, measured, found) for claim in claims),
        runs=tuple(_run(info) for _, info in sorted(runs.items())),
    )


class _Measured:
    """A stored cell, judged by what claims ask of it."""

    def __init__(self, stored: StoredCell, criteria: Sequence[Criterion]) -> None:
        self.stored = stored
        absolute = tuple(one for one in criteria if not one.relative)
        relative = tuple(one for one in criteria if one.relative)
        asked = {"criteria": absolute, "relative": relative}
        self.trial = Trial(stored.cell.model_copy(update=asked), stored.observation)

    @cached_property
    def verdict(self) -> Verdict:
        """The stored one with the figures, and how well they are known, that claims ask for."""
        figures = {"metrics": measure_all(self.trial), "spreads": spreads(self.trial)}
        return self.stored.verdict.model_copy(update=figures)


def _asked(claims: Sequence[ReportClaim]) -> dict[ClaimCell, list[Criterion]]:
    """The criteria that claims hold each cell against, or take it as the other one for."""
    asked: dict[ClaimCell, list[Criterion]] = {}
    for claim in claims:
        for condition in claim.conditions:
            for label in (condition.cell, condition.beside):
                if label and condition.criterion:
                    criteria = asked.setdefault(claim.cells[label], [])
                    criteria += [c for c in (condition.criterion,) if c not in criteria]
    return asked


def _verdict(
    claim: ReportClaim, measured: Mapping[ClaimCell, _Measured], found: Found
) -> ClaimVerdict:
    findings = [_finding(one, claim, measured, found) for one in claim.confirmed_if]
    against = [_finding(one, claim, measured, found) for one in claim.refuted_if]
    outcome = _outcome(findings, against)
    return ClaimVerdict(
        claim=claim.claim,
        section=claim.section,
        says=claim.says,
        outcome=outcome,
        findings=(*findings, *(one.model_copy(update={"refutes": True}) for one in against)),
        cells=tuple(_deciding(claim, measured)),
        takes=claim.takes if outcome == "undecided" else "",
    )


def _outcome(findings: Sequence[ClaimFinding], against: Sequence[ClaimFinding]) -> ClaimOutcome:
    """Confirmed if all conditions are met; refuted if one is missed, or if there are conditions
    that refute, if one of these is met; else what keeps it open."""
    outcomes = {finding.outcome for finding in findings}
    if any(one.outcome == "met" for one in against) or ("missed" in outcomes and not against):
        return "refuted"
    if outcomes == {"met"}:
        return "confirmed"
    return "not measured" if "not measured" in outcomes else "undecided"


def _deciding(
    claim: ReportClaim, measured: Mapping[ClaimCell, _Measured]
) -> Iterator[DecidingCell]:
    for label, cell in claim.cells.items():
        run = measured[cell].stored.info.name if cell in measured else ""
        yield DecidingCell(label=label, spec=cell.spec, cell=cell.cell, run=run)


def _run(info: RunInfo) -> LedgerRun:
    return LedgerRun(
        run=info.name, started=info.started, stack=info.stack, machine=info.machine, git=info.git
    )


def _finding(
    condition: Condition,
    claim: ReportClaim,
    measured: Mapping[ClaimCell, _Measured],
    found: Found,
) -> ClaimFinding:
    labels = [label for label in (condition.cell, condition.beside) if label]
    for label in labels:
        cell = claim.cells[label]
        if cell not in measured:
            reason = f"{cell}: {found.get(cell, 'nobody looked for it')}"
            return _open(condition, "not measured", reason, A_RUN)
    here, *others = (measured[claim.cells[label]] for label in labels)
    if condition.criterion is None:
        return _of_limit(condition, here)
    if others:
        return _beside(condition, condition.criterion, here, others[0])
    return _told(condition, decide(condition.criterion, here.trial))


def _open(condition: Condition, outcome: str, reason: str, takes: str) -> ClaimFinding:
    return ClaimFinding.model_validate(
        {"condition": str(condition), "outcome": outcome, "reason": reason, "takes": takes}
    )


def _of_limit(condition: Condition, here: _Measured) -> ClaimFinding:
    """Whether the verdict names this resource; where two compete it says nothing."""
    limit = here.stored.verdict.limit
    if limit is None or limit.resource is Resource.UNCLEAR:
        reason = f"the limit is unclear: {limit.evidence}" if limit else "no limit is named"
        return _open(condition, "undecided", reason, "a diagnosis by `lab why`")
    met = limit.resource is condition.limit
    return ClaimFinding(
        condition=str(condition),
        outcome="met" if met else "missed",
        reason=f"the limit is {limit.resource}: {limit.evidence}",
    )


def _beside(
    condition: Condition, criterion: Criterion, here: _Measured, there: _Measured
) -> ClaimFinding:
    """A relative criterion, where the two cells' figures may be compared."""
    why_not = _differ(here.stored.info, there.stored.info) or incomparable(
        here.stored.result, there.stored.result
    )
    if why_not:
        return _open(condition, "undecided", why_not, "runs that may be compared")
    reference = Reference(there.stored.cell.id, there.verdict)
    finding = reference.decide(criterion, here.verdict.metrics, here.verdict.spreads)
    return _told(condition, finding)


def _differ(here: RunInfo, there: RunInfo) -> str:
    """Why cells of two runs are not to be compared; empty where they are."""
    if here.stack != there.stack:
        return f"their stacks differ: {here.stack} and {there.stack}"
    if here.machine != there.machine:
        return "they were measured on different machines"
    return ""


def _told(condition: Condition, finding: Finding) -> ClaimFinding:
    return ClaimFinding(
        condition=str(condition),
        outcome=finding.outcome,
        value=finding.value,
        low=finding.low,
        high=finding.high,
        reason=finding.reason.replace("x baseline", f"x that of {condition.beside}"),
        takes=_takes(finding) if finding.outcome == "undecided" else "",
    )


def _takes(finding: Finding) -> str:
    """What it would take to decide: an interval narrows as the root of what is measured."""
    criterion, low, high = Criterion.parse(finding.criterion), finding.low, finding.high
    if finding.value is None:
        return "a cell in which there is something to measure"
    if not (criterion.relative and low and high):
        return "a longer window"
    off = abs(log(finding.value / criterion.bound)) if finding.value else 0.0
    factor = (log(high / low) / 2 / off) ** 2 if off else MAX_FACTOR + 1
    if factor > MAX_FACTOR:
        return "more than any window: the ratio is too near the bound to tell"
    return f"a window about {ceil(10 * factor) / 10:g} times as long"
