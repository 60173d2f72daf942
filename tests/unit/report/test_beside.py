"""Before and after on the page: bars with intervals, what flipped, and where the limit went."""

from __future__ import annotations

import re
from html import unescape

import pytest

from lab.judge.comparison import compared
from lab.model.diagnosis import Diagnoses, Diagnosis, Remedy, Step
from lab.model.run import RunInfo, Summary
from lab.model.verdict import Comparison, Flip, Outcome, Resource
from lab.report import Style, cell_details, end_table, format, html_report, markdown_report
from lab.report.answers import answered
from lab.report.beside import HEADS, before_after, change_on, ends, pair, told_flips
from lab.report.blocks import BottleneckPath, Pair, Paragraph, Table, Value
from lab.report.diagnoses import bottleneck_path
from tests.fakes import sample_run
from tests.unit.report.advised import cell, on_the_vm
from tests.unit.report.results import Decision, summary
from tests.unit.report.test_documents import Page

RUN = on_the_vm()
PAIR = re.compile(
    r'<svg class="pair"[^>]*>.*?class="before" x="0" y="2" width="([\d.]+)".*?'
    r'class="after (\w*)" x="0" y="13" width="([\d.]+)" height="8"/>'
    r'(?:<path class="halo" d="M([\d.]+) 17 H([\d.]+) )?'
)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> RunInfo:
    return sample_run.stored(tmp_path_factory.mktemp("results"), finished=0).info


def table(run: Summary = RUN) -> Table:
    [block] = before_after(run.cells)
    assert isinstance(block, Table)
    return block


def plain(text: str) -> str:
    """A text, or Markdown, in one line."""
    return " ".join(text.replace("\\", "").split())


def seen(page: str) -> str:
    """What a reader sees of a page, in one line."""
    return plain(unescape(re.sub(r"<[^>]+>", " ", page)))


def test_the_baseline_comes_first_and_every_other_cell_stands_under_it() -> None:
    rows = table().rows
    assert [row[0].text for row in rows] == [one.axes["advice"] for one in RUN.cells]
    assert rows[0][1].text == "was before"
    assert {row[1].text for row in rows[1:]} == {"helps", "harms", "does nothing"}


def test_the_figures_of_the_table_are_those_of_the_summary() -> None:
    for row, one in zip(table().rows, RUN.cells, strict=True):
        for value, name in zip(row[2:5], ("throughput", "p95", "error_rate"), strict=True):
            assert value.text.startswith(format.metric(name, one.metrics[name]))
            change = change_on(name, one.against)
            assert (change is None) is (not one.baseline)
            if change:
                assert value.text.endswith(f": {format.beside(change)}")
                assert value.short == format.beside(change)


def test_what_flipped_and_where_the_limit_went_stand_beside_the_figures() -> None:
    rows = {row[0].text: [value.text for value in row] for row in table().rows}
    assert rows["all"][5] == "now met: p95 < 10 s, error_rate < 5 %"
    assert rows["to_thread"][5:] == ["", "event_loop -> default_executor"]
    assert rows["as-found"][5:] == ["", "event_loop"]


def test_a_criterion_that_was_undecided_is_not_said_to_have_turned() -> None:
    p95, errors, rate = "p95 < 10 s", "error_rate < 5 %", "throughput > 1/s"
    turns: list[tuple[str, Decision, Decision]] = [
        (p95, "undecided", "missed"),
        (errors, "met", "missed"),
        (rate, "undecided", "missed"),
        ("p50 < 5 s", "met", "undecided"),
    ]
    flips = tuple(Flip(criterion=c, before=before, after=after) for c, before, after in turns)
    assert told_flips(Comparison(baseline="b", flips=flips)) == [
        f"missed (undecided before): {p95}, {rate}",
        f"now missed: {errors}",
        "now undecided: p50 < 5 s",
    ]


def _pictures(column: int) -> dict[str, Pair]:
    drawn = ((row[0].text, row[column].picture) for row in table().rows)
    return {name: picture for name, picture in drawn if isinstance(picture, Pair)}


