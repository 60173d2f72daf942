"""Finished cells made by hand, with just what an answer reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lab.model.criterion import Criterion
from lab.model.knobs import Knobs
from lab.model.run import CellResult, Summary
from lab.model.verdict import (
    Bottleneck,
    Candidate,
    Crossing,
    Failure,
    Finding,
    Leak,
    Outcome,
    Resource,
    Timeline,
)

Decision = Literal["met", "missed", "undecided"]

CLOSED = {"users": 30, "ramp": "5 s", "warmup": "0 s", "window": "2 min"}
STAGES = {"stages": [{"users": 10, "hold": "60 s"}, {"users": 100, "over": "240 s"}]}


def result(
    label: str = "as-found",
    verdict: Outcome = Outcome.HELD,
    metrics: Mapping[str, float] | None = None,
    findings: Mapping[str, Decision] | None = None,
    load: Mapping[str, Any] | None = None,
    limit: Bottleneck | None = None,
    course: Timeline | None = None,
    leaks: Sequence[Leak] = (),
    axes: Mapping[str, str] | None = None,
    target: Literal["vm", "cloudrun"] = "vm",
    **knobs: Any,
) -> CellResult:
    """A cell of the axis ``case``; ``findings`` are decisions by criterion."""
    measured = {"attempts": 100.0, "error_rate": 0.0} | dict(metrics or {})
    found = [
        Finding(
            criterion=text,
            outcome=outcome,
            value=measured.get(Criterion.parse(text).metric),
            reason=f"{text} is {outcome}",
        )
        for text, outcome in (findings or {}).items()
    ]
    return CellResult(
        id=f"case={label}",
        axes=dict(axes or {"case": label}),
        target=target,
        knobs=Knobs().with_settings(knobs).as_text(),
        load=dict(load or CLOSED),
        verdict=verdict,
        reasons=tuple(one.reason for one in found) or (f"it {verdict}",),
        metrics=measured,
        findings=tuple(found),
        injected=(),
        limit=limit,
        course=course,
        leaks=tuple(leaks),
    )


def summary(*cells: CellResult, missing: Sequence[str] = ()) -> Summary:
    return Summary(
        run="r",
        experiment="x",
        about="which?",
        stack="embedded",
        speed=5,
        cells=cells,
        missing=tuple(missing),
    )


def limited(resource: Resource, evidence: str) -> Bottleneck:
    one = Candidate(resource=resource, level=0.99, at_limit=True, evidence=evidence)
    return Bottleneck(resource=resource, evidence=evidence, candidates=(one,))


def crossing(criterion: str, since_users: int, users: int, t: float) -> Crossing:
    return Crossing(
        criterion=criterion,
        t=t,
        users=users,
        since=t - 5,
        since_users=since_users,
        value=11.0,
        samples=20,
    )


def course(*crossings: Crossing, failures: Sequence[Failure] = ()) -> Timeline:
    return Timeline(crossings=crossings, failures=tuple(failures))


def leak(metric: str, outcome: Literal["leak", "none", "undecided"], slope: float) -> Leak:
    return Leak(
        metric=metric,
        outcome=outcome,
        slope=slope,
        low=slope * 0.9,
        high=slope * 1.1,
        bound=1e6 / 60,
        over_s=1200,
        reason=outcome,
        what="memory, 98 KB an upload" if outcome == "leak" else "",
    )
