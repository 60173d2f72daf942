"""Results of cells made by hand, as a diagnosis reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.model.run import CellResult
from lab.model.verdict import Bottleneck, Candidate, Finding, Outcome, Resource, Spread
from tests.fakes import make_cell

KNOWN = Spread(error=0.02, batches=10)
P95, ERRORS = "p95 < 10 s", "error_rate < 5 %"


def candidate(resource: str, level: float = 1.0, *, full: bool = True, waited: float = 0.0) -> Any:
    return Candidate(
        resource=Resource(resource), level=level, at_limit=full, evidence="x", waited=waited
    )


def limit(named: str, *others: Candidate) -> Bottleneck:
    of = [candidate(named, waited=0.9)] if named not in ("none", "unclear") else []
    return Bottleneck(resource=Resource(named), evidence="x", candidates=(*of, *others))


def result(
    p95: float = 20.0,
    *,
    cell_id: str = "cell",
    rate: float = 2.0,
    verdict: Outcome | None = None,
    at: Bottleneck | None = None,
    spreads: Mapping[str, Spread] | None = None,
    outcomes: Sequence[tuple[str, str, float]] = (),
) -> CellResult:
    """A cell that misses p95 < 10 s, or does not, with everything known to 2 %."""
    cell = make_cell(cell_id=cell_id, criteria=[P95, ERRORS])
    met = "met" if p95 < 10 else "missed"
    told = outcomes or [(P95, met, p95), (ERRORS, "met", 0.0)]
    findings = [
        Finding.model_validate({"criterion": c, "outcome": o, "value": v, "reason": f"{c} {o}"})
        for c, o, v in told
    ]
    broke = any(finding.outcome == "missed" for finding in findings)
    return CellResult(
        id=cell_id,
        axes={},
        knobs=cell.knobs.as_text(),
        load=cell.load.model_dump(mode="json"),
        verdict=verdict or (Outcome.BROKE if broke else Outcome.HELD),
        reasons=(f"p95 {p95:g} s",),
        metrics={"p95": p95, "throughput": rate, "error_rate": 0.0},
        findings=tuple(findings),
        injected=(),
        limit=at,
        spreads={"p95": KNOWN, "throughput": KNOWN} if spreads is None else dict(spreads),
    )
