"""The program that holds what is met against the stored lines: it finds what is put in."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.errors import UsageError
from lab.judge import Trial as JudgedTrial
from lab.judge import judge
from lab.judge.metrics import measure_all
from lab.judge.trial import Trial
from lab.model.criterion import Criterion
from lab.model.evidence import Cause, Observation, Sample
from lab.model.journeys import Journey
from lab.model.metrics import BY_NAME, OF_JOURNEYS, only_on, status_of, with_journey
from lab.model.verdict import Finding, Outcome, Verdict
from tests.fakes.cells import make_cell
from tests.unit.judge.test_workers import CELLS
from validation import raw_metrics, server_counts
from validation.contradictions import (
    NAMES,
    STORED,
    check_formulas,
    contradictions,
    criterion_at_random,
    finished,
    main,
    unpacked,
    why_contradicted,
)
from validation.raw_metrics import FORMULAS, RawCell
from validation.server_counts import server_count, still_inside

ARCHIVES = sorted(STORED.glob("*.tar.xz"))
CLOSED = {"users": 10, "ramp": "0 s", "warmup": "0 s", "window": "100 s"}


def sample(sent: float = 1.0, latency: float = 2.0, **more: Any) -> dict[str, Any]:
    return {
        "planned_at": sent, "sent_at": sent, "latency_s": latency, "status": 200, "error": None,
        "bytes": 50_000, "user": 0, "stages": {}, "recording": "r", **more,
    }  # fmt: skip


def failed(cause: str, status: int = 503, **more: Any) -> dict[str, Any]:
    return sample(error=cause, status=status, **more)


def record(request: str, cause: str | None, status: int | None, t: float = 5.0) -> dict[str, Any]:
    spans = [["pool_wait", 1.0, t - 1.0]]
    return {
        "kind": "upload", "t": t, "request": request, "cause": cause, "status": status,
        "spans": spans,
    }  # fmt: skip


def raw(
    samples: Sequence[Mapping[str, Any]],
    evidence: Sequence[Mapping[str, Any]] = (),
    load: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RawCell:
    cell = make_cell(settings, cell_id="a", load=dict(load or CLOSED), criteria=["p95 < 1 s"])
    return RawCell(cell, samples, evidence)


def why(text: str, cell: RawCell) -> str | None:
    return why_contradicted(Criterion.parse(text), cell)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The cells of the smallest archive, unpacked for the module."""
    with unpacked(ARCHIVES[2:3]) as runs:
        kept = tmp_path_factory.mktemp("runs")
        [run] = runs
        return [path.rename(kept / path.name) for path in finished([run])]


@pytest.mark.parametrize("module", [raw_metrics, server_counts])
def test_the_formulas_know_nothing_of_the_judge(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {
        name for name in names if name.startswith(("lab.judge", "lab.report", "tests"))
    } == set()


def test_every_metric_has_a_formula_and_one_without_is_told() -> None:
    check_formulas()
    assert FORMULAS.keys() == BY_NAME.keys()
    rest = {name: formula for name, formula in FORMULAS.items() if name != "p95"}
    with pytest.raises(UsageError, match="no formula for p95 - add one"):
        check_formulas(rest)


UPLOADS = [sample(sent, 1.0 + sent) for sent in range(9)] + [failed("overloaded", 503)]
WORKERS = [
    {"kind": "worker", "t": t, "pid": pid, "checked_out": pid * t, "cpu_s": 0.1 * pid * t,
     "gcs_attempts": 10 * t, "threads": None}
    for pid in (2, 1) for t in range(11)
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attempts", 10),
        ("succeeded", 9),
        ("error_rate", 0.1),
        ("p50", 5.0),
        ("p95", 9.0),
        ("errors.overloaded", 1),
        ("errors.pool_timeout", 0),
        ("throughput", 9 / 100),
        ("auth", None),
        ("pool_checked_out", 30),
        ("cpu_backend", 0.3),
        ("cpu_worker_max", 0.2),
        ("gcs_attempts", 200),
        ("threads", None),
        ("lateness", 0.0),
        ("lost", None),
    ],
)
def test_a_figure_is_what_the_lines_give(name: str, value: float | None) -> None:
    worked_out = FORMULAS[name].value(raw(UPLOADS, WORKERS))
    assert worked_out == (None if value is None else pytest.approx(value))


STAGES = (
    *("pool_wait", "auth", "release", "pool_wait2", "write", "read"),
    *("speech_queue", "speech", "convert_queue", "convert"),
)


