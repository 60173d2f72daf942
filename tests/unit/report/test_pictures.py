"""The report's pictures: what each shows of a cell, and how large a page of them is."""

from __future__ import annotations

import hashlib
import json
import re
from html import unescape
from pathlib import Path
from typing import Any, Literal

import pytest

from lab.model.distribution import TimeSpent
from lab.model.physics import SATURATED
from lab.model.run import CellResult, RunInfo, Summary
from lab.model.verdict import Candidate, Outcome, Resource
from lab.report import Style, cell_details, end_table, html_report, markdown_report
from lab.report.blocks import Chart, Page
from lab.report.pictures import (
    by_users,
    heat_map,
    latencies,
    of_cell,
    of_run,
    over_time,
    replica,
    svg,
    time_spent,
)
from lab.report.pictures.limits import limits
from lab.report.run import run_page
from lab.report.terminal import page_text
from lab.report.vendor import UPLOT, text_of
from tests.fakes import pictured_run
from tests.unit.report.results import result, summary
from tests.unit.report.test_documents import Page as Parsed

KB = 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, RunInfo]:
    stored = pictured_run.stored(tmp_path_factory.mktemp("results"))
    return stored.summary(), stored.info


def figures_of(page: str) -> dict[str, Any]:
    """What a page's pictures are drawn from."""
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)
    assert found
    figures: dict[str, Any] = json.loads(found[1])
    return figures


def texts(drawn: str) -> list[str]:
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]


# Every picture.


def test_every_picture_is_a_whole_drawing_with_its_figures(run: tuple[Summary, RunInfo]) -> None:
    cells, _ = run[0].cells, run[1]
    pictures = [*of_run(cells), *(one for cell in cells for one in of_cell(cell))]
    names = {picture.name for picture in pictures}
    assert names == {"heat-map", "time-spent", "replica", "latencies"}
    for number, picture in enumerate(pictures):
        parsed = Parsed(picture.draw(f"here-{number}"))
        assert parsed.open == []
        assert {f"here-{number}-t", f"here-{number}-d"} <= parsed.ids
        assert picture.table.rows
        assert picture.about.endswith(".")
        assert json.loads(json.dumps(picture.data, allow_nan=False)) == picture.data


def test_a_drawing_tells_no_colour_of_its_own(run: tuple[Summary, RunInfo]) -> None:
    drawn = "".join(one.draw("x") for one in of_run(run[0].cells))
    assert not re.search(r'(fill|stroke)="(?!url\(#)', drawn)
    assert "#" not in re.sub(r"&#\d+;", "", drawn)


def test_text_in_a_drawing_is_escaped_and_on_one_line() -> None:
    canvas = svg.Canvas()
    canvas.text(0, 0, "<b>&\n\x1b[1m", '"><script>')
    [drawn] = canvas.shapes()
    assert "<b>" not in drawn
    assert "<script" not in drawn
    assert "&lt;b&gt;&amp; \\x1b[1m" in drawn


@pytest.mark.parametrize(
    ("highest", "marks"),
    [
        (0.0, [0]),
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (60.0, [0, 10, 20, 30, 40, 50, 60]),
        (0.05, [0, 0.01, 0.02, 0.03, 0.04, 0.05]),
        (7.0, [0, 2, 4, 6]),
    ],
)
def test_a_scale_is_told_in_round_steps(highest: float, marks: list[float]) -> None:
    assert svg.ticks(highest) == marks
    assert svg.rounded_up(highest) >= highest


# The heat map.


@pytest.mark.parametrize(
    ("criterion", "value", "outcome", "ratio"),
    [
        ("p95 < 10 s", 12.5, "missed", 1.25),
        ("p95 <= 10 s", 2.0, "met", 0.2),
        ("error_rate < 5 %", 0.1, "missed", 2.0),
        ("throughput > 5/s", 4.0, "missed", 1.25),
        ("throughput > 5/s", 0.0, "missed", float("inf")),
        ("oom_kills == 0", 0.0, "met", 0.0),
        ("oom_kills == 0", 2.0, "missed", float("inf")),
    ],
)
def test_a_distance_is_the_ratio_of_figure_and_bound(
    criterion: str, value: float, outcome: Literal["met", "missed"], ratio: float
) -> None:
    metric = criterion.split()[0]
    cell = result(metrics={metric: value}, findings={criterion: outcome})
    far = heat_map.distance(cell)
    assert far is not None
    assert far.ratio == pytest.approx(ratio)
    assert (heat_map.shade_of(far.ratio) > "d3") == (outcome == "missed")


