from __future__ import annotations

import io
from dataclasses import replace

import pytest

from lab.model.run import LoadTick, Progress
from lab.report import LiveLine
from lab.report.progress import line

TICK = LoadTick(t=23.4, users=50, sent=170, answered=120, failed=12, rate=6.712)
NOW = Progress(
    cell="workers=2,pool=5+5,db_session=hold",
    index=3,
    cells=12,
    phase="window",
    left_s=245,
    tick=TICK,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_cell_phase_load_errors_and_time_left() -> None:
    assert line(NOW, 140) == (
        "[3/12] workers=2,pool=5+5,db_session=hold  window     real-world 23 s  50 users  6.71/s  "
        "12 failed (10 %)  4 min 05 s left"
    )


def test_a_short_line_leaves_out_whose_seconds_they_are_before_the_time_that_is_left() -> None:
    assert "  real-world 23 s  " in line(NOW, 96)
    assert "  23 s  50 users" in line(NOW, 95)
    assert line(NOW, 95).endswith("  4 min 05 s left")


def test_without_load_it_says_the_phase() -> None:
    text = line(replace(NOW, phase="applying", tick=None), 120)
    assert text == "[3/12] workers=2,pool=5+5,db_session=hold  settings   4 min 05 s left"


@pytest.mark.parametrize("width", [0, 1, 20, 40, 79, 80, 100])
def test_the_line_never_passes_its_width(width: int) -> None:
    assert len(line(NOW, width)) <= width


def test_a_short_line_keeps_both_ends_of_the_id() -> None:
    text = line(NOW, 95)
    assert text.startswith("[3/12] workers=")
    assert "=hold  window" in text
    assert ".." in text


def test_failures_before_any_answer_divide_nothing() -> None:
    tick = replace(TICK, answered=0, failed=3)
    assert "3 failed  " in line(replace(NOW, tick=tick), 120)


def test_a_pipe_gets_one_plain_line_a_phase() -> None:
    stream = io.StringIO()
    with LiveLine(stream, {"TERM": "xterm"}) as live:
        for phase in ("ramp", "ramp", "window", "window"):
            live.update(replace(NOW, phase=phase))
        live.update(replace(NOW, phase="window", cell="workers=4"))
        live.print("cell workers=2 broke")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()
    assert lines[-1] == "cell workers=2 broke"


def test_a_terminal_gets_every_update_and_is_left_clean() -> None:
    stream = Terminal()
    with LiveLine(stream, {"TERM": "xterm"}, width=100) as live:
        for sent in range(3):
            live.update(replace(NOW, tick=replace(TICK, users=sent)))
        live.print("a line that stays")
    text = stream.getvalue()
    assert all(f"{sent} users" in text for sent in range(3))
    assert "a line that stays" in text
    assert "\x1b[36m" in text
    assert text.endswith("\x1b[2K")  # the live line is erased


def test_no_color_is_honoured_on_a_terminal() -> None:
    stream = Terminal()
    with LiveLine(stream, {"TERM": "xterm", "NO_COLOR": "1"}, width=100) as live:
        live.update(NOW)
    assert "50 users" in stream.getvalue()
    assert "\x1b[36m" not in stream.getvalue()


def test_what_others_print_stays_on_their_stream(capsys: pytest.CaptureFixture[str]) -> None:
    stream = Terminal()
    with LiveLine(stream, {"TERM": "xterm"}, width=100) as live:
        live.update(NOW)
        print("data")  # noqa: T201
    assert capsys.readouterr().out == "data\n"
    assert "data" not in stream.getvalue()


def test_a_later_attempt_and_what_it_waits_for_are_said() -> None:
    again = replace(NOW, attempt=2)
    assert line(again, 120).endswith("12 failed (10 %)  attempt 2  4 min 05 s left")
    waits = replace(again, phase="waiting", tick=None, busy="93 % of its CPU is in use (a\nb 45 %)")
    assert line(waits, 160) == (
        "[3/12] workers=2,pool=5+5,db_session=hold  wait       until this machine is quiet: 93 %"
        " of its CPU is in use (a b 45 %)  attempt 2  4 min 05 s left"
    )


def test_elsewhere_a_cells_line_is_told_again_when_it_is_new() -> None:
    stream = io.StringIO()
    with LiveLine(stream, {}) as live:
        live.show_standings({"a": "a: 10 to 20", "b": "b: no trial yet"})
        live.show_standings({"a": "a: 10 to 20", "b": "b: 3 to 9"})
    assert stream.getvalue().splitlines() == ["a: 10 to 20", "b: no trial yet", "b: 3 to 9"]


def test_on_a_terminal_every_cells_line_stands_under_the_live_one() -> None:
    stream = Terminal()
    with LiveLine(stream, {"TERM": "xterm", "LINES": "24", "COLUMNS": "80"}) as live:
        live.show_standings({"a": "a: 10 to 20 \x1b[2J", "b": "b: " + "long " * 40})
        live.update(NOW)
    shown = stream.getvalue()
    assert "a: 10 to 20 \\x1b[2J" in shown
    assert "long" in shown
    assert shown.rindex("[3/12]") < shown.rindex("a: 10 to 20")


def test_of_more_cells_than_a_terminal_has_lines_the_rest_is_counted() -> None:
    stream = Terminal()
    with LiveLine(stream, {"TERM": "xterm", "LINES": "8", "COLUMNS": "80"}) as live:
        live.show_standings({str(number): f"cell {number}" for number in range(20)})
    assert "cell 4" in stream.getvalue()
    assert "cell 5" not in stream.getvalue()
    assert "... and 15 more cells" in stream.getvalue()
