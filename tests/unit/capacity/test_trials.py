from __future__ import annotations

from typing import Any

import pytest

from lab.capacity.search import longest, search_for, trial_cell, trial_of
from lab.errors import UsageError
from lab.model.capacity import CapacityTrial, Threshold, Thresholds, TrialRequest
from lab.model.evalues import CORRELATION, SPLIT_CORRELATION
from lab.model.verdict import Finding, Outcome, Verdict
from tests.fakes import make_cell

LOAD = {"users": 50, "ramp": "5 s", "warmup": "20 s", "window": "90 s"}
CELL = make_cell({"gcs_call": "to_thread"}, cell_id="to_thread", load=LOAD)


def test_a_trial_is_the_cell_with_the_users_and_the_window_that_are_asked_for() -> None:
    cell = trial_cell(CELL, TrialRequest(users=34, window=120, why="halving"), 2)
    assert cell.id == "to_thread-u34-2"
    assert (cell.load.peak_users, cell.load.measured) == (34, (25, 145))
    assert cell.model_copy(update={"id": CELL.id, "load": CELL.load, "seed": CELL.seed}) == CELL
    assert type(cell).model_validate_json(cell.model_dump_json()) == cell


def test_every_trial_has_an_id_and_a_seed_of_its_own() -> None:
    requests = [
        (TrialRequest(users=users, window=60, why=""), number)
        for users in (1, 2)
        for number in (1, 2)
    ]
    cells = [trial_cell(CELL, *each) for each in requests]
    assert len({cell.id for cell in cells}) == len({cell.seed for cell in cells}) == 4
    assert cells == [trial_cell(CELL, *each) for each in requests]


@pytest.mark.parametrize("load", [{"burst": 10}, {"rate": "5/s"}, {"stages": [{"users": 5}]}])
def test_a_load_without_users_has_no_threshold(load: dict[str, Any]) -> None:
    cell = make_cell(load=load)
    for call in (search_for, lambda c: trial_cell(c, TrialRequest(users=1, window=60, why=""), 1)):
        with pytest.raises(UsageError, match=r"has none to vary - write the load as"):
            call(cell)


def test_without_criteria_there_is_no_threshold() -> None:
    with pytest.raises(UsageError, match=r"nothing that more users could break - write them as"):
        search_for(make_cell(load=LOAD, criteria=()))


@pytest.mark.parametrize(
    "criterion", ["error_rate == 0 %", "error_rate <= 0 %", "error_rate < 100 %", "p95 == 10 s"]
)
def test_what_no_number_of_uploads_shows_is_refused_before_hours_of_trials(criterion: str) -> None:
    with pytest.raises(UsageError, match=f"on which side of '{criterion}' it is - give it a bound"):
        search_for(make_cell(load=LOAD, criteria=("p95 < 10 s", criterion)))


def test_a_replica_without_any_delay_is_searched_too() -> None:
    search = search_for(make_cell({"gcs_latency": "0 s", "db_rtt": "0 ms"}, load=LOAD))
    assert search.next("cell", []) == TrialRequest(users=10, window=90, why="climbing")


@pytest.mark.parametrize(
    ("workers", "window", "shortest", "longest_window"),
    [(1, "60 s", 60, 600), (2, "60 s", 120, 1200), (4, "1500 s", 1500, 1500)],
)
def test_several_workers_are_more_alike_and_need_longer_windows(
    workers: int, window: str, shortest: float, longest_window: float
) -> None:
    search = search_for(make_cell({"workers": workers}, load={**LOAD, "window": window}))
    assert (search.min_window, search.max_window) == (shortest, longest_window)
    assert search.correlation == (CORRELATION if workers == 1 else SPLIT_CORRELATION)


def test_a_trial_with_several_workers_is_worth_less() -> None:
    split = make_cell({"gcs_call": "to_thread", "workers": 2}, load=LOAD)
    one, two = (trial_of(each, verdict(Outcome.HELD, attempts=310)) for each in (CELL, split))
    assert one.criteria[0].confidence > two.criteria[0].confidence > 0


def test_no_trial_is_longer_than_the_longest() -> None:
    search = search_for(CELL, max_users=80)
    cell = longest(CELL, search)
    assert (cell.load.peak_users, cell.load.measured) == (80, (25, 625))


@pytest.mark.parametrize(
    ("criteria", "samples"),
    [
        (["p95 < 10 s", "error_rate < 5 %"], 40),
        (["p99 < 10 s"], 200),
        (["error_rate < 1 %", "p95 < 10 s"], 200),
        (["pg_connections <= 20"], 2),
    ],
)
def test_the_first_trial_is_sized_by_the_cell(criteria: list[str], samples: int) -> None:
    cell = make_cell({"gcs_call": "to_thread"}, load=LOAD, criteria=criteria)
    search = search_for(cell, max_users=80)
    assert (search.samples, search.slots, search.max_users) == (samples, 6, 80)
    assert (search.min_window, search.max_window) == (90, 600)
    assert search.rate == pytest.approx(1 / 3.675)


def verdict(outcome: Outcome, **metrics: float) -> Verdict:
    findings = (
        Finding(
            criterion="p95 < 10 s",
            outcome="met",
            value=4.0,
            samples=300,
            beyond=1,
            allowed=0.05,
            reason="p95 4.0 s",
        ),
        Finding(criterion="pg_connections <= 20", outcome="missed", value=25.0, reason="25"),
        Finding(criterion="p99 < 10 s", outcome="undecided", value=None, reason="nothing"),
    )
    return Verdict(
        cell=CELL.id, outcome=outcome, reasons=(), metrics=metrics, findings=findings, injected=()
    )


def test_a_trial_is_read_from_a_cell_and_its_verdict() -> None:
    trial = trial_of(CELL, verdict(Outcome.BROKE, attempts=310))
    assert (trial.id, trial.users, trial.window, trial.sent) == ("to_thread", 50, 90, 310)
    assert trial.spent > 115
    p95, peak, p99 = trial.criteria
    assert (p95.outcome, p95.samples, p95.violations, p95.allowed) == ("held", 300, 1, 0.05)
    assert 0.9 < p95.confidence < 1
    assert (peak.outcome, peak.samples, peak.confidence) == ("broke", None, 1)
    assert (p99.outcome, p99.samples, p99.confidence) == ("undecided", None, 0)


def test_an_invalid_trial_says_so_of_every_criterion() -> None:
    trial = trial_of(CELL, verdict(Outcome.INVALID))
    assert trial.sent == 0
    assert {(each.outcome, each.confidence) for each in trial.criteria} == {("invalid", 0)}


def test_the_document_has_the_answers_of_all_cells() -> None:
    trial = trial_of(CELL, verdict(Outcome.BROKE, attempts=310))
    answer = Threshold(
        id="to_thread",
        holds_at=None,
        breaks_at=1,
        crossed_first="p95 < 10 s",
        confidence=0.95,
        outcome="found",
        reason="it breaks with a single user",
        trials=(trial,),
    )
    document = Thresholds(
        run="r",
        experiment="e",
        about="",
        stack="embedded",
        speed=5,
        cells=(answer,),
        missing=("executor",),
    )
    assert Thresholds.model_validate_json(document.model_dump_json()) == document
    cell = document.model_dump(mode="json")["cells"][0]
    keys = {"id", "holds_at", "breaks_at", "crossed_first", "confidence", "trials"}
    assert keys <= cell.keys()
    assert cell["holds_at"] is None
    assert CapacityTrial.model_validate(cell["trials"][0]) == trial