def test_what_was_not_measured_has_no_distance() -> None:
    assert heat_map.distance(result(findings={"p95 < 10 s": "undecided"})) is None
    assert heat_map.distance(result()) is None


def test_axes_beyond_two_are_small_multiples(run: tuple[Summary, RunInfo]) -> None:
    picture = heat_map.picture(run[0].cells)
    assert picture is not None
    drawn = texts(picture.draw("x"))
    assert [f"workers {n}" for n in (1, 2, 4)] == [t for t in drawn if t.startswith("workers")]
    for sign in ("+ held", "x broke", "? undecided", "! invalid"):
        of_sign = sum(cell.verdict == sign[2:] for cell in run[0].cells)
        assert drawn.count(sign) == of_sign + 1  # once in the legend


def test_a_band_has_the_pattern_of_its_verdict() -> None:
    cells = [
        result(str(outcome), outcome, {"p95": 5.0}, {"p95 < 10 s": "met"}) for outcome in Outcome
    ]
    picture = heat_map.picture(cells)
    assert picture is not None
    drawn = picture.draw("x")
    for outcome in Outcome:
        [path] = re.findall(rf'<path d="([^"]*)" class="of-{outcome}"/>', drawn)
        assert path.count("M") == 2


def test_one_cell_is_no_matrix() -> None:
    assert heat_map.picture([result(findings={"p95 < 10 s": "met"}, metrics={"p95": 1.0})]) is None


# Where the time goes.


def test_bars_are_to_one_scale_and_as_long_as_their_seconds() -> None:
    spent = (
        TimeSpent(station="threads", mean=2.0, slow=6.0, failed=None),
        TimeSpent(station="storage", mean=3.0, slow=4.0, failed=None),
    )
    cell = result(metrics={"p95": 10.0}).model_copy(update={"time_spent": spent})
    picture = time_spent.of_cell(cell)
    assert picture is not None
    drawn = picture.draw("x")
    wide = {
        station: [float(n) for n in re.findall(r"h([\d.]+)v", path)][1:]  # the first is the legend
        for path, station in re.findall(r'd="([^"]*)" class="st s-(\w+)"', drawn)
    }
    assert wide["threads"][1] / wide["threads"][0] == pytest.approx(3, rel=0.01)
    assert wide["storage"][0] / wide["threads"][0] == pytest.approx(1.5, rel=0.01)
    assert {"5.00 s", "10.0 s"} <= set(texts(drawn))
    assert picture.about == (
        "A mean upload took 5.00 s, 60 % of it: storage call (3.00 s). One as slow as p95 took"
        " 10.0 s, 60 % of it: wait for a thread (6.00 s)."
    )


def test_every_station_of_the_judge_has_a_name() -> None:
    from lab.judge.waiting import SERVICE, Station

    assert list(time_spent.PLACES) == [str(station) for station in Station]
    worked = {name for name, place in time_spent.PLACES.items() if not place.waits}
    assert worked == {str(station) for station in SERVICE}


# The replica.


def test_every_resource_has_a_place_in_the_replica() -> None:
    placed = [resource for part in replica.PARTS for resource in part.resources]
    assert len(placed) == len(set(placed))
    # One that no part names is the workers': so a new rule needs no place of its own.
    assert replica.part_of(Resource.NONE).name == "workers"
    assert {replica.part_of(resource).name for resource in placed} <= {
        part.name for part in replica.PARTS
    }
    assert replica.part_of(Resource.DATABASE_SLOTS).name == "postgres"


