"""Standard output and error that are closed, full or left: nothing ends, and no code is lost."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TextIO, cast

import pytest

from lab.cli import streams
from lab.model.text import Styled
from tests import command
from tests.fakes import sample_run as sample

LOST = "lab: standard output cannot be written: "
FULL, CLOSED = LOST + "No space left on device - ", LOST + "it is closed - "

CASES = {  # command, redirection; its code, and how the line on standard error begins
    "what only prints, on a full disk": ("report latest", ">/dev/full", 3, FULL),
    "what only prints, closed": ("runs --json", ">&-", 3, CLOSED),
    "the help, on a full disk": ("report --help", ">/dev/full", 3, FULL),
    "a page, left by its reader": ("report latest --html", "| true", 0, ""),
    "an answer on a full disk": ("judge latest", ">/dev/full", 4, FULL),
    "an answer, closed": ("judge latest --json", ">&-", 4, CLOSED),
    "an answer, left by its reader": ("judge latest", "| true", 4, ""),
    "a bad command, closed": ("report nosuch", ">&-", 2, "lab: 'nosuch' is neither a run"),
    "a message on a full disk": ("report nosuch", "2>/dev/full", 2, ""),
    "a message, closed": ("judge latest", ">/dev/null 2>&-", 4, ""),
    "all closed": ("judge latest", "<&- >&- 2>&-", 4, ""),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    sample.stored(folder)
    return folder


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=command.LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize("case", CASES)
def test_a_stream_that_takes_nothing(results: Path, case: str) -> None:
    arguments, redirection, code, line = CASES[case]
    lab = f"{shlex.quote(sys.executable)} -m lab {arguments} --results ."
    ended = shell(f"{lab} {redirection}; exit ${{PIPESTATUS[0]}}", results)
    assert ended.returncode == code
    assert ended.stderr.startswith(line)
    assert ended.stderr.count("\n") == (1 if line else 0), ended.stderr


def test_a_descriptor_that_was_closed_is_given_to_no_file(tmp_path: Path) -> None:
    program = (
        "import os; from lab.cli import streams; streams.install();"
        "file = open('result', 'w'); print('data', flush=True); os.write(2, b'noise');"
        "assert file.fileno() > 2"
    )
    ended = shell(f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} <&- >&- 2>&-", tmp_path)
    assert ended.returncode == 0
    assert (tmp_path / "result").read_text() == ""


class _Full(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, os.strerror(28))


def test_what_was_lost_is_told_once_and_the_rest_dropped() -> None:
    out = streams.Stream(_Full())
    assert [out.write("data"), out.write("more")] == [4, 4]
    out.flush()
    assert str(streams.lost_output(out)).startswith("standard output cannot be written: No space")


def test_only_what_is_styled_steers_a_terminal() -> None:
    kept = io.StringIO()
    out = streams.Stream(kept)
    out.write("\x1b[31mred\x1b[0m \u202eleft\n")
    out.write(Styled("\x1b[32mgreen\x1b[0m\n"))
    assert kept.getvalue() == "\\x1b[31mred\\x1b[0m \\u202eleft\n\x1b[32mgreen\x1b[0m\n"


def test_a_locale_that_lacks_a_letter_gets_it_written_out() -> None:
    kept = io.BytesIO()
    out = streams.Stream(cast(TextIO, io.TextIOWrapper(kept, encoding="latin-1")))
    out.write("é € ▁\n")
    out.flush()
    assert kept.getvalue() == b"\xe9 \\u20ac \\u2581\n"
