"""A cell beside its baseline: what changed, how certain that is, and what is not compared."""

from __future__ import annotations

from math import exp, isclose
from typing import Any

import pytest

from lab.judge.comparison import (
    Reference,
    against,
    change,
    compared,
    multiple,
    ratio,
    share_difference,
    wilson,
)
from lab.model.criterion import Criterion
from lab.model.run import CellResult, Summary
from lab.model.split import Split, SplitEffect
from lab.model.verdict import EarlyEnd, Outcome, Resource, Spread, Verdict
from tests.fakes import make_cell
from tests.unit.diagnosis.results import ERRORS, KNOWN, P95, limit, result

SHARE = Spread(error=0.01, batches=10, effective=200)
NONE: dict[str, Spread] = {}


def other(p95: float = 20.0, **more: Any) -> CellResult:
    """Another cell, whose baseline is the one that `result` makes."""
    made = result(p95, cell_id="other", **more)
    return made.model_copy(update={"baseline": "cell"})


def verdict(rate: float = 2.0, outcome: Outcome = Outcome.HELD, **metrics: float) -> Verdict:
    return Verdict(
        cell="cell",
        outcome=outcome,
        reasons=(),
        metrics={"throughput": rate} | metrics,
        findings=(),
        injected=(),
        spreads={"throughput": KNOWN, "error_rate": SHARE},
    )


def test_a_ratio_is_as_certain_as_both_figures_are() -> None:
    low, high = ratio((4.0, 2.0), (KNOWN, KNOWN))
    # Two errors of 2 % from ten stretches each are one of 2.83 % with 18 degrees of freedom.
    assert isclose(high, 2 * exp(2.10092 * 0.0282843), rel_tol=1e-5)
    assert isclose(low, 4 / high)
    alone = ratio((4.0, 2.0), (KNOWN, Spread(error=0.0, batches=10)))
    assert isclose(alone[1], 2 * exp(2.26216 * 0.02), rel_tol=1e-5)


@pytest.mark.parametrize("error", [1e-200, 1e-90, 800.0, 1e18])
def test_no_error_however_small_or_large_is_beyond_a_ratio(error: float) -> None:
    of = Spread(error=error, batches=5)
    low, high = ratio((4.0, 2.0), (of, of))
    assert 0 < low <= 2 <= high < 1e10
    assert (low == high) is (error < 1e-9)


@pytest.mark.parametrize("share", [-3.0, 7.0, 1e18])
def test_a_stored_share_that_is_none_breaks_no_interval(share: float) -> None:
    low, high = wilson(share, 200.0, 2.0)
    assert low >= 0
    assert high <= 1


def test_a_difference_of_shares_is_newcombes() -> None:
    # Newcombe (1998), table II, 56/70 and 48/80 by method 10: 0.0524 to 0.3339.
    z = Spread(error=0, batches=10**6, effective=70), Spread(error=0, batches=10**6, effective=80)
    low, high = share_difference((56 / 70, 48 / 80), z)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_wilsons_interval_is_that_of_a_binomial_share() -> None:
    # Newcombe (1998), table I, 81 of 263: 0.2553 to 0.3662.
    low, high = wilson(81 / 263, 263, 1.959964)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(
    ("name", "here", "wanted", "tendency"),
    [
        ("p95", other(10.0), None, "better"),
        ("p95", other(40.0), None, "worse"),
        ("p95", other(20.5), None, "no difference"),
        ("p95", other(10.0, spreads=NONE), None, "unclear"),
        ("throughput", other(rate=4.0), None, "better"),
        ("throughput", other(rate=1.0), None, "worse"),
        ("throughput", other(rate=1.0), "throughput < 5/s", "better"),
    ],
)
def test_what_a_change_comes_to_follows_from_how_a_figure_is_wanted(
    name: str, here: CellResult, wanted: str | None, tendency: str
) -> None:
    criterion = Criterion.parse(wanted) if wanted else None
    assert change(name, here, result(), criterion).tendency == tendency


def test_a_count_has_a_ratio_and_no_interval() -> None:
    here, there = (
        cell.model_copy(update={"metrics": {"pg_connections": count}})
        for cell, count in ((other(), 30.0), (result(), 20.0))
    )
    seen = change("pg_connections", here, there)
    assert (seen.kind, seen.change, seen.low, seen.tendency) == ("ratio", 1.5, None, "unclear")


def test_of_what_was_nothing_there_is_no_ratio() -> None:
    cells = other(rate=1.0), result(rate=0.0)
    assert change("throughput", *cells).change == 1e9
    assert change("throughput", cells[1], cells[1]).change == 1.0