@pytest.mark.parametrize("target", ["vm", "cloudrun"])
@pytest.mark.parametrize("resource", [one for one in Resource if one not in ("none", "unclear")])
def test_the_limit_is_marked_wherever_it_is(
    resource: Resource, target: Literal["vm", "cloudrun"]
) -> None:
    one = Candidate(resource=resource, level=0.987, at_limit=True, evidence="full")
    limit = pictured_run.limit().model_copy(update={"resource": resource, "candidates": (one,)})
    picture = replica.of_cell(result(limit=limit, target=target))
    assert picture is not None
    drawn = picture.draw("x")
    assert drawn.count("limiting") == 1
    told = texts(drawn)
    assert told.count("the limit") == 1
    assert "99 %" in told
    assert ("nginx" in told, "gateway" in told) == (target == "vm", target == "cloudrun")
    for x, y in re.findall(r"M([\d.-]+) ([\d.-]+)", drawn):
        assert 0 <= float(x) <= replica.WIDTH
        assert float(y) >= 0


def test_a_cell_without_a_limit_has_no_replica() -> None:
    assert replica.of_cell(result(verdict=Outcome.INVALID)) is None


# What filled up when.


def test_a_lane_goes_up_to_how_much_there_is_and_tells_when_it_was_full(
    run: tuple[Summary, RunInfo],
) -> None:
    [chart] = [block for block in run_page(*run).sections[0].blocks if isinstance(block, Chart)]
    [threads] = [lane for lane in over_time.shown(chart) if lane.title == "threads busy"]
    assert over_time.scale_of(chart, threads) == chart.limits["threads_busy"] == 20
    [(begin, end)] = over_time.full_spans(chart, threads)
    levels = chart.series.threads_busy
    assert (levels[int(begin)] or 0) >= SATURATED * 20 > (levels[int(begin) - 1] or 0)
    assert end == 90
    assert f"threads busy full from {begin:.0f} s" in over_time.picture(chart).about
    [data] = [
        lane for lane in over_time.picture(chart).data["lanes"] if lane["title"] == "threads busy"
    ]
    assert data["is_limit"]
    assert data["limit"] == 20


@pytest.mark.parametrize(
    ("target", "settings", "expected"),
    [
        ("vm", {"workers": 2, "pool_size": 5, "max_overflow": 3}, {"pool_checked_out": 16}),
        ("vm", {"pool_class": "NullPool"}, {"pool_checked_out": None, "pg_connections": 25}),
        ("vm", {"gcs_call": "executor", "gcs_threads": 7, "workers": 3}, {"threads_busy": 21}),
        ("vm", {"gcs_call": "blocking"}, {"threads_busy": 1, "gateway_inflight": None}),
        ("vm", {"pooler": "transaction", "pooler_size": 12}, {"pg_connections": 12}),
        ("cloudrun", {}, {"gateway_inflight": 1, "cpu_backend": 0.5, "rss_backend": None}),
    ],
)
def test_how_much_there_is_follows_the_knobs(
    target: Literal["vm", "cloudrun"], settings: dict[str, Any], expected: dict[str, float | None]
) -> None:
    found = limits(result(target=target, **settings))
    assert {name: found.get(name) for name in expected} == expected


def test_merged_values_keep_the_peak_of_a_level_and_the_mean_of_a_rate(
    run: tuple[Summary, RunInfo],
) -> None:
    [chart] = [block for block in run_page(*run).sections[0].blocks if isinstance(block, Chart)]
    whole, merged = over_time.picture(chart), over_time.picture(chart, 3)
    assert merged.data["bin_s"] == 3 * whole.data["bin_s"]
    assert "A point is 3 s here" in merged.note
    lines = {line["name"]: line for lane in merged.data["lanes"] for line in lane["lines"]}
    series = chart.series
    values = lines["p95"].get("values")
    assert values is None or len(values) == 30
    sent = lines["sent"]["values"]
    assert sent[1] == pytest.approx(sum(series.sent[3:6]) / 3, abs=1e-3)


# Latencies, and against users.


def test_a_distribution_has_its_bound_and_percentiles(run: tuple[Summary, RunInfo]) -> None:
    cell = run[0].cells[1]
    picture = latencies.of_cell(cell)
    assert picture is not None
    told = texts(picture.draw("x"))
    assert {"p50", "p95"} & set(told)
    assert "p95 < 10 s" in told
    assert picture.data["p95"] == cell.metrics["p95"]
    assert picture.data["bound"] == 10


