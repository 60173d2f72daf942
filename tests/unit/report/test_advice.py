"""Advice judged: which piece helps, does nothing or harms, what contradicts what, and the whole."""

from __future__ import annotations

from typing import Any

import pytest

from lab.capacity import search_for
from lab.config import read_experiment, read_faults
from lab.judge.comparison import compared
from lab.model.knobs import Knobs, Preset
from lab.model.replica import nginx_limits
from lab.model.run import Answer, CellResult, Summary
from lab.model.verdict import Change, Comparison, Flip, Outcome
from lab.paths import ROOT
from lab.plan import expand
from lab.plan.effect import felt
from lab.report.advice import ALL, ALL_BUT, AXIS
from lab.report.answers import answer
from lab.report.beside import effect
from tests.unit.report.advised import CUT, NOBODY, WHOLE, cell, on_cloud_run, on_the_vm
from tests.unit.report.results import summary

FAULTS = read_faults(ROOT / "faults")
SPECS = ("recommendations", "recommendations-cloudrun")


def told(of: Summary) -> Answer:
    return answer(of, "advice")


def _change(metric: str = "p95", kind: str = "ratio", **ends: Any) -> Change:
    data = {"metric": metric, "kind": kind, "value": 1.0, "baseline": 1.0, "change": 1.0, **ends}
    return Change.model_validate(data)


P95 = "p95 < 10 s"
FASTER = _change(low=0.5, high=0.6, tendency="better")
SLOWER = _change("throughput", low=0.5, high=0.6, tendency="worse")
SAME = _change(low=0.9, high=1.1, tendency="no difference")
SAME_RATE = _change("throughput", low=0.9, high=1.1, tendency="no difference")
BARELY = _change(low=0.80, high=0.995, tendency="better")
TINY = _change(low=0.97, high=0.98, tendency="better")
FEW = _change("error_rate", "difference", low=-0.009, high=-0.007, tendency="better")
FEWER = _change("error_rate", "difference", low=-0.3, high=-0.2, tendency="better")
UNKNOWN = _change(tendency="unclear")
MANY = _change("error_rate", "difference", value=0.6, baseline=0.5, tendency="no difference")
WERE_MANY = _change("error_rate", "difference", value=0.0, baseline=0.06, tendency="unclear")
OF_NO_MATTER = _change("p50", low=0.1, high=0.2, tendency="better")
MET = Flip(criterion=P95, before="missed", after="met")
MISSED = Flip(criterion=P95, before="met", after="missed")


@pytest.mark.parametrize(
    ("changes", "flips", "comes_to"),
    [
        ((FASTER,), (), "helps"),
        ((FEWER, SAME), (), "helps"),
        ((SLOWER, SAME), (), "harms"),
        ((FASTER, SLOWER), (), "helps and harms"),
        ((SAME,), (), "does nothing"),
        ((SAME, BARELY), (), "does nothing"),
        ((TINY,), (), "does nothing"),
        ((FEW,), (), "does nothing"),
        ((SAME, OF_NO_MATTER), (), "does nothing"),
        ((FASTER, MANY, SAME_RATE), (), "does nothing"),
        ((FASTER, WERE_MANY, SAME_RATE), (), "does nothing"),
        ((UNKNOWN,), (), "is open"),
        ((), (), "is open"),
        ((UNKNOWN,), (MET,), "helps"),
        ((SAME,), (MISSED,), "harms"),
    ],
)
def test_what_a_comparison_comes_to(
    changes: tuple[Change, ...], flips: tuple[Flip, ...], comes_to: str
) -> None:
    assert effect(Comparison(baseline="b", changes=changes, flips=flips)) == comes_to


def test_of_what_is_not_compared_the_effect_is_open() -> None:
    assert effect(None) == "is open"
    assert effect(Comparison(baseline="b", changes=(FASTER,), why_not="it is")) == "is open"


@pytest.mark.parametrize(
    "text",
    [
        "Alone, what helps: to_thread (throughput 1.60/s, 8.00 x (7.",
        "limit event_loop -> default_executor).",
        "Alone, what harms: read-timeout (throughput 0.100/s, 0.500 x (",
        "Alone, what does nothing that shows: rate-limit (throughput 0.200/s, 1.00 x (",
        "pool-15+15 (throughput 0.201/s, 1.00 x (",
        "All together it helps: throughput 6.00/s, 30.0 x (",
        "now met: p95 < 10 s, error_rate < 5 %; the cell held",
        "the cell held, 1.0 % failed",
        "The whole is worse without to_thread (throughput 1.00/s, 0.167 x (",
        "The whole is better without rate-limit (throughput 7.00/s, 1.17 x (",
        "makes no difference that shows to leave out pool-15+15 (throughput 6.02/s",
        "A read timeout of 30 s in place of 1 min makes 504s begin earlier: an upload is cut off "
        "after 30 s, which a queue takes with 8 users in place of 16, at 0.270/s; it cut off 300 "
        "of 400 uploads, and 150 of 400 uploads before.",
        "4 workers x (15 + 15) = 120 connections are allowed, and Postgres grants 25: with all 25 "
        "were open at most, and 12 of 400 uploads were refused one.",
        "10/min a user, and one who never waits uploads every 3.68 s, 16 in that time",
        "asyncio.to_thread has 6 threads on 2 cores, not the 20 that the report reckons with: with "
        "to_thread 1.60/s were served, where it expects 6.7/s.",
        "20 uploads inside a worker are 74.1 s of work at 0.270/s: 90 of 400 were refused at once",
    ],
)
def test_each_piece_the_whole_and_each_contradiction_has_its_sentence(text: str) -> None:
    assert text in told(on_the_vm()).text