def test_each_journey_has_the_figures_that_its_lines_give() -> None:
    """Of a mix drawn at random, by formulas that know nothing of the judge."""
    rng = random.Random(7)
    mix = {"upload": "40 %", "assess": "20 %", "convert": "20 %", "progress": "20 %"}
    load = CLOSED | {"mix": mix, "health_every": "1 s"}
    lines = [
        sample(rng.uniform(-20, 120), rng.uniform(0.1, 30), journey=rng.choice(list(Journey)))
        | ({"error": "db_refused", "status": 503} if rng.random() < 0.2 else {})
        for _ in range(600)
    ]
    for line in lines:
        line["planned_at"] = line["sent_at"] - rng.random()
        line["stages"] = {stage: rng.random() for stage in STAGES}
    cell = raw(lines, load=load)
    seen = Observation(samples=tuple(map(Sample.model_validate, lines)), evidence=())
    judged = measure_all(JudgedTrial(cell.cell, seen))
    compared = 0
    for journey in Journey:
        for name, journeys in OF_JOURNEYS.items():
            skipped = name in ("capacity", "utilisation") or only_on(name) == "cloudrun"
            if journey in journeys and not skipped:
                worked_out = FORMULAS[name].value(replace(cell, journey=str(journey)))
                stored = judged.get(with_journey(name, journey))
                none = 0.0 if status_of(name) else None  # one that nobody was answered with
                assert worked_out == (none if stored is None else pytest.approx(stored, abs=1e-5))
                compared += stored is not None
    assert compared > 100
    assert FORMULAS["lateness"].value(cell) == pytest.approx(judged["lateness"], abs=1e-5)


def test_the_stored_verdicts_have_the_figures_that_the_lines_give(folders: list[Path]) -> None:
    for folder in folders:
        stored = json.loads((folder / "verdict.json").read_text())["metrics"]
        cell = RawCell.read(folder, make_cell({}, load={"burst": 50}, criteria=["p95 < 1 s"]))
        for name in ("attempts", "succeeded", "p50", "p95", "error_rate"):
            assert FORMULAS[name].value(cell) == pytest.approx(stored[name], rel=1e-4)


@pytest.mark.parametrize(
    ("text", "contradicted"),
    [
        ("p95 < 9.1 s", None),
        ("p95 < 8.9 s", "it is 9 by the lines"),
        ("p95 >= 9 s", None),
        ("p95 > 10 s", "it is 9 by the lines"),
        ("succeeded == 9", None),
        ("succeeded == 10", "it is 9 by the lines"),
        ("error_rate < 5 %", "it is 0.1 by the lines"),
        ("lost == 0", "the lines have no evidence of it"),
        ("pool_checked_out <= 29", None),  # within the doubt of a sum of readings
        ("pool_checked_out <= 20", "it is 30 by the lines"),
    ],
)
def test_what_is_met_is_held_against_the_lines(text: str, contradicted: str | None) -> None:
    assert why(text, raw(UPLOADS, WORKERS)) == contradicted


CUT = [sample(), failed("gateway_timeout", 504), failed("client_timeout", 0)]


@pytest.mark.parametrize(
    ("text", "contradicted"),
    [
        ("errors.pool_timeout == 0", "0 failed so, and 2 were cut off before the service answered"),
        ("errors.pool_timeout < 2", "0 failed so, and 2 were cut off before the service answered"),
        ("errors.pool_timeout <= 2", None),
        ("errors.pool_timeout >= 0", None),
        ("errors.pool_timeout > 0", "0 failed so, and 2 were cut off before the service answered"),
        ("errors.gateway_timeout == 1", None),  # nginx says so itself
    ],
)
def test_a_cause_inside_is_not_ruled_out_by_uploads_that_were_cut_off(
    text: str, contradicted: str | None
) -> None:
    assert why(text, raw(CUT)) == contradicted


def test_the_service_counts_those_that_nobody_heard_of() -> None:
    samples = [failed("gateway_timeout", 504, request=name) for name in ("a", "b", "c")]
    inside = [record("a", None, None), record("a", "pool_timeout", 503, t=70.0)]
    records = [*inside, record("b", None, 200), record("x", "pool_timeout", 503)]
    counted = raw(samples, records)
    assert (server_count("pool_timeout", counted), still_inside(counted)) == (1, 0)
    assert why("errors.pool_timeout == 0", counted) == (
        "the service counted 1, and 0 were still inside"
    )
    assert why("errors.pool_timeout <= 1", counted) is None
    assert why("errors.pool_timeout >= 1", counted) is None
    assert why("errors.pool_timeout > 1", counted) is not None
    assert why("errors.gcs_error == 0", counted) is None
    assert FORMULAS["unseen_failures"].value(counted) == 1
    open_end = raw(samples, [*records, record("c", None, None)])
    assert why("errors.pool_timeout <= 1", open_end) == (
        "the service counted 1, and 1 were still inside"
    )