def test_cells_that_differ_in_their_load_alone_are_a_curve() -> None:
    loads = [{"users": users, "window": "1 min"} for users in (30, 10, 20)]
    cells = [
        result(f"u{load['users']}", load=load, metrics={"p95": load["users"] / 2.0})  # type: ignore[operator]
        for load in loads
    ]
    [curve] = by_users.curves(cells)
    assert [point.users for point in curve.points] == [10, 20, 30]
    other = result("other", load=loads[0], metrics={"p95": 1.0}, workers=4)
    assert len(by_users.curves([*cells, other])) == 1
    assert by_users.picture([cells[0], other]) is None


# Pages.


@pytest.mark.parametrize(("count", "bins", "limit"), [(12, 90, 600 * KB), (100, 300, 4000 * KB)])
def test_a_page_is_no_larger_than_it_may_be(
    tmp_path: Path, count: int, bins: int, limit: int
) -> None:
    stored = pictured_run.stored(tmp_path, pictured_run.cells(count), bins)
    text = html_report(stored.summary(), stored.info)
    assert len(text.encode()) <= limit
    pictures = [told["picture"] for told in figures_of(text).values()]
    assert pictures.count("over-time") == count


def test_vendored_files_are_what_they_were() -> None:
    for file, digest in UPLOT.files:
        assert hashlib.sha256((UPLOT.folder / file).read_bytes()).hexdigest() == digest, file
    assert {file.name for file in UPLOT.folder.iterdir()} == {name for name, _ in UPLOT.files}
    assert UPLOT.version in text_of(UPLOT, "uPlot.iife.min.js")[:80]


def test_the_answer_stands_above_the_pictures_and_the_table(run: tuple[Summary, RunInfo]) -> None:
    page = run_page(*run)
    answered = Page(**{**vars(page), "answer": "Four workers carry it."})
    from lab.report.html import page_html
    from lab.report.markdown import page_markdown

    for text in (
        page_html(answered),
        page_markdown(answered),
        page_text(answered, "x", Style(100)),
    ):
        assert text.index("Four workers carry it.") < text.index("5+5")


def test_a_cell_begins_with_its_limit_and_where_the_time_goes(
    run: tuple[Summary, RunInfo],
) -> None:
    cell = run[0].cells[0]
    text = cell_details(cell, Style(100))
    heads = ["\nlimit\n", "\nwhere an upload's time goes\n", "\nhow full each part was\n"]
    heads += ["\nverdict\n", "\ncriteria\n"]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    assert re.search(r"^wait for a thread +2\.10 s +#+ +6\.25 s +#{7} +9\.70 s +#{11}$", text, re.M)
    assert text.isascii()


@pytest.mark.parametrize(("height", "charts"), [(None, True), (400, True), (30, False)])
def test_the_end_of_a_run_fits_on_the_screen(
    tmp_path: Path, height: int | None, charts: bool
) -> None:
    stored = pictured_run.stored(tmp_path, pictured_run.cells(12)[:2], staged=True)
    text = end_table(stored.summary(), stored.info, "x", Style(100, height=height))
    assert ("\nby stage\n" in text) == charts
    assert ("lab report RUN --cell ID shows a cell by stage" in text) == (not charts)
    if height:
        assert text.count("\n") <= height


def test_markdown_has_a_picture_s_figures_where_no_other_block_tells_them(
    run: tuple[Summary, RunInfo],
) -> None:
    text = markdown_report(*run)
    assert text.count("### Where an upload's time goes") == len(run[0].cells)
    assert "### How long uploads took" not in text


def test_a_result_of_an_earlier_lab_has_no_pictures_and_a_page() -> None:
    cells: tuple[CellResult, ...] = (result(), result("other"))
    assert [name for cell in cells for name in of_cell(cell)] == []
    assert of_run(summary(*cells).cells) == ()


def test_a_page_tells_once_what_a_figure_means(run: tuple[Summary, RunInfo]) -> None:
    text = html_report(*run)
    meaning = "95th percentile latency of successful uploads"
    assert text.count(meaning) == 1
    assert text.count("<code>p95</code></td>") == len(run[0].cells)
    assert markdown_report(*run).count(meaning) == len(run[0].cells)
