"""Limits, stages, charts, what went first and leaks, in every form of the report."""

from __future__ import annotations

import html
import io
import re
from html import unescape
from pathlib import Path

import pytest
from pydantic import ValidationError

from lab.judge.leaks import MIN_WINDOW_S
from lab.judge.timeline import timeline
from lab.judge.trial import Trial
from lab.model.evidence import Cause
from lab.model.readings import DatabaseReading
from lab.model.run import CellResult, RunInfo, Summary, as_json
from lab.model.verdict import (
    Bottleneck,
    Candidate,
    Leak,
    Outcome,
    Resource,
    Series,
    Stood,
    Timeline,
    Verdict,
    WorkerShare,
)
from lab.report import Style, cell_details, end_table, html_report, markdown_report
from lab.report.blocks import Chart
from lab.report.cell import cell_section, what_went_first
from lab.report.charts import ASCII, BLOCKS, chart_lines
from lab.report.pictures import over_time
from tests.fakes import sample_run
from tests.unit.judge.observations import cell, observation, sample
from tests.unit.report.test_documents import Page, without_vendored

LOAD = {"stages": [{"users": 50, "over": "100 s"}, {"users": 100, "over": "50 s", "hold": "50 s"}]}
LIMIT = Bottleneck(
    resource=Resource.EVENT_LOOP,
    evidence="event loop busy 99 %; pool never above 1 of 20",
    candidates=(
        Candidate(
            resource=Resource.EVENT_LOOP,
            level=0.99,
            at_limit=True,
            evidence="event loop busy 99 %",
            waited=0.873,
        ),
        Candidate(
            resource=Resource.POOL, level=0.05, at_limit=False, evidence="pool never above 1 of 20"
        ),
    ),
)
LEAK = Leak(
    metric="rss_slope",
    outcome="leak",
    slope=5e4,
    low=4e4,
    high=6e4,
    bound=1.7e4,
    over_s=MIN_WINDOW_S,
    reason="memory grew by 3.00 MB a minute: a leak",
)


STOOD = (
    Stood(place="services/audio_upload.py:96 upload_from_string", share=0.93),
    Stood(place="database.py:40 connection", share=0.05),
)