@pytest.mark.parametrize(
    "text",
    [
        "Alone, what does nothing that shows: memory-512-MiB (",
        "An instance is given 1 request at a time, so threads, pools and backpressure inside it "
        "have nothing to share: with to_thread 0.262/s were served, 0.260/s before.",
        "512 MiB of memory in place of 256 MiB: before, an instance took 120 MB at most, and none "
        "was killed for it (0).",
    ],
)
def test_staging_has_contradictions_of_its_own(text: str) -> None:
    assert text in told(on_cloud_run()).text


def test_settings_without_a_contradiction_are_told_none() -> None:
    calm = cell("executor", 5.0, 9, 0.0, gcs_call="executor")
    text = told(compared(summary(cell("as-found", 0.2, 58, 0.5), calm))).text
    assert text.startswith("Alone, what helps: executor (")
    for word in ("504s", "Postgres grants", "a user", "to_thread", "inside a worker", "memory"):
        assert word not in text


def advised(*cells: CellResult) -> str:
    return told(compared(summary(*cells))).text


def test_cutting_slow_uploads_off_is_no_help_though_the_p95_of_the_others_is_met() -> None:
    cut = cell("read-timeout", 2.0, 9, 0.4, nginx_read_timeout="10 s")
    text = advised(cell("as-found", 2.0, 20, 0.0), cut)
    assert "Alone, what harms: read-timeout (" in text
    assert "helps" not in text


def test_a_criterion_that_was_open_before_is_no_help_when_it_is_met() -> None:
    before = cell("as-found", 5.0, 9.9, 0.0)
    open_before = before.findings[0].model_copy(update={"outcome": "undecided"})
    before = before.model_copy(update={"findings": (open_before, *before.findings[1:])})
    text = advised(before, cell("workers-4", 5.0, 9.8, 0.0, workers=4))
    assert "Alone, what does nothing that shows: workers-4 (" in text


def test_a_read_timeout_where_there_was_none_is_told() -> None:
    before = cell("as-found", 2.0, 20, 0.0, nginx_read_timeout="off")
    seen = {"capacity": 2.0, **CUT}
    after = cell("read-timeout", 2.0, 20, 0.1, more=seen, nginx_read_timeout="30 s")
    text = advised(before, after)
    assert "A read timeout of 30 s in place of none makes 504s begin earlier" in text
    assert "which a queue takes with 60 users, at 2.00/s; it cut off" in text


@pytest.mark.parametrize("counted", [0.0, None])
def test_that_504s_begin_earlier_is_told_only_where_there_were_any(counted: float | None) -> None:
    none = {} if counted is None else {"errors.gateway_timeout": counted}
    before = cell("as-found", 2.0, 20, 0.0, more=none)
    after = cell("read-timeout", 2.0, 20, 0.0, more=none, nginx_read_timeout="30 s")
    text = advised(before, after)
    assert "begin earlier" not in text
    cut = "not measured" if counted is None else "0"
    assert (
        "A read timeout of 30 s in place of 1 min would cut an upload off after 30 s; at this load "
        f"it cut off {cut} of 400 uploads, and {cut} of 400 uploads before."
    ) in text


@pytest.mark.parametrize("of", [{"max_overflow": "unlimited"}, {"pool_class": "NullPool"}])
def test_a_pool_without_limit_is_told_as_that(of: dict[str, Any]) -> None:
    text = advised(cell("as-found", 2.0, 20, 0.0), cell("pool", 2.0, 20, 0.0, **of))
    assert "Connections without limit are allowed, and Postgres grants 25: with pool" in text
    assert "inf" not in text


def test_more_connections_than_postgres_grants_are_no_contradiction_behind_pgbouncer() -> None:
    pooled = cell("all", 2.0, 20, 0.0, **WHOLE, pooler="transaction")
    assert "Postgres grants" not in advised(cell("as-found", 2.0, 20, 0.0), pooled)


@pytest.mark.parametrize(("cores", "told_of"), [(1.5, "5 threads on 1.5 cores"), (16, "")])
def test_the_default_executor_is_small_where_it_is(cores: float, told_of: str) -> None:
    after = cell("to_thread", 2.0, 20, 0.0, gcs_call="to_thread", vm_cpus=cores)
    text = advised(cell("as-found", 2.0, 20, 0.0, vm_cpus=cores), after)
    assert f"asyncio.to_thread has {told_of}" in text if told_of else "asyncio" not in text