@pytest.mark.parametrize(("column", "name"), [(2, "throughput"), (3, "p95"), (4, "error_rate")])
def test_the_bars_of_a_column_are_to_one_scale(column: int, name: str) -> None:
    found, by_id = _pictures(column), {one.axes["advice"]: one for one in RUN.cells}
    assert set(found) == {one.axes["advice"] for one in RUN.cells if one.baseline}
    assert len({picture.before for picture in found.values()}) == 1
    scale = by_id["as-found"].metrics[name] / found["all"].before
    for cell_id, picture in found.items():
        assert picture.after * scale == pytest.approx(by_id[cell_id].metrics[name])
        change = change_on(name, by_id[cell_id].against)
        assert change is not None
        low, high = ends(change)
        assert picture.low * scale == pytest.approx(low)
        assert picture.high == pytest.approx(min(high / scale, 1.0))
        assert picture.low <= picture.after <= picture.high <= 1


def test_a_bar_says_by_its_colour_whether_the_change_is_good_news() -> None:
    tones = {name: picture.tone for name, picture in _pictures(2).items()}
    assert tones["to_thread"] == "good"
    assert tones["read-timeout"] == "bad"
    assert tones["pool-15+15"] == ""


def test_the_page_draws_them_without_a_script(info: RunInfo) -> None:
    text = html_report(RUN, info)
    section = text.partition("<h2>Before and after</h2>")[2].partition("<h2>")[0]
    drawn = PAIR.findall(section)
    assert len(drawn) == 3 * (len(RUN.cells) - 1)
    of_rates = [(float(one[0]), one[1], float(one[2])) for one in drawn[::3]]
    expected = [
        (round(100 * p.before, 1), p.tone, round(100 * p.after, 1)) for p in _pictures(2).values()
    ]
    assert of_rates == expected
    assert all(one[3] and one[4] for one in drawn[::3])
    assert Page(text).open == []
    assert "<script>" not in text


@pytest.mark.parametrize("form", ["terminal", "markdown", "html"])
def test_every_form_tells_before_and_after(info: RunInfo, form: str) -> None:
    texts = {
        "terminal": plain(end_table(RUN, info, "x", Style(240))),
        "markdown": plain(markdown_report(RUN, info)),
        "html": seen(html_report(RUN, info)),
    }
    text = texts[form]
    change = change_on("throughput", RUN.cells[3].against)
    assert change is not None
    for part in ("efore and after", "was before", "now met: p95 < 10 s", *HEADS):
        assert part in text
    assert format.beside(change) in text
    assert "event_loop -> default_executor" in text


def test_an_answer_of_many_sentences_is_a_list(info: RunInfo) -> None:
    run = answered(RUN, "advice")
    assert run.answer is not None
    claims = [claim.text for claim in run.answer.claims]
    page = html_report(run, info).partition('<div class="answer">')[2].partition("</div>")[0]
    assert [unescape(item) for item in re.findall(r"<li>(.*?)</li>", page)] == claims
    text = markdown_report(run, info).partition("**Answer.**\n\n")[2].partition("\n\n")[0]
    assert [line.removeprefix("- ") for line in text.replace("\\", "").splitlines()] == claims
    assert f"answer {claims[0]}" in plain(end_table(run, info, "x", Style(240)))
    few = answered(summary(*RUN.cells[:1]), "general")
    assert few.answer is not None
    assert f'<p class="answer">{few.answer.text}</p>' in unescape(html_report(few, info))


def test_a_run_without_a_baseline_has_no_such_part(info: RunInfo) -> None:
    nothing = {"baseline": "", "against": None}
    alone = summary(*(one.model_copy(update=nothing) for one in RUN.cells))
    assert before_after(alone.cells) == ()
    for text in (html_report(alone, info), markdown_report(alone, info)):
        assert "efore and after" not in text


def test_what_is_not_compared_is_told_with_its_reason() -> None:
    cells = [*RUN.cells[:2]]
    assert cells[1].against is not None
    why = cells[1].against.model_copy(update={"why_not": "their files differ", "changes": ()})
    cells[1] = cells[1].model_copy(update={"against": why})
    told, note = before_after(cells)
    assert note == Paragraph("their files differ", lead="case=read-timeout is not compared")
    assert isinstance(told, Table)
    assert told.rows[1][1].text == "is not compared"
    assert told.rows[1][2] == Value("0.100/s")


