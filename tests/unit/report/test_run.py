from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lab.model.load import Load
from lab.model.run import CellResult, Summary
from lab.report import format, run
from lab.report.blocks import Fact, Facts, Heading, Table
from lab.report.cell import cell_section
from lab.report.cells import varying_axes
from lab.store import RunFolder
from tests.fakes import sample_run as sample


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return sample.stored(tmp_path_factory.mktemp("results")).summary()


def _with_load(summary: Summary, load: dict[str, object]) -> Summary:
    form = TypeAdapter(Load).validate_python(load).model_dump(mode="json")
    cells = tuple(cell.model_copy(update={"load": form}) for cell in summary.cells)
    return summary.model_copy(update={"cells": cells})


@pytest.mark.parametrize(
    ("load", "says", "note"),
    [
        (
            {"users": 50, "think": "2 s", "audio": "200 KB"},
            "50 users, closed loop: ramp 5 s, warm-up 10 s, window 1 min; 200 KB each, "
            "2 s of thought between",
            run.CLOSED_NOTE,
        ),
        (
            {"rate": "5/s"},
            "5/s arriving, open loop: warm-up 10 s, window 1 min; 50 KB - 2 MB each",
            run.OPEN_NOTE,
        ),
        (
            {"rate": "5/s", "max_in_flight": 9, "uplink": "1 MB/s", "think": "2-5 s"},
            "5/s arriving, at most 9 in flight, open loop: warm-up 10 s, window 1 min; "
            "50 KB - 2 MB each over a line of 1 MB/s, 2 s - 5 s of thought between",
            run.CAPPED_NOTE,
        ),
        (
            {"burst": 50},
            "a burst of 50 users at once, one upload each; 50 KB - 2 MB each",
            run.BURST_NOTE,
        ),
        (
            {"stages": [{"users": 10, "over": "30 s", "hold": "1 min"}, {"users": 0}]},
            "users in stages, closed loop: to 10 over 30 s, hold 1 min, to 0 over 0 s, hold 0 s; "
            "50 KB - 2 MB each",
            run.CLOSED_NOTE,
        ),
    ],
)
def test_a_load_is_said_in_words_with_what_must_be_known_of_it(
    summary: Summary, load: dict[str, object], says: str, note: str
) -> None:
    changed = _with_load(summary, load)
    assert run.offered(changed) == says
    assert run.loop_note(changed) == note


def test_only_axes_that_vary_are_named(summary: Summary) -> None:
    assert varying_axes(summary.cells) == ["workers", "pool", "db_session"]
    assert varying_axes(summary.cells[:4]) == ["pool", "db_session"]
    assert varying_axes(summary.cells[:1]) == ["workers", "pool", "db_session"]
    assert varying_axes(()) == []


def test_the_leading_error_is_the_most_frequent_and_ties_are_settled() -> None:
    values = {"errors.db_refused": 7.0, "errors.pool_timeout": 7.0, "errors.gcs_error": 3.0}
    assert format.led_by(values) == "pool_timeout 7"
    none = {"errors.gcs_error": 0.0, "p95": 3.0}
    assert (format.leading_cause(none), format.led_by(none)) == ("", "-")


def test_the_tally_counts_verdicts_and_what_is_missing(tmp_path: Path) -> None:
    def tally(of: RunFolder) -> str:
        return run.run_page(of.summary(), of.info).tally

    stored = sample.stored(tmp_path, finished=11)
    assert tally(stored) == "12 cells: 2 held, 8 broke, 1 undecided, 1 not finished"
    assert tally(sample.create(tmp_path)) == "12 cells: 12 not finished"


def test_metrics_come_in_the_tables_order_and_unknown_ones_last(summary: Summary) -> None:
    cell: CellResult = summary.cells[0]
    changed = cell.model_copy(update={"metrics": {"zz_new": 1.0, **cell.metrics}})
    *_, table = cell_section(changed).blocks
    assert isinstance(table, Table)
    names = [row[0].text for row in table.rows]
    assert names[:3] == ["attempts", "succeeded", "error_rate"]
    assert names[-1] == "zz_new"
    assert "errors.db_refused" not in names


def test_stages_stand_in_one_table_and_statuses_in_a_line(summary: Summary) -> None:
    added = {"status.200": 412.0, "status.413": 71.0, "auth": 0.05, "auth_p50": 0.048}
    added |= {"gcs_latency": 3.5, "gcs_latency_p95": 4.9, "attempts": 483.0}
    cell = summary.cells[0].model_copy(update={"metrics": added})
    *_, heading, stages, below, answers, table = cell_section(cell).blocks
    assert (heading, below) == (Heading("where the time went"), Heading("metrics"))
    assert isinstance(stages, Table)
    assert [column.head for column in stages.columns] == [
        *("stage", "mean", "p50", "p95", "p99", "of")
    ]
    assert [[value.text for value in row][:5] for row in stages.rows] == [
        ["auth", "50.0 ms", "48.0 ms", "-", "-"],
        ["gcs_latency", "3.50 s", "-", "4.90 s", "-"],
    ]
    assert answers == Facts((Fact("answers", "200: 412, 413: 71"),))
    assert isinstance(table, Table)
    assert [row[0].text for row in table.rows] == ["attempts"]


def test_a_speed_that_was_chosen_is_told_with_its_reason(summary: Summary) -> None:
    def told(cell: CellResult) -> dict[str, str]:
        blocks = (block for block in cell_section(cell).blocks if isinstance(block, Facts))
        return {fact.name: fact.text for block in blocks for fact in block.facts}

    given = summary.cells[0]
    chosen = given.model_copy(update={"speed_reason": "the loop would carry fewer at 5.5"})
    assert told(chosen)["speed"] == "5, chosen: the loop would carry fewer at 5.5"
    assert "speed" not in told(given)