def measured() -> Timeline:
    """A ramp in which p95 passes 10 s at 30 users and the proxy cuts off from 70 users on."""
    late = [sample(t / 2, 4.0 if t < 120 else 20.0) for t in range(280)]
    cut = [sample(t, 60.0, Cause.GATEWAY_TIMEOUT) for t in range(140, 200)]
    connections = [DatabaseReading(t=t, connections=1 + t // 50) for t in range(200)]
    return timeline(Trial(cell(load=LOAD), observation([*late, *cut], connections)))


COURSE = measured()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, RunInfo]:
    """A run of one cell that has everything, and one that a lab of before stored."""
    stored = sample_run.stored(tmp_path_factory.mktemp("results"), finished=2)
    first, second = stored.summary().cells
    whole = first.model_copy(
        update={
            "limit": LIMIT,
            "course": COURSE,
            "leaks": (LEAK,),
            "stood": STOOD,
            "load": cell(load=LOAD).load.model_dump(mode="json"),
        }
    )
    summary = stored.summary().model_copy(update={"cells": (whole, second), "missing": ()})
    return summary, stored.info


def forms(run: tuple[Summary, RunInfo]) -> dict[str, str]:
    """Every form of the report, its text as a reader sees it, in one line."""
    summary, info = run
    texts = {
        "end table": end_table(summary, info, "x", Style(100)),
        "details": cell_details(summary.cells[0], Style(100)),
        "markdown": markdown_report(summary, info).replace("\\", ""),
        "html": unescape(re.sub(r"<[^>]+>", " ", html_report(summary, info))),
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


@pytest.mark.parametrize("form", ["end table", "details", "markdown", "html"])
def test_every_form_tells_the_limit_the_stages_and_what_went_first(
    run: tuple[Summary, RunInfo], form: str
) -> None:
    text = forms(run)[form]
    assert LIMIT.evidence in text
    assert "event_loop" in text
    assert LEAK.reason in text
    for line in what_went_first(COURSE):
        assert line in text
    for stage in COURSE.stages:
        assert f"{stage.start:.0f}-{stage.end:.0f} s" in text


@pytest.mark.parametrize("form", ["details", "markdown", "html"])
def test_every_resource_that_was_looked_at_is_shown(
    run: tuple[Summary, RunInfo], form: str
) -> None:
    text = forms(run)[form]
    for one in LIMIT.candidates:
        assert one.evidence in text


@pytest.mark.parametrize("form", ["details", "markdown", "html"])
def test_what_uploads_waited_for_stands_beside_its_level(
    run: tuple[Summary, RunInfo], form: str
) -> None:
    text = re.sub(r"[\s|]+", " ", forms(run)[form])
    table = text[text.index("resource level waited evidence") :]
    assert re.search(r"event_loop 99 % (\S+ )?87 % event loop busy", table)
    assert re.search(r"pool 5.0 % (\S+ )?- pool never", table)


WORKERS = (
    WorkerShare(worker=4711, uploads=384, share=0.542, rate=3.18, busy=1.0, queued=1.0, idle=0.0),
    WorkerShare(worker=4712, uploads=325, share=0.458, rate=2.7, busy=0.868, queued=0.5, idle=0.37),
)


@pytest.mark.parametrize("form", ["details", "markdown", "html"])
def test_each_worker_has_a_row_where_there_are_several(
    run: tuple[Summary, RunInfo], form: str
) -> None:
    summary, info = run
    told = summary.cells[0].model_copy(update={"workers": WORKERS})
    assert CellResult.model_validate_json(as_json(told)).workers == WORKERS
    split = summary.model_copy(update={"cells": (told,)})
    text = re.sub(r"[\s|]+", " ", forms((split, info))[form])
    assert "4711 384 54 % 3.18/s 100 % 100 % 0 % " in text
    assert "4712 325 46 % 2.70/s 87 % 50 % 37 % " in text
    assert "idle, others queued" in text
    assert "idle, others queued" not in forms(run)[form]


def test_what_went_first_is_told_in_order_with_the_users() -> None:
    first, *_, cause, last = what_went_first(COURSE)
    assert re.match(r"p95 < 10 s was crossed at 3\d-3\d users, \d+ s: 20.0 s of \d+ uploads", first)
    assert cause == "gateway_timeout from 90 users on, 200 s: 60 in all"
    assert last == "error_rate < 5 % was crossed at 90-94 users, 204 s: 25 % of 20 uploads"


def test_the_column_of_limits_is_there_only_where_there_are_any(
    run: tuple[Summary, RunInfo],
) -> None:
    summary, info = run
    without = tuple(one.model_copy(update={"limit": None}) for one in summary.cells)
    bare = summary.model_copy(update={"cells": without})
    for shown, has in ((summary, True), (bare, False)):
        lines = end_table(shown, info, "x", Style(120)).splitlines()
        head = next(line for line in lines if " verdict " in line)
        assert (" limit" in head) == has
    assert "| limit |" in markdown_report(summary, info)
    assert "| limit |" not in markdown_report(bare, info)
    assert '<th scope="col">limit</th>' in html_report(summary, info)
    assert '<th scope="col">limit</th>' not in html_report(bare, info)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_the_end_table_stays_in_its_width_and_in_ascii(
    run: tuple[Summary, RunInfo], width: int
) -> None:
    text = end_table(*run, "x", Style(width))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    assert "event_loop" in text


def test_many_cells_with_stages_are_pointed_at_and_not_spread_out(
    run: tuple[Summary, RunInfo],
) -> None:
    summary, info = run
    many = tuple(summary.cells[0].model_copy(update={"id": f"c{i}"}) for i in range(5))
    text = end_table(summary.model_copy(update={"cells": many}), info, "x", Style(100))
    assert "lab report RUN --cell ID shows a cell by stage and over time" in text
    assert "by stage\n" not in text


def series(values: list[float | None]) -> Series:
    """A series of which only p95 varies."""
    count = len(values)
    zeros = [0.0] * count
    none: list[int | None] = [None] * count
    return Series(
        start=0,
        bin_s=2,
        window_s=10,
        users=[7] * count,
        sent=zeros,
        answered=zeros,
        errors=zeros,
        p95=values,
        pg_connections=none,
        pool_checked_out=none,
        uploads_inflight=none,
    )


def test_a_chart_rises_with_its_values_and_has_gaps_where_there_are_none() -> None:
    lines = chart_lines(series([0, None, *range(1, 8)]), 80, blocks=True)
    assert lines[3] == f"p95         ▁ {BLOCKS[1:]}  0 .. 7.00 s"
    assert [line.split()[0] for line in lines] == [
        *("users", "sent/s", "answered/s", "p95", "errors/s"),
        "0",
    ]
    assert lines[-1].split() == ["0", "s", "18", "s"]
    plain = chart_lines(series([0, None, *range(1, 8)]), 80, blocks=False)
    assert plain[3] == lines[3].translate(ASCII)
    assert "".join(plain).isascii()


def test_figures_that_are_all_zero_lie_on_the_ground() -> None:
    assert chart_lines(series([1.0] * 4), 80, blocks=True)[1] == "sent/s      ▁▁▁▁  0 .. 0"


def test_a_burst_has_no_p95_over_time() -> None:
    values: list[float | None] = [7.0, 7.0, None, None]
    burst = series(values).model_copy(update={"sent": [20.0, 0.0, 0.0, 0.0]})
    assert not any(line.startswith("p95") for line in chart_lines(burst, 80, blocks=True))
    lanes = over_time.shown(Chart(burst, (), (), {}))
    assert "p95" not in [lane.title for lane in lanes]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_chart_is_squeezed_into_its_width_and_keeps_its_peak(width: int) -> None:
    peaked: list[float | None] = [0.0] * 300
    peaked[151] = 9.0
    lines = chart_lines(series(peaked), width, blocks=True)
    assert max(map(len, lines)) <= width
    assert lines[3].count("█") == 1


@pytest.mark.parametrize(
    ("encoding", "environment", "blocks"),
    [
        ("utf-8", {}, True),
        ("UTF-8", {}, True),
        ("ascii", {}, False),
        ("utf-8", {"TERM": "dumb"}, 0),
    ],
)
def test_blocks_are_drawn_where_the_encoding_holds_them(
    encoding: str, environment: dict[str, str], blocks: bool
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert Style.of(stream, 80, environment).blocks == blocks


def charts_of(cell: CellResult) -> list[Chart]:
    return [block for block in cell_section(cell).blocks if isinstance(block, Chart)]


def test_a_drawing_has_a_lane_for_what_was_measured_and_marks_what_was_crossed(
    run: tuple[Summary, RunInfo],
) -> None:
    [chart] = charts_of(run[0].cells[0])
    picture = over_time.picture(chart)
    titles = [lane["title"] for lane in picture.data["lanes"]]
    assert titles == ["users", "uploads/s", "errors/s", "p95", "Postgres"]
    drawn = picture.draw("here")
    for one in COURSE.crossings:
        assert f"{html.escape(one.criterion)} crossed</text>" in drawn
    assert picture.data["crossings"] == [
        {"criterion": one.criterion, "t": one.t} for one in COURSE.crossings
    ]
    [p95] = [
        place for place in over_time.places(over_time.shown(chart), 0) if place.lane.title == "p95"
    ]
    assert over_time.scale_of(chart, p95.lane) == pytest.approx(20)
    assert over_time.bound_of(chart, p95.lane) == 10


def test_every_path_stays_in_its_lane(run: tuple[Summary, RunInfo]) -> None:
    [chart] = charts_of(run[0].cells[0])
    paths = re.findall(
        r'scale\([\d.]+ [\d.]+\)"><path d="([^"]+)"', over_time.picture(chart).draw("x")
    )
    assert len(paths) == 6
    for path in paths:
        x = y = 0
        for command, arguments in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
            numbers = [int(number) for number in re.findall(r"-?\d+", arguments)]
            if command == "M":
                x, y = numbers
            elif command in "lh":
                x, y = x + numbers[0], y + (numbers[1] if command == "l" else 0)
            assert 0 <= x <= len(chart.series.users)
            assert -over_time.PARTS <= y <= 0


def test_a_cell_without_a_course_has_no_drawing(run: tuple[Summary, RunInfo]) -> None:
    assert charts_of(run[0].cells[1]) == []


def test_the_page_is_whole_and_needs_no_network(run: tuple[Summary, RunInfo]) -> None:
    text = html_report(*run)
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert page.tags.count("svg") >= 2
    assert "http" not in without_vendored(text)


@pytest.mark.parametrize("form", ["details", "markdown", "html"])
def test_every_form_tells_where_the_event_loop_stood(
    run: tuple[Summary, RunInfo], form: str
) -> None:
    text = forms(run)[form]
    place, share, other, less = (
        *("services/audio_upload.py:96 upload_from_string", "93 %"),
        *("database.py:40 connection", "5.0 %"),
    )
    told = text[text.lower().index("where the event loop stood") :]
    found = [told.index(said) for said in (place, share, other, less)]
    assert found == sorted(found)
    assert text.lower().count("where the event loop stood") == 1


def test_text_from_a_spec_is_escaped_in_drawings_too(run: tuple[Summary, RunInfo]) -> None:
    summary, info = run
    hostile = LIMIT.model_copy(update={"evidence": "<script>alert(1)</script>"})
    changed = summary.cells[0].model_copy(update={"limit": hostile})
    text = html_report(summary.model_copy(update={"cells": (changed,)}), info)
    assert text.count("<script") == 3  # the figures, uPlot and the page's own
    assert "<script>alert" not in text


def test_what_is_said_over_time_is_stored_and_read_back(tmp_path: Path) -> None:
    run = sample_run.create(tmp_path)
    of = run.cells()[0]
    sample_run.measure(run, of)
    told = {"limit": LIMIT, "course": COURSE, "leaks": (LEAK,), "stood": STOOD}
    folder = run.begin(run.cells()[1])
    folder.samples.write_text("")
    folder.write_evidence(sample_run.evidence())
    folder.finish(sample_run.verdict(run.cells()[1]).model_copy(update=told))
    run.write_summary()
    before, whole = sample_run.read_summary(run).cells
    assert (before.limit, before.course, before.leaks, before.stood) == (None, None, (), ())
    assert (whole.limit, whole.course, whole.leaks, whole.stood) == (LIMIT, COURSE, (LEAK,), STOOD)
    assert as_json(run.summary()) == (run.path / "summary.json").read_text()


def test_a_verdict_and_a_result_of_before_still_read() -> None:
    new = {"limit", "course", "leaks", "decided", "invalid", "stood", "workers", "sizes", "spreads"}
    new |= {"time_spent", "latencies"}
    verdict = sample_run.verdict(sample_run.cells()[0]).model_dump(mode="json", exclude=new)
    assert not new & set(verdict)
    assert Verdict.model_validate(verdict).outcome is Outcome.BROKE
    optional = {name for name, field in CellResult.model_fields.items() if not field.is_required()}
    assert optional == new | {"target", "speed_reason", "split", "attempts", "baseline", "against"}


@pytest.mark.parametrize(
    ("figure", "value"),
    [("sent", [-1.0]), ("answered", [-0.1]), ("errors", [-1.0]), ("p95", [-1.0]), ("bin_s", 0.0)],
)
def test_a_figure_below_zero_is_no_series(figure: str, value: object) -> None:
    sound = {**{key: [0] for key in Series.model_fields}, "start": 0, "bin_s": 1, "window_s": 5}
    assert Series.model_validate(sound)
    with pytest.raises(ValidationError, match="greater than"):
        Series.model_validate(sound | {figure: value})
