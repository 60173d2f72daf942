from __future__ import annotations

import io
import re

import pytest

from lab.model.run import RunInfo, Summary
from lab.model.verdict import Outcome
from lab.report import Style, cell_details, end_table
from tests.fakes import sample_run as sample

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, RunInfo]:
    stored = sample.stored(tmp_path_factory.mktemp("results"))
    return stored.summary(), stored.info


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
def test_the_table_fits_its_width_in_ascii(run: tuple[Summary, RunInfo], width: int) -> None:
    text = end_table(*run, "results/run", Style(width))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    assert not re.search(r"[ \t]$", text, re.MULTILINE)


@pytest.mark.parametrize("width", [60, 80, 100, 130])
def test_every_width_tells_the_whole_story(run: tuple[Summary, RunInfo], width: int) -> None:
    text = " ".join(end_table(*run, "results/run", Style(width)).split())
    assert "workers-x-pool: which worker and pool sizes" in text
    assert "50 users, closed loop" in text
    assert "a slower server is sent less" in text
    assert "embedded stack (no container engine answers), speed 5" in text
    assert "12 cells: 2 held, 8 broke, 1 undecided, 1 invalid" in text
    assert "stored in results/run" in text
    for cell in run[0].cells:
        if cell.verdict is not Outcome.HELD:
            assert cell.reasons[0] in text
    for mark in ("+ held", "x broke", "? undecided", "! invalid"):
        assert mark in text
    assert "db_refused 168" in text


def test_reasons_stand_beside_where_there_is_room(run: tuple[Summary, RunInfo]) -> None:
    wide = end_table(*run, "x", Style(130)).splitlines()
    assert any(re.search(r"x broke .* 25  p95 is 14 s, not under 10 s$", row) for row in wide)
    narrow = end_table(*run, "x", Style(80)).splitlines()
    assert "    db_refused 84: p95 is 14 s, not under 10 s" in narrow


def test_colour_adds_escapes_and_changes_no_word(run: tuple[Summary, RunInfo]) -> None:
    plain = end_table(*run, "x", Style(100))
    coloured = end_table(*run, "x", Style(100, colour=True))
    assert "\x1b" not in plain
    assert "\x1b[1;31mx broke" in coloured
    assert "\x1b[1;32m+ held" in coloured
    assert _ESCAPE.sub("", coloured).split() == plain.split()


@pytest.mark.parametrize(
    ("stream", "environment", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    stream: io.StringIO, environment: dict[str, str], colour: bool
) -> None:
    assert Style.of(stream, 100, environment) == Style(100, colour)


def test_the_environment_changes_nothing(
    run: tuple[Summary, RunInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    style = Style(100, colour=True)
    before = end_table(*run, "x", style), cell_details(run[0].cells[0], style)
    for name, value in {
        "COLUMNS": "40",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "LC_ALL": "de_DE.UTF-8",
        "FORCE_COLOR": "3",
    }.items():
        monkeypatch.setenv(name, value)
    assert (end_table(*run, "x", style), cell_details(run[0].cells[0], style)) == before


def test_axes_that_do_not_vary_are_left_out(run: tuple[Summary, RunInfo]) -> None:
    summary = run[0].model_copy(update={"cells": run[0].cells[:2]})
    head = end_table(summary, run[1], "x", Style(100)).splitlines()
    assert any(row.startswith("db_session  verdict") for row in head)


def test_a_run_without_a_finished_cell_says_how_to_go_on(run: tuple[Summary, RunInfo]) -> None:
    ids = tuple(cell.id for cell in run[0].cells)
    empty = run[0].model_copy(update={"cells": (), "missing": ids})
    text = end_table(empty, run[1], "x", Style(100))
    assert "12 cells: 12 not finished" in text
    assert "lab run --resume x\n" in text


def test_text_from_a_spec_is_never_read_as_markup(run: tuple[Summary, RunInfo]) -> None:
    summary = run[0].model_copy(update={"about": "[red]:smile:[/red] [/nothing]"})
    assert "[red]:smile:[/red] [/nothing]" in end_table(summary, run[1], "x", Style(100))


def test_a_cell_without_figures_is_shown_without_inventing_any(
    run: tuple[Summary, RunInfo],
) -> None:
    bare = (
        run[0]
        .cells[0]
        .model_copy(
            update={"metrics": {}, "findings": (), "injected": (), "verdict": Outcome.INVALID}
        )
    )
    summary = run[0].model_copy(update={"cells": (bare,)})
    row = next(
        line for line in end_table(summary, run[1], "x", Style(120)).splitlines() if "! inv" in line
    )
    assert " - " in row
    assert not re.search(r"\b0\b", row)
    assert "metrics\nnone" in cell_details(bare, Style(100))


@pytest.mark.parametrize("width", [80, 100])
def test_a_cells_details_hold_all_that_is_stored(run: tuple[Summary, RunInfo], width: int) -> None:
    cell = run[0].cells[6]
    text = cell_details(cell, Style(width))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for name in cell.metrics:
        assert name in flat
    for reason in cell.reasons:
        assert reason in flat
    assert "workers=2, gcs_call=executor, db_session=hold, speed=5.0" in flat
    assert "13.4 s .. 14.7 s" in flat
    assert "50.2 ms" in flat
    assert "unclear" in flat