@pytest.mark.parametrize(("think", "is_told"), [("0 s", True), ("30 s", False)])
def test_a_limit_of_uploads_is_too_low_only_for_who_sends_as_often(
    think: str, is_told: bool
) -> None:
    limited = cell("rate-limit", 0.2, 58, 0.5, more=NOBODY, upload_rate_limit="10/min")
    limited = limited.model_copy(update={"load": {**limited.load, "think": think}})
    text = advised(cell("as-found", 0.2, 58, 0.5), limited)
    assert ("it refuses as soon as the service is fast" in text) is is_told


@pytest.mark.parametrize(
    "load",
    [
        {"rate": "5/s", "warmup": "1 s", "window": "60 s"},
        {"burst": 40},
        {"users": 50, "window": "60 s", "mix": {"upload": "10 %", "progress": "90 %"}},
    ],
    ids=["open", "burst", "mix"],
)
def test_how_often_a_user_uploads_is_told_only_of_users_who_do_nothing_else(load: Any) -> None:
    limited = cell("rate-limit", 2.0, 20, 0.1, more=NOBODY, upload_rate_limit="10/min")
    text = advised(cell("as-found", 2, 20, 0), limited.model_copy(update={"load": load}))
    assert "a user sent one every" not in text


def test_a_figure_that_fell_to_nothing_is_clear() -> None:
    before, after = cell("as-found", 5.0, 8, 0.0), cell("gone", 5.0, 0.0, 0.0)
    assert "Alone, what helps: gone (" in advised(before, after)


def test_an_invalid_baseline_leaves_every_piece_open() -> None:
    broken = cell("as-found", 0.2, 58, 0.5).model_copy(
        update={"verdict": Outcome.INVALID, "reasons": ("busy",)}
    )
    text = told(compared(summary(broken, cell("workers-4", 5.0, 9, 0.0, workers=4)))).text
    assert "What these do alone is open: workers-4 (the baseline is invalid)." in text


def test_every_figure_is_that_of_the_summary() -> None:
    for run in (on_the_vm(), on_cloud_run()):
        cells = {one.id: one for one in run.cells}
        figures = [figure for claim in told(run).claims for figure in claim.figures]
        assert {figure.cell for figure in figures} <= set(cells)
        for figure in figures:
            if figure.name.startswith("change ") and ALL_BUT not in figure.cell:
                beside = cells[figure.cell].against
                assert beside is not None
                changes = {one.metric: one.change for one in beside.changes}
                assert figure.value == changes[figure.name.removeprefix("change ")]
            elif figure.name in ("throughput", "p95", "error_rate", "capacity", "attempt_rate"):
                assert figure.value == cells[figure.cell].metrics[figure.name]


# The shipped specs.


def _cells(name: str) -> dict[str, Any]:
    experiment = read_experiment(ROOT / "experiments" / f"{name}.yaml", FAULTS)
    return {one.axes[AXIS]: one for one in expand(experiment, FAULTS)}


def _settings(of: Any) -> dict[str, Any]:
    """What a cell feels, and what of nginx is in force, whichever knob says it."""
    limits = nginx_limits(of.knobs)
    in_force = {"nginx_body": limits.body, "nginx_read_timeout": limits.read_s}
    return felt(of) | (in_force if of.target == "vm" else {})


def _changed(of: Any, beside: Any) -> set[str]:
    one, other = _settings(of), _settings(beside)
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_has_each_piece_alone_all_together_and_all_but_each(name: str) -> None:
    cells = _cells(name)
    pieces = [label for label in cells if label not in ("as-found", ALL) and ALL_BUT not in label]
    assert list(cells) == ["as-found", *pieces, ALL, *(ALL_BUT + label for label in pieces)]
    found, whole = cells["as-found"], cells[ALL]
    assert not found.baseline
    assert {one.baseline for one in cells.values() if one is not found} == {found.id}
    for label in pieces:
        piece, without = cells[label], cells[ALL_BUT + label]
        assert _changed(piece, found) == _changed(without, whole), label
    together = set().union(*(_changed(cells[label], found) for label in pieces))
    assert _changed(whole, found) == together


@pytest.mark.parametrize("name", SPECS)
def test_the_whole_is_the_preset_recommended_and_the_baseline_as_found(name: str) -> None:
    cells = _cells(name)
    for label, preset in (("as-found", Preset.AS_FOUND), (ALL, Preset.RECOMMENDED)):
        one = cells[label]
        wanted = one.model_copy(update={"knobs": Knobs.preset(preset)})
        assert _changed(one, wanted) <= {"speed"}


@pytest.mark.parametrize("name", SPECS)
def test_no_window_of_a_comparison_ends_early(name: str) -> None:
    assert not any(one.stop_when_decided for one in _cells(name).values())


def test_a_search_for_thresholds_takes_the_same_specs() -> None:
    for name in SPECS:
        for one in _cells(name).values():
            assert search_for(one).max_users == 200
