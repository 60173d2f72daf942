"""A learner's change, held against the run before it: the shape is graded, never milliseconds.

A check with a bound of its own was decided by the judge as the run was judged, with its confidence;
one that is relative is decided here, by the 95 % interval of the ratio of both runs. A run that is
invalid is not graded.
"""

from __future__ import annotations

from lab.judge.comparison import Reference, incomparable
from lab.model.criterion import Criterion
from lab.model.lessons import CheckFinding, Grade, Lesson, LessonOutcome
from lab.model.run import CellResult
from lab.model.verdict import Finding, Outcome, Verdict


def grade(lesson: Lesson, before: CellResult, after: CellResult) -> Grade:
    """What came of a change.

    Args:
        lesson: its checks.
        before: the cell as the lesson has it.
        after: the same with the change.
    """
    for one, which in ((after, "with your change"), (before, "before it")):
        if one.verdict is Outcome.INVALID:
            return Grade(outcome="undecided", why=f"the run {which} is invalid: {_reason(one)}")
    found = tuple(
        _finding(check.criterion, check.because, before, after) for check in lesson.checks
    )
    return Grade(outcome=_outcome(found), findings=found)


def _reason(result: CellResult) -> str:
    return result.reasons[0] if result.reasons else "no reason is stored"


def _outcome(findings: tuple[CheckFinding, ...]) -> LessonOutcome:
    outcomes = {finding.outcome for finding in findings}
    if "missed" in outcomes:
        return "failed"
    return "passed" if outcomes == {"met"} else "undecided"


def _finding(
    criterion: Criterion, because: str, before: CellResult, after: CellResult
) -> CheckFinding:
    found = _relative(criterion, before, after) if criterion.relative else _own(criterion, after)
    return CheckFinding(
        check=_words(str(criterion)),
        outcome=found.outcome,
        reason=_words(found.reason),
        because=because if found.outcome == "missed" else "",
    )


def _words(text: str) -> str:
    return text.replace("x baseline", "x before")


def _own(criterion: Criterion, after: CellResult) -> Finding:
    """What the judge said of it, as the run was judged."""
    asked = str(criterion)
    told = next((one for one in after.findings if one.criterion == asked), None)
    reason = f"{criterion.name}: the run was not judged by {asked}"
    return told or Finding(criterion=asked, outcome="undecided", value=None, reason=reason)


def _relative(criterion: Criterion, before: CellResult, after: CellResult) -> Finding:
    if why := incomparable(after, before):
        reason = f"{criterion.name}: {why}"
        return Finding(criterion=str(criterion), outcome="undecided", value=None, reason=reason)
    reference = Reference("the run before", _verdict(before))
    return reference.decide(criterion, after.metrics, after.spreads)


def _verdict(result: CellResult) -> Verdict:
    """As much of a verdict as a comparison asks for."""
    return Verdict(
        cell=result.id,
        outcome=result.verdict,
        reasons=result.reasons,
        metrics=result.metrics,
        findings=result.findings,
        injected=result.injected,
        spreads=result.spreads,
    )
