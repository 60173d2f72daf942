"""Stored searches held against the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.model.capacity import CapacityTrial, Threshold, Thresholds
from lab.store import RunFolder
from tests.fakes import make_cell, sample_run
from tests.statistics.test_ramp import finish, reading, stored
from validation.oracle import System, simulate
from validation.oracle_ramp import Sample
from validation.thresholds import compare, lead_of, main

BLOCKING = System("blocking", cpu=0.0)


def make_search(
    results: Path, holds_at: int = 2, breaks_at: int | None = 3, p95: str = "10 s"
) -> RunFolder:
    """A search of a blocking worker, whose trials are the oracle's."""
    settings = {"gcs_call": "blocking", "speed": 1}
    cell = make_cell(settings, cell_id="blocking", criteria=[f"p95 < {p95}"])
    ends = [users for users in (holds_at, breaks_at) if users]
    trials = [cell.model_copy(update={"id": f"blocking-u{users}-1"}) for users in ends]
    run = sample_run.create(results, [cell])
    for one, users in zip(trials, ends, strict=True):
        latencies = simulate(BLOCKING, users, window=300).latencies
        samples = stored([Sample(0.0, latency, succeeded=True) for latency in latencies])
        busy = len(samples) * (0.175 + 3.5)
        finish(run, one, samples, [reading(busy, len(samples) + 1)])
    found = Threshold(
        id="blocking",
        holds_at=holds_at,
        breaks_at=breaks_at,
        crossed_first=f"p95 < {p95}",
        confidence=0.95,
        outcome="found",
        reason="",
        trials=tuple(
            CapacityTrial(
                id=one.id, users=users, window=300, spent=400, sent=80, outcome=one_outcome,
                criteria=(),
            )
            for one, users, one_outcome in zip(trials, ends, ("held", "broke"), strict=False)
        ),
    )  # fmt: skip
    run.write_thresholds(
        Thresholds(
            run=run.path.name, experiment="search", about="", stack="embedded", speed=1,
            cells=(found,), missing=(),
        )
    )  # fmt: skip
    return run


def make_one_user(results: Path, *taken: int) -> RunFolder:
    """One user on so many workers, each of which took so many uploads."""
    cell = make_cell({"workers": 2}, cell_id="one-user")
    run = sample_run.create(results, [cell])
    workers = [
        reading(0.0, count + 1).model_copy(update={"pid": pid}) for pid, count in enumerate(taken)
    ]
    finish(run, cell, stored([Sample(0.0, 4.0, succeeded=True)]), workers)
    return run


def test_a_search_that_agrees_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_user = make_one_user(tmp_path / "one", 25, 75)
    assert lead_of(one_user) == 0.75
    search = make_search(tmp_path / "search")
    assert main([str(one_user.path), str(search.path), str(search.path)]) == 0
    head, _, first, *_, last = capsys.readouterr().out.splitlines()
    assert head == "of two idle workers one takes 75 %"
    assert first.split()[:5] == ["blocking", "2..3", "found", "2", "yes"]
    assert last == "searches of a cell overlap: yes"


@pytest.mark.parametrize(
    ("holds_at", "breaks_at"), [(1, 2), (3, 5), (2, None)], ids=["below", "above", "open"]
)
def test_an_interval_beside_the_oracles_value_shows_nothing(
    tmp_path: Path, holds_at: int, breaks_at: int | None
) -> None:
    [row] = compare(make_search(tmp_path, holds_at, breaks_at), lead=0.5, trials=4)
    assert (row.oracle, row.within) == (2, False)


def test_searches_without_a_common_value_are_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_user = make_one_user(tmp_path / "one", 1, 1)
    runs = [make_search(tmp_path / str(ends[0]), *ends) for ends in ((2, 3), (4, 5))]
    assert main([str(one_user.path), *(str(run.path) for run in runs)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "searches of a cell overlap: no"


def test_what_is_no_search_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one_user = str(make_one_user(tmp_path / "one", 1, 1).path)
    three = str(make_one_user(tmp_path / "three", 1, 1, 1).path)
    idle = str(make_one_user(tmp_path / "idle", 0, 0).path)
    other = str(make_search(tmp_path / "other", p95="8 s").path)
    for arguments, message in (
        ([one_user, one_user], "no search has ended there - give a run of `lab threshold`"),
        ([three, one_user], "not a run of two workers that took uploads - give one of"),
        ([idle, one_user], "not a run of two workers that took uploads"),
        ([one_user, other], "the oracle knows of p95 < 10 s alone - give searches"),
        ([one_user, "nowhere"], "'nowhere' is neither a run in results nor a folder - `lab runs`"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_without_a_search_it_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["one-user"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "the following arguments are required" in capsys.readouterr().err
