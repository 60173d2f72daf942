"""Claims against evidence made by hand: each of the three outcomes, and what keeps one open."""

from __future__ import annotations

from typing import Any

import pytest

from lab.claims import StoredCell, ledger
from lab.judge import judge
from lab.model.claims import ClaimCell, ClaimFinding, ClaimVerdict, ReportClaim
from lab.model.evidence import Cause
from lab.model.run import CellResult, RunInfo
from lab.model.verdict import Bottleneck, Outcome, Resource
from tests.fakes import sample_run
from tests.unit.judge.observations import cell, observation, samples

HERE, THERE = ClaimCell(spec="s", cell="a"), ClaimCell(spec="s", cell="b")


def claim(*conditions: dict[str, Any], **more: Any) -> ReportClaim:
    return ReportClaim.model_validate(
        {
            "claim": "it-holds",
            "section": "1",
            "says": "It holds.",
            "cells": {"here": dict(HERE), "there": dict(THERE)},
            "confirmed_if": conditions,
            **more,
        }
    )


def info(name: str = "run", **more: Any) -> RunInfo:
    fields = {"started": sample_run.STARTED, "spec_file": "s.yaml", "stack": "embedded"}
    fields |= {"experiment": sample_run.EXPERIMENT, "stack_reason": "", "speed": 1.0}
    return RunInfo(**{**fields, "name": name, "digest": "", "cells": ("a", "b"), **more})


def stored(uploads: int = 200, failed: int = 0, of: Resource | None = None, **run: Any) -> Any:
    """A cell in which so many uploads were sent and failed, and whose limit is named."""
    made = cell("p95 < 10 s")
    seen = observation(samples(uploads, failed=failed, cause=Cause.POOL_TIMEOUT))
    limit = Bottleneck(resource=of, evidence="by hand") if of else None
    verdict = judge(made, seen).model_copy(update={"outcome": Outcome.HELD, "limit": limit})
    result = CellResult(
        id=made.id,
        axes={},
        knobs=made.knobs.as_text(),
        load=made.load.model_dump(mode="json"),
        verdict=verdict.outcome,
        reasons=(),
        metrics=verdict.metrics,
        findings=verdict.findings,
        injected=(),
    )
    return StoredCell(info(**run), made, seen, verdict, result)


def decided(
    *conditions: dict[str, Any], here: StoredCell | str = "", there: StoredCell | str = ""
) -> ClaimVerdict:
    [found] = ledger(
        [claim(*conditions)], {HERE: here or stored(), THERE: there or stored()}
    ).claims
    return found


def asked(criterion: str, **more: str) -> dict[str, Any]:
    return {"cell": "here", "criterion": criterion, **more}


TWICE = asked("throughput > 1.5 x baseline", beside="there")


@pytest.mark.parametrize(
    ("conditions", "outcome"),
    [
        ([asked("error_rate < 5 %")], "confirmed"),
        ([asked("error_rate > 5 %")], "refuted"),
        ([asked("error_rate < 1 %")], "undecided"),
        ([asked("error_rate < 5 %"), asked("p95 < 3 s")], "refuted"),
        ([asked("error_rate < 1 %"), asked("p95 < 3 s")], "refuted"),
        ([asked("error_rate < 5 %"), asked("error_rate < 1 %")], "undecided"),
        ([asked("errors.pool_timeout == 0"), asked("p95 < 10 s")], "confirmed"),
        ([asked("errors.pool_timeout > 0")], "refuted"),
        ([asked("status.503 == 0")], "confirmed"),  # known to be 0, because a claim asks for it
        ([asked("pool_slope < 1/min")], "undecided"),
    ],
)
def test_all_conditions_confirm_one_missed_refutes_and_else_it_is_open(
    conditions: list[dict[str, Any]], outcome: str
) -> None:
    assert decided(*conditions).outcome == outcome


@pytest.mark.parametrize(
    ("uploads", "outcome"),
    [(800, "confirmed"), (100, "refuted"), (301, "undecided")],
)
def test_a_condition_may_compare_two_cells(uploads: int, outcome: str) -> None:
    found = decided(TWICE, here=stored(uploads))
    assert found.outcome == outcome
    [finding] = found.findings
    assert finding.condition == "here: throughput > 1.5 x that of there"
    assert finding.reason.startswith("throughput ")
    assert finding.reason.endswith("against > 1.5 x that of there")
    assert finding.value == pytest.approx(uploads / 200, rel=0.03)


