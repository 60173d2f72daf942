"""The bench of searches, on a few systems: `python -m validation.searches` has hundreds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lab.model.capacity import TrialRequest
from validation.peers import Staircase, has_mlrsearch
from validation.searches import (
    OF_LAB,
    SEARCHES,
    Row,
    Searched,
    main,
    rows_of,
    search,
    table,
)
from validation.systems import FAMILIES, Drawn, rate_of

FOUND = Searched("aimed", "usual", 1, "0", 14, 13, 15, True, 190.0, 2, 1.0)


@pytest.fixture(scope="module")
def one_worker() -> Drawn:
    return Drawn.of("test/3", 1)


def test_the_aimed_search_finds_what_hours_of_load_find(one_worker: Drawn) -> None:
    for method in OF_LAB:
        made = search(one_worker, method)
        assert made.contains, made
        assert made.load < 2000


def test_in_systems_that_the_model_does_not_know_it_still_does() -> None:
    made = [search(Drawn.of(f"test/{f}", 1, f), "aimed") for f in ("heavy", "wander")]
    assert all(one.contains for one in made), made


def test_a_system_is_a_function_of_its_seed() -> None:
    one, again, other = (Drawn.of(seed, 2) for seed in ("a", "a", "b"))
    assert one == again
    assert one.system != other.system
    request = TrialRequest(users=5, window=60, why="")
    assert one.trial(request, 1) == again.trial(request, 1) != one.trial(request, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_drawn(family: str) -> None:
    drawn = Drawn.of(f"test/{family}", 2, family)  # type: ignore[arg-type]
    system, odd = drawn.system, drawn.odd
    assert (odd.heavy > 0) == (family == "heavy")
    assert (odd.slow > 1) == (family == "slow")
    assert (odd.wander > 0) == (family == "wander")
    assert (0.40 < system.lead < 0.955) == (family != "uneven")
    assert drawn.cell.knobs.workers == 2
    assert rate_of(system) > 0


def test_a_trial_costs_its_ramp_its_warm_up_and_its_drain(one_worker: Drawn) -> None:
    request = TrialRequest(users=10, window=60, why="", warmup=20)
    trial = one_worker.trial(request, 1)
    assert trial.times
    assert trial.spent == pytest.approx(5 + 20 + 60 + trial.times.drain)
    usual = one_worker.trial(request.model_copy(update={"warmup": None}), 1)
    assert usual.spent > 5 + 60 + 60


def test_a_row_counts_what_contains_the_truth_and_what_is_narrow() -> None:
    searches = [
        FOUND,
        replace(FOUND, holds=14, load=200.0),
        replace(FOUND, holds=15, breaks=17, load=400.0),
        replace(FOUND, holds=8, breaks=20, narrow=False, load=100.0),
    ]
    row = Row.of(searches)
    assert (row.systems, row.contains, row.found) == (4, 0.75, 0.75)
    assert (row.load_median, row.load_p90) == (195, 400)
    assert row.low < 0.75 < row.high
    assert not row.disproved
    assert Row.of([replace(FOUND, holds=15, breaks=17)] * 9).disproved


def test_rows_are_by_family_and_workers() -> None:
    kinds = [("heavy", 1), ("usual", 2), ("usual", 1)]
    rows = rows_of(replace(FOUND, family=f, workers=w) for f, w in kinds)  # type: ignore[arg-type]
    assert [(row.family, row.workers) for row in rows] == [
        ("usual", 1),
        ("usual", 2),
        ("heavy", 1),
    ]
    assert "100.0 %" in table(rows)


def test_peers_end_with_an_interval(one_worker: Drawn) -> None:
    staircase = search(one_worker, "staircase")
    both = search(one_worker, "staircase, 8 x 60 s")
    assert staircase.narrow
    assert both.narrow
    assert both.load > 2 * staircase.load
    assert isinstance(SEARCHES["staircase"](one_worker), Staircase)


def test_the_command_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--systems", "1", "--workers", "1", "--seed", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in told["rows"]] == list(OF_LAB)
    assert all(one["truth"] >= 0 for one in told["searches"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "0"], "'0' is no whole number of 1 or more"),
        (["--family", "odd"], "invalid choice: 'odd'"),
        (["--jobs", "no"], "'no' is no whole number"),
    ],
)
def test_a_wrong_argument_is_told(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not has_mlrsearch(), reason="MLRsearch is not installed")
def test_mlrsearch_ends_with_an_interval(one_worker: Drawn) -> None:
    made = search(one_worker, "MLRsearch")
    assert made.holds < made.breaks
