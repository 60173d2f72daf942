"""A cell whose users do more than upload, in each form of a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.model.run import CellResult, RunInfo, as_json
from lab.model.verdict import Crossing, Outcome, Timeline
from lab.report import Style, cell_details, end_table, html_report, markdown_report
from lab.report.format import load, metric
from lab.report.run import columns
from lab.report.tables import metrics_data, metrics_text
from tests.fakes import sample_run as sample
from tests.unit.report.results import CLOSED, result, summary

MIXED = CLOSED | {
    "mix": {"upload": "80 %", "convert": "10 %", "progress": "10 %"},
    "health_every": "10 s",
}
METRICS = {
    "p50": 3.7,
    "p95": 5.1,
    "errors.db_refused": 0.0,
    "throughput": 2.5,
    "attempts(progress)": 40.0,
    "succeeded(progress)": 34.0,
    "throughput(progress)": 0.57,
    "error_rate(progress)": 0.15,
    "p50(progress)": 0.12,
    "p95(progress)": 0.31,
    "p99(progress)": 0.44,
    "errors.pool_timeout(progress)": 2.0,
    "errors.db_refused(progress)": 4.0,
    "attempts(health)": 12.0,
    "error_rate(health)": 0.0,
    "p50(health)": 0.004,
}
CELL = result(
    "mixed", metrics=METRICS, findings={"p95(progress) < 1 s": "met"}, load=MIXED, workers=2
)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    return sample.create(tmp_path_factory.mktemp("results")).info


def rows(text: str, first: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.split()[:1] == [first]]


def test_there_is_a_row_for_each_journey() -> None:
    text = cell_details(CELL, Style(200))
    [upload], [progress], [health], [convert] = (
        [row for row in rows(text, name) if len(row) > 4]
        for name in ("upload", "progress", "health", "convert")
    )
    assert " ".join(upload) == "upload 100 - 2.50/s 0 % - 3.70 s 5.10 s -"
    assert " ".join(progress) == (
        "progress 40 34 0.570/s 15 % db_refused 4, pool_timeout 2 120 ms 310 ms 440 ms"
    )
    assert health == ["health", "12", "-", "-", "0", "%", "-", "4.00", "ms", "-", "-"]
    assert convert == ["convert", *"--------"]


def test_stages_and_answers_are_told_of_each_journey_and_no_figure_twice() -> None:
    timed = {"auth": 0.05, "auth_p95": 0.06, "auth(progress)": 0.07, "auth_p95(progress)": 0.08}
    values = METRICS | timed | {"read": 0.1, "status.200": 100.0, "capacity(convert)": 4.0}
    values |= {"status.200(progress)": 34.0, "status.503(progress)": 6.0}
    text = cell_details(result("mixed", metrics=values, load=MIXED), Style(200))
    stages = text[text.index("where the time went") :].splitlines()[3:6]
    assert [" ".join(line.split()) for line in stages] == [
        "auth 50.0 ms - 60.0 ms - the auth stage (BEGIN, SELECT) of successful uploads",
        "auth(progress) 70.0 ms - 80.0 ms - the same as auth, of progress requests",
        "read 100 ms - - - the read stage (BEGIN to ROLLBACK) of successful progress requests",
    ]
    rest = text[text.index("\nmetrics\n") :]
    assert "answers: 200: 100" in rest
    assert "answers (progress): 200: 34, 503: 6" in rest
    assert "the same as capacity, of conversions" in rest
    told = ("(progress)", "(health)", "(convert)")
    assert [line.split()[0] for line in rest.splitlines() if any(of in line for of in told)] == [
        "answers",
        "capacity(convert)",
    ]


def test_markdown_and_the_page_have_it_too(info: RunInfo) -> None:
    for text in (markdown_report(summary(CELL), info), html_report(summary(CELL), info)):
        plain = text.replace("\\", "").replace("&#39;", "'")
        assert "db_refused 4, pool_timeout 2" in plain
        assert "p95(progress)" in plain
        assert "upload 80 %, convert 10 %, progress 10 %; 50 KB - 2 MB each" in plain


def test_a_cell_that_only_uploads_has_none() -> None:
    text = cell_details(result("alone", load=CLOSED), Style(200))
    assert "journeys" not in text


def test_the_table_of_cells_is_the_uploads_whatever_else_is_asked_for(info: RunInfo) -> None:
    known = {name: value for name, value in METRICS.items() if "(" not in name}
    alone = result("mixed", metrics=known, load=CLOSED)
    assert [c for c, _ in columns([CELL])] == [c for c, _ in columns([alone])]
    tables = [end_table(summary(one), info, Path("r"), Style(100)) for one in (CELL, alone)]
    [of_mix], [of_uploads] = (rows(table, "mixed") for table in tables)
    shown = ["mixed", "+", "held", "2.50", "3.70", "5.10", "0", "%", "-", "-"]
    assert of_mix[:10] == of_uploads[:10] == shown


def test_the_document_has_the_figures_by_their_names() -> None:
    [cell] = json.loads(as_json(summary(CELL)))["cells"]
    assert cell["metrics"]["errors.db_refused(progress)"] == 4
    assert CellResult.model_validate(cell) == CELL


def test_figures_of_a_journey_have_the_unit_of_their_metric() -> None:
    assert metric("p95(progress)", 0.31) == "310 ms"
    assert metric("error_rate(health)", 0.05) == "5.0 %"
    assert metric("of an earlier lab", 7.0) == "7"


def test_what_was_crossed_is_of_its_journey() -> None:
    crossed = Crossing(
        criterion="p95(progress) < 1 s", t=9.0, users=5, since=4.0, since_users=5, value=2.5,
        samples=20,
    )  # fmt: skip
    course = Timeline(crossings=(crossed,))
    text = cell_details(result("a", Outcome.BROKE, load=MIXED, course=course), Style(200))
    assert "p95(progress) < 1 s was crossed at 5 users, 9 s: 2.50 s of 20 progress requests" in text


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (CLOSED, "50 KB - 2 MB each"),
        (MIXED, "50 KB - 2 MB each; health every 10 s, within 10 s"),
        (
            {"burst": 5, "mix": {"progress": "100 %"}},
            "a burst of 5 users at once, one request each; progress 100 %; 50 KB - 2 MB each",
        ),
        (
            CLOSED | {"health_every": "1 s", "health_timeout": "60 s"},
            "50 KB - 2 MB each; health every 1 s, within 1 min",
        ),
    ],
)
def test_a_load_says_what_is_in_it(stored: dict[str, object], text: str) -> None:
    assert load(stored).endswith(text)


def test_the_table_of_metrics_says_which_may_be_asked_of_a_journey() -> None:
    by_name = {row["name"]: row["journeys"] for row in metrics_data()}
    assert by_name["p95"] == ["upload", "assess", "convert", "progress", "health"]
    assert by_name["capacity"] == ["upload", "assess", "convert"]
    assert by_name["pg_connections"] == []
    assert by_name["status.NNN"] == by_name["p95"]
    assert by_name["auth_p99"] == ["upload", "assess", "convert", "progress"]
    assert by_name["read"] == ["progress"]
    text = " ".join(metrics_text(Style(400)).split())
    assert "95th percentile latency of successful uploads (also of any journey)" in text
    assert "from its own stage times (also of assess, convert)" in text
    assert "decoding and resampling, of successful conversions convert_time_p50" in text