def test_flips_and_the_limits_way_are_told() -> None:
    told = against(other(8.0, at=limit("pool")), result(at=limit("own_threads")))
    [flip] = told.flips
    assert (flip.criterion, flip.before, flip.after) == (P95, "missed", "met")
    assert told.limit == (Resource.OWN_THREADS, Resource.POOL)
    assert [one.metric for one in told.changes] == ["throughput", "p95", "error_rate"]
    assert against(other(at=limit("pool")), result(at=limit("pool"))).limit is None


EARLY = EarlyEnd(uploads=60, after_s=20, window_s=21, planned_s=60)


@pytest.mark.parametrize(
    ("here", "there", "why"),
    [
        ({"verdict": Outcome.INVALID}, {}, "this cell is invalid"),
        ({}, {"verdict": Outcome.INVALID}, "the baseline is invalid"),
        ({"decided": EARLY}, {}, "this cell ended as soon as it was decided"),
        ({}, {"decided": EARLY}, "the baseline ended as soon as it was decided"),
        ({"load": {"burst": 5, "audio": "50 KB"}}, {}, "their loads differ: burst and closed"),
        (
            {"load": {**result().load, "audio": "50 KB - 2 MB"}},
            {},
            "their files differ: 50 KB - 2 MB and 200 KB",
        ),
        (
            {"knobs": {**result().knobs, "workers": 2, "speed": 8}},
            {},
            "at speed 8 2 workers share one socket more evenly than at 1, and the speeds differ",
        ),
    ],
)
def test_what_cannot_be_compared_is_told_with_the_reason(
    here: dict[str, Any], there: dict[str, Any], why: str
) -> None:
    told = against(other().model_copy(update=here), result().model_copy(update=there))
    assert told.why_not.startswith(why)
    assert told.changes == ()


@pytest.mark.parametrize(
    "knobs",
    [
        {"workers": 1, "speed": 12},
        {"workers": 2, "speed": 3},
        {"workers": 2, "speed": 8, "balance": "least_conn"},
    ],
)
def test_speeds_that_change_nothing_keep_no_cells_apart(knobs: dict[str, Any]) -> None:
    here = other().model_copy(update={"knobs": {**result().knobs, **knobs}})
    assert against(here, result()).why_not == ""


@pytest.mark.parametrize(("speed", "apart"), [(2, False), (4.5, False), (5.5, True), (8, True)])
def test_where_a_model_said_how_workers_share_it_is_asked(speed: float, apart: bool) -> None:
    first = SplitEffect(speed=1, moved=0, lead=0.7)
    split = Split(window=60, effects=(first, SplitEffect(speed=9, moved=0.1, lead=0.5)))
    knobs = {**result().knobs, "workers": 2, "speed": speed}
    here = other().model_copy(update={"knobs": knobs, "split": split})
    assert bool(against(here, result()).why_not) == apart


def test_a_load_that_differs_on_its_axis_is_compared() -> None:
    load = {**result().load, "audio": "50 KB - 2 MB"}
    here = other().model_copy(update={"load": load, "axes": {"load": "large"}})
    assert against(here, result().model_copy(update={"axes": {"load": "small"}})).why_not == ""


def test_of_a_run_each_cell_with_a_baseline_is_told_against_it() -> None:
    lost = other().model_copy(update={"id": "third", "baseline": "gone"})
    run = Summary(
        run="r",
        experiment="e",
        about="",
        stack="embedded",
        speed=1,
        cells=(result(), other(), lost),
        missing=("gone",),
    )
    first, second, third = compared(run).cells
    assert first.against is None
    assert second.against
    assert second.against.baseline == "cell"
    assert third.against
    assert third.against.why_not == "the baseline is not measured"
    assert compared(compared(run)) == compared(run)


RELATIVE = "throughput > 1.8 x baseline"


@pytest.mark.parametrize(
    ("criterion", "now", "before", "outcome", "reason"),
    [
        (RELATIVE, 4.0, 2.0, "met", "throughput 4.00/s, 2 x baseline (1.88 .. 2.12 at 95 %)"),
        (RELATIVE, 3.0, 2.0, "missed", "throughput 3.00/s, 1.5 x baseline"),
        (RELATIVE, 3.7, 2.0, "undecided", "throughput 3.70/s, 1.85 x baseline"),
        ("throughput < 1.1 x baseline", 2.0, 2.0, "met", "throughput 2.00/s, 1 x baseline"),
    ],
)
def test_a_relative_criterion_is_held_against_the_interval_of_the_ratio(
    criterion: str, now: float, before: float, outcome: str, reason: str
) -> None:
    reference = Reference("cell", verdict(before))
    found = reference.decide(Criterion.parse(criterion), {"throughput": now}, {"throughput": KNOWN})
    assert found.outcome == outcome
    assert found.reason.startswith(reason)
    assert found.reason.endswith(criterion.partition(" ")[2])


