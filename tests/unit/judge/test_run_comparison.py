"""Two runs beside each other: partners, what keeps runs apart, and what is certain of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from lab.judge.run_comparison import FinishedCell, FinishedRun, compare_runs
from lab.model.experiment import Cell, Experiment
from lab.model.run import CellResult, RunInfo
from lab.model.run_comparison import RunComparison
from lab.model.verdict import EarlyEnd, Finding, Outcome, Spread, Verdict
from lab.plan import expand

LOAD = {"users": 20, "window": "60 s", "audio": "50 KB"}
CRITERIA = ["p95 < 10 s", "error_rate < 5 %"]
KNOWN = {
    "throughput": Spread(error=0.02, batches=10),
    "p50": Spread(error=0.02, batches=10),
    "p95": Spread(error=0.02, batches=10),
    "error_rate": Spread(error=0.01, batches=10, effective=400),
}
FIGURES = {"throughput": 2.0, "p50": 4.0, "p95": 8.0, "error_rate": 0.01}


def spec(matrix: Mapping[str, Any] | None = None, **more: Any) -> Experiment:
    told = {"experiment": "x", "load": LOAD, "faults": [], "criteria": CRITERIA, **more}
    return Experiment.model_validate(told | ({"matrix": matrix} if matrix else {}))


def finding(criterion: str, outcome: str, beyond: int, **more: Any) -> Finding:
    counted = {"samples": 400, "beyond": beyond, "allowed": 0.05}
    data = {"criterion": criterion, "outcome": outcome, "value": 1.0, "reason": "so"}
    return Finding.model_validate(data | counted | more)


MET = (finding(CRITERIA[0], "met", 0), finding(CRITERIA[1], "met", 4))


def result(
    cell: Cell,
    figures: Mapping[str, float] | None = None,
    findings: Sequence[Finding] = MET,
    spreads: Mapping[str, Spread] | None = None,
    **more: Any,
) -> CellResult:
    verdict = Verdict(
        cell=cell.id,
        outcome=more.pop("outcome", Outcome.HELD),
        reasons=(),
        metrics=FIGURES | dict(figures or {}),
        findings=tuple(findings),
        injected=(),
        spreads=dict(KNOWN if spreads is None else spreads),
        **more,
    )
    return CellResult.of(cell, verdict)


def run(
    of: Experiment,
    changed: Mapping[str, Mapping[str, Any]] | None = None,
    only: Sequence[str] = (),
    **info: Any,
) -> FinishedRun:
    """A run of a spec, in which the cells with these ids came out as told."""
    cells = [cell for cell in expand(of, {}) if not only or cell.id in only]
    told = {
        "started": datetime(2026, 11, 28, tzinfo=UTC),
        "spec_file": "x.yaml",
        "experiment": of,
        "stack": "embedded",
        "stack_reason": "asked for",
        "speed": 1.0,
        "name": "run",
        "digest": "0",
        "cells": tuple(cell.id for cell in cells),
        "machine": {"cpus": "2", "kernel": "6.1"},
        "versions": {"lab": "0.1.0", "nginx": "1.31.3"},
    }
    made = [FinishedCell(cell, result(cell, **(changed or {}).get(cell.id, {}))) for cell in cells]
    return FinishedRun(RunInfo(**{**told, **info}), made)


def pairs(told: RunComparison) -> list[tuple[str, str]]:
    return [(pair.before, pair.after) for pair in told.cells]


# Partners.

TWO = spec({"workers": [1, 2]})


def test_cells_are_partners_by_their_settings_whatever_their_ids() -> None:
    named = spec({"size": {"small": {"workers": 1}, "large": {"workers": 2}}})
    told = compare_runs(run(TWO), run(named))
    assert pairs(told) == [("workers=1", "size=small"), ("workers=2", "size=large")]
    assert (told.changed, told.open) == ({}, False)


def test_the_same_id_with_other_settings_is_no_partner() -> None:
    sizes = [{"s": {"workers": one}, "l": {"workers": 4}} for one in (1, 2)]
    before, after = (run(spec({"size": size})) for size in sizes)
    told = compare_runs(before, after)
    assert pairs(told) == [("size=l", "size=l")]
    assert (told.before.alone, told.after.alone) == (("size=s",), ("size=s",))
    assert told.open


def test_axes_in_another_order_are_the_same_cells() -> None:
    pool = {"5": {"pool_size": 5}, "9": {"pool_size": 9}}
    told = compare_runs(
        run(spec({"workers": [1, 2], "pool": pool})), run(spec({"pool": pool, "workers": [2, 1]}))
    )
    assert ("workers=1,pool=9", "pool=9,workers=1") in pairs(told)
    assert len(told.cells) == 4


def test_what_changed_between_all_cells_keeps_none_apart() -> None:
    eight, eleven = (
        spec({"workers": [1, 2]}, knobs={"gcs_call": "executor", "gcs_threads": n}) for n in (8, 11)
    )
    told = compare_runs(run(eight), run(eleven))
    assert len(told.cells) == 2
    assert told.changed == {"gcs_threads": (8, 11)}
    more = compare_runs(run(spec()), run(spec(load=LOAD | {"users": 30})))
    assert more.changed == {"load.users": (20, 30)}
    assert len(more.cells) == 1


def test_one_cell_of_a_matrix_finds_its_partner_among_all() -> None:
    told = compare_runs(run(TWO), run(TWO, only=["workers=2"]))
    assert pairs(told) == [("workers=2", "workers=2")]
    assert told.before.alone == ("workers=1",)


def test_repeats_are_partners_by_their_number() -> None:
    thrice = spec(repeat=3)
    assert pairs(compare_runs(run(thrice), run(thrice))) == [
        (f"repeat={n}", f"repeat={n}") for n in (1, 2, 3)
    ]


def test_values_that_come_to_the_same_settings_are_told_apart_by_their_ids() -> None:
    """No spec of today has such, but a stored run of an earlier one may."""
    [cell] = expand(spec(), {})
    cells = [cell.model_copy(update={"id": name, "axes": {"case": name}}) for name in "ab"]
    both = FinishedRun(run(spec()).info, [FinishedCell(one, result(one)) for one in cells])
    assert pairs(compare_runs(both, both)) == [("a", "a"), ("b", "b")]


def test_a_chosen_speed_keeps_none_apart_and_an_axis_of_speeds_does() -> None:
    old, new = run(spec()), run(spec(knobs={"speed": 4}))
    assert len(compare_runs(old, new).cells) == 1
    speeds = spec({"speed": [1, 4]})
    assert pairs(compare_runs(run(speeds), run(speeds))) == [
        ("speed=1.0", "speed=1.0"),
        ("speed=4.0", "speed=4.0"),
    ]


def test_runs_without_a_common_cell_have_no_pairs() -> None:
    assert compare_runs(run(TWO), run(spec({"workers": [3, 4]}))).cells == ()


# What keeps them apart.

APART: dict[str, tuple[dict[str, Any], str]] = {
    "stack": ({"stack": "compose"}, "their stacks differ: embedded and compose"),
    "machine": (
        {"machine": {"cpus": "4", "kernel": "6.1"}},
        "their machines differ: cpus 2 and 4",
    ),
    "versions": (
        {"versions": {"lab": "0.1.0", "nginx": "1.30", "toxiproxy": "real"}},
        "their versions differ: nginx 1.31.3 and 1.30, toxiproxy - and real",
    ),
}


@pytest.mark.parametrize("case", APART)
def test_runs_that_are_not_comparable_are_told_with_the_reason(case: str) -> None:
    info, why = APART[case]
    worse = {"workers=1": {"figures": {"throughput": 1.0}}}
    told = compare_runs(run(TWO), run(TWO, worse, **info))
    assert told.why_not == (why,)
    assert all(pair.beside.why_not == why and not pair.beside.changes for pair in told.cells)
    assert (told.worse, told.open, told.figures) == (False, True, 0)
    anyway = compare_runs(run(TWO), run(TWO, worse, **info), anyway=True)
    assert anyway.why_not == (why,)
    assert (anyway.worse, anyway.open) == (True, False)


def test_another_lab_is_what_is_compared() -> None:
    versions = {"lab": "0.2.0", "nginx": "1.31.3"}
    assert compare_runs(run(TWO), run(TWO, versions=versions)).why_not == ()


def test_files_of_another_size_are_not_compared_unless_asked() -> None:
    larger = spec(load=LOAD | {"audio": "1 MB"})
    told = compare_runs(run(spec()), run(larger))
    [pair] = told.cells
    assert pair.beside.why_not == "their files differ: 1 MB and 50 KB"
    assert told.open
    [pair] = compare_runs(run(spec()), run(larger), anyway=True).cells
    assert (pair.beside.why_not, len(pair.beside.changes)) == ("", 4)


def test_speeds_are_compared_where_they_change_nothing() -> None:
    def at(speed: float, workers: int) -> FinishedRun:
        return run(spec(knobs={"speed": speed, "workers": workers}))

    assert compare_runs(at(1, 1), at(8, 1)).open is False
    [pair] = compare_runs(at(1, 4), at(8, 4)).cells
    assert "share one socket more evenly" in pair.beside.why_not
    [pair] = compare_runs(at(1, 4), at(8, 4), anyway=True).cells
    assert pair.beside.why_not == ""


@pytest.mark.parametrize("anyway", [False, True])
def test_what_has_no_figures_is_compared_by_nobody(anyway: bool) -> None:
    early = EarlyEnd(uploads=90, after_s=20.0, window_s=22.0, planned_s=60.0)
    told = compare_runs(
        run(TWO),
        run(TWO, {"workers=1": {"outcome": Outcome.INVALID}, "workers=2": {"decided": early}}),
        anyway=anyway,
    )
    whys = [pair.beside.why_not for pair in told.cells]
    assert whys[0] == "the later one is invalid"
    assert whys[1].startswith("the later one ended as soon as it was decided")
    burst = compare_runs(run(spec()), run(spec(load={"burst": 20})), anyway=anyway)
    assert burst.cells[0].beside.why_not == "their loads differ: burst and closed"


# What is certain.


def alone(after: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Any:
    one = spec()
    [cell] = expand(one, {})
    old, new = run(one, {cell.id: before or {}}), run(one, {cell.id: after})
    return compare_runs(old, new).cells[0]


@pytest.mark.parametrize(
    ("figures", "worse", "better"),
    [
        ({}, (), ()),
        ({"throughput": 1.5}, ("throughput",), ()),
        ({"throughput": 2.6}, (), ("throughput",)),
        ({"p95": 11.0}, ("p95",), ()),
        ({"p95": 8.5}, (), ()),  # 6 %, of which nothing is certain
        ({"error_rate": 0.2}, ("error_rate",), ()),
        ({"throughput": 1.5, "p50": 3.0}, ("throughput",), ("p50",)),
    ],
)
def test_worse_and_better_are_what_is_certain(
    figures: dict[str, float], worse: tuple[str, ...], better: tuple[str, ...]
) -> None:
    pair = alone({"figures": figures})
    assert (pair.worse, pair.better) == (worse, better)


def test_what_is_certain_and_does_not_matter_is_neither() -> None:
    exact = {name: Spread(error=1e-5, batches=20, effective=1e6) for name in KNOWN}
    both = {"spreads": exact}
    pair = alone(both | {"figures": {"p95": 8.3, "error_rate": 0.018}}, both)
    tendencies = {change.metric: change.tendency for change in pair.beside.changes}
    assert (tendencies["p95"], tendencies["error_rate"]) == ("worse", "worse")
    assert (pair.worse, pair.better) == ((), ())
    assert alone(both | {"figures": {"p95": 8.5}}, both).worse == ("p95",)


def test_intervals_are_wider_the_more_of_them_there_are() -> None:
    def width(cells: int) -> float:
        of = spec(repeat=cells)
        told = compare_runs(run(of), run(of))
        assert told.figures == 4 * cells
        change = told.cells[0].beside.changes[0]
        assert change.low is not None
        assert change.high is not None
        return change.high - change.low

    assert width(1) < width(12) < width(50)


def test_of_one_that_seems_worse_among_many_nothing_is_certain() -> None:
    """What is certain of a pair for itself is not so where fifty pairs are looked at."""
    fifty, slower = spec(repeat=50), {"figures": {"throughput": 1.78}}
    one = expand(spec(), {})[0].id
    assert compare_runs(run(spec()), run(spec(), {one: slower})).worse
    assert not compare_runs(run(fifty), run(fifty, {"repeat=7": slower})).worse


def test_how_latency_changed_does_not_count_where_many_fail() -> None:
    """Slow uploads that are served again make the percentile of the successes worse."""
    failing = {"figures": {"error_rate": 0.5, "p95": 4.0, "p50": 2.0}}
    pair = alone({}, failing)
    assert (pair.worse, pair.better) == ((), ("error_rate",))


P95_MISSED = (finding(CRITERIA[0], "missed", 60), MET[1])


def test_a_criterion_that_turned_for_certain_is_worse_or_better() -> None:
    assert alone({"findings": P95_MISSED}).worse == (CRITERIA[0],)
    assert alone({}, {"findings": P95_MISSED}).better == (CRITERIA[0],)


@pytest.mark.parametrize(
    "after",
    [
        (finding(CRITERIA[0], "missed", 29), MET[1]),  # 29 of 400 where 20 are allowed: 3 %
        (finding(CRITERIA[0], "missed", 60, samples=None), MET[1]),
        (finding(CRITERIA[0], "undecided", 20), MET[1]),
    ],
    ids=["by chance", "not counted", "undecided"],
)
def test_a_criterion_that_may_have_turned_by_chance_is_neither(after: tuple[Finding, ...]) -> None:
    pair = alone({"findings": after})
    assert (pair.worse, pair.better) == ((), ())
    assert len(pair.beside.flips) == 1


def test_of_a_window_that_ended_early_the_test_that_ended_it_counts() -> None:
    early = EarlyEnd(uploads=90, after_s=20.0, window_s=22.0, planned_s=60.0)
    sure = finding(CRITERIA[0], "missed", 20, certain_after=90)
    pair = alone({"decided": early, "findings": (sure, MET[1])})
    assert pair.worse == (CRITERIA[0],)
    unsure = sure.model_copy(update={"certain_after": None})
    assert alone({"decided": early, "findings": (unsure, MET[1])}).worse == ()


def test_a_pair_of_which_nothing_is_known_passes_nothing() -> None:
    told = compare_runs(run(spec()), run(spec(), {expand(spec(), {})[0].id: {"spreads": {}}}))
    [pair] = told.cells
    assert pair.unclear
    assert told.open