def test_the_waits_of_uploads_that_were_cut_off_are_their_workers() -> None:
    told = sample(stages={"pool_wait": 1.0, "pool_wait2": 1.0}, request="a")
    cut_off = failed("client_timeout", 0, request="b")
    both = raw([told, cut_off], [record("a", None, 200, t=9.0), record("b", None, None, t=5.0)])
    assert FORMULAS["pool_wait"].value(both) == pytest.approx((2.0 + 4.0) / 2)
    assert FORMULAS["pool_wait"].value(raw([told, cut_off])) == pytest.approx(2.0)
    assert FORMULAS["unseen_failures"].value(both) == 0


@pytest.mark.parametrize(("refused", "count"), [(0, 0), (3, None)])
def test_postgres_log_rules_out_what_it_has_not(refused: int, count: int | None) -> None:
    audit = {"kind": "audit", "t": 99, "refused": refused}
    assert server_count(Cause.DB_REFUSED, raw(CUT, [audit])) == count
    assert server_count(Cause.POOL_TIMEOUT, raw(CUT, [audit])) is None


def test_criteria_are_drawn_over_all_comparisons_near_the_value_and_at_zero() -> None:
    rng = random.Random(1)
    drawn = [criterion_at_random("p95", {"p95": 10.0}, rng) for _ in range(300)]
    assert {criterion.op for criterion in drawn} == set(Criterion.OPERATORS)
    assert {criterion.bound for criterion in drawn} == {0, 5, 9, 9.9, 10, 10.1, 11, 20}
    counts = {criterion_at_random("attempts", {"attempts": 2.0}, rng).bound for _ in range(300)}
    assert counts == {0, 1, 2, 3, 4, 5}


def test_a_judge_that_calls_everything_met_is_contradicted(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def credulous(cell: Any, _observation: Any) -> Verdict:
        findings = tuple(
            Finding(criterion=str(criterion), outcome="met", value=None, reason="")
            for criterion in cell.criteria
        )
        return Verdict(
            cell=cell.id, outcome=Outcome.HELD, reasons=(), metrics={}, findings=findings,
            injected=(),
        )  # fmt: skip

    monkeypatch.setattr("validation.contradictions.judge", credulous)
    result = contradictions(folders, cells=1, seed=1)
    assert (result.cells, result.criteria) == (len(folders), len(folders) * len(NAMES))
    assert result.met == result.criteria
    assert len(result.contradictions) > result.criteria / 5


def test_held_with_what_is_not_met_is_a_contradiction(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rash(cell: Any, observation: Any) -> Verdict:
        verdict = judge(cell, observation)
        if len(verdict.findings) > 3:
            return verdict
        missed = tuple(f.model_copy(update={"outcome": "missed"}) for f in verdict.findings)
        return verdict.model_copy(update={"outcome": Outcome.HELD, "findings": missed})

    monkeypatch.setattr("validation.contradictions.judge", rash)
    found = contradictions(folders[:1], cells=1, seed=1).contradictions
    assert [each.why for each in found if each.outcome == Outcome.HELD] == [
        "the outcome is held, and it is not met"
    ] * 3


def test_a_run_or_an_archive_is_held_against_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([str(ARCHIVES[2]), "--cells", "4", "--results", str(tmp_path)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"4 cells, {4 * len(NAMES)} criteria, ")
    assert code == (0 if last.endswith(" 0 contradictions") else 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: (folder / "a.tar.xz").write_bytes(b"no"), "a.tar.xz: cannot be unpacked:"),
        (lambda _folder: None, "a.tar.xz: cannot be unpacked:"),
    ],
)
def test_what_is_no_archive_is_refused(
    make: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    assert main([str(tmp_path / "a.tar.xz")]) == 2
    assert message in capsys.readouterr().err


OF_A_SPLIT = ("capacity_split", "utilisation_split", "worker_share_max", "split_idle")
LATE_LOAD = {"users": 60, "ramp": "5 s", "warmup": "10 s", "window": "60 s"}


@pytest.mark.parametrize("case", CELLS, ids=[case[0] for case in CELLS])
def test_the_figures_of_a_split_are_what_the_lines_give(case: Any) -> None:
    _, settings, sent, evidence, _ = case
    knobs = {name: value for name, value in settings.items() if name != "load"}
    load = settings.get("load", LATE_LOAD)
    cell = make_cell({"gcs_call": "executor", **knobs}, load=dict(load), criteria=["p95 < 1 s"])
    judged = Trial(cell, Observation(samples=tuple(sent), evidence=tuple(evidence))).metrics
    samples, readings = ([one.model_dump(mode="json") for one in of] for of in (sent, evidence))
    for name in OF_A_SPLIT:
        worked_out = FORMULAS[name].value(RawCell(cell, samples, readings))
        if name not in judged:
            assert worked_out is None
            continue
        assert worked_out == pytest.approx(judged[name], rel=0.1, abs=0.02)