def test_what_the_bars_mean_is_told_where_there_are_bars(info: RunInfo) -> None:
    told = "Of two bars the upper one is the baseline"
    assert told in html_report(RUN, info)
    uncompared = (
        one.against and one.against.model_copy(update={"why_not": "files differ", "changes": ()})
        for one in RUN.cells
    )
    cells = zip(RUN.cells, uncompared, strict=True)
    bare = summary(*(one.model_copy(update={"against": against}) for one, against in cells))
    page = html_report(bare, info)
    assert "<h2>Before and after</h2>" in page
    assert told not in page


def test_a_baseline_that_served_nobody_is_no_divisor() -> None:
    run = compared(summary(cell("as-found", 0.0, 58, 1.0), cell("all", 5.0, 9, 0.0, workers=4)))
    row = table(run).rows[1]
    assert row[2].text == "5.00/s: before 0"
    assert row[1].text == "helps"
    assert pair_of(row[2]).before == 0


def pair_of(value: Value) -> Pair:
    assert isinstance(value.picture, Pair)
    return value.picture


def test_of_two_nothings_there_is_no_picture() -> None:
    change = change_on("error_rate", RUN.cells[1].against)
    assert change is not None
    assert pair(change, 0.0) is None


def test_a_cells_own_section_has_its_figures_as_bars(info: RunInfo) -> None:
    text = html_report(RUN, info)
    whole = text.partition("<h3>beside case=as-found</h3>")[2].partition("<h3>")[0]
    assert len(PAIR.findall(whole)) == 3
    assert "beside case=as-found" in cell_details(RUN.cells[1], Style(120))


# The bottleneck's path.

STEPS = (
    ("", Resource.OWN_THREADS, Outcome.BROKE),
    ("gcs_threads=40", Resource.EVENT_LOOP, Outcome.BROKE),
    ("db_call=threadpool", Resource.NONE, Outcome.HELD),
)


def remedy() -> Remedy:
    steps = tuple(
        Step(id=f"step={n}", added=added, settings={}, outcome=outcome, limit=limit, reason="x")
        for n, (added, limit, outcome) in enumerate(STEPS)
    )
    return Remedy(id="cell", outcome="held", settings={}, steps=steps, taken_back=(), text="It.")


def test_the_path_names_each_limit_and_what_moved_it() -> None:
    path = bottleneck_path(remedy())
    assert isinstance(path, BottleneckPath)
    assert [(hop.change, hop.limit.text, hop.limit.outcome) for hop in path.hops] == [
        (added, str(limit), outcome) for added, limit, outcome in STEPS
    ]
    assert tuple(hop.limit.text for hop in path.hops) == remedy().path


def diagnoses() -> Diagnoses:
    told = Diagnosis(
        id="cell",
        outcome="proven",
        verdict=Outcome.BROKE,
        named=Resource.OWN_THREADS,
        limit=(Resource.OWN_THREADS,),
        missed=("p95 < 10 s",),
        trials=(),
        untried=(),
        text="The limit is own_threads.",
    )
    header = {"run": "r", "experiment": "x", "about": "which?", "stack": "embedded", "speed": 5}
    parts = {"cells": (told,), "remedies": (remedy(),), "missing": ()}
    return Diagnoses.model_validate(header | parts)


def test_every_form_of_a_diagnosis_draws_the_path(info: RunInfo) -> None:
    page = html_report(diagnoses(), info)
    drawn = page.partition('<ol class="path">')[2].partition("</ol>")[0]
    assert drawn.count("<svg") == len(STEPS) - 1  # an arrow between each two
    assert seen(drawn) == "x own_threads gcs_threads=40 x event_loop db_call=threadpool + none"
    assert Page(page).open == []
    path = "1. x own_threads 2. gcs_threads=40: x event_loop 3. db_call=threadpool: + none"
    assert path in plain(markdown_report(diagnoses(), info))
    text = plain(end_table(diagnoses(), info, "x", Style(100)))
    path = "x own_threads -> gcs_threads=40: x event_loop -> db_call=threadpool: + none"
    assert f"where the limit of cell went {path}" in text


def test_a_diagnosis_without_a_remedy_has_no_path(info: RunInfo) -> None:
    alone = diagnoses().model_copy(update={"remedies": ()})
    assert 'class="path"' not in html_report(alone, info)
    assert "where the limit" not in end_table(alone, info, "x", Style(100))