@pytest.mark.parametrize(
    ("here", "there", "reason"),
    [
        ({"stack": "compose"}, {}, "their stacks differ: compose and embedded"),
        ({}, {"machine": {"cpus": "8"}}, "they were measured on different machines"),
    ],
)
def test_cells_of_runs_that_differ_are_not_compared(
    here: dict[str, Any], there: dict[str, Any], reason: str
) -> None:
    found = decided(TWICE, here=stored(400, **here), there=stored(**there))
    assert found.outcome == "undecided"
    assert (found.findings[0].reason, found.findings[0].takes) == (
        reason,
        "runs that may be compared",
    )


@pytest.mark.parametrize(
    ("named", "outcome"),
    [
        (Resource.POOL, "confirmed"),
        (Resource.EVENT_LOOP, "refuted"),
        (Resource.NONE, "refuted"),
        (Resource.UNCLEAR, "undecided"),
        (None, "undecided"),
    ],
)
def test_a_condition_may_be_about_the_limit(named: Resource | None, outcome: str) -> None:
    found = decided({"cell": "here", "limit": "pool"}, here=stored(of=named))
    assert found.outcome == outcome
    assert found.findings[0].condition == "here: the limit is pool"
    assert bool(found.findings[0].takes) == (outcome == "undecided")


@pytest.mark.parametrize(
    ("confirms", "refutes", "outcome"),
    [
        ("p95 < 10 s", "p95 > 20 s", "confirmed"),
        ("p95 < 3 s", "p95 > 3.5 s", "refuted"),
        ("p95 < 3 s", "p95 > 20 s", "undecided"),
        ("error_rate < 1 %", "p95 > 20 s", "undecided"),
        ("p95 < 3 s", "error_rate < 1 %", "undecided"),
    ],
)
def test_a_claim_may_say_by_itself_what_refutes_it(
    confirms: str, refutes: str, outcome: str
) -> None:
    made = claim(asked(confirms), refuted_if=[asked(refutes)], takes="the platform")
    [found] = ledger([made], {HERE: stored(), THERE: stored()}).claims
    assert found.outcome == outcome
    assert [one.refutes for one in found.findings] == [False, True]
    assert found.takes == ("the platform" if outcome == "undecided" else "")


def finding(found: ClaimVerdict) -> ClaimFinding:
    [one] = found.findings
    return one


def test_what_is_not_stored_says_why_and_keeps_no_other_condition_from_refuting() -> None:
    found = decided(TWICE, there="no run of it is stored")
    assert found.outcome == "not measured"
    assert finding(found).reason == "s/b: no run of it is stored"
    assert [one.run for one in found.cells] == ["run", ""]
    assert decided(TWICE, asked("p95 < 3 s"), there="nothing").outcome == "refuted"


def test_what_is_open_says_what_it_takes() -> None:
    near = finding(decided(asked("throughput > 0.98 x baseline", beside="there")))
    assert near.outcome == "undecided"
    assert near.takes.startswith(("a window about ", "more than any window: "))
    even = finding(decided(asked("throughput > 1 x baseline", beside="there")))
    assert even.takes == "more than any window: the ratio is too near the bound to tell"
    assert "too few" in finding(decided(asked("error_rate < 1 %"))).reason
    absent = finding(decided(asked("pool_slope < 1/min")))
    assert absent.takes == "a cell in which there is something to measure"


def test_the_ledger_names_its_runs_once_and_counts() -> None:
    one = claim(asked("error_rate < 5 %"))
    two = claim(asked("error_rate > 5 %"), TWICE)
    found = ledger([one, two], {HERE: stored(name="r2"), THERE: stored(name="r1")})
    assert [run.run for run in found.runs] == ["r1", "r2"]
    assert found.counts == {"confirmed": 1, "refuted": 1}
    assert found.decided
    open_ended = ledger([one], {HERE: "nothing", THERE: "nothing"})
    assert (open_ended.counts, open_ended.decided) == ({"not measured": 1}, False)
    assert open_ended.runs == ()
