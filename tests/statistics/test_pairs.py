"""The interval of a comparison against pairs of simulated systems whose true figures are known."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from scipy.stats import binom

from lab.cli import session
from lab.judge.comparison import change
from lab.judge.run_comparison import compare_cells
from lab.model.run_comparison import CellPair
from lab.model.verdict import Change, Comparison, Outcome, Tendency
from tests.component.cli.faked import Faked
from tests.fakes import FakeStack
from validation import pairs
from validation.pairs import METRICS, SYSTEMS, Known, System, Tally, tally, trial_of, truth

pytestmark = [pytest.mark.statistics, pytest.mark.long]

PAIRS = 200


@pytest.fixture(scope="module")
def tallies() -> dict[str, Tally]:
    return tally(PAIRS, seed=2)


@pytest.mark.parametrize("metric", METRICS)
def test_it_covers_the_truth_as_often_as_it_says(metric: str, tallies: dict[str, Tally]) -> None:
    seen = tallies[metric]
    assert seen.told >= PAIRS / 2
    # So few would cover it once in a thousand runs, were it 95 %.
    assert seen.covered >= binom.ppf(0.001, seen.told, 0.95)


def test_two_trials_of_one_system_differ_in_nothing_nineteen_times_in_twenty() -> None:
    rng, different, told = random.Random(3), 0, 0
    for system in SYSTEMS * 10:
        here, there = (Known.of(trial_of(system, 60.0, rng)) for _ in range(2))
        seen = change("throughput", here, there)
        told += seen.tendency != "unclear"
        different += seen.tendency in ("better", "worse")
    assert told == len(SYSTEMS) * 10
    assert different <= binom.ppf(0.999, told, 0.05)


def test_it_is_not_merely_wide() -> None:
    """Half as many slots more are told from as many, in nearly every pair."""
    rng = random.Random(4)
    few, more = System(users=50, slots=11), System(users=50, slots=16)
    seen = [
        change("throughput", Known.of(trial_of(more, 60.0, rng)), Known.of(trial_of(few, 60, rng)))
        for _ in range(40)
    ]
    assert sum(one.tendency == "better" for one in seen) >= 36


def test_a_simulated_system_carries_what_its_slots_allow() -> None:
    assert truth(System(users=50, slots=11))["throughput"] == pytest.approx(11 / 3.5, rel=0.01)
    assert truth(System(users=10, slots=40))["p50"] == pytest.approx(3.7, rel=0.02)
    refused = truth(System(users=50, slots=11, refused=0.1))["error_rate"]
    assert refused == pytest.approx(0.1, abs=0.005)


# Pairs of the same cell, on a replica.


def beside(**tendencies: Tendency) -> Comparison:
    """A comparison of which these metrics are said to differ."""
    changes = tuple(
        Change(
            metric=name,
            kind="difference" if name == "error_rate" else "ratio",
            value=2.2,
            baseline=2.0,
            change=1.1,
            low=1.05,
            high=1.15,
            tendency=tendencies.get(name, "no difference"),
        )
        for name in METRICS
    )
    return Comparison(baseline="repeat=1", changes=changes)


SAME = beside()


def pair(worse: tuple[str, ...] = ()) -> CellPair:
    held = Outcome.HELD
    return CellPair(before="a", after="b", verdicts=(held, held), beside=SAME, worse=worse)


# What `lab compare` calls certain.


@pytest.mark.parametrize(("runs", "cells"), [(200, 1), (20, 12)])
def test_of_two_runs_that_differ_in_nothing_one_in_twenty_at_most_has_anything_certain(
    runs: int, cells: int
) -> None:
    alarms = [found for found in pairs.false_alarms(runs, seed=5, cells=cells) if found]
    # More would come once in a thousand times, were it 5 %.
    assert len(alarms) <= binom.ppf(0.999, runs, 0.05), alarms


@pytest.mark.parametrize("slots", [8, 16])
def test_eight_threads_for_eleven_are_told_in_nearly_every_pair(slots: int) -> None:
    """As with ``gcs_threads``: fewer are certainly worse, more are certainly better."""
    rng, told = random.Random(6), 0
    for _ in range(30):
        before = pairs.finished(System(users=50, slots=11), rng)
        after = pairs.finished(System(users=50, slots=slots), rng)
        [seen], _ = compare_cells([(before, after)])
        good, bad = (seen.better, seen.worse) if slots > 11 else (seen.worse, seen.better)
        told += "throughput" in good and not bad
    assert told >= 28


def test_a_pair_shows_no_difference_where_no_metric_does() -> None:
    assert pairs.differing(SAME) == []
    assert pairs.differing(beside(p95="worse", throughput="unclear")) == [
        "throughput unclear: 1.1 (1.05 .. 1.15)",
        "p95 worse: 1.1 (1.05 .. 1.15)",
    ]
    uncompared = Comparison(baseline="repeat=1", why_not="the baseline is invalid")
    assert pairs.differing(uncompared) == ["the baseline is invalid"]
    assert pairs.differing(Comparison(baseline="repeat=1")) == ["no figure is there to compare"]


@pytest.mark.parametrize(("differ", "code"), [(0, 0), (1, 0), (2, 1)])
def test_one_pair_in_twenty_may_differ(
    differ: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [beside(p95="better")] * differ + [SAME] * (20 - differ)
    found = [(one, pair()) for one in told]
    monkeypatch.setattr(pairs, "measured", lambda *_asked: iter(found))
    assert pairs.main(["--replica", "20"]) == code
    *lines, total = capsys.readouterr().out.splitlines()
    share = 100 * (20 - differ) / 20
    assert total == f"no difference at all in {20 - differ} of 20 pairs ({share:.1f} %)"
    assert lines[19] == "pair 20: no difference"
    assert lines[22].split(maxsplit=1) == [
        "p95",
        f"no difference in {20 - differ} of 20 pairs ({share:.1f} %)",
    ]
    assert lines[23].endswith("in 20 of 20 pairs (100.0 %)")
    assert lines[24] == "nothing certain by `lab compare` in 20 of 20 pairs"


@pytest.mark.parametrize(("sure", "code"), [(0, 0), (1, 0), (2, 1)])
def test_one_pair_in_twenty_may_be_called_certain(
    sure: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [pair(worse=("p95",))] * sure + [pair()] * (20 - sure)
    monkeypatch.setattr(pairs, "measured", lambda *_asked: iter([(SAME, one) for one in told]))
    assert pairs.main(["--replica", "20"]) == code
    *lines, quiet, _ = capsys.readouterr().out.splitlines()
    assert quiet == f"nothing certain by `lab compare` in {20 - sure} of 20 pairs"
    assert [line for line in lines if "certain: p95 worse" in line] == lines[:sure]


def test_the_trials_of_a_pair_differ_in_their_seeds_alone() -> None:
    first, second, *_ = cells = pairs.same_cells(3, seed=7).cells
    assert len(cells) == 6
    assert len({cell.seed for cell in cells}) == 6
    same = {"id": second.id, "seed": second.seed, "axes": second.axes}
    assert first.model_copy(update=same) == second
    assert first.auto_speed
    assert cells[0].seed != pairs.same_cells(1, seed=8).cells[0].seed


def test_more_pairs_than_a_run_holds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert pairs.main(["--replica", "51"]) == 2
    assert capsys.readouterr().err == "51 pairs are more than one run holds - ask for 50\n"


class Whole(FakeStack):
    origins = "no real part"


def test_each_pair_is_measured_and_the_second_stands_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = Faked(tmp_path, Whole(tmp_path / "fake"), "")
    monkeypatch.setitem(pairs.SAME_CELL["knobs"], "speed", 1)
    at_once = SimpleNamespace(wait=lambda _show: True)
    monkeypatch.setattr(session, "QuietMachine", lambda: at_once)
    with fakes.wired(monkeypatch):
        found = list(pairs.measured(pairs.same_cells(2, seed=1), "embedded", fakes.results))
    assert [one.baseline for one, _ in found] == ["repeat=1", "repeat=3"]
    told = [[change.metric for change in one.changes] for one, _ in found if not one.why_not]
    assert all(names == list(METRICS) for names in told)
    assert [(seen.before, seen.after) for _, seen in found if seen] == [
        ("repeat=1", "repeat=2"),
        ("repeat=3", "repeat=4"),
    ]