@pytest.mark.parametrize(
    ("reference", "metrics", "reason"),
    [
        (Reference("cell"), {"throughput": 1.0}, "the baseline, cell, is not measured"),
        (
            Reference("cell", verdict(outcome=Outcome.INVALID)),
            {"throughput": 1.0},
            "the baseline, cell, is invalid",
        ),
        (Reference("cell", verdict()), {}, "nothing was measured to compare"),
        (
            Reference("cell", verdict(0.0)),
            {"throughput": 1.0},
            "the baseline, cell, served no upload, and of nothing there is no multiple",
        ),
    ],
)
def test_where_nothing_can_be_compared_a_relative_criterion_is_undecided(
    reference: Reference, metrics: dict[str, float], reason: str
) -> None:
    found = reference.decide(Criterion.parse(RELATIVE), metrics, {})
    assert (found.outcome, found.value) == ("undecided", None)
    assert found.reason == f"throughput: {reason}"


@pytest.mark.parametrize(
    ("criterion", "reason"),
    [
        ("p95 < 2 x baseline", "p95: the baseline, cell, served no upload, and of nothing there"),
        ("errors.pool_timeout < 2 x baseline", "errors.pool_timeout: of the baseline's 0 nothing"),
        ("p95(progress) < 2 x baseline", "p95(progress): nothing was measured to compare"),
    ],
)
def test_of_a_baseline_that_served_nobody_only_what_follows_from_it_is_told_so(
    criterion: str, reason: str
) -> None:
    told = verdict(0.0)
    metrics = {**told.metrics, "errors.pool_timeout": 0.0}
    reference = Reference("cell", told.model_copy(update={"metrics": metrics}))
    here = {"p95": 1.0, "errors.pool_timeout": 3.0}
    found = reference.decide(Criterion.parse(criterion), here, {})
    assert (found.outcome, found.value) == ("undecided", None)
    assert found.reason.startswith(reason)


def test_what_is_known_to_no_one_knows_how_well_is_undecided() -> None:
    found = Reference("cell", verdict()).decide(Criterion.parse(RELATIVE), {"throughput": 9.0}, {})
    assert (found.outcome, found.value) == ("undecided", 4.5)
    assert "it is not known how well both are known" in found.reason


def test_a_count_is_compared_as_it_is() -> None:
    reference = Reference("cell", verdict(pg_connections=20.0))
    asked = Criterion.parse("pg_connections <= 1.5 x baseline")
    assert reference.decide(asked, {"pg_connections": 30.0}, {}).outcome == "met"
    assert reference.decide(asked, {"pg_connections": 31.0}, {}).outcome == "missed"


def test_the_ratio_of_shares_lies_between_those_of_their_ends() -> None:
    low, high = multiple("error_rate", (0.4, 0.1), (SHARE, SHARE)) or (0, 0)
    assert low < 4.0 < high
    assert multiple("error_rate", (0.4, 0.0), (SHARE, SHARE)) is not None


def test_a_relative_criterion_has_a_bound_in_its_unit_for_who_asks_what_limits() -> None:
    reference = Reference("cell", verdict(2.0))
    found = reference.decide(Criterion.parse(RELATIVE), {"throughput": 3.0}, {"throughput": KNOWN})
    assert reference.resolved(found).criterion == "throughput > 3.6/s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p95 < 0 x baseline", "asks for 0 x baseline; write a bound of its own instead"),
        ("p95 < 2 s x baseline", "'2 s x baseline' is not a multiple of the baseline"),
        ("throughput > 1.8 x Baseline", "not a multiple of the baseline; write it like '1.8 x"),
        ("throughput > 0.0000001 x baseline", "not a multiple of the baseline; write it like '1.8"),
        ("p95 == 2 x baseline", "two measurements are never equal; write <, <=, > or >="),
        ("p95 < x baseline", "'x baseline'"),
        ("p95 < 2 x base", "'2 x base'"),
        ("throughput > 1.1 * baseline", "is not a multiple of the baseline; write it like '1.8 x"),
    ],
)
def test_a_relative_criterion_that_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".+") as error:
        Criterion.parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize("text", [RELATIVE, "p95(progress) <= 0.5 x baseline", ERRORS])
def test_a_criterion_reads_back_as_it_is_written(text: str) -> None:
    assert str(Criterion.parse(text)) == text
    assert make_cell(criteria=[text]).criteria[0] == Criterion.parse(text)
